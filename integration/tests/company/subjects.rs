//! Our filters, each as it may be configured in a chain, and what their services say.

use callout_integration::prelude::*;
use callout_integration::services::{in_place_of, message, unchanged};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::processing_request::Request as Part;
use proto::processing_response::Response as Reply;

/// A filter under test.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fields: Value,
    duplex: bool,
}

pub(crate) fn all() -> Vec<Subject> {
    let subject = |name, kind, fields| Subject { name, kind, fields, duplex: false };
    let processing = |mode: &str| {
        let trailers = if mode.starts_with("FULL") { "SEND" } else { "SKIP" };
        json!({"processing_mode": {
            "request_body_mode": mode, "response_body_mode": mode,
            "request_trailer_mode": trailers, "response_trailer_mode": trailers,
        }})
    };
    vec![
        subject("authz", Kind::Authz, json!({})),
        subject(
            "authz with the body",
            Kind::Authz,
            json!({"with_request_body": {"max_request_bytes": 4096}}),
        ),
        subject(
            "ratelimit",
            Kind::RateLimit,
            json!({"rate_limits": [{"actions": [
                {"request_headers": {"header_name": ":path", "descriptor_key": "path"}},
            ]}]}),
        ),
        subject("extproc", Kind::ExtProc, json!({})),
        subject("extproc BUFFERED", Kind::ExtProc, processing("BUFFERED")),
        subject("extproc STREAMED", Kind::ExtProc, processing("STREAMED")),
        Subject {
            duplex: true,
            ..subject("extproc FULL_DUPLEX", Kind::ExtProc, processing("FULL_DUPLEX_STREAMED"))
        },
    ]
}

impl Subject {
    /// Refuses paths with `deny`, and changes headers and, with `change` in the body, the body.
    pub(crate) fn script(&self) -> Script {
        let duplex = self.duplex;
        Script::default()
            .check(|request, _| {
                let denied = format!("{request:?}").contains("/deny");
                std::future::ready(Ok(message(if denied {
                    json!({"status": {"code": 16}, "deniedResponse": {
                        "status": {"code": "Unauthorized"}, "body": "denied",
                        "headers": [{"header": {"key": "www-authenticate", "value": "x"}}],
                    }})
                } else {
                    json!({"status": {}, "okResponse": {
                        "headers": [{"header": {"key": "x-user", "value": "u"}}],
                        "responseHeadersToAdd": [{"header": {"key": "x-seen", "value": "1"}}],
                    }})
                })))
            })
            .limit(|request, _| {
                let over = format!("{request:?}").contains("/deny");
                let code = if over { "OVER_LIMIT" } else { "OK" };
                std::future::ready(Ok(message(json!({
                    "overallCode": code, "statuses": [{"code": code}],
                    "responseHeadersToAdd": [{"key": "x-limit", "value": "1"}],
                }))))
            })
            .process(move |request, _| std::future::ready(Ok(process(&request, duplex))))
    }
}

fn process(request: &proto::ProcessingRequest, duplex: bool) -> proto::ProcessingResponse {
    let mut answer = unchanged(request);
    match (&request.request, &mut answer.response) {
        (Some(Part::RequestHeaders(headers)), _) => {
            if format!("{headers:?}").contains("/deny") {
                return message(json!({"immediateResponse": {"status": {"code": "Unauthorized"}}}));
            }
            answer = message(json!({"requestHeaders": {"response": {"headerMutation": {
                "setHeaders": [{"header": {"key": "x-processed", "rawValue": "MQ=="}}],
            }}}}));
        }
        (Some(Part::ResponseHeaders(_)), _) => {
            answer = message(json!({"responseHeaders": {"response": {"headerMutation": {
                "setHeaders": [{"header": {"key": "x-processed", "rawValue": "MQ=="}}],
            }}}}));
        }
        (
            Some(Part::RequestBody(body) | Part::ResponseBody(body)),
            Some(Reply::RequestBody(reply) | Reply::ResponseBody(reply)),
        ) => {
            let bytes = if body.body.windows(6).any(|bytes| bytes == b"change") {
                body.body.to_ascii_uppercase()
            } else if duplex {
                body.body.clone()
            } else {
                return answer;
            };
            let mutation = in_place_of(body, bytes, duplex);
            reply.response = Some(proto::CommonResponse {
                body_mutation: Some(proto::BodyMutation { mutation: Some(mutation) }),
                ..Default::default()
            });
        }
        _ => {}
    }
    answer
}
