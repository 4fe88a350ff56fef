//! What this suite adds to `ExtAuthz`: the fields under `callout`.

use std::time::Duration;

use callout_common::ConfigError;
use callout_common::api::config::{duration, http_status, refuse_if};
use callout_common::api::header_limits::{HeaderLimitFields, HeaderLimits};
#[cfg(any(test, feature = "schema"))]
use callout_common::api::schema::{DurationText, GrpcServiceFields, StatusFields, list_of};
use callout_common::envoy::attributes::Attribute;
use callout_common::filter::unreadable::OnUnreadable;
use callout_common::grpc::{Calls, FailurePolicy, Service};
use callout_protos::envoy::config::core::v3::GrpcService;
use callout_protos::envoy::r#type::v3::HttpStatus;
use callout_protos::pbjson_types;
use serde::Deserialize;

use crate::config::key_rule::{Chosen, KeyRule, Omit};

/// Longest life of a decision, stale or not.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);

/// `callout`, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fields {
    /// Decisions that are kept.
    cache: Option<CacheFields>,
    /// Identical requests in flight share one call.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    coalesce: bool,
    /// Empty and contradicting answers are errors.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    strict: bool,
    /// The failures that `failure_mode_allow` covers: `timeout`, `unavailable`, `invalid_reply`,
    /// `error_response`, `status`, `status:INTERNAL` and the like, `overloaded`. Unless given all but
    /// `overloaded`.
    failure_mode_allow_on: Option<Vec<String>>,
    /// The status of the refusal when the service is too slow. Unless given `status_on_error`.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<StatusFields>"))]
    status_on_timeout: Option<HttpStatus>,
    /// What happens to a request with metadata that the service was to be told and that a module
    /// can't read.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "omit")))]
    on_unreadable_metadata: OnUnreadable,
    /// Envoy's limits of headers, where its bootstrap does not tell them.
    header_limits: HeaderLimitFields,
    /// Where the calls of `google_grpc` are made.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "off_thread")))]
    calls: Calls,
    /// More services, asked at the same time as `grpc_service`.
    services: Option<ServicesFields>,
    /// The built-in filter's names for the statistics, under this name. None unless given.
    builtin_stats: Option<String>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicesFields {
    /// All of them have to allow.
    all: Option<Vec<ServiceFields>>,
    /// One that allows is enough.
    any: Option<Vec<ServiceFields>>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceFields {
    /// How it is reached.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "GrpcServiceFields"))]
    grpc_service: GrpcService,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheFields {
    /// How long an allow is kept; a day at most.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "DurationText"))]
    ttl: pbjson_types::Duration,
    /// How long a denial is kept; 0s keeps none.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "0s")))]
    denied_ttl: Option<pbjson_types::Duration>,
    /// So much longer an allow answers while the service is asked again.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "0s")))]
    stale_while_revalidate: Option<pbjson_types::Duration>,
    /// So much longer an allow stands in for a service that is silent.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "0s")))]
    stale_if_error: Option<pbjson_types::Duration>,
    /// A life is shorter by up to so many percent, by chance.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(max = 50)))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = 10)))]
    jitter_percent: Option<u8>,
    /// Bytes of memory that all entries take.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 65536)))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = 67_108_864)))]
    max_bytes: Option<u64>,
    /// Bytes of one entry; a larger one is not kept.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = 16384)))]
    max_entry_bytes: Option<usize>,
    /// What tells requests apart. Unless given everything that the service is told.
    key: Option<KeyFields>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct KeyFields {
    /// Names of headers; every value counts, in its order.
    headers: Vec<String>,
    /// Names of attributes, as `source.address`.
    #[cfg_attr(any(test, feature = "schema"), schemars(schema_with = "attribute_names"))]
    attributes: Vec<String>,
    /// The context extensions and the metadata contexts count.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    context: bool,
    /// Of `method`, `authority`, `path` and `route`, which count otherwise, those that don't.
    #[cfg_attr(any(test, feature = "schema"), schemars(schema_with = "omit_names"))]
    omit: Vec<String>,
}

/// `callout` of a route, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteFields {
    /// Every request of the route is asked about on its own.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    always_ask: bool,
    /// How long an answer is waited for, whichever service is asked; 0s is without end.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    timeout: Option<pbjson_types::Duration>,
}

/// `callout` of a route, checked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteCallout {
    /// Every request of the route is asked about on its own: no decision is shared with others.
    pub(crate) always_ask: bool,
    /// What is waited for an answer, whichever service is asked; zero is no limit. Unless set it is
    /// the service's.
    pub(crate) timeout: Option<Duration>,
}

impl RouteCallout {
    pub(crate) fn configure(fields: RouteFields) -> Result<Self, ConfigError> {
        let RouteFields { always_ask, timeout } = fields;
        let timeout = timeout.map(|timeout| duration(&timeout, "timeout")).transpose()?;
        Ok(Self { always_ask, timeout })
    }
}

/// `callout`, checked.
#[derive(Debug)]
pub(crate) struct Callout {
    pub(crate) cache: Option<CacheSettings>,
    pub(crate) coalesce: bool,
    pub(crate) key: KeyRule,
    pub(crate) strict: bool,
    pub(crate) failures: FailurePolicy,
    /// The status of the refusal when the service is too slow; `status_on_error` unless set.
    pub(crate) status_on_timeout: Option<u16>,
    pub(crate) on_unreadable_metadata: OnUnreadable,
    pub(crate) header_limits: HeaderLimits,
    /// Where calls are made.
    pub(crate) calls: Calls,
    /// Services that are asked at the same time as the filter's own.
    pub(crate) services: Option<MoreServices>,
    /// The scope of statistics under the built-in's names.
    pub(crate) builtin_stats: Option<String>,
}

/// How many of the services have to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quorum {
    /// Every one; one that does not is enough.
    All,
    /// One; the others are not waited for.
    Any,
}

/// `callout.services`.
#[derive(Debug)]
pub(crate) struct MoreServices {
    pub(crate) quorum: Quorum,
    /// At least one.
    pub(crate) services: Vec<Service>,
}

impl MoreServices {
    /// So many may be asked beside the filter's own.
    const MOST: usize = 7;

    fn configure(fields: ServicesFields) -> Result<Self, ConfigError> {
        let ServicesFields { all, any } = fields;
        let (quorum, name, fields) = match (all, any) {
            (Some(all), None) => (Quorum::All, "all", all),
            (None, Some(any)) => (Quorum::Any, "any", any),
            _ => return Err(ConfigError::without_path("takes one of all and any")),
        };
        refuse_if(fields.is_empty(), name, "names no service")?;
        refuse_if(fields.len() > Self::MOST, name, "may hold 7 services")?;
        let one = |(index, fields): (usize, &ServiceFields)| {
            Service::configure(&fields.grpc_service)
                .map_err(|error| error.in_field(&format!("{name}[{index}].grpc_service")))
        };
        let services = fields.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        Ok(Self { quorum, services })
    }
}

/// `callout.cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheSettings {
    /// How long an allowing decision is fresh.
    pub(crate) ttl: Duration,
    /// How long a denial is fresh; zero keeps none.
    pub(crate) denied_ttl: Duration,
    /// How long after that an allow still answers, while the service is asked again.
    pub(crate) stale_while_revalidate: Duration,
    /// How long after that an allow stands in for a service that does not answer.
    pub(crate) stale_if_error: Duration,
    /// The part of a life by which chance may shorten it, in percent.
    pub(crate) jitter_percent: u8,
    /// Bound of all entries.
    pub(crate) max_bytes: u64,
    /// Bound of one entry.
    pub(crate) max_entry_bytes: usize,
}

impl Callout {
    /// Checks what was written. `failure_mode_allow` is that of the filter.
    pub(crate) fn configure(fields: Fields, failure_mode_allow: bool) -> Result<Self, ConfigError> {
        let Fields {
            cache,
            coalesce,
            strict,
            failure_mode_allow_on,
            status_on_timeout,
            on_unreadable_metadata,
            header_limits,
            calls,
            services,
            builtin_stats,
        } = fields;
        let (cache, key) = match cache {
            Some(fields) => {
                let (cache, key) = fields.configure().map_err(|error| error.in_field("cache"))?;
                (Some(cache), key)
            }
            None => (None, KeyRule::Everything),
        };
        Ok(Self {
            builtin_stats,
            cache,
            coalesce,
            key,
            calls,
            strict,
            failures: match failure_mode_allow_on {
                None => FailurePolicy::builtin(failure_mode_allow),
                Some(classes) => {
                    refuse_if(
                        !failure_mode_allow,
                        "failure_mode_allow_on",
                        "needs failure_mode_allow, which is off",
                    )?;
                    FailurePolicy::configure(&classes)
                        .map_err(|error| error.in_field("failure_mode_allow_on"))?
                }
            },
            status_on_timeout: status_on_timeout
                .as_ref()
                .map(|status| http_status(status, "status_on_timeout"))
                .transpose()?,
            services: services
                .map(MoreServices::configure)
                .transpose()
                .map_err(|error| error.in_field("services"))?,
            on_unreadable_metadata,
            header_limits: HeaderLimits::configure("authz", header_limits)
                .map_err(|error| error.in_field("header_limits"))?,
        })
    }

    /// Whether requests need a key.
    pub(crate) const fn shares(&self) -> bool {
        self.cache.is_some() || self.coalesce
    }
}

impl CacheFields {
    fn configure(self) -> Result<(CacheSettings, KeyRule), ConfigError> {
        let life = |value: Option<&pbjson_types::Duration>, path: &str| {
            let life = value.map_or(Ok(Duration::ZERO), |value| duration(value, path))?;
            refuse_if(life > MAX_LIFE, path, "must be a day at most")?;
            Ok(life)
        };
        let ttl = life(Some(&self.ttl), "ttl")?;
        refuse_if(ttl.is_zero(), "ttl", "must be greater than 0")?;
        let jitter_percent = self.jitter_percent.unwrap_or(10);
        refuse_if(jitter_percent > 50, "jitter_percent", "must be 50 at most")?;
        let max_bytes = self.max_bytes.unwrap_or(64 << 20);
        refuse_if(max_bytes < 64 << 10, "max_bytes", "must be 65536 at least")?;
        let max_entry_bytes = self.max_entry_bytes.unwrap_or(16 << 10);
        refuse_if(max_entry_bytes == 0, "max_entry_bytes", "must be greater than 0")?;
        let settings = CacheSettings {
            ttl,
            denied_ttl: life(self.denied_ttl.as_ref(), "denied_ttl")?,
            stale_while_revalidate: life(
                self.stale_while_revalidate.as_ref(),
                "stale_while_revalidate",
            )?,
            stale_if_error: life(self.stale_if_error.as_ref(), "stale_if_error")?,
            jitter_percent,
            max_bytes,
            max_entry_bytes,
        };
        let key = match self.key {
            Some(key) => KeyRule::Custom(key.configure().map_err(|error| error.in_field("key"))?),
            None => KeyRule::Everything,
        };
        Ok((settings, key))
    }
}

impl KeyFields {
    fn configure(self) -> Result<Chosen, ConfigError> {
        let Self { headers, attributes, context, omit } = self;
        refuse_if(
            headers.is_empty() && attributes.is_empty() && !context,
            "",
            "is empty: name headers, attributes or context",
        )?;
        let headers: Vec<String> = headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        for (index, name) in headers.iter().enumerate() {
            let valid = callout_common::http::rules::valid_name(name);
            refuse_if(!valid, &format!("headers[{index}]"), "is no name of a header")?;
        }
        let named = |(index, name): (usize, &String)| {
            attribute(name).ok_or_else(|| {
                ConfigError::field(
                    format!("attributes[{index}]"),
                    format!("`{name}` is none of {}", NAMES.map(|(name, _)| name).join(", ")),
                )
            })
        };
        let attributes = attributes.iter().enumerate().map(named).collect::<Result<_, _>>()?;
        let mut chosen = Chosen { headers, attributes, context, omit: Omit::default() };
        for (index, name) in omit.iter().enumerate() {
            match name.as_str() {
                "method" => chosen.omit.method = true,
                "authority" => chosen.omit.authority = true,
                "path" => chosen.omit.path = true,
                "route" => chosen.omit.route = true,
                _ => {
                    return Err(ConfigError::field(
                        format!("omit[{index}]"),
                        format!("`{name}` is none of method, authority, path, route"),
                    ));
                }
            }
        }
        Ok(chosen)
    }
}

/// What a key may be made of, under Envoy's own names. `source.address` goes without its port.
const NAMES: [(&str, Attribute); 10] = [
    ("source.address", Attribute::SourceAddress),
    ("destination.address", Attribute::DestinationAddress),
    ("request.scheme", Attribute::RequestScheme),
    ("request.protocol", Attribute::RequestProtocol),
    ("connection.requested_server_name", Attribute::ConnectionRequestedServerName),
    ("connection.tls_version", Attribute::ConnectionTlsVersion),
    ("connection.subject_peer_certificate", Attribute::ConnectionSubjectPeerCertificate),
    ("connection.dns_san_peer_certificate", Attribute::ConnectionDnsSanPeerCertificate),
    ("connection.uri_san_peer_certificate", Attribute::ConnectionUriSanPeerCertificate),
    ("connection.sha256_peer_certificate_digest", Attribute::ConnectionSha256PeerCertificateDigest),
];

/// Names of attributes, for a schema.
#[cfg(any(test, feature = "schema"))]
fn attribute_names(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    list_of(&NAMES.map(|(name, _)| name))
}

/// Parts of a chosen key, for a schema.
#[cfg(any(test, feature = "schema"))]
fn omit_names(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    list_of(&["method", "authority", "path", "route"])
}

fn attribute(name: &str) -> Option<Attribute> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, attribute)| *attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(json: &str) -> Result<Callout, ConfigError> {
        Callout::configure(serde_json::from_str(json).unwrap(), false)
    }

    fn refused(json: &str) -> String {
        configured(json).unwrap_err().path().to_owned()
    }

    #[test]
    fn nothing_is_shared_and_nothing_strict_unless_asked_for() {
        let callout = configured("{}").unwrap();
        assert!(callout.cache.is_none() && !callout.shares() && !callout.strict);
        assert_eq!(callout.on_unreadable_metadata, OnUnreadable::Omit);
        let cached = configured(r#"{"cache": {"ttl": "10s"}}"#).unwrap();
        let settings = cached.cache.unwrap();
        assert_eq!((settings.ttl, settings.denied_ttl), (Duration::from_secs(10), Duration::ZERO));
        assert_eq!((settings.max_bytes, settings.jitter_percent), (64 << 20, 10));
        assert!(cached.shares() && cached.key == KeyRule::Everything);
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        assert_eq!(refused(r#"{"cache": {"ttl": "0s"}}"#), "cache.ttl");
        assert_eq!(refused(r#"{"cache": {"ttl": "100000s"}}"#), "cache.ttl");
        let with = |field: &str| refused(&format!(r#"{{"cache": {{"ttl": "1s", {field}}}}}"#));
        assert_eq!(with(r#""denied_ttl": "-1s""#), "cache.denied_ttl");
        assert_eq!(with(r#""jitter_percent": 51"#), "cache.jitter_percent");
        assert_eq!(with(r#""max_bytes": 1"#), "cache.max_bytes");
        assert_eq!(with(r#""max_entry_bytes": 0"#), "cache.max_entry_bytes");
        assert_eq!(with(r#""key": {}"#), "cache.key");
        assert_eq!(with(r#""key": {"omit": ["path"]}"#), "cache.key");
        assert_eq!(with(r#""key": {"headers": ["a b"]}"#), "cache.key.headers[0]");
        assert_eq!(with(r#""key": {"attributes": ["x"]}"#), "cache.key.attributes[0]");
        assert_eq!(with(r#""key": {"context": true, "omit": ["host"]}"#), "cache.key.omit[0]");
        let service = r#"{"grpc_service": {"google_grpc": {"target_uri": "a:1"}}}"#;
        for (services, path) in [
            ("{}", "services"),
            (r#"{"all": []}"#, "services.all"),
            (r#"{"any": [{"grpc_service": {}}]}"#, "services.any[0].grpc_service.envoy_grpc"),
            (&format!(r#"{{"all": [{service}], "any": [{service}]}}"#), "services"),
            (&format!(r#"{{"all": [{}]}}"#, [service; 8].join(",")), "services.all"),
        ] {
            assert_eq!(refused(&format!(r#"{{"services": {services}}}"#)), path);
        }
        assert_eq!(refused(r#"{"failure_mode_allow_on": ["timeout"]}"#), "failure_mode_allow_on");
        let limits = r#"{"header_limits": {"max_headers_count": 0}}"#;
        assert_eq!(refused(limits), "header_limits.max_headers_count");
    }

    #[test]
    fn the_defaults_that_the_schema_tells_are_those_that_hold() {
        use callout_common::api::schema::with_defaults;

        let base = serde_json::json!({"cache": {"ttl": "1s"}});
        let unset = format!("{:?}", configured(&base.to_string()).unwrap());
        let [schema, _] = crate::schemas();
        let written = with_defaults(&schema.to_value(), &base);
        assert!(written.len() >= 9, "{written:?}");
        for fields in written {
            let set = configured(&fields.to_string()).unwrap();
            assert_eq!(format!("{set:?}"), unset, "{fields}");
        }
    }
}
