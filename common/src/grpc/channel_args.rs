//! `channel_args` of `google_grpc`: those of gRPC's that mean something here.

use std::time::Duration;

use callout_protos::envoy::config::core::v3::grpc_service::google_grpc::ChannelArgs as Proto;
use callout_protos::envoy::config::core::v3::grpc_service::google_grpc::channel_args::Value;
use callout_protos::envoy::config::core::v3::grpc_service::google_grpc::channel_args::value::ValueSpecifier;

use super::connection::Keepalive;
use crate::api::config::ConfigError;

/// gRPC's time for the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const KNOWN: &str = "is not known here: grpc.default_authority, grpc.ssl_target_name_override, \
    grpc.max_receive_message_length, grpc.keepalive_time_ms, grpc.keepalive_timeout_ms and \
    grpc.keepalive_permit_without_calls are";

/// What is set of gRPC's arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ChannelArgs {
    /// The `:authority` of calls.
    pub(super) authority: Option<String>,
    /// The name that the server's certificate has to have.
    pub(super) server_name: Option<String>,
    /// The largest message of an answer, in bytes.
    pub(super) max_answer: Option<usize>,
    pub(super) keepalive: Option<Keepalive>,
}

impl ChannelArgs {
    /// Reads them.
    ///
    /// # Errors
    /// The argument that is wrong or not known.
    pub(super) fn configure(config: &Proto) -> Result<Self, ConfigError> {
        let Proto { args } = config;
        let mut read = Self::default();
        let (mut time, mut timeout, mut without_calls) = (None, PING_TIMEOUT, false);
        for (name, value) in args {
            let at = |reason: &str| ConfigError::field(format!("args[{name}]"), reason);
            let text = || text(value).ok_or_else(|| at("must be a string"));
            let number = || number(value).ok_or_else(|| at("must be a number"));
            let millis = || match u64::try_from(number()?) {
                Ok(millis @ 1..) => Ok(Duration::from_millis(millis)),
                _ => Err(at("must be greater than 0")),
            };
            match name.as_str() {
                "grpc.default_authority" => read.authority = Some(text()?.to_owned()),
                "grpc.ssl_target_name_override" => read.server_name = Some(text()?.to_owned()),
                // A negative length is no bound, in gRPC.
                "grpc.max_receive_message_length" => {
                    read.max_answer = Some(usize::try_from(number()?).unwrap_or(usize::MAX));
                }
                // gRPC switches it off by the largest number.
                "grpc.keepalive_time_ms" => {
                    time = Some(millis()?).filter(|time| time.as_millis() < i32::MAX as u128);
                }
                "grpc.keepalive_timeout_ms" => timeout = millis()?,
                "grpc.keepalive_permit_without_calls" => without_calls = number()? != 0,
                _ => return Err(at(KNOWN)),
            }
        }
        read.keepalive = time.map(|time| Keepalive { time, timeout, without_calls });
        Ok(read)
    }
}

fn text(value: &Value) -> Option<&str> {
    match value.value_specifier.as_ref()? {
        ValueSpecifier::StringValue(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

const fn number(value: &Value) -> Option<i64> {
    match value.value_specifier {
        Some(ValueSpecifier::IntValue(number)) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(json: &str) -> Result<ChannelArgs, ConfigError> {
        ChannelArgs::configure(&serde_json::from_str(&format!(r#"{{"args": {json}}}"#)).unwrap())
    }

    #[test]
    fn what_grpc_knows_is_read_as_grpc_means_it() {
        let read = args(
            r#"{"grpc.default_authority": {"string_value": "a"}, "grpc.keepalive_time_ms": {"int_value": "10000"},
                "grpc.max_receive_message_length": {"int_value": -1}}"#,
        );
        let keepalive = Keepalive {
            time: Duration::from_secs(10),
            timeout: PING_TIMEOUT,
            without_calls: false,
        };
        let expected = ChannelArgs {
            authority: Some("a".to_owned()),
            server_name: None,
            max_answer: Some(usize::MAX),
            keepalive: Some(keepalive),
        };
        assert_eq!(read.unwrap(), expected);
        let off = args(r#"{"grpc.keepalive_time_ms": {"int_value": 2147483647}}"#).unwrap();
        assert_eq!(off.keepalive, None);
    }

    #[test]
    fn what_can_not_be_honoured_is_refused_by_name() {
        let path = |json| args(json).unwrap_err().path().to_owned();
        assert_eq!(
            path(r#"{"grpc.lb_policy_name": {"string_value": "x"}}"#),
            "args[grpc.lb_policy_name]"
        );
        assert_eq!(
            path(r#"{"grpc.keepalive_time_ms": {"string_value": "x"}}"#),
            "args[grpc.keepalive_time_ms]"
        );
        assert_eq!(
            path(r#"{"grpc.keepalive_time_ms": {"int_value": 0}}"#),
            "args[grpc.keepalive_time_ms]"
        );
    }
}
