//! How large Envoy lets header maps be: `max_headers_count` and the like of the connection manager
//! and of the cluster, read from the bootstrap where they stand there, or told by the operator.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use crate::api::bootstrap::Bootstrap;
use crate::api::config::{ConfigError, refuse_if};
use crate::http::rules::{MAX_BYTES, MAX_LINES, Size};

/// Envoy's own defaults.
const DEFAULT: Size = Size { lines: MAX_LINES, bytes: MAX_BYTES };

/// `callout.header_limits`: what holds where the bootstrap does not say it. Names and units are
/// Envoy's.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderLimitFields {
    /// `common_http_protocol_options.max_headers_count` of the connection manager.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    max_headers_count: Option<usize>,
    /// `max_request_headers_kb` of the connection manager.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    max_request_headers_kb: Option<usize>,
    /// `common_http_protocol_options.max_headers_count` of the clusters.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    max_response_headers_count: Option<usize>,
    /// `common_http_protocol_options.max_response_headers_kb` of the clusters.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    max_response_headers_kb: Option<usize>,
}

/// The limits of one filter.
#[derive(Debug, Clone)]
pub struct HeaderLimits {
    request: Size,
    response: Size,
    /// Where the bootstrap says something for a cluster, and the operator nothing.
    clusters: HashMap<String, Size>,
}

impl HeaderLimits {
    /// The limits of the filter called `filter`. What `fields` do not give comes from the bootstrap:
    /// for requests from the connection managers with that filter, and the largest where they
    /// differ; for responses from the cluster. Otherwise Envoy's defaults hold.
    ///
    /// # Errors
    /// A limit of 0.
    pub fn configure(filter: &str, fields: HeaderLimitFields) -> Result<Self, ConfigError> {
        static FOUND: OnceLock<Found> = OnceLock::new();
        let found = FOUND.get_or_init(|| match Bootstrap::of_this_process() {
            Ok(bootstrap) => Found::of(bootstrap.documents()),
            Err(error) => {
                tracing::debug!("header limits: Envoy's bootstrap: {error}");
                Found::default()
            }
        });
        found.limits(filter, fields)
    }

    /// The largest that a request's header map may be.
    #[must_use]
    pub const fn request(&self) -> Size {
        self.request
    }

    /// The largest that the header map of a response from `cluster` may be.
    #[must_use]
    pub fn response(&self, cluster: Option<&[u8]>) -> Size {
        cluster
            .and_then(|name| std::str::from_utf8(name).ok())
            .and_then(|name| self.clusters.get(name))
            .copied()
            .unwrap_or(self.response)
    }
}

/// What a bootstrap says.
#[derive(Debug, Default)]
struct Found {
    managers: Vec<Manager>,
    clusters: HashMap<String, Size>,
}

/// One connection manager.
#[derive(Debug)]
struct Manager {
    /// The `filter_name`s of its dynamic modules.
    filters: Vec<String>,
    limit: Size,
}

impl Found {
    fn of(documents: &[Value]) -> Self {
        let mut found = Self::default();
        for document in documents {
            let resources = field(document, "static_resources");
            let list = |name| resources.and_then(|all| field(all, name)).and_then(Value::as_array);
            for listener in list("listeners").into_iter().flatten() {
                each_object(listener, &mut |object| found.note_manager(object));
            }
            for cluster in list("clusters").into_iter().flatten() {
                found.note_cluster(cluster);
            }
        }
        found
    }

    fn note_manager(&mut self, object: &Value) {
        let kind = object.get("@type").and_then(Value::as_str);
        if !kind.is_some_and(|kind| kind.ends_with(".v3.HttpConnectionManager")) {
            return;
        }
        let mut filters = Vec::new();
        if let Some(chain) = field(object, "http_filters") {
            each_object(chain, &mut |object| {
                filters
                    .extend(field(object, "filter_name").and_then(Value::as_str).map(Into::into));
            });
        }
        let options = field(object, "common_http_protocol_options");
        let limit = size(
            options.and_then(|options| field(options, "max_headers_count")),
            field(object, "max_request_headers_kb"),
        );
        self.managers.push(Manager { filters, limit });
    }

    fn note_cluster(&mut self, cluster: &Value) {
        const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let typed = field(cluster, "typed_extension_protocol_options")
            .and_then(|all| all.get(OPTIONS))
            .and_then(|options| field(options, "common_http_protocol_options"));
        let options = typed.or_else(|| field(cluster, "common_http_protocol_options"));
        let of = |name| options.and_then(|options| field(options, name));
        let (count, kilobytes) = (of("max_headers_count"), of("max_response_headers_kb"));
        let name = cluster.get("name").and_then(Value::as_str);
        if let (Some(name), true) = (name, count.is_some() || kilobytes.is_some()) {
            self.clusters.insert(name.to_owned(), size(count, kilobytes));
        }
    }

    fn limits(&self, filter: &str, fields: HeaderLimitFields) -> Result<HeaderLimits, ConfigError> {
        let HeaderLimitFields {
            max_headers_count,
            max_request_headers_kb,
            max_response_headers_count,
            max_response_headers_kb,
        } = fields;
        for (name, given) in [
            ("max_headers_count", max_headers_count),
            ("max_request_headers_kb", max_request_headers_kb),
            ("max_response_headers_count", max_response_headers_count),
            ("max_response_headers_kb", max_response_headers_kb),
        ] {
            refuse_if(given == Some(0), name, "must be greater than 0")?;
        }
        let over = |own: Size, lines: Option<usize>, kilobytes: Option<usize>| Size {
            lines: lines.unwrap_or(own.lines),
            bytes: kilobytes.map_or(own.bytes, bytes),
        };
        let response = |own: Size| over(own, max_response_headers_count, max_response_headers_kb);
        Ok(HeaderLimits {
            request: over(self.request(filter), max_headers_count, max_request_headers_kb),
            response: response(DEFAULT),
            clusters: self
                .clusters
                .iter()
                .map(|(name, own)| (name.clone(), response(*own)))
                .collect(),
        })
    }

    fn request(&self, filter: &str) -> Size {
        let has = |manager: &&Manager| manager.filters.iter().any(|name| name == filter);
        let largest = |one: Size, other: Size| Size {
            lines: one.lines.max(other.lines),
            bytes: one.bytes.max(other.bytes),
        };
        self.managers
            .iter()
            .filter(has)
            .map(|manager| manager.limit)
            .reduce(largest)
            .unwrap_or(DEFAULT)
    }
}

const fn bytes(kilobytes: usize) -> usize {
    kilobytes.saturating_mul(1024)
}

fn size(lines: Option<&Value>, kilobytes: Option<&Value>) -> Size {
    // A wrapper may be written as an object.
    let number = |value: &Value| {
        let value = value.get("value").unwrap_or(value);
        value.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|one| *one > 0)
    };
    Size {
        lines: lines.and_then(number).unwrap_or(DEFAULT.lines),
        bytes: kilobytes.and_then(number).map_or(DEFAULT.bytes, bytes),
    }
}

/// A field by its name, in either of the spellings that Envoy reads.
fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        let mut camel = String::with_capacity(name.len());
        for (index, word) in name.split('_').enumerate() {
            let mut letters = word.chars();
            match letters.next() {
                Some(first) if index > 0 => camel.push(first.to_ascii_uppercase()),
                Some(first) => camel.push(first),
                None => {}
            }
            camel.push_str(letters.as_str());
        }
        object.get(camel)
    })
}

/// Shows `seen` every object in `value`, at any depth.
fn each_object(value: &Value, seen: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(fields) => {
            seen(value);
            fields.values().for_each(|value| each_object(value, seen));
        }
        Value::Array(values) => values.iter().for_each(|value| each_object(value, seen)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listener(filter: &str, manager: &Value) -> Value {
        let mut config = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "http_filters": [{"name": "a", "typed_config": {"filter_name": filter}}],
        });
        config.as_object_mut().unwrap().extend(manager.as_object().unwrap().clone());
        json!({"filter_chains": [{"filters": [{"name": "hcm", "typed_config": config}]}]})
    }

    fn limits(listeners: &[Value], clusters: &Value, fields: &Value) -> HeaderLimits {
        let bootstrap = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
        let fields = serde_json::from_value(fields.clone()).unwrap();
        Found::of(&[bootstrap]).limits("authz", fields).unwrap()
    }

    const fn of(lines: usize, kilobytes: usize) -> Size {
        Size { lines, bytes: kilobytes << 10 }
    }

    #[test]
    fn a_listener_raises_or_lowers_the_limits_of_the_filters_in_it() {
        let raised = json!({"max_request_headers_kb": 96, "common_http_protocol_options": {"max_headers_count": 200}});
        let lowered = json!({"commonHttpProtocolOptions": {"maxHeadersCount": {"value": 20}}});
        let request = |listeners: &[Value]| limits(listeners, &json!([]), &json!({})).request();
        assert_eq!(request(&[]), DEFAULT);
        assert_eq!(request(&[listener("authz", &raised)]), of(200, 96));
        assert_eq!(request(&[listener("authz", &lowered)]), of(20, 60));
        assert_eq!(request(&[listener("other", &raised)]), DEFAULT);
        let both = [listener("authz", &raised), listener("authz", &lowered)];
        assert_eq!(request(&both), of(200, 96));
    }

    #[test]
    fn a_cluster_raises_or_lowers_the_limits_of_its_responses() {
        let options = json!({"common_http_protocol_options": {"max_headers_count": 200, "max_response_headers_kb": 80}});
        let clusters = json!([
            {"name": "a", "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}},
            {"name": "b"},
        ]);
        let limits = limits(&[], &clusters, &json!({}));
        assert_eq!(limits.response(Some(b"a")), of(200, 80));
        assert_eq!(limits.response(Some(b"b")), DEFAULT);
        assert_eq!(limits.response(None), DEFAULT);
    }

    #[test]
    fn what_the_operator_says_goes_over_the_bootstrap() {
        let raised = listener("authz", &json!({"max_request_headers_kb": 96}));
        let clusters =
            json!([{"name": "a", "common_http_protocol_options": {"max_headers_count": 50}}]);
        let fields = json!({"max_headers_count": 150, "max_response_headers_kb": 70});
        let limits = limits(&[raised], &clusters, &fields);
        assert_eq!(limits.request(), of(150, 96));
        assert_eq!(limits.response(Some(b"a")), of(50, 70));
        assert_eq!(limits.response(Some(b"b")), of(100, 70));
        let zero = HeaderLimitFields { max_headers_count: Some(0), ..Default::default() };
        assert_eq!(Found::default().limits("x", zero).unwrap_err().path(), "max_headers_count");
    }
}
