//! `callout.reserve` and `callout.settle`: a request is counted by an estimate when it comes, and by what it
//! has used when it is over.

use callout_common::ConfigError;
use callout_common::api::config::refuse_if;
use callout_protos::envoy::config::route::v3::rate_limit::HitsAddend;
use callout_protos::pbjson_types::UInt64Value;
use serde::Deserialize;

use super::Request;
use super::hits::Hits;

/// `callout.reserve`, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReserveFields {
    /// So much for each request.
    number: Option<u64>,
    /// Or what this operator comes to, as `%REQ(x-tokens)%`.
    #[serde(default)]
    format: String,
    /// What is reserved where the format comes to nothing.
    default: Option<u64>,
}

/// `callout.settle`, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettleFields {
    /// The operator that tells what was used, as `%RESP(x-tokens)%`.
    format: String,
    /// What becomes of a reservation when nothing tells what was used.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "keep")))]
    #[serde(default)]
    without_usage: WithoutUsage,
}

/// What becomes of a reservation when nothing tells what was used.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WithoutUsage {
    /// It stays.
    #[default]
    Keep,
    /// It is given back.
    Refund,
}

/// How requests are counted by what they use.
#[derive(Debug)]
pub(crate) struct Budget {
    reserve: Hits,
    /// What is reserved where the format comes to nothing.
    otherwise: u64,
    settle: Hits,
    without_usage: WithoutUsage,
}

/// What is still to be told when a request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// It used so much more than was reserved.
    Charge(u64),
    /// It used so much less.
    Refund(u64),
}

impl Budget {
    /// Reads both; `None` when there are none.
    pub(crate) fn configure(
        reserve: Option<ReserveFields>,
        settle: Option<SettleFields>,
    ) -> Result<Option<Self>, ConfigError> {
        let (reserve, settle) = match (reserve, settle) {
            (Some(reserve), Some(settle)) => (reserve, settle),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(ConfigError::field("settle", "is required with reserve"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::field("reserve", "is required with settle"));
            }
        };
        let ReserveFields { number, format, default } = reserve;
        refuse_if(
            format.is_empty() == default.is_some(),
            "reserve.default",
            "is required with a format, and has no place beside a number",
        )?;
        let SettleFields { format: used, without_usage } = settle;
        refuse_if(used.is_empty(), "settle.format", "is required")?;
        Ok(Some(Self {
            reserve: hits(number, format).map_err(|error| error.in_field("reserve"))?,
            otherwise: default.unwrap_or_default(),
            settle: hits(None, used).map_err(|error| error.in_field("settle"))?,
            without_usage,
        }))
    }

    /// Whether the bytes of a body are asked for.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.reserve.counts_bytes() || self.settle.counts_bytes()
    }

    /// What is reserved for `request`, which has just come.
    pub(crate) fn reserved(&self, request: &dyn Request) -> u64 {
        self.reserve.of(request).unwrap_or(self.otherwise)
    }

    /// What `request`, which is over, has used; `None` when nothing tells.
    pub(crate) fn used(&self, request: &dyn Request) -> Option<u64> {
        self.settle.of(request)
    }

    /// What is still to be told of a request for which `reserved` was counted. Never more is given back than
    /// that.
    pub(crate) fn settlement(&self, reserved: u64, used: Option<u64>) -> Option<Settlement> {
        let used = match (used, self.without_usage) {
            (Some(used), _) => used,
            (None, WithoutUsage::Keep) => return None,
            (None, WithoutUsage::Refund) => 0,
        };
        match used.checked_sub(reserved) {
            Some(0) => None,
            Some(more) => Some(Settlement::Charge(more)),
            None => Some(Settlement::Refund(reserved.saturating_sub(used))),
        }
    }
}

fn hits(number: Option<u64>, format: String) -> Result<Hits, ConfigError> {
    let number = number.map(|value| UInt64Value { value });
    Hits::configure(&HitsAddend { number, format, is_negative_hits: false })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::tests::Fake;

    fn configured(
        reserve: Option<&str>,
        settle: Option<&str>,
    ) -> Result<Option<Budget>, ConfigError> {
        Budget::configure(
            reserve.map(|json| serde_json::from_str(json).unwrap()),
            settle.map(|json| serde_json::from_str(json).unwrap()),
        )
    }

    fn budget(without_usage: &str) -> Budget {
        let reserve = r#"{"format": "%REQ(x-estimate)%", "default": 100}"#;
        let settle =
            format!(r#"{{"format": "%REQ(x-used)%", "without_usage": "{without_usage}"}}"#);
        configured(Some(reserve), Some(&settle)).unwrap().unwrap()
    }

    #[test]
    fn an_estimate_is_what_the_request_says_or_the_default() {
        let request = |headers| Fake { headers, ..Fake::default() };
        let budget = budget("keep");
        assert_eq!(budget.reserved(&request(vec![("x-estimate", "7")])), 7);
        assert_eq!(budget.reserved(&request(vec![("x-estimate", "many")])), 100);
        assert_eq!(budget.reserved(&request(vec![])), 100);
        assert_eq!(budget.used(&request(vec![("x-used", "9")])), Some(9));
        assert_eq!(budget.used(&request(vec![])), None);
    }

    #[test]
    fn the_difference_is_charged_or_given_back() {
        let keep = budget("keep");
        assert_eq!(keep.settlement(10, Some(15)), Some(Settlement::Charge(5)));
        assert_eq!(keep.settlement(10, Some(10)), None);
        assert_eq!(keep.settlement(10, Some(4)), Some(Settlement::Refund(6)));
        assert_eq!(keep.settlement(10, None), None);
        assert_eq!(budget("refund").settlement(10, None), Some(Settlement::Refund(10)));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let path = |reserve, settle| configured(reserve, settle).unwrap_err().path().to_owned();
        let number = Some(r#"{"number": 5}"#);
        let settle = Some(r#"{"format": "%REQ(x)%"}"#);
        assert_eq!(path(number, None), "settle");
        assert_eq!(path(None, settle), "reserve");
        assert_eq!(path(Some(r#"{"format": "%REQ(x)%"}"#), settle), "reserve.default");
        assert_eq!(path(Some(r#"{"number": 5, "default": 5}"#), settle), "reserve.default");
        assert_eq!(path(Some("{}"), settle), "reserve");
        assert_eq!(path(number, Some(r#"{"format": ""}"#)), "settle.format");
        assert_eq!(path(number, Some(r#"{"format": "5"}"#)), "settle.format");
        assert!(configured(None, None).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn what_is_counted_in_the_end_is_what_was_used(reserved in 0..1000_u64, used in 0..1000_u64) {
            let counted = match budget("keep").settlement(reserved, Some(used)) {
                Some(Settlement::Charge(more)) => reserved + more,
                Some(Settlement::Refund(back)) => {
                    prop_assert!(back <= reserved);
                    reserved - back
                }
                None => reserved,
            };
            prop_assert_eq!(counted, used);
        }
    }
}
