//! What an answer of the service, or the lack of one, means for the request.

use auth::check_response::HttpResponse;
use callout_common::Reply;
use callout_common::grpc::Failure;
use callout_common::headers::{valid_name, valid_value};
use callout_protos::envoy::config::core::v3::HeaderValueOption;
use callout_protos::envoy::service::auth::v3 as auth;
use callout_protos::pbjson_types::Struct;

use crate::config::Config;
use crate::edits::{Edits, Invalid, plan};

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

/// A verdict, with the metadata that came with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) metadata: Option<Struct>,
}

/// Judges an answer, or the lack of one.
pub(crate) fn judge(config: &Config, answer: Result<auth::CheckResponse, Failure>) -> Judged {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            let verdict = if config.failure_mode_allow && failure.may_pass() {
                Verdict::Pass
            } else {
                Verdict::Refuse { reply: refusal(config), dropped: 0 }
            };
            return Judged { verdict, metadata: None };
        }
    };
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
        return Judged { verdict, metadata };
    }
    let verdict = match http_response {
        Some(HttpResponse::ErrorResponse(_)) if config.failure_mode_allow => Verdict::Pass,
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
    Judged { verdict, metadata: dynamic_metadata }
}

/// The plain reply where there is no verdict.
pub(crate) fn refusal(config: &Config) -> Reply {
    Reply::new(config.status_on_error).details("ext_authz_error")
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
        judge(&config(fields), Ok(answer(json))).verdict
    }

    fn failed(fields: &str, failure: Failure) -> Verdict {
        judge(&config(fields), Err(failure)).verdict
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
        let Verdict::Deny { reply, .. } = judge(&config, Ok(impossible)).verdict else {
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
    fn the_metadata_inside_an_ok_response_replaces_the_one_beside_it() {
        let outer = r#""dynamic_metadata": {"a": 1}"#;
        let inner = judge(
            &config(""),
            Ok(answer(&format!(
                r#"{{{outer}, "ok_response": {{"dynamic_metadata": {{"b": 1}}}}}}"#
            ))),
        );
        assert!(inner.metadata.unwrap().fields.contains_key("b"));
        let status = Some(Status { code: 7, ..Default::default() });
        let denied = auth::CheckResponse { status, ..answer(&format!("{{{outer}}}")) };
        assert!(judge(&config(""), Ok(denied)).metadata.is_some());
    }
}
