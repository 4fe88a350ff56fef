//! `envoy.extensions.filters.http.ext_authz.v3.ExtAuthz` and `ExtAuthzPerRoute`, checked.

pub(crate) mod extensions;
pub(crate) mod key_rule;

use std::collections::HashMap;
use std::time::Duration;

use callout_common::api::config::{http_status, refuse_if, warn_without_effect};
use callout_common::api::matching::{
    Fraction, HeaderFilter, MetadataMatcher, MutationRules, RuntimeFlag, RuntimeFraction,
};
use callout_common::api::node::Node;
use callout_common::grpc::Service;
use callout_common::{ConfigError, RawConfig};
use callout_protos::envoy::config::core::v3::ApiVersion;
use callout_protos::envoy::extensions::filters::http::ext_authz::v3 as proto;
use proto::check_settings::ServiceOverride;
use proto::ext_authz::Services;
use proto::ext_authz_per_route::Override;

use crate::config::extensions::{Callout, Fields, RouteCallout, RouteFields};
use crate::config::key_rule::fingerprint;

/// What the built-in waits for an answer when no timeout is set.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);

/// The filter's configuration. Fields are named as in `ExtAuthz`.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) service: Service,
    /// `destination.labels`, by `bootstrap_metadata_labels_key`.
    pub(crate) labels: HashMap<String, String>,
    /// Calls have spans of their own in the trace of their request.
    pub(crate) emit_client_span: bool,
    pub(crate) failure_mode_allow_header_add: bool,
    pub(crate) with_request_body: Option<BodyLimits>,
    pub(crate) clear_route_cache: bool,
    pub(crate) clear_route_cache_headers: Vec<String>,
    pub(crate) status_on_error: u16,
    pub(crate) validate_mutations: bool,
    pub(crate) metadata_context_namespaces: Vec<String>,
    pub(crate) typed_metadata_context_namespaces: Vec<String>,
    pub(crate) route_metadata_context_namespaces: Vec<String>,
    pub(crate) route_typed_metadata_context_namespaces: Vec<String>,
    pub(crate) filter_enabled: RuntimeFraction,
    pub(crate) filter_enabled_metadata: Option<MetadataMatcher>,
    pub(crate) deny_at_disable: RuntimeFlag,
    pub(crate) stat_prefix: String,
    pub(crate) headers: HeaderFilter,
    pub(crate) include_tls_session: bool,
    pub(crate) include_peer_certificate: bool,
    pub(crate) encode_raw_headers: bool,
    pub(crate) mutation_rules: Option<MutationRules>,
    pub(crate) enable_dynamic_metadata_ingestion: bool,
    /// `max_denied_response_body_bytes`; `None` is unlimited.
    pub(crate) max_denied_body: Option<usize>,
    pub(crate) enforce_response_header_limits: bool,
    pub(crate) shadow_mode: bool,
    /// What this suite adds.
    pub(crate) callout: Callout,
}

/// `BufferSettings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyLimits {
    pub(crate) max_request_bytes: usize,
    pub(crate) allow_partial_message: bool,
    pub(crate) pack_as_bytes: bool,
}

impl Config {
    /// Whether the service is told dynamic metadata.
    pub(crate) fn reads_dynamic_metadata(&self) -> bool {
        !self.metadata_context_namespaces.is_empty()
            || !self.typed_metadata_context_namespaces.is_empty()
    }

    pub(crate) fn read(raw: RawConfig<'_>) -> Result<Self, ConfigError> {
        let parsed = raw.message::<proto::ExtAuthz>()?;
        let callout: Fields = parsed.callout()?;
        // Every field is named here, so that none is ignored in silence.
        let proto::ExtAuthz {
            services,
            transport_api_version,
            failure_mode_allow,
            failure_mode_allow_header_add,
            with_request_body,
            clear_route_cache,
            clear_route_cache_headers,
            status_on_error,
            validate_mutations,
            metadata_context_namespaces,
            typed_metadata_context_namespaces,
            route_metadata_context_namespaces,
            route_typed_metadata_context_namespaces,
            filter_enabled,
            filter_enabled_metadata,
            deny_at_disable,
            include_peer_certificate,
            stat_prefix,
            bootstrap_metadata_labels_key,
            allowed_headers,
            disallowed_headers,
            include_tls_session,
            charge_cluster_response_stats,
            encode_raw_headers,
            decoder_header_mutation_rules,
            enable_dynamic_metadata_ingestion,
            filter_metadata,
            emit_filter_state_stats,
            max_denied_response_body_bytes,
            enforce_response_header_limits,
            shadow_mode,
            emit_client_span,
        } = parsed.message;

        refuse_if(
            transport_api_version == i32::from(ApiVersion::V2),
            "transport_api_version",
            "V2 is gone: use V3",
        )?;
        let beyond = "a module can't do this: Envoy's module interface does not offer it";
        refuse_if(filter_metadata.is_some(), "filter_metadata", beyond)?;
        refuse_if(emit_filter_state_stats, "emit_filter_state_stats", beyond)?;
        let charged = charge_cluster_response_stats.is_some_and(|on| on.value);
        let field = "charge_cluster_response_stats";
        warn_without_effect("authz", field, charged, "there is no cluster");

        Ok(Self {
            service: match services {
                Some(Services::GrpcService(service)) => {
                    Service::configure(&service).map_err(|error| error.in_field("grpc_service"))?
                }
                Some(Services::HttpService(_)) => {
                    return Err(ConfigError::field(
                        "http_service",
                        "HTTP services are not supported: use grpc_service, or stay with envoy.filters.http.ext_authz",
                    ));
                }
                None => return Err(ConfigError::field("grpc_service", "is required")),
            },
            labels: labels(&bootstrap_metadata_labels_key)?,
            emit_client_span: emit_client_span.is_none_or(|on| on.value),
            failure_mode_allow_header_add,
            with_request_body: body_limits(with_request_body.as_ref())?,
            clear_route_cache,
            clear_route_cache_headers: clear_route_cache_headers
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            status_on_error: status_on_error
                .as_ref()
                .map_or(Ok(403), |status| http_status(status, "status_on_error"))?,
            validate_mutations,
            metadata_context_namespaces,
            typed_metadata_context_namespaces,
            route_metadata_context_namespaces,
            route_typed_metadata_context_namespaces,
            filter_enabled: match filter_enabled {
                Some(fraction) => RuntimeFraction::configure(&fraction, "authz", "filter_enabled")?,
                None => Fraction::ALL.into(),
            },
            filter_enabled_metadata: filter_enabled_metadata
                .as_ref()
                .map(MetadataMatcher::configure)
                .transpose()
                .map_err(|error| error.in_field("filter_enabled_metadata"))?,
            deny_at_disable: deny_at_disable
                .as_ref()
                .map(|flag| RuntimeFlag::configure(flag, "authz", "deny_at_disable"))
                .transpose()?
                .unwrap_or_default(),
            stat_prefix,
            headers: HeaderFilter::configure(
                allowed_headers.as_ref(),
                disallowed_headers.as_ref(),
            )?,
            include_tls_session,
            include_peer_certificate,
            encode_raw_headers,
            mutation_rules: decoder_header_mutation_rules
                .as_ref()
                .map(MutationRules::configure)
                .transpose()
                .map_err(|error| error.in_field("decoder_header_mutation_rules"))?,
            enable_dynamic_metadata_ingestion: enable_dynamic_metadata_ingestion
                .is_none_or(|on| on.value),
            max_denied_body: usize::try_from(max_denied_response_body_bytes)
                .ok()
                .filter(|limit| *limit > 0),
            enforce_response_header_limits,
            shadow_mode,
            callout: Callout::configure(callout, failure_mode_allow)
                .map_err(|error| error.in_field("callout"))?,
        })
    }
}

fn body_limits(
    settings: Option<&proto::BufferSettings>,
) -> Result<Option<BodyLimits>, ConfigError> {
    let Some(settings) = settings else { return Ok(None) };
    let proto::BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes } =
        *settings;
    refuse_if(
        max_request_bytes == 0,
        "with_request_body.max_request_bytes",
        "must be greater than 0",
    )?;
    Ok(Some(BodyLimits {
        max_request_bytes: usize::try_from(max_request_bytes).unwrap_or(usize::MAX),
        allow_partial_message,
        pack_as_bytes,
    }))
}

/// The configuration of one route.
#[derive(Debug)]
pub enum Route {
    /// The filter does nothing here.
    Disabled,
    /// The filter runs here, even if a less specific level disables it.
    Enabled(Box<CheckSettings>),
}

/// `CheckSettings`.
#[derive(Debug, Default)]
pub struct CheckSettings {
    pub(crate) context_extensions: HashMap<String, String>,
    pub(crate) body: RouteBody,
    pub(crate) service: Option<Service>,
    pub(crate) emit_client_span: Option<bool>,
    /// What this suite adds.
    pub(crate) callout: RouteCallout,
    /// Tells this configuration from others.
    pub(crate) fingerprint: [u8; 32],
}

/// What a route says about buffering the body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RouteBody {
    /// Nothing: the filter's own settings hold.
    #[default]
    Inherit,
    /// `disable_request_body_buffering`.
    Off,
    /// `with_request_body`, whose `pack_as_bytes` the built-in takes from the filter.
    Limits(BodyLimits),
}

impl Route {
    pub(crate) fn read(raw: RawConfig<'_>) -> Result<Self, ConfigError> {
        let parsed = raw.route_message::<proto::ExtAuthzPerRoute>()?;
        let fields: RouteFields = parsed.callout()?;
        let callout = RouteCallout::configure(fields).map_err(|error| error.in_field("callout"))?;
        let changes = callout != RouteCallout::default();
        let settings = match parsed.message.r#override {
            Some(Override::Disabled(true)) if changes => {
                let reason = "contradicts disabled: nothing of it would hold";
                return Err(ConfigError::field("callout", reason));
            }
            Some(Override::Disabled(true)) => return Ok(Self::Disabled),
            Some(Override::Disabled(false)) => CheckSettings::default(),
            Some(Override::CheckSettings(settings)) => {
                CheckSettings::read(settings).map_err(|error| error.in_field("check_settings"))?
            }
            None if changes => CheckSettings::default(),
            None => {
                return Err(ConfigError::field(
                    "override",
                    "disabled or check_settings is required",
                ));
            }
        };
        let fingerprint = fingerprint(raw.bytes());
        Ok(Self::Enabled(Box::new(CheckSettings { callout, fingerprint, ..settings })))
    }
}

impl CheckSettings {
    fn read(settings: proto::CheckSettings) -> Result<Self, ConfigError> {
        let proto::CheckSettings {
            context_extensions,
            disable_request_body_buffering,
            with_request_body,
            emit_client_span,
            service_override,
        } = settings;
        refuse_if(
            disable_request_body_buffering && with_request_body.is_some(),
            "with_request_body",
            "contradicts disable_request_body_buffering",
        )?;
        let body = match body_limits(with_request_body.as_ref())? {
            Some(limits) => RouteBody::Limits(limits),
            None if disable_request_body_buffering => RouteBody::Off,
            None => RouteBody::Inherit,
        };
        let service = match service_override {
            Some(ServiceOverride::GrpcService(service)) => {
                Some(Service::configure(&service).map_err(|error| error.in_field("grpc_service"))?)
            }
            Some(ServiceOverride::HttpService(_)) => {
                return Err(ConfigError::field(
                    "http_service",
                    "HTTP services are not supported: use grpc_service, or stay with envoy.filters.http.ext_authz",
                ));
            }
            None => None,
        };
        let emit_client_span = emit_client_span.map(|on| on.value);
        Ok(Self { context_extensions, body, service, emit_client_span, ..Self::default() })
    }
}

/// The fields under `key` in the metadata of Envoy's node; those that are no text are empty.
fn labels(key: &str) -> Result<HashMap<String, String>, ConfigError> {
    if key.is_empty() {
        return Ok(HashMap::new());
    }
    let node = Node::of_this_process("bootstrap_metadata_labels_key")?;
    let labels = node.metadata.get(key).and_then(serde_json::Value::as_object);
    let text = |(name, value): (&String, &serde_json::Value)| {
        (name.clone(), value.as_str().unwrap_or_default().to_owned())
    };
    Ok(labels.into_iter().flatten().map(text).collect())
}

#[cfg(test)]
mod tests {
    use callout_common::grpc::FailurePolicy;

    use super::*;

    const SERVICE: &str = r#""grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}"#;

    fn config(fields: &str) -> Result<Config, ConfigError> {
        Config::read(RawConfig::new(format!("{{{SERVICE}{fields}}}").as_bytes()))
    }

    fn refused(fields: &str) -> String {
        config(fields).unwrap_err().path().to_owned()
    }

    #[test]
    fn defaults_are_the_built_ins() {
        let config = config("").unwrap();
        assert_eq!(config.status_on_error, 403);
        assert!(
            config.callout.failures == FailurePolicy::builtin(false)
                && config.enable_dynamic_metadata_ingestion
        );
        assert_eq!(config.filter_enabled, Fraction::ALL);
        assert!(config.service.timeout.is_none() && config.max_denied_body.is_none());
    }

    #[test]
    fn what_a_module_can_not_do_is_refused_by_name() {
        assert_eq!(refused(r#", "emit_filter_state_stats": true"#), "emit_filter_state_stats");
        assert_eq!(refused(r#", "filter_metadata": {}"#), "filter_metadata");
        assert_eq!(refused(r#", "transport_api_version": "V2""#), "transport_api_version");
        assert_eq!(refused(r#", "status_on_error": {"code": 499}"#), "status_on_error.code");
        assert_eq!(refused(r#", "callout": {"cahce": {}}"#), "callout.cahce");
        assert_eq!(refused(r#", "callout": {"cache": {"ttl": "0s"}}"#), "callout.cache.ttl");
        assert_eq!(
            refused(r#", "callout": {"status_on_timeout": {"code": 499}}"#),
            "callout.status_on_timeout.code"
        );
        assert_eq!(
            refused(r#", "with_request_body": {"max_request_bytes": 0}"#),
            "with_request_body.max_request_bytes"
        );
        assert_eq!(Config::read(RawConfig::new(b"")).unwrap_err().path(), "grpc_service");
    }

    #[test]
    fn a_route_needs_an_override_and_no_contradiction() {
        let route = |json: &str| Route::read(RawConfig::new(json.as_bytes()));
        assert!(matches!(route(r#"{"disabled": true}"#), Ok(Route::Disabled)));
        assert!(matches!(route(r#"{"disabled": false}"#), Ok(Route::Enabled(_))));
        assert_eq!(route("{}").unwrap_err().path(), "override");
        let both = r#"{"check_settings": {"disable_request_body_buffering": true, "with_request_body": {"max_request_bytes": 1}}}"#;
        assert_eq!(route(both).unwrap_err().path(), "check_settings.with_request_body");
    }

    #[test]
    fn callout_of_a_route_stands_beside_the_override_or_alone() {
        let route = |json: &str| Route::read(RawConfig::new(json.as_bytes()));
        for beside in ["", r#""check_settings": {}, "#, r#""disabled": false, "#] {
            let json =
                format!(r#"{{{beside}"callout": {{"timeout": "1.5s", "always_ask": true}}}}"#);
            let Ok(Route::Enabled(settings)) = route(&json) else { panic!("{json}") };
            let timeout = Some(Duration::from_millis(1500));
            assert_eq!(settings.callout, RouteCallout { always_ask: true, timeout });
        }
        let wrong = |json: &str| route(json).unwrap_err().path().to_owned();
        assert_eq!(wrong(r#"{"disabled": true, "callout": {"timeout": "1s"}}"#), "callout");
        assert_eq!(wrong(r#"{"callout": {"timeout": "-1s"}}"#), "callout.timeout");
        assert_eq!(wrong(r#"{"callout": {"cache": {}}}"#), "callout.cache");
    }
}
