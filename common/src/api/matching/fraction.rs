//! `envoy.type.v3.FractionalPercent`: a part of all requests.

use callout_protos::envoy::config::core::v3::RuntimeFractionalPercent;
use callout_protos::envoy::r#type::v3::FractionalPercent;
use callout_protos::envoy::r#type::v3::fractional_percent::DenominatorType;

use crate::api::config::{ConfigError, warn_of_runtime};

/// A part of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// All of them.
    pub const ALL: Self = Self { numerator: 100, denominator: 100 };

    /// None of them.
    pub const NONE: Self = Self { numerator: 0, denominator: 100 };

    /// Reads a `FractionalPercent`.
    ///
    /// # Errors
    /// A denominator that is none of the enumeration.
    pub fn configure(config: &FractionalPercent) -> Result<Self, ConfigError> {
        let FractionalPercent { numerator, denominator } = config;
        let denominator = match DenominatorType::try_from(*denominator) {
            Ok(DenominatorType::Hundred) => 100,
            Ok(DenominatorType::TenThousand) => 10_000,
            Ok(DenominatorType::Million) => 1_000_000,
            Err(_) => return Err(ConfigError::field("denominator", "is none that Envoy knows")),
        };
        Ok(Self { numerator: *numerator, denominator })
    }

    /// Reads the `RuntimeFractionalPercent` at `path` of the filter called `filter`.
    ///
    /// # Errors
    /// When it has no valid default.
    pub fn configure_runtime(
        config: &RuntimeFractionalPercent,
        filter: &str,
        path: &str,
    ) -> Result<Self, ConfigError> {
        let RuntimeFractionalPercent { default_value, runtime_key } = config;
        warn_of_runtime(filter, path, runtime_key);
        default_value
            .as_ref()
            .ok_or_else(|| ConfigError::without_path("is required"))
            .and_then(Self::configure)
            .map_err(|error| error.in_field(&format!("{path}.default_value")))
    }

    /// Whether the request that drew `random`, evenly spread over all numbers, belongs to the part.
    #[must_use]
    pub fn contains(self, random: u64) -> bool {
        random % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_all_numbers_belongs() {
        let tenth = Fraction { numerator: 10, denominator: 100 };
        assert_eq!((0..1000).filter(|random| tenth.contains(*random)).count(), 100);
        assert!(Fraction::ALL.contains(u64::MAX));
        assert!(!Fraction::NONE.contains(0));
    }
}
