//! What this suite adds to `ExtAuthz`: the fields under `callout`.

use std::time::Duration;

use callout_common::ConfigError;
use callout_common::api::config::{duration, http_status, refuse_if};
use callout_common::api::header_limits::{HeaderLimitFields, HeaderLimits};
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
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fields {
    cache: Option<CacheFields>,
    coalesce: bool,
    strict: bool,
    failure_mode_allow_on: Option<Vec<String>>,
    status_on_timeout: Option<HttpStatus>,
    on_unreadable_metadata: OnUnreadable,
    header_limits: HeaderLimitFields,
    calls: Calls,
    services: Option<ServicesFields>,
    builtin_stats: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicesFields {
    all: Option<Vec<ServiceFields>>,
    any: Option<Vec<ServiceFields>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceFields {
    grpc_service: GrpcService,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheFields {
    ttl: pbjson_types::Duration,
    denied_ttl: Option<pbjson_types::Duration>,
    stale_while_revalidate: Option<pbjson_types::Duration>,
    stale_if_error: Option<pbjson_types::Duration>,
    jitter_percent: Option<u8>,
    max_bytes: Option<u64>,
    max_entry_bytes: Option<usize>,
    key: Option<KeyFields>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct KeyFields {
    headers: Vec<String>,
    attributes: Vec<String>,
    context: bool,
    omit: Vec<String>,
}

/// `callout` of a route, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteFields {
    always_ask: bool,
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
}
