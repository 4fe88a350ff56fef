//! The headers of an answer: `x-ratelimit-*` (draft-polli-ratelimit-headers-03), `retry-after`, and
//! those that the service or the configuration adds.

use callout_common::ConfigError;
use callout_common::api::format::{CommandOperator, SubstitutionFormat};
use callout_common::http::mutation::{Lines, Mutation, Op};
use callout_common::http::rules::{is_framing, valid_name, valid_value};
use callout_protos::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response as rls;
use rls::rate_limit::Unit;

/// How the `x-ratelimit-*` lines come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct XRateLimit {
    /// Whether descriptors are shown that say nothing of it.
    pub(crate) shown: bool,
    /// Whether windows of several units are shown as such, as by the built-in since Envoy 1.40.
    pub(crate) multiplied: bool,
}

/// The `x-ratelimit-*` lines. The limit with the least remaining speaks for all; `shown` says which
/// of the descriptors, by their place, may be shown.
pub(crate) fn x_ratelimit(
    statuses: &[rls::DescriptorStatus],
    shown: &[Option<bool>],
    default: XRateLimit,
) -> Lines {
    let is_shown = |place: usize| shown.get(place).copied().flatten().unwrap_or(default.shown);
    let limits: Vec<(usize, &rls::DescriptorStatus, &rls::RateLimit)> = statuses
        .iter()
        .enumerate()
        .filter_map(|(place, status)| Some((place, status, status.current_limit.as_ref()?)))
        .collect();
    let Some((place, status, tightest)) =
        limits.iter().min_by_key(|(_, status, _)| status.limit_remaining)
    else {
        return Lines::new();
    };
    if !is_shown(*place) {
        return Lines::new();
    }
    let mut limit = tightest.requests_per_unit.to_string();
    for (place, _, quota) in &limits {
        let window = if default.multiplied { window(quota) } else { unit(quota) };
        if !is_shown(*place) || window == 0 {
            continue;
        }
        limit.push_str(&format!(", {};w={window}", quota.requests_per_unit));
        if !quota.name.is_empty() {
            limit.push_str(&format!(";name=\"{}\"", quota.name));
        }
    }
    vec![
        ("x-ratelimit-limit".to_owned(), limit.into_bytes()),
        ("x-ratelimit-remaining".to_owned(), status.limit_remaining.to_string().into_bytes()),
        ("x-ratelimit-reset".to_owned(), reset(status).to_string().into_bytes()),
    ]
}

/// Whole seconds until the limit starts anew.
pub(crate) fn reset(status: &rls::DescriptorStatus) -> i64 {
    status.duration_until_reset.as_ref().map_or(0, |left| left.seconds.max(0))
}

/// The limit's window in seconds; 0 for a unit that is not known.
pub(crate) fn window(limit: &rls::RateLimit) -> u64 {
    let units = limit.unit_multiplier.as_ref().map_or(1, |multiplier| u64::from(multiplier.value));
    unit(limit) * units
}

/// One unit of the limit's window in seconds; 0 for one that is not known.
fn unit(limit: &rls::RateLimit) -> u64 {
    match Unit::try_from(limit.unit) {
        Ok(Unit::Second) => 1,
        Ok(Unit::Minute) => 60,
        Ok(Unit::Hour) => 3600,
        Ok(Unit::Day) => 86_400,
        Ok(Unit::Week) => 604_800,
        Ok(Unit::Month) => 2_592_000,
        Ok(Unit::Year) => 31_536_000,
        Ok(Unit::Unknown) | Err(_) => 0,
    }
}

/// `retry-after`: the longest wait among the limits that are exceeded, at least a second; `None`
/// when none is.
pub(crate) fn retry_after(statuses: &[rls::DescriptorStatus]) -> Option<i64> {
    statuses
        .iter()
        .filter(|status| status.code == i32::from(rls::Code::OverLimit))
        .map(|status| reset(status).max(1))
        .max()
}

/// The service's own header lines, and how many were left out: malformed, part of the framing, or
/// pseudo headers.
pub(crate) fn from_service(headers: Vec<HeaderValue>) -> (Lines, u64) {
    let mut dropped = 0;
    let mut lines = Lines::new();
    for HeaderValue { key, value, raw_value } in headers {
        let name = key.to_ascii_lowercase();
        let value = if value.is_empty() { raw_value } else { value.into_bytes() };
        if valid_name(&name) && valid_value(&value) && !is_framing(&name) && name != "host" {
            lines.push((name, value));
        } else {
            dropped += 1;
        }
    }
    (lines, dropped)
}

/// An entry of `response_headers_to_add`.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    name: String,
    value: SubstitutionFormat,
    op: Op,
    keep_empty_value: bool,
}

impl Added {
    pub(crate) fn configure(option: &HeaderValueOption) -> Result<Self, ConfigError> {
        let HeaderValueOption { header, append, append_action, keep_empty_value } = option;
        let header = header.as_ref().ok_or_else(|| ConfigError::field("header", "is required"))?;
        let name = header.key.to_ascii_lowercase();
        if !valid_name(&name) || is_framing(&name) || name == "host" {
            return Err(ConfigError::field("header.key", "is no header that may be added"));
        }
        if !header.raw_value.is_empty() {
            return Err(ConfigError::field("header.raw_value", "is not supported: use value"));
        }
        let op = Op::of_option(*append, *append_action)
            .ok_or_else(|| ConfigError::field("append_action", "is unknown"))?;
        let value = SubstitutionFormat::parse_any(&header.value)
            .map_err(|reason| ConfigError::field("header.value", reason))?;
        // They are filled before the reply, and mostly before the end of the request.
        if value.operators().any(|operator| *operator == CommandOperator::RequestDuration) {
            let reason = "`%REQUEST_DURATION%` is not known before the reply";
            return Err(ConfigError::field("header.value", reason));
        }
        Ok(Self { name, value, op, keep_empty_value: *keep_empty_value })
    }

    /// Adds it to `lines`; `value` says what an operator stands for beside them.
    pub(crate) fn apply(
        &self,
        lines: &mut Lines,
        value: impl Fn(&Lines, &CommandOperator) -> Option<Vec<u8>>,
    ) {
        let filled = self.value.fill(|operator| value(lines, operator));
        if filled.is_empty() && !self.keep_empty_value {
            return;
        }
        Mutation::new(self.op, self.name.as_str(), filled).apply(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> rls::DescriptorStatus {
        serde_json::from_str(json).unwrap()
    }

    fn text(lines: &Lines) -> Vec<String> {
        let text = |(name, value): &(String, Vec<u8>)| {
            format!("{name}: {}", String::from_utf8_lossy(value))
        };
        lines.iter().map(text).collect()
    }

    const ON: XRateLimit = XRateLimit { shown: true, multiplied: true };
    const OFF: XRateLimit = XRateLimit { shown: false, multiplied: true };

    #[test]
    fn the_tightest_limit_speaks_and_all_shown_ones_are_listed() {
        let statuses = [
            status(
                r#"{"currentLimit": {"requestsPerUnit": 10, "unit": "MINUTE", "name": "nm"}, "limitRemaining": 3, "durationUntilReset": "7.9s"}"#,
            ),
            status("{}"),
            status(
                r#"{"currentLimit": {"requestsPerUnit": 5, "unit": "SECOND"}, "limitRemaining": 4}"#,
            ),
            status(
                r#"{"currentLimit": {"requestsPerUnit": 7, "unit": "WEEK", "unitMultiplier": 3}, "limitRemaining": 9}"#,
            ),
        ];
        assert_eq!(
            text(&x_ratelimit(&statuses, &[], ON)),
            [
                r#"x-ratelimit-limit: 10, 10;w=60;name="nm", 5;w=1, 7;w=1814400"#,
                "x-ratelimit-remaining: 3",
                "x-ratelimit-reset: 7"
            ]
        );
        assert!(x_ratelimit(&statuses, &[Some(false)], ON).is_empty());
        let units = x_ratelimit(&statuses, &[], XRateLimit { multiplied: false, ..ON });
        assert_eq!(
            text(&units)[0],
            r#"x-ratelimit-limit: 10, 10;w=60;name="nm", 5;w=1, 7;w=604800"#
        );
        let one = x_ratelimit(&statuses, &[Some(true)], OFF);
        assert_eq!(text(&one)[0], r#"x-ratelimit-limit: 10, 10;w=60;name="nm""#);
        assert!(x_ratelimit(&[status("{}")], &[], ON).is_empty());
    }

    #[test]
    fn retry_after_is_the_longest_wait_of_an_exceeded_limit() {
        let over = |reset: &str| {
            status(&format!(r#"{{"code": "OVER_LIMIT", "durationUntilReset": "{reset}"}}"#))
        };
        assert_eq!(retry_after(&[over("0.5s"), over("3.9s")]), Some(3));
        assert_eq!(retry_after(&[over("0.5s")]), Some(1));
        assert_eq!(retry_after(&[status(r#"{"code": "OVER_LIMIT"}"#)]), Some(1));
        assert_eq!(retry_after(&[status(r#"{"code": "OK", "durationUntilReset": "9s"}"#)]), None);
    }

    #[test]
    fn lines_that_would_break_the_message_are_left_out() {
        let header = |key: &str, value: &str| HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        };
        let (lines, dropped) = from_service(vec![
            header("X-A", "1"),
            header(":path", "/evil"),
            header("x-n", "a\nb"),
            header("content-length", "3"),
        ]);
        assert_eq!((text(&lines), dropped), (vec!["x-a: 1".to_owned()], 3));
    }

    #[test]
    fn each_append_action_has_its_effect() {
        let added = |action: &str| {
            let json = format!(
                r#"{{"header": {{"key": "A", "value": "n"}}, "append_action": "{action}"}}"#
            );
            let added = Added::configure(&serde_json::from_str(&json).unwrap()).unwrap();
            let mut lines = vec![("a".to_owned(), b"o".to_vec())];
            let mut none = Lines::new();
            added.apply(&mut lines, |_, _| None);
            added.apply(&mut none, |_, _| None);
            (text(&lines), none.len())
        };
        let lines = |values: &[&str]| values.iter().map(|v| format!("a: {v}")).collect::<Vec<_>>();
        assert_eq!(added("APPEND_IF_EXISTS_OR_ADD"), (lines(&["o", "n"]), 1));
        assert_eq!(added("ADD_IF_ABSENT"), (lines(&["o"]), 1));
        assert_eq!(added("OVERWRITE_IF_EXISTS_OR_ADD"), (lines(&["n"]), 1));
        assert_eq!(added("OVERWRITE_IF_EXISTS"), (lines(&["n"]), 0));
    }
}
