//! What an answer of the service, or the lack of one, means for the request.

use std::time::Duration;

use auth::check_response::HttpResponse;
use callout_common::Reply;
use callout_common::filter::unreadable::UnreadableMetadata;
use callout_common::grpc::{Failure, FailureClass};
use callout_common::http::rules::{valid_name, valid_value};
use callout_protos::envoy::config::core::v3::HeaderValueOption;
use callout_protos::envoy::service::auth::v3 as auth;
use callout_protos::pbjson_types::{Struct, value::Kind};

use crate::config::Config;
use crate::decide::edits::{Edits, Invalid, plan};
use crate::decide::strict;

/// The key of a reply's metadata that says for how many seconds its decision may be kept.
const MAX_AGE: &str = "callout.cache.max_age";
/// The key of a reply's metadata that tags its decision, for purges.
const TAG: &str = "callout.cache.tag";

/// What happens to the request.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It passes, with these changes.
    Allow(Edits),
    /// It is denied. `dropped` counts header lines that were left out of the reply.
    Deny { reply: Reply, dropped: u64 },
    /// No verdict, and the failure mode lets it pass.
    Pass,
    /// No verdict, and the request is refused.
    Refuse { reply: Reply, dropped: u64 },
    /// A verdict that can't be carried out. `denied` when it was a denial.
    Invalid { denied: bool },
}

/// A verdict, with what came with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) metadata: Option<Struct>,
    /// Why there is no verdict of the service.
    pub(crate) cause: Option<&'static str>,
    /// The service did not get to say anything.
    pub(crate) silence: bool,
    /// Of several services, how many failed and were passed over by the failure mode while others allowed.
    pub(crate) passed_over: u64,
    /// How long the decision may be kept at most; `None` leaves it to the configuration.
    pub(crate) max_age: Option<Duration>,
    /// What the service tagged it with.
    pub(crate) tag: Option<String>,
}

impl Decision {
    pub(crate) const fn new(verdict: Verdict, metadata: Option<Struct>) -> Self {
        Self {
            verdict,
            metadata,
            cause: None,
            silence: false,
            passed_over: 0,
            max_age: None,
            tag: None,
        }
    }

    fn failed(verdict: Verdict, cause: &'static str) -> Self {
        Self { cause: Some(cause), ..Self::new(verdict, None) }
    }
}

/// Judges an answer, or the lack of one.
pub(crate) fn decide(config: &Config, answer: Result<auth::CheckResponse, Failure>) -> Decision {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            return Decision {
                silence: failure.is_silence(),
                ..Decision::failed(without_reply(config, failure.class()), failure.cause())
            };
        }
    };
    if config.callout.strict
        && let Some(objection) = strict::objection(&answer)
    {
        tracing::debug!(objection, "authz: a reply that strict mode does not take");
        let class = FailureClass::InvalidReply;
        return Decision::failed(without_reply(config, class), "invalid_reply");
    }
    // Neither an empty reply nor one that could not be told from it is worth keeping.
    let empty = answer == auth::CheckResponse::default();
    let mut judged = judge_reply(config, answer);
    if config.callout.cache.is_some() {
        judged.max_age =
            if empty { Some(Duration::ZERO) } else { max_age(judged.metadata.as_mut()) };
        judged.tag = tag(judged.metadata.as_mut());
    }
    judged
}

/// What happens to a request that the service said nothing valid about.
fn without_reply(config: &Config, class: FailureClass) -> Verdict {
    if config.callout.failures.allows(class) {
        return Verdict::Pass;
    }
    let reply = match config.callout.status_on_timeout {
        Some(status) if class == FailureClass::Timeout => {
            Reply::new(status).details("ext_authz_error")
        }
        _ => refusal(config),
    };
    Verdict::Refuse { reply, dropped: 0 }
}

/// Takes out of a reply's metadata how long its decision may be kept. What is no number of seconds
/// keeps it not at all.
fn max_age(metadata: Option<&mut Struct>) -> Option<Duration> {
    match metadata?.fields.remove(MAX_AGE)?.kind {
        Some(Kind::NumberValue(seconds)) if seconds > 0.0 => {
            // More than a duration can hold is no bound.
            Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        }
        _ => Some(Duration::ZERO),
    }
}

/// Takes out of a reply's metadata what its decision is tagged with.
fn tag(metadata: Option<&mut Struct>) -> Option<String> {
    match metadata?.fields.remove(TAG)?.kind {
        Some(Kind::StringValue(tag)) => Some(tag),
        _ => None,
    }
}

fn judge_reply(config: &Config, answer: auth::CheckResponse) -> Decision {
    let auth::CheckResponse { status, http_response, dynamic_metadata } = answer;
    // An absent status is code 0, which allows, whatever stands beside it.
    if status.is_none_or(|status| status.code == 0) {
        let mut ok = match http_response {
            Some(HttpResponse::OkResponse(ok)) => ok,
            _ => auth::OkHttpResponse::default(),
        };
        let metadata = ok.dynamic_metadata.take().or(dynamic_metadata);
        let verdict = match plan(config, ok) {
            Ok(edits) => Verdict::Allow(edits),
            Err(Invalid) => Verdict::Invalid { denied: false },
        };
        return Decision::new(verdict, metadata);
    }
    let error = matches!(http_response, Some(HttpResponse::ErrorResponse(_)));
    let verdict = match http_response {
        Some(HttpResponse::ErrorResponse(_))
            if config.callout.failures.allows(FailureClass::ErrorResponse) =>
        {
            Verdict::Pass
        }
        Some(HttpResponse::ErrorResponse(error)) => {
            let details = "ext_authz_error";
            // An error reply that can't be sent as it is gives way to the plain one.
            match reply(config, error, config.status_on_error, details) {
                Ok((reply, dropped)) => Verdict::Refuse { reply, dropped },
                Err(Invalid) => Verdict::Refuse { reply: refusal(config), dropped: 0 },
            }
        }
        Some(HttpResponse::DeniedResponse(denied)) => {
            match reply(config, denied, 403, "ext_authz_denied") {
                Ok((reply, dropped)) => Verdict::Deny { reply, dropped },
                Err(Invalid) => Verdict::Invalid { denied: true },
            }
        }
        Some(HttpResponse::OkResponse(_)) | None => {
            Verdict::Deny { reply: Reply::new(403).details("ext_authz_denied"), dropped: 0 }
        }
    };
    Decision {
        cause: error.then_some("error_response"),
        ..Decision::new(verdict, dynamic_metadata)
    }
}

/// The plain reply where there is no verdict.
pub(crate) fn refusal(config: &Config) -> Reply {
    Reply::new(config.status_on_error).details("ext_authz_error")
}

/// The refusal of a request of which the service can't be told what it should be.
pub(crate) fn unreadable(config: &Config) -> Decision {
    let verdict = Verdict::Refuse { reply: refusal(config), dropped: 0 };
    Decision::failed(verdict, UnreadableMetadata::CAUSE)
}

/// The reply to a verdict that can't be carried out.
pub(crate) fn invalid() -> Reply {
    Reply::new(500).details("ext_authz_invalid")
}

/// The service's reply, with how many of its header lines were left out. A status that no response
/// can have becomes `default`.
fn reply(
    config: &Config,
    denied: auth::DeniedHttpResponse,
    default: u16,
    details: &str,
) -> Result<(Reply, u64), Invalid> {
    let auth::DeniedHttpResponse { status, headers, body } = denied;
    let status = status
        .and_then(|status| u16::try_from(status.code).ok())
        .filter(|code| (200..=599).contains(code))
        .unwrap_or(default);
    let mut body = body.into_bytes();
    if let Some(limit) = config.max_denied_body {
        body.truncate(limit);
    }
    let mut reply = Reply::new(status).details(details);
    let mut dropped = 0;
    let mut typed = false;
    for HeaderValueOption { header, append, append_action: _, keep_empty_value: _ } in headers {
        // The built-in drops entries with `append: true` in a reply.
        let Some(header) = header.filter(|_| !append.is_some_and(|append| append.value)) else {
            continue;
        };
        let name = header.key.to_ascii_lowercase();
        if !valid_name(&name) || !valid_value(header.value.as_bytes()) {
            if config.validate_mutations {
                return Err(Invalid);
            }
            dropped += 1;
            continue;
        }
        // Only one content-type can stand; Envoy sets the length and its own name.
        if (name == "content-type" && typed) || matches!(name.as_str(), "content-length" | "server")
        {
            continue;
        }
        typed |= name == "content-type";
        dropped += u64::from(!reply.add_header(&name, header.value.as_bytes()));
    }
    if !body.is_empty() && !typed {
        reply.add_header("content-type", b"text/plain");
    }
    Ok((reply.body(body), dropped))
}

#[cfg(test)]
mod tests {
    use callout_common::RawConfig;
    use callout_common::grpc::CallError;
    use callout_protos::envoy::r#type::v3::HttpStatus;
    use callout_protos::google::rpc::Status;

    use super::*;

    fn config(fields: &str) -> Config {
        let json = format!(
            r#"{{"grpc_service": {{"google_grpc": {{"target_uri": "127.0.0.1:1"}}}}{fields}}}"#
        );
        Config::read(RawConfig::new(json.as_bytes())).unwrap()
    }

    fn answer(json: &str) -> auth::CheckResponse {
        serde_json::from_str(json).unwrap()
    }

    fn verdict(fields: &str, json: &str) -> Verdict {
        decide(&config(fields), Ok(answer(json))).verdict
    }

    fn failed(fields: &str, failure: Failure) -> Verdict {
        decide(&config(fields), Err(failure)).verdict
    }

    const FAIL_OPEN: &str = r#", "failure_mode_allow": true"#;

    #[test]
    fn the_code_alone_decides_between_allow_and_deny() {
        assert!(matches!(verdict("", "{}"), Verdict::Allow(_)));
        assert!(matches!(verdict("", r#"{"ok_response": {}}"#), Verdict::Allow(_)));
        let denied = r#"{"status": {"code": 0}, "denied_response": {"status": {"code": 401}}}"#;
        assert!(matches!(verdict("", denied), Verdict::Allow(_)));
        let contradiction = r#"{"status": {"code": 7}, "ok_response": {}}"#;
        assert!(
            matches!(verdict("", contradiction), Verdict::Deny { reply, .. } if reply.status() == 403)
        );
    }

    #[test]
    fn a_denial_stands_under_any_failure_mode() {
        let json = r#"{"status": {"code": 7}, "denied_response": {"status": {"code": 503}}}"#;
        assert!(
            matches!(verdict(FAIL_OPEN, json), Verdict::Deny { reply, .. } if reply.status() == 503)
        );
    }

    #[test]
    fn failures_of_the_service_follow_the_failure_mode_and_our_own_stay_closed() {
        let down = Failure::Call(CallError::Timeout);
        assert_eq!(failed(FAIL_OPEN, down.clone()), Verdict::Pass);
        assert!(matches!(failed("", down), Verdict::Refuse { .. }));
        let denied = CallError::Status { code: 7, message: String::new() };
        assert_eq!(failed(FAIL_OPEN, Failure::Call(denied)), Verdict::Pass);
        for own in [Failure::Lost, Failure::Call(CallError::Overload)] {
            assert!(matches!(failed(FAIL_OPEN, own), Verdict::Refuse { .. }));
        }
    }

    #[test]
    fn a_denial_keeps_its_header_lines_but_those_that_would_break_the_response() {
        let json = r#"{"status": {"code": 7}, "denied_response": {"status": {"code": 401}, "body": "no",
            "headers": [{"header": {"key": "Set-Cookie", "value": "a"}}, {"header": {"key": "set-cookie", "value": "b"}},
                        {"header": {"key": "x-a", "value": "1"}, "append": true},
                        {"header": {"key": "x-n", "value": "a\nb"}}, {"header": {"key": "transfer-encoding", "value": "chunked"}}]}}"#;
        let Verdict::Deny { reply, dropped } = verdict("", json) else { panic!("not denied") };
        let names: Vec<&str> = reply.headers().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["set-cookie", "set-cookie", "content-type"]);
        assert_eq!((reply.body_bytes(), dropped), (&b"no"[..], 2));
        let strict = verdict(r#", "validate_mutations": true"#, json);
        assert_eq!(strict, Verdict::Invalid { denied: true });
    }

    #[test]
    fn a_status_that_no_response_can_have_is_a_403_and_bodies_are_cut() {
        let mut impossible =
            answer(r#"{"status": {"code": 7}, "denied_response": {"body": "abcdef"}}"#);
        if let Some(HttpResponse::DeniedResponse(denied)) = &mut impossible.http_response {
            denied.status = Some(HttpStatus { code: 99 });
        }
        let config = config(r#", "max_denied_response_body_bytes": 3"#);
        let Verdict::Deny { reply, .. } = decide(&config, Ok(impossible)).verdict else {
            panic!("not denied")
        };
        assert_eq!((reply.status(), reply.body_bytes()), (403, &b"abc"[..]));
    }

    #[test]
    fn an_error_response_follows_the_failure_mode_and_gives_way_when_it_can_not_be_sent() {
        let json = r#"{"status": {"code": 13}, "error_response": {"status": {"code": 503}, "body": "eb",
            "headers": [{"header": {"key": "x y", "value": "1"}}]}}"#;
        assert_eq!(verdict(FAIL_OPEN, json), Verdict::Pass);
        assert!(
            matches!(verdict("", json), Verdict::Refuse { reply, dropped: 1 } if reply.status() == 503)
        );
        assert!(
            matches!(verdict(r#", "validate_mutations": true"#, json), Verdict::Refuse { reply, .. } if reply.status() == 403)
        );
    }

    #[test]
    fn a_list_of_classes_narrows_the_failure_mode_and_a_timeout_may_have_its_status() {
        let fields = r#", "failure_mode_allow": true,
            "callout": {"failure_mode_allow_on": ["unavailable"], "status_on_timeout": {"code": 504}}"#;
        let reset = Failure::Call(CallError::Reset(String::new()));
        assert_eq!(failed(fields, reset), Verdict::Pass);
        let Verdict::Refuse { reply, .. } = failed(fields, Failure::Call(CallError::Timeout))
        else {
            panic!("not refused")
        };
        assert_eq!(reply.status(), 504);
        let error = r#"{"status": {"code": 13}, "error_response": {}}"#;
        assert!(
            matches!(verdict(fields, error), Verdict::Refuse { reply, .. } if reply.status() == 403)
        );
    }

    #[test]
    fn strict_mode_takes_an_empty_reply_for_an_error() {
        let strict = r#", "callout": {"strict": true}"#;
        let judged = decide(&config(strict), Ok(answer("{}")));
        assert!(matches!(judged.verdict, Verdict::Refuse { .. }));
        assert_eq!((judged.cause, judged.silence), (Some("invalid_reply"), false));
        assert!(matches!(verdict(strict, r#"{"status": {}}"#), Verdict::Allow(_)));
        let open = r#", "failure_mode_allow": true, "callout": {"strict": true}"#;
        assert_eq!(verdict(open, "{}"), Verdict::Pass);
    }

    #[test]
    fn the_service_says_how_long_its_decision_may_be_kept() {
        let cached = r#", "callout": {"cache": {"ttl": "10s"}}"#;
        let max_age = |fields: &str, metadata: &str| {
            let json = format!(r#"{{"status": {{}}, "dynamic_metadata": {{"a": 1{metadata}}}}}"#);
            let judged = decide(&config(fields), Ok(answer(&json)));
            (judged.max_age, judged.metadata.unwrap().fields.len())
        };
        let key = r#", "callout.cache.max_age": "#;
        assert_eq!(max_age(cached, ""), (None, 1));
        assert_eq!(max_age(cached, &format!("{key}2.5")), (Some(Duration::from_millis(2500)), 1));
        for no_time in ["0", "-1", "\"2\"", "true"] {
            assert_eq!(max_age(cached, &format!("{key}{no_time}")), (Some(Duration::ZERO), 1));
        }
        assert_eq!(max_age(cached, &format!("{key}1e300")), (Some(Duration::MAX), 1));
        // Without a cache the metadata is the service's own affair.
        assert_eq!(max_age("", &format!("{key}2.5")), (None, 2));
    }

    #[test]
    fn an_empty_reply_is_not_kept() {
        let cached = config(r#", "callout": {"cache": {"ttl": "10s"}}"#);
        assert_eq!(decide(&cached, Ok(answer("{}"))).max_age, Some(Duration::ZERO));
        assert_eq!(decide(&cached, Ok(answer(r#"{"status": {}}"#))).max_age, None);
    }

    #[test]
    fn the_metadata_inside_an_ok_response_replaces_the_one_beside_it() {
        let outer = r#""dynamic_metadata": {"a": 1}"#;
        let inner = decide(
            &config(""),
            Ok(answer(&format!(
                r#"{{{outer}, "ok_response": {{"dynamic_metadata": {{"b": 1}}}}}}"#
            ))),
        );
        assert!(inner.metadata.unwrap().fields.contains_key("b"));
        let status = Some(Status { code: 7, ..Default::default() });
        let denied = auth::CheckResponse { status, ..answer(&format!("{{{outer}}}")) };
        assert!(decide(&config(""), Ok(denied)).metadata.is_some());
    }
}
