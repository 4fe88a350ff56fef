//! Strict mode: what a reply may not be. Without it such a reply means what it means to the
//! built-in, as far as that is safe.

use auth::check_response::HttpResponse;
use callout_common::http::rules::is_framing;
use callout_protos::envoy::config::core::v3::HeaderValueOption;
use callout_protos::envoy::service::auth::v3 as auth;

/// What is wrong with a reply, if anything.
pub(crate) fn objection(reply: &auth::CheckResponse) -> Option<&'static str> {
    // Many services leave the status of an allow out; a reply without anything says nothing.
    let code = match (&reply.status, &reply.http_response) {
        (None, None) => return Some("the reply is empty"),
        (status, _) => status.as_ref().map_or(0, |status| status.code),
    };
    match (&reply.http_response, code) {
        (Some(HttpResponse::OkResponse(ok)), 0) => {
            let named = ok.headers.iter().chain(&ok.response_headers_to_add);
            let removed = ok.headers_to_remove.iter().map(String::as_str);
            framing(named).or_else(|| {
                removed
                    .filter(|name| *name != "content-length")
                    .any(|name| is_framing(&name.to_ascii_lowercase()))
                    .then_some("the reply removes a header of the framing")
            })
        }
        (Some(HttpResponse::OkResponse(_)), _) => Some("a denial with an ok_response"),
        (None, _) => None,
        (Some(_), 0) => Some("an allow with a denied_response or an error_response"),
        (Some(HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)), _) => {
            let code = denied.status.as_ref().map_or(0, |status| status.code);
            // Zero is unset.
            if code != 0 && !(200..=599).contains(&code) {
                return Some("the reply has a status that no response can have");
            }
            framing(denied.headers.iter())
        }
    }
}

fn framing<'a>(mut options: impl Iterator<Item = &'a HeaderValueOption>) -> Option<&'static str> {
    options
        .any(|option| {
            option.header.as_ref().is_some_and(|line| is_framing(&line.key.to_ascii_lowercase()))
        })
        .then_some("the reply sets a header of the framing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objected(json: &str) -> bool {
        objection(&serde_json::from_str(json).unwrap()).is_some()
    }

    #[test]
    fn a_reply_that_says_one_thing_is_taken() {
        assert!(!objected(r#"{"status": {}}"#) && !objected(r#"{"ok_response": {}}"#));
        assert!(!objected(
            r#"{"status": {}, "ok_response": {"headers": [{"header": {"key": "x-a"}}], "headers_to_remove": ["content-length"]}}"#
        ));
        assert!(!objected(r#"{"status": {"code": 7}}"#));
        assert!(!objected(r#"{"status": {"code": 7}, "denied_response": {"body": "no"}}"#));
        assert!(!objected(
            r#"{"status": {"code": 13}, "error_response": {"status": {"code": "ServiceUnavailable"}}}"#
        ));
    }

    #[test]
    fn an_empty_reply_and_one_that_contradicts_itself_are_not() {
        assert!(objected("{}") && objected(r#"{"denied_response": {}}"#));
        assert!(objected(r#"{"status": {"code": 7}, "ok_response": {}}"#));
        assert!(objected(r#"{"status": {}, "denied_response": {}}"#));
        assert!(objected(r#"{"status": {}, "error_response": {}}"#));
    }

    #[test]
    fn impossible_statuses_and_headers_of_the_framing_are_not() {
        let mut impossible: auth::CheckResponse =
            serde_json::from_str(r#"{"status": {"code": 7}, "denied_response": {"status": {}}}"#)
                .unwrap();
        assert_eq!(objection(&impossible), None);
        if let Some(HttpResponse::DeniedResponse(denied)) = &mut impossible.http_response
            && let Some(status) = &mut denied.status
        {
            status.code = 700;
        }
        assert!(objection(&impossible).is_some());
        let line = r#"[{"header": {"key": "Transfer-Encoding", "value": "chunked"}}]"#;
        for field in ["headers", "response_headers_to_add"] {
            assert!(objected(&format!(
                r#"{{"status": {{}}, "ok_response": {{"{field}": {line}}}}}"#
            )));
        }
        assert!(objected(
            r#"{"status": {}, "ok_response": {"headers_to_remove": ["Connection"]}}"#
        ));
        assert!(objected(&format!(
            r#"{{"status": {{"code": 7}}, "denied_response": {{"headers": {line}}}}}"#
        )));
    }
}
