//! Answers that the service did not give to this request: what it said before, as it would say it
//! now, and what a limit of this proxy's own comes to.

use std::time::Instant;

use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::Code;

use prost::Message;

use crate::memory::ledger::CachedResponse;

/// What the service said before, as of `now`.
pub(crate) fn replayed(known: &CachedResponse, now: Instant) -> RateLimitResponse {
    let past = now.saturating_duration_since(known.said).as_secs();
    let unspent = u32::try_from(known.unspent).unwrap_or(u32::MAX);
    // It was serialized in this process; what could not be read would be refused.
    let mut answer = RateLimitResponse::decode(&*known.answer).unwrap_or_else(|_| own(false));
    for status in &mut answer.statuses {
        status.limit_remaining = status.limit_remaining.saturating_add(unspent);
        if let Some(left) = &mut status.duration_until_reset {
            left.seconds = left.seconds.saturating_sub_unsigned(past).max(0);
        }
    }
    for line in &mut answer.response_headers_to_add {
        let Ok(number) = line.value.parse::<u64>() else { continue };
        if line.key.eq_ignore_ascii_case("x-ratelimit-remaining") {
            line.value = number.saturating_add(known.unspent).to_string();
        } else if line.key.eq_ignore_ascii_case("x-ratelimit-reset") {
            line.value = number.saturating_sub(past).to_string();
        }
    }
    answer
}

/// The answer of a limit of this proxy's own.
pub(crate) fn own(admitted: bool) -> RateLimitResponse {
    let code = if admitted { Code::Ok } else { Code::OverLimit };
    RateLimitResponse { overall_code: code.into(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_said_before_has_aged_and_counts_what_is_not_spent() {
        let answer: RateLimitResponse = serde_json::from_str(
            r#"{"overallCode": "OK", "statuses": [{"limitRemaining": 5, "durationUntilReset": "9s"}],
                "responseHeadersToAdd": [{"key": "X-RateLimit-Remaining", "value": "5"}, {"key": "x-ratelimit-reset", "value": "9"}, {"key": "x-a", "value": "7"}]}"#,
        )
        .unwrap();
        let said = Instant::now();
        let known = CachedResponse { answer: answer.encode_to_vec().into(), said, unspent: 3 };
        let now = replayed(&known, said + Duration::from_millis(4500));
        assert_eq!(now.statuses[0].limit_remaining, 8);
        assert_eq!(now.statuses[0].duration_until_reset.as_ref().unwrap().seconds, 5);
        let values: Vec<&str> =
            now.response_headers_to_add.iter().map(|line| line.value.as_str()).collect();
        assert_eq!(values, ["8", "5", "7"]);
        let late = replayed(&known, said + Duration::from_secs(100));
        assert_eq!(late.statuses[0].duration_until_reset.as_ref().unwrap().seconds, 0);
    }
}
