//! `ImmediateResponse` and `StreamedImmediateResponse`: the processor answers the client.

use callout_common::api::matching::MutationRules;
use callout_common::http::mutation::Lines;
use callout_common::http::rules::{is_framing, valid_name, valid_value};
use callout_common::{Reply, ReplyPart};
use callout_protos::envoy::config::core::v3::HeaderMap;
use callout_protos::envoy::service::ext_proc::v3::ImmediateResponse;

use crate::decide::machine::Part;
use crate::decide::mutate::{Kind, Length, plan};

/// The reply, and how many header changes were refused. The error is the details of a failure.
pub(crate) fn reply(
    immediate: ImmediateResponse,
    rules: &MutationRules,
    by_action: bool,
) -> Result<(Reply, u64), &'static str> {
    let ImmediateResponse { status, headers, body, grpc_status, details } = immediate;
    let status = match status.map_or(200, |status| status.code) {
        code @ 200..=599 => u16::try_from(code).unwrap_or(500),
        ..200 => 200,
        _ => 500,
    };
    let plan =
        plan(headers.unwrap_or_default(), rules, Kind::Response, Length::Dropped, by_action)?;
    let mut lines = Lines::new();
    // Its status is a field of its own.
    for mutation in plan.ops.iter().filter(|mutation| !mutation.name.starts_with(':')) {
        mutation.apply(&mut lines);
    }
    // A 204 and a 304 have no body (RFC 9110 section 6.4.1).
    let body = if matches!(status, 204 | 304) { Vec::new() } else { body };
    let details: String =
        details.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    let mut reply = Reply::new(status).body(body).details(details);
    if let Some(grpc) = grpc_status {
        reply = reply.grpc_status(grpc.status);
    }
    for (name, value) in lines {
        reply.add_header(&name, &value);
    }
    Ok((reply, plan.rejected))
}

const INVALID: &str = "local_response_header_contains_invalid_character";

/// A part of a reply; the error is the details of a failure.
pub(crate) fn part(part: Part) -> Result<ReplyPart, &'static str> {
    Ok(match part {
        Part::HeadersResponse(headers) => {
            let lines = lines(headers.headers.unwrap_or_default())?;
            let status = lines.iter().find(|(name, _)| name == ":status");
            let status = status.map(|(_, value)| std::str::from_utf8(value).map(str::parse));
            let Some(Ok(Ok(status @ 200..=599))) = status else { return Err(INVALID) };
            let mut reply = Reply::new(status);
            for (name, value) in &lines {
                reply.add_header(name, value);
            }
            ReplyPart::Headers { reply, end: headers.end_of_stream }
        }
        Part::BodyResponse(body) => {
            let end = body.end_of_stream || body.end_of_stream_without_message;
            ReplyPart::Data { bytes: body.body, end }
        }
        Part::TrailersResponse(trailers) => {
            let mut lines = lines(trailers)?;
            lines.retain(|(name, _)| valid_name(name) && !is_framing(name));
            ReplyPart::Trailers(lines)
        }
    })
}

fn lines(map: HeaderMap) -> Result<Lines, &'static str> {
    let line = |header: callout_protos::envoy::config::core::v3::HeaderValue| {
        let name = header.key.to_ascii_lowercase();
        let value = header.raw_value;
        let valid = valid_name(name.strip_prefix(':').unwrap_or(&name)) && valid_value(&value);
        if valid { Ok((name, value)) } else { Err(INVALID) }
    };
    map.headers.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
    use callout_protos::envoy::service::ext_proc::v3::HeaderMutation;
    use callout_protos::envoy::r#type::v3::HttpStatus;

    use super::*;

    fn immediate(code: i32, headers: &[(&str, &str)]) -> ImmediateResponse {
        let option = |(key, value): &(&str, &str)| HeaderValueOption {
            header: Some(HeaderValue {
                key: (*key).to_owned(),
                raw_value: value.as_bytes().to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        };
        ImmediateResponse {
            status: Some(HttpStatus { code }),
            headers: Some(HeaderMutation {
                set_headers: headers.iter().map(option).collect(),
                ..Default::default()
            }),
            body: b"b".to_vec(),
            details: "a b".to_owned(),
            ..Default::default()
        }
    }

    fn made(code: i32, headers: &[(&str, &str)]) -> (Reply, u64) {
        reply(immediate(code, headers), &MutationRules::default(), false).unwrap()
    }

    #[test]
    fn impossible_statuses_become_possible_ones() {
        let status = |code| made(code, &[]).0.status();
        assert_eq!((status(0), status(100), status(403), status(700)), (200, 200, 403, 500));
        assert!(made(204, &[]).0.body_bytes().is_empty());
        assert_eq!(made(403, &[]).0.details_str(), "a_b");
    }

    #[test]
    fn headers_obey_the_rules_and_the_status_stays() {
        let (reply, rejected) =
            made(403, &[("x-a", "1"), ("x-a", "2"), ("x-envoy-a", "1"), (":status", "200")]);
        assert_eq!(reply.headers(), [("x-a".to_owned(), b"2".to_vec())]);
        assert_eq!((rejected, reply.status()), (1, 403));
    }
}
