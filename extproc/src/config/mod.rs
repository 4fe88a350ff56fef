//! `envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor` and `ExtProcPerRoute`, checked.

pub(crate) mod extensions;

use std::time::Duration;

use crate::config::extensions::{Callout, Fields, RouteCallout, RouteFields, message_timeout_of};
use crate::decide::machine::{Modes, RouteCache, Settings};
use crate::request::attributes::Attributes;
use callout_common::api::config::{duration, http_status, refuse_if};
use callout_common::api::matching::{HeaderFilter, MutationRules};
use callout_common::grpc::{MetadataTemplate, Service};
use callout_common::{ConfigError, RawConfig};
use callout_protos::envoy::config::core::v3::GrpcService;
use callout_protos::envoy::extensions::filters::http::ext_proc::v3 as proto;
use proto::ext_proc_per_route::Override;
use proto::external_processor::RouteCacheAction;

/// What the built-in waits for an answer when no timeout is set.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a processor may take to end its side after ours has ended.
const LINGER: Duration = Duration::from_secs(1);
/// `deferred_close_timeout`, when none is set.
const DEFERRED_CLOSE: Duration = Duration::from_secs(5);
const BEYOND: &str = "a module can't do this: Envoy's module interface does not offer it";

/// The filter's configuration. Fields are named as in `ExternalProcessor`.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) service: Service,
    pub(crate) settings: Settings,
    /// How long an exchange may last after its request.
    pub(crate) linger: Duration,
    pub(crate) request_attributes: Attributes,
    pub(crate) response_attributes: Attributes,
    pub(crate) stat_prefix: String,
    pub(crate) mutation_rules: MutationRules,
    pub(crate) forward: HeaderFilter,
    pub(crate) metadata: MetadataOptions,
    /// Exchanges have spans of their own in the trace of their request.
    pub(crate) emit_client_span: bool,
    /// What this suite adds.
    pub(crate) callout: Callout,
}

/// Namespaces of metadata.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespaces {
    pub(crate) untyped: Vec<String>,
    pub(crate) typed: Vec<String>,
}

/// `MetadataOptions`; `None` where the sub-message is absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetadataOptions {
    pub(crate) forwarding: Option<Namespaces>,
    pub(crate) receiving: Option<Namespaces>,
    pub(crate) cluster: Option<Namespaces>,
}

impl MetadataOptions {
    fn read(config: Option<proto::MetadataOptions>) -> Self {
        let proto::MetadataOptions {
            forwarding_namespaces,
            receiving_namespaces,
            cluster_metadata_forwarding_namespaces,
        } = config.unwrap_or_default();
        let namespaces = |list: Option<proto::metadata_options::MetadataNamespaces>| {
            list.map(|list| Namespaces { untyped: list.untyped, typed: list.typed })
        };
        Self {
            forwarding: namespaces(forwarding_namespaces),
            receiving: namespaces(receiving_namespaces),
            cluster: namespaces(cluster_metadata_forwarding_namespaces),
        }
    }
}

impl Config {
    pub(crate) fn read(raw: RawConfig<'_>) -> Result<Self, ConfigError> {
        let parsed = raw.message::<proto::ExternalProcessor>()?;
        let callout: Fields = parsed.callout()?;
        let callout = Callout::configure(callout).map_err(|error| error.in_field("callout"))?;
        // Every field is named here, so that none is ignored in silence.
        let proto::ExternalProcessor {
            grpc_service,
            http_service,
            failure_mode_allow,
            processing_mode,
            request_attributes,
            response_attributes,
            message_timeout,
            stat_prefix,
            mutation_rules,
            max_message_timeout,
            forward_rules,
            filter_metadata,
            allow_mode_override,
            disable_immediate_response,
            metadata_options,
            observability_mode,
            disable_clear_route_cache,
            route_cache_action,
            deferred_close_timeout,
            send_body_without_waiting_for_header_response,
            allowed_override_modes,
            processing_request_modifier,
            on_processing_response,
            status_on_error,
            allow_content_length_header,
            emit_client_span,
        } = parsed.message;

        refuse_if(
            http_service.is_some(),
            "http_service",
            "HTTP services are not supported: use grpc_service, or stay with envoy.filters.http.ext_proc",
        )?;
        refuse_if(filter_metadata.is_some(), "filter_metadata", BEYOND)?;
        let plugin = "plug-ins of Envoy's are not available to a module";
        refuse_if(processing_request_modifier.is_some(), "processing_request_modifier", plugin)?;
        refuse_if(on_processing_response.is_some(), "on_processing_response", plugin)?;

        let route_cache =
            match (RouteCacheAction::try_from(route_cache_action), disable_clear_route_cache) {
                (Ok(RouteCacheAction::Default), false) => RouteCache::Default,
                (Ok(RouteCacheAction::Clear), false) => RouteCache::Clear,
                (Ok(RouteCacheAction::Retain), false) | (Ok(RouteCacheAction::Default), true) => {
                    RouteCache::Retain
                }
                (Ok(_), true) => {
                    return Err(ConfigError::field(
                        "disable_clear_route_cache",
                        "contradicts route_cache_action",
                    ));
                }
                (Err(_), _) => {
                    return Err(ConfigError::field("route_cache_action", "is unknown"));
                }
            };
        let modes = modes(processing_mode.as_ref())?.unwrap_or_default();
        modes.check_duplex().map_err(|error| error.in_field("processing_mode"))?;
        let timeout = |value: Option<_>, default, path: &str| {
            value.as_ref().map_or(Ok(default), |value| message_timeout_of(value, path))
        };
        let (allowed, disallowed) = forward_rules
            .map(|rules| (rules.allowed_headers, rules.disallowed_headers))
            .unwrap_or_default();
        let mutation_rules = MutationRules::configure(&mutation_rules.unwrap_or_default())
            .map_err(|error| error.in_field("mutation_rules"))?;
        Ok(Self {
            service: service(grpc_service.as_ref())?,
            settings: Settings {
                modes,
                failure_mode_allow,
                status_on_error: status_on_error
                    .as_ref()
                    .map_or(Ok(500), |status| http_status(status, "status_on_error"))?,
                message_timeout: timeout(message_timeout, DEFAULT_TIMEOUT, "message_timeout")?,
                max_message_timeout: timeout(
                    max_message_timeout,
                    Duration::ZERO,
                    "max_message_timeout",
                )?,
                allow_mode_override,
                allowed_override_modes: allowed_override_modes
                    .iter()
                    .enumerate()
                    .map(|(index, mode)| {
                        Modes::configure(mode)
                            .map_err(|e| e.in_field(&format!("allowed_override_modes[{index}]")))
                    })
                    .collect::<Result<_, _>>()?,
                disable_immediate_response,
                route_cache,
                allow_content_length_header,
                observability: observability_mode,
                send_body_without_waiting: send_body_without_waiting_for_header_response,
                body_limit: callout.body_limit,
                stall_timeout: callout.stall_timeout,
                on_error: callout.on_error.clone(),
                chunking: callout.chunking,
            },
            linger: match (observability_mode, &deferred_close_timeout) {
                (true, None) => DEFERRED_CLOSE,
                (true, Some(timeout)) => duration(timeout, "deferred_close_timeout")?,
                (false, _) => LINGER,
            },
            request_attributes: attributes(&request_attributes, "request_attributes")?,
            response_attributes: attributes(&response_attributes, "response_attributes")?,
            stat_prefix,
            mutation_rules,
            forward: HeaderFilter::configure(allowed.as_ref(), disallowed.as_ref())
                .map_err(|error| error.in_field("forward_rules"))?,
            metadata: MetadataOptions::read(metadata_options),
            emit_client_span: emit_client_span.is_none_or(|on| on.value),
            callout,
        })
    }
}

fn service(config: Option<&GrpcService>) -> Result<Service, ConfigError> {
    let config = config.ok_or_else(|| ConfigError::field("grpc_service", "is required"))?;
    // The built-in, too, gives the service's own timeout no effect on an exchange.
    Service::configure(config).map_err(|error| error.in_field("grpc_service"))
}

fn modes(config: Option<&proto::ProcessingMode>) -> Result<Option<Modes>, ConfigError> {
    config.map(Modes::configure).transpose().map_err(|error| error.in_field("processing_mode"))
}

fn attributes(names: &[String], path: &str) -> Result<Attributes, ConfigError> {
    Attributes::configure(names).map_err(|error| error.in_field(path))
}

/// The configuration of one route.
#[derive(Debug)]
pub enum Route {
    /// The filter does nothing here.
    Disabled,
    /// The filter runs here with these changes.
    Overrides(Box<Overrides>),
}

/// `ExtProcOverrides`, and `callout` beside it.
#[derive(Debug, Default)]
pub struct Overrides {
    pub(crate) modes: Option<Modes>,
    pub(crate) service: Option<Service>,
    pub(crate) initial_metadata: MetadataTemplate,
    pub(crate) metadata: MetadataOptions,
    pub(crate) failure_mode_allow: Option<bool>,
    /// The built-in ignores these two; here they replace the filter's.
    pub(crate) request_attributes: Option<Attributes>,
    pub(crate) response_attributes: Option<Attributes>,
    pub(crate) emit_client_span: Option<bool>,
    pub(crate) callout: RouteCallout,
}

impl Route {
    pub(crate) fn read(raw: RawConfig<'_>) -> Result<Self, ConfigError> {
        let parsed = raw.route_message::<proto::ExtProcPerRoute>()?;
        let fields: RouteFields = parsed.callout()?;
        let callout = RouteCallout::configure(fields).map_err(|error| error.in_field("callout"))?;
        let changes = callout != RouteCallout::default();
        match parsed.message.r#override {
            Some(Override::Disabled(true)) if changes => {
                Err(ConfigError::field("callout", "contradicts disabled: nothing of it would hold"))
            }
            Some(Override::Disabled(true)) => Ok(Self::Disabled),
            Some(Override::Disabled(false)) => {
                Err(ConfigError::field("disabled", "has to be true, or absent"))
            }
            Some(Override::Overrides(overrides)) => {
                let overrides =
                    Overrides::read(overrides).map_err(|error| error.in_field("overrides"))?;
                Ok(Self::Overrides(Box::new(Overrides { callout, ..overrides })))
            }
            None if changes => {
                Ok(Self::Overrides(Box::new(Overrides { callout, ..Overrides::default() })))
            }
            None => Err(ConfigError::field("override", "disabled or overrides is required")),
        }
    }
}

impl Overrides {
    fn read(config: proto::ExtProcOverrides) -> Result<Self, ConfigError> {
        let proto::ExtProcOverrides {
            processing_mode,
            async_mode,
            request_attributes,
            response_attributes,
            grpc_service,
            metadata_options,
            grpc_initial_metadata,
            failure_mode_allow,
            processing_request_modifier,
            emit_client_span,
        } = config;
        refuse_if(async_mode, "async_mode", "is not implemented by the built-in, either")?;
        refuse_if(
            processing_request_modifier.is_some(),
            "processing_request_modifier",
            "plug-ins of Envoy's are not available to a module",
        )?;
        let some = |names: &[String], path: &str| {
            (!names.is_empty()).then(|| attributes(names, path)).transpose()
        };
        Ok(Self {
            modes: modes(processing_mode.as_ref())?,
            service: grpc_service.as_ref().map(|config| service(Some(config))).transpose()?,
            initial_metadata: MetadataTemplate::parse(&grpc_initial_metadata)
                .map_err(|error| error.in_field("grpc"))?,
            metadata: MetadataOptions::read(metadata_options),
            failure_mode_allow: failure_mode_allow.map(|allow| allow.value),
            request_attributes: some(&request_attributes, "request_attributes")?,
            response_attributes: some(&response_attributes, "response_attributes")?,
            emit_client_span: emit_client_span.map(|on| on.value),
            callout: RouteCallout::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use callout_common::Reply;

    use super::*;

    fn refused(fields: &str) -> String {
        let service = r#""grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}"#;
        let json = format!("{{{service}{fields}}}");
        Config::read(RawConfig::new(json.as_bytes())).map(|_| ()).unwrap_err().path().to_owned()
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        assert_eq!(
            refused(r#", "on_processing_response": {"name": "x"}"#),
            "on_processing_response"
        );
        assert_eq!(
            refused(r#", "processing_mode": {"request_body_mode": "GRPC"}"#),
            "processing_mode.request_body_mode"
        );
        assert_eq!(refused(r#", "message_timeout": "3601s""#), "message_timeout");
        assert_eq!(
            refused(r#", "disable_clear_route_cache": true, "route_cache_action": "CLEAR""#),
            "disable_clear_route_cache"
        );
        assert_eq!(refused(r#", "request_attributes": ["request.("]"#), "request_attributes[0]");
        assert_eq!(
            Config::read(RawConfig::new(b"{}")).map(|_| ()).unwrap_err().path(),
            "grpc_service"
        );
    }

    #[test]
    fn a_route_needs_an_override() {
        let route = |json: &str| Route::read(RawConfig::new(json.as_bytes()));
        assert!(matches!(route(r#"{"disabled": true}"#), Ok(Route::Disabled)));
        assert!(route(r#"{"disabled": false}"#).is_err() && route("{}").is_err());
        let overrides = r#"{"overrides": {"failure_mode_allow": true, "processing_mode": {"response_header_mode": "SKIP"}}}"#;
        let Ok(Route::Overrides(overrides)) = route(overrides) else { panic!("no overrides") };
        assert_eq!(overrides.failure_mode_allow, Some(true));
        assert!(!overrides.modes.unwrap().response_headers);
    }

    #[test]
    fn callout_of_a_route_stands_beside_the_override_or_alone() {
        let route = |json: &str| Route::read(RawConfig::new(json.as_bytes()));
        let callout = r#""callout": {"message_timeout": "5s", "status_on_error": {"code": 503},
            "body_limit": {"bytes": 9, "over": "skip"},
            "on_error": {"timeout": {"status": {"code": 429}}}}"#;
        let service = r#"{"grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}},
            "callout": {"on_error": {"timeout": {"status": {"code": 502}},
            "status": {"status": {"code": 502}}}}}"#;
        let filter = Config::read(RawConfig::new(service.as_bytes())).unwrap();
        for beside in ["", r#""overrides": {}, "#] {
            let Ok(Route::Overrides(overrides)) = route(&format!("{{{beside}{callout}}}")) else {
                panic!("no overrides")
            };
            let mut settings = filter.settings.clone();
            overrides.callout.change(&mut settings);
            assert_eq!(settings.message_timeout, Duration::from_secs(5));
            assert_eq!((settings.status_on_error, settings.body_limit.unwrap().bytes), (503, 9));
            let codes: Vec<u16> = settings.on_error.values().map(Reply::status).collect();
            assert_eq!(codes, [429, 502]);
        }
        let disabled = route(&format!(r#"{{"disabled": true, {callout}}}"#)).unwrap_err();
        assert_eq!(disabled.path(), "callout");
        let unknown = route(r#"{"overrides": {}, "callout": {"chunking": {}}}"#).unwrap_err();
        assert_eq!(unknown.path(), "callout.chunking");
    }
}
