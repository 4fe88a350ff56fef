//! `request_attributes` and `response_attributes`: names of Envoy's attributes, and expressions over
//! them.

use std::sync::Arc;
use std::time::Duration;

use callout_common::api::attribute_paths::{AttributePath, Named};
use callout_common::api::cel::{Expression, Outcome};
use callout_common::api::config::text_format;
use callout_common::api::text::sanitized;
use callout_common::envoy::attributes::{Attribute as Id, Kind as Attribute, NAMED};
use callout_common::envoy::types::{MetadataPath, MetadataSource, PathSegment};
use callout_common::{ConfigError, StreamContext};
use callout_protos::pbjson_types::{Struct, Value, value::Kind};

/// Attributes to send, by the names under which they go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(Vec<(String, Source)>);

#[derive(Debug, Clone)]
enum Source {
    Attribute(Attribute),
    /// When the request began.
    Time,
    /// One value of metadata: its source, namespace and place.
    Metadata(MetadataSource, String, MetadataPath),
    /// All metadata of a source, as text.
    Whole(MetadataSource),
    Expression(Arc<Expression>),
}

impl Attributes {
    /// Reads a list of names.
    pub(crate) fn configure(names: &[String]) -> Result<Self, ConfigError> {
        let named = names.iter().enumerate().filter(|(_, name)| {
            let nobody = is_unknown_attribute(name);
            if nobody {
                tracing::warn!("extproc: `{name}` is no attribute of Envoy's and is left out");
            }
            !nobody
        });
        let one = |(index, name): (usize, &String)| {
            let source = Source::configure(name)
                .map_err(|error| ConfigError::field(format!("[{index}]"), error.to_string()))?;
            Ok((name.clone(), source))
        };
        named.map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The values in this stream; `time` is when the request began, since 1970. Absent ones are
    /// left out. `None` when none are asked for.
    pub(crate) fn values<E: Send + 'static>(
        &self,
        cx: &StreamContext<'_, E>,
        time: Duration,
    ) -> Option<Struct> {
        if self.0.is_empty() {
            return None;
        }
        let fields = self.0.iter().filter_map(|(name, source)| {
            let kind = source.read(cx, time)?;
            Some((name.clone(), Value { kind: Some(kind) }))
        });
        Some(Struct { fields: fields.collect() })
    }
}

impl Source {
    fn configure(name: &str) -> Result<Self, ConfigError> {
        if let Some((_, attribute)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(Self::Attribute(*attribute));
        }
        if name == "request.time" {
            return Ok(Self::Time);
        }
        let named = Named::read(name)?;
        if let Named::One(path) = &named
            && let Some(source) = whole(path)
        {
            return Ok(Self::Whole(source));
        }
        if let Named::One(path) = &named
            && let Some((source, namespace, path)) = metadata(path)
        {
            return Ok(Self::Metadata(source, namespace, path));
        }
        if let Some(path) = named.paths().iter().find(|path| !is_readable(path)) {
            return Err(ConfigError::without_path(format!(
                "`{path}` is not an attribute that a module can read"
            )));
        }
        Expression::parse(name).map(|expression| Self::Expression(expression.into()))
    }

    #[allow(clippy::cast_precision_loss, reason = "a Struct has no other numbers")]
    fn read<E: Send + 'static>(&self, cx: &StreamContext<'_, E>, time: Duration) -> Option<Kind> {
        Some(match self {
            Self::Attribute(Attribute::Text(id)) => {
                // Without TLS Envoy has an empty name, not none.
                let none = (*id == Id::ConnectionRequestedServerName).then_some(&b""[..]);
                Kind::StringValue(sanitized(cx.attribute(*id).or(none)?))
            }
            Self::Attribute(Attribute::Bool(id)) => Kind::BoolValue(cx.attribute_bool(*id)?),
            Self::Attribute(Attribute::Number(id)) => {
                Kind::NumberValue(cx.attribute_int(*id)? as f64)
            }
            Self::Metadata(source, namespace, path) => {
                cx.metadata(*source).value(namespace, path)?.kind?
            }
            Self::Whole(source) => {
                let metadata = cx.metadata(*source).whole();
                // Of a route Envoy says that there is none; of a cluster or host it says nothing.
                let absent = metadata.filter_metadata.is_empty()
                    && matches!(source, MetadataSource::Cluster | MetadataSource::Host);
                if absent {
                    return None;
                }
                Kind::StringValue(text_format(&metadata))
            }
            Self::Time => Kind::StringValue(rfc3339(time)),
            Self::Expression(expression) => match expression.evaluate(cx)? {
                Outcome::Text(text) => Kind::StringValue(text),
                Outcome::Int(number) => Kind::NumberValue(number as f64),
                Outcome::Uint(number) => Kind::NumberValue(number as f64),
                Outcome::Double(number) => Kind::NumberValue(number),
                Outcome::Bool(truth) => Kind::BoolValue(truth),
                Outcome::Null => Kind::NullValue(0),
                Outcome::Other(name) => Kind::StringValue(format!("{name} value")),
            },
        })
    }
}

/// The source of which a path names all metadata.
fn whole(path: &AttributePath) -> Option<MetadataSource> {
    match path.parts().as_slice() {
        ["metadata"] => Some(MetadataSource::Dynamic),
        ["xds", "route_metadata"] => Some(MetadataSource::Route),
        ["xds", "cluster_metadata"] => Some(MetadataSource::Cluster),
        ["xds", "upstream_host_metadata"] => Some(MetadataSource::Host),
        _ => None,
    }
}

/// The value of metadata that a path stands for.
fn metadata(path: &AttributePath) -> Option<(MetadataSource, String, MetadataPath)> {
    let parts = path.parts();
    let (source, rest) = match parts.as_slice() {
        ["metadata", rest @ ..] => (MetadataSource::Dynamic, rest),
        ["xds", "route_metadata", rest @ ..] => (MetadataSource::Route, rest),
        ["xds", "cluster_metadata", rest @ ..] => (MetadataSource::Cluster, rest),
        ["xds", "upstream_host_metadata", rest @ ..] => (MetadataSource::Host, rest),
        _ => return None,
    };
    match rest {
        ["filter_metadata", namespace, key, within @ ..] => {
            let key = (*key).to_owned();
            let within = within.iter().map(|key| PathSegment::Key((*key).to_owned())).collect();
            Some((source, (*namespace).to_owned(), MetadataPath { key, within }))
        }
        _ => None,
    }
}

/// Whether an expression can have what the path stands for. Roots that are not Envoy's are variables of the
/// expression itself, or refused with it.
fn is_readable(path: &AttributePath) -> bool {
    match path.parts().as_slice() {
        ["request" | "response", "headers", ..] => true,
        ["xds" | "metadata" | "filter_state" | "upstream_filter_state"] => false,
        [root, field, ..] if ROOTS.contains(root) => {
            let name = format!("{root}.{field}");
            NAMED.iter().any(|(known, _)| *known == name)
        }
        _ => true,
    }
}

/// The roots of Envoy's attributes.
const ROOTS: &[&str] = &[
    "request",
    "response",
    "connection",
    "upstream",
    "source",
    "destination",
    "metadata",
    "filter_state",
    "upstream_filter_state",
    "xds",
    "node",
    "plugin_name",
    "plugin_root_id",
    "plugin_vm_id",
    "cluster_name",
    "cluster_metadata",
    "listener_direction",
    "listener_metadata",
    "route_name",
    "route_metadata",
    "upstream_host_metadata",
    "true",
    "false",
    "null",
];

/// Whether this is a plain name outside of Envoy's: the built-in evaluates it to nothing.
fn is_unknown_attribute(name: &str) -> bool {
    is_name(name) && !name.split('.').next().is_some_and(|root| ROOTS.contains(&root))
}

/// Words with dots between them.
fn is_name(text: &str) -> bool {
    text.split('.').all(|word| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// A time since 1970 as RFC 3339 text in UTC, to the microsecond.
fn rfc3339(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date of a day count, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}+00:00",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        time.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_envoy_does_not_know_are_left_out_and_what_a_module_can_not_read_is_refused() {
        let sources = |name: &str| Attributes::configure(&[name.to_owned()]).map(|a| a.0.len());
        for name in ["request.path", "request.time", "request.headers['x-a']", "request.size + 1"] {
            assert_eq!(sources(name), Ok(1), "{name}");
        }
        assert_eq!(sources("bogus.thing"), Ok(0));
        for name in [
            "xds.route_metadata.filter_metadata['a.b']['c']",
            "xds.cluster_metadata.filter_metadata.a.c",
            "xds.upstream_host_metadata.filter_metadata['a']['c']",
            "metadata.filter_metadata['a']['c']",
            "xds.route_metadata.filter_metadata['a']['b']['c']",
            "xds.route_metadata",
            "metadata",
        ] {
            assert_eq!(sources(name), Ok(1), "{name}");
        }
        for (name, path) in [
            ("filter_state.x", "filter_state.x"),
            ("xds.listener_metadata", "xds.listener_metadata"),
            ("metadata['x']", "metadata.x"),
            ("xds.node", "xds.node"),
            ("size(xds.virtual_host_metadata['a'])", "xds.virtual_host_metadata.a"),
            ("xds.route_metadata.filter_metadata['a']", "filter_metadata.a"),
            ("xds.route_metadata.filter_metadata['a-b']['c'] + ''", "filter_metadata['a-b'].c"),
            ("request.headers['a'] + request.time", "request.time"),
            ("request.size +", "CEL"),
        ] {
            let refused = sources(name).unwrap_err().to_string();
            assert!(refused.contains(path), "{name}: {refused}");
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(
            rfc3339(Duration::new(1_709_210_096, 5_000)),
            "2024-02-29T12:34:56.000005+00:00"
        );
        assert_eq!(rfc3339(Duration::from_secs(4_102_444_799)), "2099-12-31T23:59:59.000000+00:00");
    }
}
