//! What the head and the end of an answer say, by gRPC's rules for HTTP/2. No I/O.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode;
use tonic::Code;

use super::error::CallError;

/// What comes after the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Messages may.
    Messages,
    /// Nothing: the call is over, with status OK.
    Nothing,
}

/// Reads the head of an answer; `ended` when nothing follows it.
///
/// # Errors
/// The status that it tells of. An HTTP status other than 200 and a content type that is not gRPC's are
/// the answer of something else than a gRPC server, whatever follows.
pub(crate) fn head(
    status: StatusCode,
    headers: &HeaderMap,
    ended: bool,
) -> Result<After, CallError> {
    let told = ended.then(|| told(headers)).flatten();
    if let Some(Err(error)) = told {
        return Err(error);
    }
    if status != StatusCode::OK {
        return Err(failed(of_http(status), format!("the HTTP status is {}", status.as_u16())));
    }
    if told.is_some() {
        return Ok(After::Nothing);
    }
    if !is_grpc(headers) {
        return Err(failed(Code::Unknown, "the content type is not gRPC's".to_owned()));
    }
    if ended { Err(no_status()) } else { Ok(After::Messages) }
}

/// Reads the trailers; `None` where the answer ended without any.
///
/// # Errors
/// The status that they tell of, unless it is OK. An answer without a status has failed.
pub(crate) fn end(trailers: Option<&HeaderMap>) -> Result<(), CallError> {
    trailers.and_then(told).unwrap_or_else(|| Err(no_status()))
}

/// The status that `lines` tell of, if they do.
fn told(lines: &HeaderMap) -> Option<Result<(), CallError>> {
    let code = Code::from_bytes(lines.get("grpc-status")?.as_bytes());
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let message = lines.get("grpc-message").map_or(&[][..], |value| value.as_bytes());
    let message = percent_decode(message).decode_utf8_lossy().into_owned();
    Some(Err(failed(code, message)))
}

fn failed(code: Code, message: String) -> CallError {
    CallError::Status { code: code.into(), message }
}

fn no_status() -> CallError {
    failed(Code::Unknown, "the answer has no grpc-status".to_owned())
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// gRPC's code for an HTTP status without a gRPC status (its "HTTP to gRPC Status Code Mapping").
fn of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            })
            .collect()
    }

    fn code(result: Result<After, CallError>) -> i32 {
        match result {
            Err(CallError::Status { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    #[test]
    fn messages_follow_the_head_of_a_grpc_server_alone() {
        for content in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            let headers = map(&[("content-type", content)]);
            assert_eq!(head(StatusCode::OK, &headers, false), Ok(After::Messages));
        }
        for content in ["text/html", "application/grpc-web", "application/grpcx"] {
            let headers = map(&[("content-type", content), ("grpc-status", "0")]);
            assert_eq!(code(head(StatusCode::OK, &headers, false)), 2, "{content}");
        }
        assert_eq!(code(head(StatusCode::OK, &map(&[]), false)), 2);
    }

    #[test]
    fn an_http_status_other_than_200_is_a_failure_whatever_follows() {
        let ok = map(&[GRPC, ("grpc-status", "0")]);
        for (status, expected) in [(503, 14), (404, 12), (401, 16), (500, 2), (204, 2), (302, 2)] {
            let status = StatusCode::from_u16(status).unwrap();
            for ended in [false, true] {
                assert_eq!(code(head(status, &ok, ended)), expected);
            }
        }
        let denied = map(&[GRPC, ("grpc-status", "7")]);
        assert_eq!(code(head(StatusCode::SERVICE_UNAVAILABLE, &denied, true)), 7);
    }

    #[test]
    fn a_head_that_ends_the_answer_has_its_status() {
        let ended = |lines: &[_]| head(StatusCode::OK, &map(lines), true);
        assert_eq!(ended(&[GRPC, ("grpc-status", "0")]), Ok(After::Nothing));
        assert_eq!(code(ended(&[GRPC, ("grpc-status", "9")])), 9);
        assert_eq!(code(ended(&[GRPC])), 2);
    }

    #[test]
    fn an_answer_ends_well_only_with_status_ok() {
        assert_eq!(end(Some(&map(&[("grpc-status", "0")]))), Ok(()));
        for (value, expected) in [("13", 13), ("00", 2), ("-1", 2), ("", 2), ("abc", 2), ("99", 2)]
        {
            let error = end(Some(&map(&[("grpc-status", value)]))).map(|()| After::Nothing);
            assert_eq!(code(error), expected, "{value}");
        }
        assert_eq!(code(end(Some(&map(&[]))).map(|()| After::Nothing)), 2);
        assert_eq!(code(end(None).map(|()| After::Nothing)), 2);
        // What nobody reads may be as wrong as it likes.
        let odd = map(&[("grpc-status", "0"), ("grpc-status-details-bin", "!")]);
        assert_eq!(end(Some(&odd)), Ok(()));
        let said = end(Some(&map(&[("grpc-status", "7"), ("grpc-message", "a%20b")])));
        assert_eq!(said, Err(CallError::Status { code: 7, message: "a b".to_owned() }));
    }
}
