//! `limit` of an entry of `rate_limits`: the limit that a descriptor brings along.

use callout_common::ConfigError;
use callout_common::envoy::types::{MetadataPath, MetadataValue};
use callout_protos::envoy::config::route::v3 as route;
use callout_protos::envoy::extensions::common::ratelimit::v3 as common;
use callout_protos::envoy::r#type::v3::RateLimitUnit;
use common::rate_limit_descriptor::RateLimitOverride;
use route::rate_limit::r#override::{self as proto, OverrideSpecifier};

use super::Request;
use super::action_config::place;

/// Where the limit comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Override {
    Fixed(RateLimitOverride),
    /// An object `{requests_per_unit: 10, unit: "HOUR"}` of the dynamic metadata: namespace and place.
    Metadata(String, MetadataPath),
}

impl Override {
    pub(super) fn configure(config: &route::rate_limit::Override) -> Result<Self, ConfigError> {
        match &config.override_specifier {
            Some(OverrideSpecifier::RateLimit(limit)) => {
                let proto::RateLimitOverride { requests_per_unit, unit } = *limit;
                Ok(Self::Fixed(limit_of(requests_per_unit, unit)))
            }
            Some(OverrideSpecifier::DynamicMetadata(config)) => {
                let key = config.metadata_key.as_ref();
                let at = "dynamic_metadata.metadata_key";
                let key = key.ok_or_else(|| ConfigError::field(at, "is required"))?;
                let (namespace, path) = place(key).map_err(|error| error.in_field(at))?;
                Ok(Self::Metadata(namespace, path))
            }
            None => Err(ConfigError::without_path("is empty")),
        }
    }

    /// The limit that goes with a descriptor of `request`; none where the metadata has none, as in the
    /// built-in.
    pub(super) fn of(&self, request: &dyn Request) -> Option<RateLimitOverride> {
        let (namespace, path) = match self {
            Self::Fixed(limit) => return Some(*limit),
            Self::Metadata(namespace, path) => (namespace, path),
        };
        let fields = request.object(namespace, path)?;
        let number = fields.get("requests_per_unit")?;
        let (MetadataValue::Number(number), MetadataValue::String(unit)) =
            (number, fields.get("unit")?)
        else {
            return None;
        };
        let unit = RateLimitUnit::from_str_name(std::str::from_utf8(unit).ok()?)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; the built-in converts as well"
        )]
        let number = *number as u32;
        Some(limit_of(number, unit.into()))
    }
}

const fn limit_of(requests_per_unit: u32, unit: i32) -> RateLimitOverride {
    RateLimitOverride { requests_per_unit, unit, unit_multiplier: None }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::request::tests::Fake;

    fn configured(json: &str) -> Result<Override, ConfigError> {
        Override::configure(&serde_json::from_str(json).unwrap())
    }

    fn of(value: MetadataValue) -> Option<(u32, i32)> {
        let json = r#"{"dynamic_metadata": {"metadata_key": {"key": "ns", "path": [{"key": "a"}, {"key": "b"}]}}}"#;
        let outer = MetadataValue::Object([("b".to_owned(), value)].into());
        let metadata = HashMap::from([(("ns", "a"), outer)]);
        let request = Fake { metadata, ..Fake::default() };
        let limit = configured(json).unwrap().of(&request)?;
        Some((limit.requests_per_unit, limit.unit))
    }

    fn object(fields: &[(&str, MetadataValue)]) -> MetadataValue {
        let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        MetadataValue::Object(fields.collect())
    }

    #[test]
    fn a_limit_is_read_out_of_an_object_of_the_metadata() {
        let number = |number: f64| ("requests_per_unit", MetadataValue::Number(number));
        let unit = |text: &str| ("unit", MetadataValue::String(text.as_bytes().to_vec()));
        let hour = RateLimitUnit::Hour.into();
        assert_eq!(of(object(&[number(42.0), unit("HOUR")])), Some((42, hour)));
        for wrong in [
            object(&[number(42.0)]),
            object(&[unit("HOUR")]),
            object(&[number(42.0), unit("FORTNIGHT")]),
            object(&[("requests_per_unit", MetadataValue::Bool(true)), unit("HOUR")]),
            MetadataValue::Number(42.0),
            MetadataValue::Unreadable,
        ] {
            assert_eq!(of(wrong.clone()), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_missing_is_refused_by_name() {
        let path = |json: &str| configured(json).unwrap_err().path().to_owned();
        assert_eq!(path("{}"), "");
        assert_eq!(path(r#"{"dynamic_metadata": {}}"#), "dynamic_metadata.metadata_key");
        assert_eq!(
            path(r#"{"dynamic_metadata": {"metadata_key": {"key": "n"}}}"#),
            "dynamic_metadata.metadata_key.path"
        );
    }
}
