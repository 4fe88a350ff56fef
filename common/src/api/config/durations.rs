//! Durations in configurations of one's own, written as Envoy writes them.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::scalar;

/// Reads a duration as `0.25s`: `#[serde(deserialize_with = "callout_common::serde_duration")]`.
///
/// # Errors
/// When it is written otherwise, or negative.
pub fn serde_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let (seconds, nanos) = scalar::duration(&text).map_err(serde::de::Error::custom)?;
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(serde::de::Error::custom(format!("`{text}` must not be negative"))),
    }
}

/// As [`serde_duration`], for a field that may be absent; with `#[serde(default, ...)]`.
///
/// # Errors
/// As [`serde_duration`].
pub fn serde_optional_duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    serde_duration(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigError, RawConfig};
    use callout_protos::pbjson_types::{Struct, Value, value::Kind};
    use prost::Message;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Fields {
        #[serde(deserialize_with = "serde_duration")]
        ttl: Duration,
        #[serde(deserialize_with = "serde_optional_duration")]
        pause: Option<Duration>,
        size: u32,
    }

    fn read(bytes: &[u8]) -> Result<Fields, ConfigError> {
        RawConfig::new(bytes).json()
    }

    #[test]
    fn durations_are_written_as_everywhere_in_envoy() {
        let read = read(br#"{"ttl": "0.25s", "pause": "2s"}"#).unwrap();
        assert_eq!(
            (read.ttl, read.pause),
            (Duration::from_millis(250), Some(Duration::from_secs(2)))
        );
        for (json, says) in [
            (r#"{"ttl": "250ms"}"#, "at ttl: `250ms` is not a duration"),
            (r#"{"ttl": "-1s"}"#, "at ttl: `-1s` must not be negative"),
            (r#"{"ttl": 5}"#, "at ttl: "),
            (r#"{"ttll": "5s"}"#, "at ttll: unknown field `ttll`, did you mean `ttl`?"),
        ] {
            let refused: Result<Fields, _> = RawConfig::new(json.as_bytes()).json();
            let error = refused.unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    /// Envoy 1.38 hands over the `Struct` of a route as its bytes.
    #[test]
    fn a_serialized_struct_is_read_as_its_json_is() {
        let field = |kind| Value { kind: Some(kind) };
        let fields = [
            ("ttl".to_owned(), field(Kind::StringValue("3s".to_owned()))),
            ("size".to_owned(), field(Kind::NumberValue(7.0))),
        ];
        let bytes = Struct { fields: fields.into() }.encode_to_vec();
        let expected = Fields { ttl: Duration::from_secs(3), pause: None, size: 7 };
        assert_eq!(read(&bytes).unwrap(), expected);
        assert_eq!(read(b"").unwrap(), Fields::default());
        assert!(read(b"\x01nonsense").is_err());
    }
}
