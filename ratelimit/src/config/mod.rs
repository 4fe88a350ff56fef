//! `envoy.extensions.filters.http.ratelimit.v3.RateLimit` and `RateLimitPerRoute`, checked.

pub(crate) mod extensions;
pub(crate) mod rules;

use std::time::Duration;

use callout_common::api::config::{duration, http_status, refuse_if};
use callout_common::api::matching::{Fraction, RuntimeFraction};
use callout_common::envoy::version::EnvoyVersion;
use callout_common::grpc::Service;
use callout_common::{ConfigError, RawConfig};
use callout_protos::envoy::config::core::v3::{ApiVersion, RuntimeFractionalPercent};
use callout_protos::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use callout_protos::envoy::config::route::v3::RateLimit as LimitProto;
use callout_protos::envoy::extensions::filters::http::ratelimit::v3 as proto;
use proto::rate_limit::XRateLimitHeadersRfcVersion;

use crate::config::extensions::{Callout, Fields, RouteCallout, RouteFields};
use crate::decide::headers::{Added, XRateLimit};
use crate::decide::verdict::ReplySettings;
use crate::request::Limit;

/// What the built-in waits for an answer when no timeout is set.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(20);
const MAX_STAGE: u32 = 10;
const MAX_RESPONSE_HEADERS: usize = 10;

/// Which requests the filter looks at: `request_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestType {
    Both,
    Internal,
    External,
}

impl RequestType {
    /// Whether the filter looks at a request with this value of `x-envoy-internal`.
    pub(crate) fn covers(self, internal: Option<&[u8]>) -> bool {
        match self {
            Self::Both => true,
            Self::Internal => internal == Some(b"true"),
            Self::External => internal != Some(b"true"),
        }
    }
}

/// The filter's configuration. Fields are named as in `RateLimit`.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) service: Service,
    pub(crate) domain: String,
    pub(crate) request_type: RequestType,
    pub(crate) timeout: Duration,
    /// `failure_mode_deny`, or `failure_mode_deny_percent`, which replaces it: the part of failures
    /// that refuses the request.
    pub(crate) failure_mode_deny: RuntimeFraction,
    /// What replies look like, and the headers of what passes.
    pub(crate) replies: ReplySettings,
    pub(crate) response_headers_to_add: Vec<Added>,
    pub(crate) stat_prefix: String,
    pub(crate) filter_enabled: RuntimeFraction,
    pub(crate) filter_enforced: RuntimeFraction,
    pub(crate) limits: Vec<Limit>,
    pub(crate) metadata_namespace: String,
    /// What this suite adds.
    pub(crate) callout: Callout,
}

impl Config {
    pub(crate) fn read(raw: RawConfig<'_>) -> Result<Self, ConfigError> {
        let parsed = raw.message::<proto::RateLimit>()?;
        let callout: Fields = parsed.callout()?;
        // Every field is named here, so that none is ignored in silence.
        let proto::RateLimit {
            domain,
            stage,
            request_type,
            timeout,
            failure_mode_deny,
            rate_limited_as_resource_exhausted,
            rate_limit_service,
            enable_x_ratelimit_headers,
            disable_x_envoy_ratelimited_header,
            rate_limited_status,
            response_headers_to_add,
            status_on_error,
            stat_prefix,
            filter_enabled,
            filter_enforced,
            failure_mode_deny_percent,
            rate_limits,
            metadata_namespace,
            enable_retry_after_header,
        } = parsed.message;

        refuse_if(domain.is_empty(), "domain", "is required")?;
        let callout = Callout::configure(callout).map_err(|error| error.in_field("callout"))?;
        refuse_if(
            callout.names_failures
                && callout.rules.is_empty()
                && failure_mode_deny
                && failure_mode_deny_percent.is_none(),
            "callout.failure_mode_allow_on",
            "needs failure_mode_deny to be off",
        )?;
        // It chooses among the limits of the route table, which a module can't read; of its own
        // limits all belong to the one stage.
        refuse_if(stage > MAX_STAGE, "stage", "must be 10 or less")?;
        if rate_limits.is_empty() {
            tracing::warn!(
                domain,
                "ratelimit: rate_limits is empty: only requests of routes whose configuration of this filter has rate_limits are limited; limits in the route table itself are out of a module's sight: carry them over with `callout migrate`"
            );
        }
        refuse_if(
            response_headers_to_add.len() > MAX_RESPONSE_HEADERS,
            "response_headers_to_add",
            "may hold 10 entries",
        )?;
        Ok(Self {
            service: service(rate_limit_service.as_ref())
                .map_err(|error| error.in_field("rate_limit_service"))?,
            domain,
            request_type: match request_type.as_str() {
                "" | "both" => RequestType::Both,
                "internal" => RequestType::Internal,
                "external" => RequestType::External,
                _ => {
                    return Err(ConfigError::field(
                        "request_type",
                        "is none of internal, external and both",
                    ));
                }
            },
            timeout: timeout
                .as_ref()
                .map_or(Ok(DEFAULT_TIMEOUT), |value| duration(value, "timeout"))?,
            failure_mode_deny: match fraction(
                failure_mode_deny_percent.as_ref(),
                "failure_mode_deny_percent",
            )? {
                Some(part) => part,
                None if failure_mode_deny => Fraction::ALL.into(),
                None => Fraction::NONE.into(),
            },
            replies: ReplySettings {
                rate_limited_as_resource_exhausted,
                x_ratelimit_headers: XRateLimit {
                    shown: match XRateLimitHeadersRfcVersion::try_from(enable_x_ratelimit_headers) {
                        Ok(version) => version == XRateLimitHeadersRfcVersion::DraftVersion03,
                        Err(_) => {
                            return Err(ConfigError::field(
                                "enable_x_ratelimit_headers",
                                "is unknown",
                            ));
                        }
                    },
                    multiplied: EnvoyVersion::running() >= EnvoyVersion::V1_40,
                },
                disable_x_envoy_ratelimited_header,
                // A status that is no error would hide the verdict; the built-in takes 429 for it.
                rate_limited_status: rate_limited_status
                    .as_ref()
                    .map(|status| http_status(status, "rate_limited_status"))
                    .transpose()?
                    .filter(|status| *status >= 400)
                    .unwrap_or(429),
                status_on_error: status_on_error
                    .as_ref()
                    .map_or(Ok(500), |status| http_status(status, "status_on_error"))?,
                enable_retry_after_header,
                failures: callout.failures.clone(),
                status_on_timeout: callout.status_on_timeout,
            },
            response_headers_to_add: response_headers_to_add
                .iter()
                .enumerate()
                .map(|(index, option)| {
                    Added::configure(option)
                        .map_err(|e| e.in_field(&format!("response_headers_to_add[{index}]")))
                })
                .collect::<Result<_, _>>()?,
            stat_prefix,
            filter_enabled: fraction(filter_enabled.as_ref(), "filter_enabled")?
                .unwrap_or_else(|| Fraction::ALL.into()),
            filter_enforced: fraction(filter_enforced.as_ref(), "filter_enforced")?
                .unwrap_or_else(|| Fraction::ALL.into()),
            limits: limits(&rate_limits)?,
            metadata_namespace: if metadata_namespace.is_empty() {
                "envoy.filters.http.ratelimit".to_owned()
            } else {
                metadata_namespace
            },
            callout,
        })
    }
}

fn service(config: Option<&RateLimitServiceConfig>) -> Result<Service, ConfigError> {
    let config = config.ok_or_else(|| ConfigError::without_path("is required"))?;
    let RateLimitServiceConfig { grpc_service, transport_api_version } = config;
    refuse_if(
        *transport_api_version == i32::from(ApiVersion::V2),
        "transport_api_version",
        "V2 is gone: use V3",
    )?;
    let service =
        grpc_service.as_ref().ok_or_else(|| ConfigError::field("grpc_service", "is required"))?;
    Service::configure(service).map_err(|error| error.in_field("grpc_service"))
}

fn fraction(
    config: Option<&RuntimeFractionalPercent>,
    path: &str,
) -> Result<Option<RuntimeFraction>, ConfigError> {
    config.map(|config| RuntimeFraction::configure(config, "ratelimit", path)).transpose()
}

fn limits(config: &[LimitProto]) -> Result<Vec<Limit>, ConfigError> {
    config
        .iter()
        .enumerate()
        .map(|(index, limit)| {
            Limit::configure(limit).map_err(|e| e.in_field(&format!("rate_limits[{index}]")))
        })
        .collect()
}

/// The configuration of one route.
#[derive(Debug, Default)]
pub struct Route {
    /// Replace the filter's, unless empty.
    pub(crate) limits: Vec<Limit>,
    /// Replaces the filter's, unless empty.
    pub(crate) domain: String,
    /// What this suite adds.
    pub(crate) callout: RouteCallout,
}

impl Route {
    pub(crate) fn read(raw: RawConfig<'_>) -> Result<Self, ConfigError> {
        let parsed = raw.route_message::<proto::RateLimitPerRoute>()?;
        let fields: RouteFields = parsed.callout()?;
        let callout = RouteCallout::configure(fields).map_err(|error| error.in_field("callout"))?;
        let proto::RateLimitPerRoute { vh_rate_limits, override_option, rate_limits, domain } =
            parsed.message;
        // Both steer the limits of the route table, which a module never sees; the built-in itself
        // gives `override_option` no effect.
        if vh_rate_limits != 0 || override_option != 0 {
            tracing::warn!(
                "ratelimit: vh_rate_limits and override_option concern the route table's limits and have no effect here"
            );
        }
        Ok(Self { limits: limits(&rate_limits)?, domain, callout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::ledger::Mode;

    const SERVICE: &str =
        r#""rate_limit_service": {"grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}}"#;

    fn config(fields: &str) -> Result<Config, ConfigError> {
        Config::read(RawConfig::new(format!("{{{SERVICE}{fields}}}").as_bytes()))
    }

    fn refused(fields: &str) -> String {
        config(&format!(r#", "domain": "d"{fields}"#)).unwrap_err().path().to_owned()
    }

    #[test]
    fn defaults_are_the_built_ins() {
        let config = config(r#", "domain": "d""#).unwrap();
        assert_eq!(config.timeout, Duration::from_millis(20));
        assert_eq!(
            (config.replies.rate_limited_status, config.replies.status_on_error),
            (429, 500)
        );
        assert_eq!(config.failure_mode_deny, Fraction::NONE);
        assert_eq!(config.metadata_namespace, "envoy.filters.http.ratelimit");
    }

    #[test]
    fn a_status_below_400_is_429_and_the_percentage_replaces_the_flag() {
        let fields = r#", "domain": "d", "rate_limited_status": {"code": "OK"}, "failure_mode_deny": true,
            "failure_mode_deny_percent": {"default_value": {"numerator": 0}}"#;
        let config = config(fields).unwrap();
        assert_eq!(config.replies.rate_limited_status, 429);
        assert!(!config.failure_mode_deny.contains(0));
    }

    #[test]
    fn callout_of_a_route_changes_what_the_filter_has() {
        let route = |json: &str| Route::read(RawConfig::new(json.as_bytes()));
        let changed = route(r#"{"callout": {"mode": "lease", "timeout": "0.3s"}}"#).unwrap();
        let timeout = Some(Duration::from_millis(300));
        assert_eq!(changed.callout, RouteCallout { mode: Some(Mode::Lease), timeout });
        assert_eq!(route("{}").unwrap().callout, RouteCallout::default());
        let wrong = route(r#"{"callout": {"timeout": "-1s"}}"#).unwrap_err();
        assert_eq!(wrong.path(), "callout.timeout");
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        assert_eq!(config("").unwrap_err().path(), "domain");
        assert_eq!(refused(r#", "stage": 11"#), "stage");
        assert_eq!(refused(r#", "request_type": "x""#), "request_type");
        assert_eq!(refused(r#", "timeout": "-1s""#), "timeout");
        assert_eq!(refused(r#", "rate_limits": [{"actions": []}]"#), "rate_limits[0].actions");
        assert_eq!(
            refused(r#", "rate_limits": [{"stage": 0, "actions": [{"remote_address": {}}]}]"#),
            "rate_limits[0].stage"
        );
        assert_eq!(
            Config::read(RawConfig::new(br#"{"domain": "d"}"#)).unwrap_err().path(),
            "rate_limit_service"
        );
        assert_eq!(
            refused(
                r#", "failure_mode_deny": true, "callout": {"failure_mode_allow_on": ["timeout"]}"#
            ),
            "callout.failure_mode_allow_on"
        );
        let many = [r#"{"header": {"key": "a", "value": "b"}}"#; 11].join(",");
        assert_eq!(
            refused(&format!(r#", "response_headers_to_add": [{many}]"#)),
            "response_headers_to_add"
        );
    }
}
