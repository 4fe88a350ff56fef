//! Configuration as Envoy hands it over, and the error that refuses it.

mod any;
mod descriptions;
mod durations;
mod json;
mod message;
mod nearest;
mod scalar;
mod text;

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

pub use any::message_of;
pub use durations::{serde_duration, serde_optional_duration};
pub use json::is_stub;
pub use message::Parsed;
pub use text::text_format;

/// The bytes of a configuration, as Envoy hands them over: JSON text for a `Struct` (on Envoy 1.38
/// a per-route `Struct` is its protobuf bytes), the serialized message otherwise.
#[derive(Debug, Clone, Copy)]
pub struct RawConfig<'a> {
    bytes: &'a [u8],
}

impl<'a> RawConfig<'a> {
    /// A configuration from its bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes as they came.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The configuration as `T`, from a `google.protobuf.Struct`, as which Envoy hands over JSON; of a
    /// route Envoy 1.38 hands over the serialized message. No configuration at all is one without
    /// fields.
    ///
    /// # Errors
    /// When it is neither, or does not fit `T`; with the path of the field.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let json = match self.bytes.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(self.bytes).map_err(|error| {
                ConfigError::without_path(format!("is not valid JSON: {error}"))
            })?,
            _ => message::serialized_struct(self.bytes)?,
        };
        message::from_json(json)
    }
}

/// Why a configuration is refused, and which field is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    path: String,
    reason: String,
}

impl ConfigError {
    /// The field at `path` (as `grpc_service.timeout`, `rate_limits[0].actions`) is wrong.
    pub fn field(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// The configuration as a whole is wrong.
    pub fn without_path(reason: impl Into<String>) -> Self {
        Self::field("", reason)
    }

    /// This error as seen from the message that holds the field `parent`.
    #[must_use]
    pub fn in_field(mut self, parent: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => parent.to_owned(),
            path if path.starts_with('[') => format!("{parent}{path}"),
            path => format!("{parent}.{path}"),
        };
        self
    }

    /// The path of the field; empty for the configuration as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "at {}: {}", self.path, self.reason)
        }
    }
}

/// Refuses the field at `path` when `refused` holds: it is set, and can't be honoured.
///
/// # Errors
/// When `refused` holds.
pub fn refuse_if(refused: bool, path: &str, reason: &str) -> Result<(), ConfigError> {
    if refused { Err(ConfigError::field(path, reason)) } else { Ok(()) }
}

/// A `google.protobuf.Duration` that may not be negative.
///
/// # Errors
/// When it is negative or out of range; with `path`.
pub fn duration(value: &pbjson_types::Duration, path: &str) -> Result<Duration, ConfigError> {
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        // The bound of google.protobuf.Duration.
        (Ok(seconds @ 0..=315_576_000_000), Ok(nanos @ 0..=999_999_999)) => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(ConfigError::field(path, "is no duration of zero or more")),
    }
}

/// A duration of this suite's own configuration: more than 0, and a day at most.
///
/// # Errors
/// When it is not.
pub fn positive_duration(
    value: Option<&pbjson_types::Duration>,
    path: &str,
    default: Duration,
) -> Result<Duration, ConfigError> {
    let value = value.map_or(Ok(default), |value| duration(value, path))?;
    refuse_if(value.is_zero(), path, "must be greater than 0")?;
    refuse_if(value > Duration::from_secs(86_400), path, "must be a day at most")?;
    Ok(value)
}

/// The instant by which a call that starts now has to end; zero means never.
#[must_use]
pub fn deadline(timeout: Duration) -> Option<Instant> {
    if timeout.is_zero() { None } else { Instant::now().checked_add(timeout) }
}

/// `now` as time since 1970.
#[must_use]
pub fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Warns that the field at `path` of the filter called `filter` asks for something in vain.
pub fn warn_without_effect(filter: &str, path: &str, wanted: bool, reason: &str) {
    if wanted {
        tracing::warn!("{filter}: {path} has no effect in a module: {reason}");
    }
}

/// Warns of a runtime key. It can't be read on a worker, so the default holds. That is worth a
/// line, and no more: some fields can't be written without a key.
pub fn warn_of_runtime(filter: &str, path: &str, key: &str) {
    if !key.is_empty() {
        tracing::warn!(
            "{filter}: {path}: the runtime key `{key}` is not read, default_value holds"
        );
    }
}

/// An `envoy.type.v3.HttpStatus`: one of Envoy's status codes.
///
/// # Errors
/// When the code is none of the enumeration; with `path`.
pub fn http_status(
    value: &callout_protos::envoy::r#type::v3::HttpStatus,
    path: &str,
) -> Result<u16, ConfigError> {
    use callout_protos::envoy::r#type::v3::StatusCode;
    match (StatusCode::try_from(value.code), u16::try_from(value.code)) {
        (Ok(code), Ok(number)) if code != StatusCode::Empty => Ok(number),
        _ => Err(ConfigError::field(
            format!("{path}.code"),
            format!("{} is no HTTP status code", value.code),
        )),
    }
}
