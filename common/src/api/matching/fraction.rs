//! `envoy.type.v3.FractionalPercent`: a part of all requests.

use callout_protos::envoy::config::core::v3::{RuntimeFeatureFlag, RuntimeFractionalPercent};
use callout_protos::envoy::r#type::v3::FractionalPercent;
use callout_protos::envoy::r#type::v3::fractional_percent::DenominatorType;

use crate::api::config::ConfigError;
use crate::api::runtime::RuntimeValue;

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

    /// Whether the request that drew `random`, evenly spread over all numbers, belongs to the part.
    #[must_use]
    pub fn contains(self, random: u64) -> bool {
        random % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

/// A part of all requests that the runtime may change: a whole number there is so many percent, as in Envoy.
#[derive(Debug, Clone)]
pub struct RuntimeFraction {
    default: Fraction,
    runtime: Option<RuntimeValue>,
}

impl RuntimeFraction {
    /// Reads the `RuntimeFractionalPercent` at `path` of the filter called `filter`.
    ///
    /// # Errors
    /// When it has no valid default.
    pub fn configure(
        config: &RuntimeFractionalPercent,
        filter: &str,
        path: &str,
    ) -> Result<Self, ConfigError> {
        let RuntimeFractionalPercent { default_value, runtime_key } = config;
        let default = default_value
            .as_ref()
            .ok_or_else(|| ConfigError::without_path("is required"))
            .and_then(Fraction::configure)
            .map_err(|error| error.in_field(&format!("{path}.default_value")))?;
        Ok(Self { default, runtime: RuntimeValue::number(runtime_key, filter, path) })
    }

    /// Whether the request that drew `random`, evenly spread over all numbers, belongs to the part.
    #[must_use]
    pub fn contains(&self, random: u64) -> bool {
        match self.runtime.as_ref().and_then(RuntimeValue::latest) {
            // As in Envoy, which has no more than all.
            Some(percent) => random % 100 < percent,
            None => self.default.contains(random),
        }
    }
}

impl From<Fraction> for RuntimeFraction {
    fn from(default: Fraction) -> Self {
        Self { default, runtime: None }
    }
}

impl PartialEq<Fraction> for RuntimeFraction {
    fn eq(&self, other: &Fraction) -> bool {
        self.runtime.is_none() && self.default == *other
    }
}

/// A switch that the runtime may turn. Off by default.
#[derive(Debug, Clone, Default)]
pub struct RuntimeFlag {
    default: bool,
    runtime: Option<RuntimeValue>,
}

impl RuntimeFlag {
    /// Reads the `RuntimeFeatureFlag` at `path` of the filter called `filter`.
    ///
    /// # Errors
    /// When it has no default.
    pub fn configure(
        config: &RuntimeFeatureFlag,
        filter: &str,
        path: &str,
    ) -> Result<Self, ConfigError> {
        let RuntimeFeatureFlag { default_value, runtime_key } = config;
        let default = default_value
            .as_ref()
            .ok_or_else(|| ConfigError::field(format!("{path}.default_value"), "is required"))?
            .value;
        Ok(Self { default, runtime: RuntimeValue::truth(runtime_key, filter, path) })
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        let latest = self.runtime.as_ref().and_then(RuntimeValue::latest);
        latest.map_or(self.default, |latest| latest != 0)
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
