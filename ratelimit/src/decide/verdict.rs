//! What an answer of the service, or the lack of one, means for the request.

use callout_common::Reply;
use callout_common::grpc::{Failure, FailureClass, FailurePolicy};
use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::Code;
use callout_protos::pbjson_types::Struct;

use callout_common::http::mutation::Lines;

use crate::decide::headers::{XRateLimit, from_service, retry_after, x_ratelimit};

const ENVOY_RATELIMITED: &str = "x-envoy-ratelimited";
const RETRY_AFTER: &str = "retry-after";
/// The response code details of a request that is refused for want of an answer.
const ERROR_DETAILS: &str = "rate_limiter_error";
/// The response code details of a request over a limit.
pub(crate) const LIMITED_DETAILS: &str = "request_rate_limited";
/// gRPC's RESOURCE_EXHAUSTED.
const RESOURCE_EXHAUSTED: u32 = 8;

/// What was drawn for a request: which side of the percentages it falls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampling {
    /// `filter_enforced` covers it.
    pub(crate) enforced: bool,
    /// `failure_mode_deny` covers it.
    pub(crate) deny_failure: bool,
}

/// What a reply, and the headers of a request that passes, look like. Fields are named as in `RateLimit`.
#[derive(Debug)]
pub(crate) struct ReplySettings {
    pub(crate) rate_limited_as_resource_exhausted: bool,
    pub(crate) x_ratelimit_headers: XRateLimit,
    pub(crate) disable_x_envoy_ratelimited_header: bool,
    pub(crate) rate_limited_status: u16,
    pub(crate) status_on_error: u16,
    pub(crate) enable_retry_after_header: bool,
    /// The failures that a failure mode that lets requests pass covers.
    pub(crate) failures: FailurePolicy,
    /// The status of the refusal when the service is too slow; `status_on_error` unless set.
    pub(crate) status_on_timeout: Option<u16>,
}

/// What happens to the request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes, with lines to add to it and to its response. `over_limit` when the service said
    /// otherwise and this is not enforced.
    Allow { over_limit: bool, request: Lines, response: Lines },
    /// It is over a limit; the lines and the body of the reply.
    Limit { response: Lines, body: Vec<u8> },
    /// No answer, and the failure mode lets it pass.
    Pass,
    /// No answer, and the request is refused.
    Refuse(Reply),
}

/// A verdict, with what came with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) metadata: Option<Struct>,
    /// Header lines that were left out.
    pub(crate) dropped: u64,
}

/// Judges an answer to the descriptors whose `x_ratelimit_option` are `shown`, or the lack of one.
pub(crate) fn decide(
    settings: &ReplySettings,
    shown: &[Option<bool>],
    draw: Sampling,
    answer: Result<RateLimitResponse, Failure>,
) -> Decision {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            let class = failure.class();
            let verdict = if !draw.deny_failure && settings.failures.allows(class) {
                Verdict::Pass
            } else {
                Verdict::Refuse(without_answer(settings, class))
            };
            return Decision { verdict, metadata: None, dropped: 0 };
        }
    };
    let RateLimitResponse {
        overall_code,
        statuses,
        response_headers_to_add,
        request_headers_to_add,
        raw_body,
        dynamic_metadata,
        // Not implemented by the built-in, either.
        quota: _,
    } = answer;
    // Only the overall code counts; one that is not known allows.
    let over_limit = overall_code == i32::from(Code::OverLimit);
    let (mut response, dropped_response) = from_service(response_headers_to_add);
    let (request, dropped_request) = from_service(request_headers_to_add);
    if over_limit && !settings.disable_x_envoy_ratelimited_header {
        response.retain(|(name, _)| name != ENVOY_RATELIMITED);
        response.push((ENVOY_RATELIMITED.to_owned(), b"true".to_vec()));
    }
    response.extend(x_ratelimit(&statuses, shown, settings.x_ratelimit_headers));
    let verdict = if over_limit && draw.enforced {
        if settings.enable_retry_after_header
            && settings.rate_limited_status == 429
            && !response.iter().any(|(name, _)| name == RETRY_AFTER)
            && let Some(seconds) = retry_after(&statuses)
        {
            response.push((RETRY_AFTER.to_owned(), seconds.to_string().into_bytes()));
        }
        Verdict::Limit { response, body: raw_body }
    } else {
        Verdict::Allow { over_limit, request, response }
    };
    Decision { verdict, metadata: dynamic_metadata, dropped: dropped_request + dropped_response }
}

/// The reply where a failure of this class stands in the place of an answer.
fn without_answer(settings: &ReplySettings, class: FailureClass) -> Reply {
    match settings.status_on_timeout.filter(|_| class == FailureClass::Timeout) {
        Some(status) => Reply::new(status).details(ERROR_DETAILS),
        None => refusal(settings),
    }
}

/// The reply where there is no answer.
pub(crate) fn refusal(settings: &ReplySettings) -> Reply {
    Reply::new(settings.status_on_error).details(ERROR_DETAILS)
}

/// The reply to a request that is over a limit.
pub(crate) fn limited(settings: &ReplySettings, lines: Lines, body: Vec<u8>) -> Reply {
    let mut reply = Reply::new(settings.rate_limited_status).details(LIMITED_DETAILS).body(body);
    if settings.rate_limited_as_resource_exhausted {
        reply = reply.grpc_status(RESOURCE_EXHAUSTED);
    }
    for (name, value) in lines {
        reply.add_header(&name, &value);
    }
    reply
}

#[cfg(test)]
mod tests {
    use callout_common::RawConfig;
    use callout_common::grpc::CallError;

    use super::*;
    use crate::config::Config;

    const ENFORCED: Sampling = Sampling { enforced: true, deny_failure: false };

    fn settings(fields: &str) -> ReplySettings {
        let json = format!(
            r#"{{"domain": "d", "rate_limit_service": {{"grpc_service": {{"google_grpc": {{"target_uri": "127.0.0.1:1"}}}}}}{fields}}}"#
        );
        Config::read(RawConfig::new(json.as_bytes())).unwrap().replies
    }

    fn verdict(fields: &str, draw: Sampling, answer: &str) -> Verdict {
        let answer = serde_json::from_str(answer).unwrap();
        decide(&settings(fields), &[], draw, Ok(answer)).verdict
    }

    fn names(lines: &Lines) -> Vec<&str> {
        lines.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn only_the_overall_code_limits() {
        let inner = r#"{"overallCode": "OK", "statuses": [{"code": "OVER_LIMIT"}]}"#;
        assert!(matches!(verdict("", ENFORCED, inner), Verdict::Allow { over_limit: false, .. }));
        assert!(matches!(verdict("", ENFORCED, "{}"), Verdict::Allow { over_limit: false, .. }));
        let over = verdict("", ENFORCED, r#"{"overallCode": "OVER_LIMIT"}"#);
        assert!(
            matches!(over, Verdict::Limit { response, .. } if names(&response) == [ENVOY_RATELIMITED])
        );
    }

    #[test]
    fn a_limit_that_is_not_enforced_still_shows_on_the_response() {
        let draw = Sampling { enforced: false, deny_failure: false };
        let answer = r#"{"overallCode": "OVER_LIMIT", "statuses": [{"code": "OVER_LIMIT", "durationUntilReset": "9s"}],
            "requestHeadersToAdd": [{"key": "x-q", "value": "1"}]}"#;
        let allowed = verdict(r#", "enable_retry_after_header": true"#, draw, answer);
        let Verdict::Allow { over_limit: true, request, response } = allowed else {
            panic!("not allowed")
        };
        assert_eq!((names(&request), names(&response)), (vec!["x-q"], vec![ENVOY_RATELIMITED]));
    }

    #[test]
    fn retry_after_needs_429_and_yields_to_the_services_own() {
        let on = r#", "enable_retry_after_header": true"#;
        let answer = r#"{"overallCode": "OVER_LIMIT", "statuses": [{"code": "OVER_LIMIT", "durationUntilReset": "9s"}]}"#;
        let limited = |fields: &str, answer: &str| match verdict(fields, ENFORCED, answer) {
            Verdict::Limit { response, .. } => {
                response.into_iter().filter(|(name, _)| name == RETRY_AFTER).collect::<Lines>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(limited(on, answer), [(RETRY_AFTER.to_owned(), b"9".to_vec())]);
        let unavailable =
            format!(r#"{on}, "rate_limited_status": {{"code": "ServiceUnavailable"}}"#);
        assert!(limited(&unavailable, answer).is_empty());
        let own = answer.replace(
            "\"statuses\"",
            r#""responseHeadersToAdd": [{"key": "Retry-After", "value": "7"}], "statuses""#,
        );
        assert_eq!(limited(on, &own), [(RETRY_AFTER.to_owned(), b"7".to_vec())]);
    }

    #[test]
    fn failures_of_the_service_follow_the_draw_and_our_own_are_refused() {
        let settings = settings("");
        let judged = |deny_failure, failure| {
            decide(&settings, &[], Sampling { enforced: true, deny_failure }, Err(failure)).verdict
        };
        assert_eq!(judged(false, Failure::Call(CallError::Timeout)), Verdict::Pass);
        assert!(matches!(judged(true, Failure::Call(CallError::Timeout)), Verdict::Refuse(_)));
        assert!(matches!(judged(false, Failure::Call(CallError::Overload)), Verdict::Refuse(_)));
        assert!(
            matches!(judged(false, Failure::Lost), Verdict::Refuse(reply) if reply.status() == 500)
        );
    }

    #[test]
    fn failures_that_are_named_pass_and_no_others_and_a_timeout_may_have_its_own_status() {
        let fields = r#", "callout": {"failure_mode_allow_on": ["unavailable", "status:UNAVAILABLE"],
            "status_on_timeout": {"code": "GatewayTimeout"}}"#;
        let settings = settings(fields);
        let judged = |error| decide(&settings, &[], ENFORCED, Err(Failure::Call(error))).verdict;
        let status = |code| CallError::Status { code, message: String::new() };
        assert_eq!(judged(CallError::BreakerOpen), Verdict::Pass);
        assert_eq!(judged(status(14)), Verdict::Pass);
        let refused = |error| match judged(error) {
            Verdict::Refuse(reply) => reply.status(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(CallError::Timeout), 504);
        assert_eq!(refused(status(2)), 500);
        assert_eq!(refused(CallError::Overload), 500);
    }

    #[test]
    fn a_grpc_client_may_get_resource_exhausted() {
        let plain = limited(&settings(""), Lines::new(), Vec::new());
        assert_eq!((plain.status(), plain.grpc_code()), (429, 14));
        let exhausted = r#", "rate_limited_as_resource_exhausted": true"#;
        assert_eq!(limited(&settings(exhausted), Lines::new(), Vec::new()).grpc_code(), 8);
    }
}
