//! `hits_addend`: how many hits a descriptor counts.

use callout_common::ConfigError;
use callout_common::api::config::refuse_if;
use callout_common::api::format::{CommandOperator, SubstitutionFormat};
use callout_common::envoy::version::EnvoyVersion;
use callout_protos::envoy::config::route::v3::rate_limit::HitsAddend;

use super::{Request, asks_for_bytes};

const MOST: u64 = 1_000_000_000;

/// How many hits a descriptor counts.
#[derive(Debug, Clone)]
pub(super) struct Hits {
    count: Count,
    pub(super) negative: bool,
}

#[derive(Debug, Clone)]
enum Count {
    Fixed(u64),
    Formatted(SubstitutionFormat),
}

impl Hits {
    pub(super) fn configure(config: &HitsAddend) -> Result<Self, ConfigError> {
        let HitsAddend { number, format, is_negative_hits } = config;
        let count = match (number, format.as_str()) {
            (Some(number), "") => {
                refuse_if(number.value > MOST, "number", "must be 1000000000 or less")?;
                Count::Fixed(number.value)
            }
            (None, format) if !format.is_empty() => {
                let template = SubstitutionFormat::parse_any(format)
                    .map_err(|reason| ConfigError::field("format", reason))?;
                refuse_if(
                    template.sole_operator().is_none(),
                    "format",
                    "has to be one operator and nothing else",
                )?;
                warn_of_old_envoy(&template);
                Count::Formatted(template)
            }
            _ => return Err(ConfigError::without_path("needs either number or format")),
        };
        Ok(Self { count, negative: *is_negative_hits })
    }

    /// Whether the bytes of a body are asked for.
    pub(super) fn counts_bytes(&self) -> bool {
        matches!(&self.count, Count::Formatted(template) if asks_for_bytes(template))
    }

    /// The number of hits; `None` when the format comes out as none.
    pub(super) fn of(&self, request: &dyn Request) -> Option<u64> {
        match &self.count {
            Count::Fixed(number) => Some(*number),
            Count::Formatted(template) => {
                number(&template.fill(|operator| request.operator(operator)))
            }
        }
    }
}

/// Before Envoy 1.40 its own filter has no response there, and so counts nothing by it; nor does
/// this one then.
fn warn_of_old_envoy(template: &SubstitutionFormat) {
    let is_of_response = |operator: &CommandOperator| {
        matches!(operator, CommandOperator::Response { .. } | CommandOperator::Trailer { .. })
    };
    if EnvoyVersion::running() < EnvoyVersion::V1_40 && template.operators().any(is_of_response) {
        tracing::warn!(
            "ratelimit: hits_addend.format: %RESP()% and %TRAILER()% come to nothing before Envoy 1.40, as in the built-in: the descriptor is left out"
        );
    }
}

/// A number of hits; a fraction is cut off.
fn number(text: &[u8]) -> Option<u64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "a thousand million fits")]
    let most = MOST as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked, and the fraction is meant to go"
    )]
    (0.0..=most).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    fn hits(json: &str) -> Result<Hits, ConfigError> {
        Hits::configure(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_formatted_number_counts_and_everything_else_drops_the_descriptor() {
        let of = |value: &'static str| {
            let request = Fake { headers: vec![("x-h", value)], ..Fake::default() };
            hits(r#"{"format": "%REQ(x-h)%"}"#).unwrap().of(&request)
        };
        assert_eq!(
            (of("3"), of("1.5"), of("0"), of("1000000000")),
            (Some(3), Some(1), Some(0), Some(MOST))
        );
        for bad in ["", "-1", "abc", "1000000001", "NaN", "inf", "-0.5"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_or_neither_and_too_many_hits_are_refused() {
        assert!(hits(r#"{"number": "3", "format": "%BYTES_RECEIVED%"}"#).is_err());
        assert!(hits("{}").is_err());
        assert_eq!(hits(r#"{"number": "1000000001"}"#).unwrap_err().path(), "number");
        assert_eq!(hits(r#"{"format": "n%REQ(a)%"}"#).unwrap_err().path(), "format");
    }
}
