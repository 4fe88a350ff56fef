//! `envoy.config.core.v3.GrpcService`: which service to call, and how.

use std::time::Duration;

use callout_protos::envoy::config::core::v3::grpc_service::google_grpc::channel_credentials::CredentialSpecifier;
use callout_protos::envoy::config::core::v3::grpc_service::{
    EnvoyGrpc, GoogleGrpc, TargetSpecifier,
};
use callout_protos::envoy::config::core::v3::{GrpcService, RetryPolicy as Proto};

use super::call::Client;
use super::channel_args::ChannelArgs;
use super::destination::Destination;
use super::metadata::MetadataTemplate;
use super::retry::RetryPolicy;
use super::target::Target;
use super::tls::TlsSettings;
use crate::api::config::{ConfigError, duration, refuse_if};
use crate::cluster_streams::ClusterStreams;
use crate::http::rules::valid_value;

/// A configured service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Calls it.
    pub client: Client,
    /// `timeout`; `None` when unset. Zero means no deadline.
    pub timeout: Option<Duration>,
    /// `initial_metadata`.
    pub metadata: MetadataTemplate,
    /// What it is called: the name of its cluster, or its target.
    pub name: String,
}

impl Service {
    /// Reads a `GrpcService`. Does no I/O.
    ///
    /// # Errors
    /// The field that is missing, wrong or not supported, seen from the `GrpcService`.
    pub fn configure(config: &GrpcService) -> Result<Self, ConfigError> {
        let GrpcService { timeout, initial_metadata, retry_policy, target_specifier } = config;
        let retries = retries(retry_policy.as_ref(), target_specifier.as_ref())?;
        let client = match target_specifier {
            Some(TargetSpecifier::GoogleGrpc(google)) => {
                dialled(google).map_err(|error| error.in_field("google_grpc"))?
            }
            Some(TargetSpecifier::EnvoyGrpc(envoy)) => {
                of_cluster(envoy).map_err(|error| error.in_field("envoy_grpc"))?
            }
            None => {
                return Err(ConfigError::field("envoy_grpc", "is required, or google_grpc"));
            }
        };
        Ok(Self {
            client: client.with_retries(retries),
            timeout: timeout.as_ref().map(|value| duration(value, "timeout")).transpose()?,
            metadata: MetadataTemplate::parse(initial_metadata)?,
            name: match target_specifier {
                Some(TargetSpecifier::GoogleGrpc(google)) => google.target_uri.clone(),
                Some(TargetSpecifier::EnvoyGrpc(envoy)) => envoy.cluster_name.clone(),
                None => String::new(),
            },
        })
    }

    /// Which service it calls and as whom, in words that no other service has: what is known of one
    /// says nothing of another.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {:?}", self.client.place(), self.metadata)
    }

    /// The service with [`Client::with_cluster_streams`].
    #[must_use]
    pub fn with_cluster_streams(mut self, clusters: &ClusterStreams) -> Self {
        self.client = self.client.with_cluster_streams(clusters);
        self
    }
}

/// The policy of the service, or that of its `envoy_grpc`.
fn retries(
    service: Option<&Proto>,
    target: Option<&TargetSpecifier>,
) -> Result<Option<RetryPolicy>, ConfigError> {
    let cluster = match target {
        Some(TargetSpecifier::EnvoyGrpc(envoy)) => envoy.retry_policy.as_ref(),
        _ => None,
    };
    let (policy, field) = match (service, cluster) {
        (None, None) => return Ok(None),
        (Some(policy), None) => (policy, "retry_policy"),
        (None, Some(policy)) => (policy, "envoy_grpc.retry_policy"),
        (Some(_), Some(_)) => {
            return Err(ConfigError::field(
                "envoy_grpc.retry_policy",
                "is set beside the service's own retry_policy: keep one of them",
            ));
        }
    };
    RetryPolicy::configure(policy).map(Some).map_err(|error| error.in_field(field))
}

fn of_cluster(config: &EnvoyGrpc) -> Result<Client, ConfigError> {
    let EnvoyGrpc {
        cluster_name,
        authority,
        // See `retries`.
        retry_policy: _,
        max_receive_message_length,
        skip_envoy_headers,
    } = config;
    refuse_if(cluster_name.is_empty(), "cluster_name", "is required")?;
    let authority = if authority.is_empty() { cluster_name } else { authority };
    refuse_if(!valid_value(authority.as_bytes()), "authority", "is no header value")?;
    refuse_if(
        *skip_envoy_headers,
        "skip_envoy_headers",
        "Envoy adds x-envoy-internal and x-forwarded-for to a module's streams",
    )?;
    let max_answer = max_receive_message_length
        .as_ref()
        .map(|max| max.value)
        .filter(|max| *max > 0)
        .map(|max| usize::try_from(max).unwrap_or(usize::MAX));
    Ok(Client::of_cluster(cluster_name, authority, max_answer))
}

fn dialled(config: &GoogleGrpc) -> Result<Client, ConfigError> {
    let GoogleGrpc {
        target_uri,
        channel_credentials,
        channel_credentials_plugin,
        call_credentials,
        call_credentials_plugin,
        // Names statistics of Envoy's own client.
        stat_prefix: _,
        credentials_factory_name,
        config,
        per_stream_buffer_limit_bytes,
        channel_args,
    } = config;
    let plugin = "plug-ins of Envoy's gRPC client are not available to a module";
    refuse_if(!channel_credentials_plugin.is_empty(), "channel_credentials_plugin", plugin)?;
    refuse_if(!call_credentials.is_empty(), "call_credentials", "is not supported")?;
    refuse_if(!call_credentials_plugin.is_empty(), "call_credentials_plugin", plugin)?;
    refuse_if(!credentials_factory_name.is_empty(), "credentials_factory_name", plugin)?;
    refuse_if(config.is_some(), "config", plugin)?;
    let own = "belongs to Envoy's own gRPC client";
    refuse_if(per_stream_buffer_limit_bytes.is_some(), "per_stream_buffer_limit_bytes", own)?;
    let args = channel_args.as_ref().map(ChannelArgs::configure).transpose();
    let args = args.map_err(|error| error.in_field("channel_args"))?.unwrap_or_default();
    refuse_if(target_uri.is_empty(), "target_uri", "is required")?;
    let target = Target::parse(target_uri)
        .map_err(|error| ConfigError::field("target_uri", error.to_string()))?;
    let credentials = channel_credentials.as_ref();
    let tls = match credentials.and_then(|all| all.credential_specifier.as_ref()) {
        None | Some(CredentialSpecifier::LocalCredentials(_)) => None,
        Some(CredentialSpecifier::SslCredentials(ssl)) => {
            let name = args.server_name.clone().unwrap_or_else(|| target.host());
            let tls = TlsSettings::configure(ssl, &name);
            Some(tls.map_err(|e| e.in_field("ssl_credentials").in_field("channel_credentials"))?)
        }
        Some(CredentialSpecifier::GoogleDefault(_)) => {
            return Err(ConfigError::field(
                "channel_credentials.google_default",
                "is not supported: use ssl_credentials",
            ));
        }
    };
    let authority = args.authority.or(args.server_name).unwrap_or_else(|| target.authority());
    let authority = authority.parse().map_err(|_| {
        ConfigError::field("target_uri", format!("`{authority}` is not a valid authority"))
    })?;
    let destination = Destination { target, tls, keepalive: args.keepalive };
    Ok(Client::dialled(destination, authority, args.max_answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(json: &str) -> Result<Service, ConfigError> {
        Service::configure(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_retry_policy_of_a_cluster_is_the_services_own_and_there_is_one() {
        let of_cluster =
            r#""envoy_grpc": {"cluster_name": "c", "retry_policy": {"retry_on": "unavailable"}}"#;
        assert!(service(&format!("{{{of_cluster}}}")).unwrap().client.retries());
        assert!(!service(r#"{"envoy_grpc": {"cluster_name": "c"}}"#).unwrap().client.retries());
        let path = |json: &str| service(json).unwrap_err().path().to_owned();
        let both = format!(r#"{{"retry_policy": {{}}, {of_cluster}}}"#);
        assert_eq!(path(&both), "envoy_grpc.retry_policy");
        let wrong = r#"{"envoy_grpc": {"cluster_name": "c", "retry_policy": {"retry_on": "x"}}}"#;
        assert_eq!(path(wrong), "envoy_grpc.retry_policy.retry_on");
    }
}
