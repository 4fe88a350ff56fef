//! Envoy's limits of headers, raised or lowered: what an answer adds is measured by them, as by the
//! built-in.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use callout_integration::oracle::Scenario;
use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A change of Envoy's configuration.
type Limits = fn(Bootstrap) -> Bootstrap;

/// 200 lines and 96 KiB, in both directions.
fn raised(mut bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.hcm = json!({
        "max_request_headers_kb": 96, "common_http_protocol_options": {"max_headers_count": 200},
    });
    bootstrap.cluster = json!({"typed_extension_protocol_options": {OPTIONS: {
        "common_http_protocol_options": {"max_headers_count": 200},
    }}});
    bootstrap
}

fn lowered(mut bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.hcm = json!({"common_http_protocol_options": {"max_headers_count": 20}});
    bootstrap
}

/// `count` header lines that an answer adds, with values of `size` bytes under `field`.
fn lines(count: usize, field: &str, value: &str) -> Value {
    let line = |n| json!({"header": {"key": format!("x-added-{n}"), field: value}});
    json!((0..count).map(line).collect::<Vec<_>>())
}

/// As a processor adds them: its values are bytes.
fn raw_lines(count: usize, size: usize) -> Value {
    lines(count, "rawValue", &BASE64.encode("v".repeat(size)))
}

/// Authorization and processing that add these lines to each request.
fn adding(count: usize, size: usize) -> Script {
    let (a, b) = (lines(count, "value", &"v".repeat(size)), raw_lines(count, size));
    let allow = json!({"status": {}, "okResponse": {"headers": a}});
    Script::default().check(move |_, _| std::future::ready(Ok(message(allow.clone())))).process(
        move |request, n| {
            // The request's headers, the only message.
            let answer =
                json!({"requestHeaders": {"response": {"headerMutation": {"setHeaders": b}}}});
            std::future::ready(Ok(if n == 0 { message(answer) } else { unchanged(&request) }))
        },
    )
}

/// Processing that adds these lines to each response.
fn adding_to_the_response(count: usize) -> Script {
    let lines = raw_lines(count, 1);
    Script::default().process(move |request, _| {
        let answer =
            json!({"responseHeaders": {"response": {"headerMutation": {"setHeaders": lines}}}});
        let is_response = format!("{request:?}").contains("ResponseHeaders");
        std::future::ready(Ok(if is_response { message(answer) } else { unchanged(&request) }))
    })
}

fn with_lines(count: usize) -> Request {
    (0..count).fold(Request::get("/p"), |request, n| request.header(&format!("x-{n}"), "v"))
}

fn only_requests() -> Value {
    json!({"processing_mode": {"response_header_mode": "SKIP"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_builtin_under_raised_and_lowered_limits() {
    // Envoy's own lines, the client's host and those of the manager come on top.
    let cases: [(Limits, Request, usize, usize); 6] = [
        (raised, with_lines(90), 30, 1),
        (raised, with_lines(188), 30, 1),
        (raised, Request::get("/p").header("cookie", &"c".repeat(70_000)), 1, 10),
        (lowered, with_lines(5), 2, 1),
        (lowered, with_lines(10), 12, 1),
        (|bootstrap| bootstrap, with_lines(90), 30, 1),
    ];
    for version in Version::ALL {
        for (bootstrap, request, count, size) in &cases {
            for (kind, fields) in [(Kind::Authz, json!({})), (Kind::ExtProc, only_requests())] {
                Scenario::new(kind, fields)
                    .script(adding(*count, *size))
                    .requests([request.clone()])
                    .bootstrap(*bootstrap)
                    .same_as_builtin(version)
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_builtin_for_responses() {
    let headers = (0..90).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let answer = Answer { headers, ..Answer::default() };
    for version in Version::ALL {
        let cases: [(Limits, usize); 2] = [(raised, 30), (|same| same, 30)];
        for (bootstrap, count) in cases {
            Scenario::new(
                Kind::ExtProc,
                json!({"processing_mode": {"request_header_mode": "SKIP"}}),
            )
            .script(adding_to_the_response(count))
            .upstream(answer.clone())
            .bootstrap(bootstrap)
            .same_as_builtin(version)
            .await
            .unwrap();
        }
    }
}

/// What comes by xDS is not in the bootstrap: the operator says it.
#[tokio::test(flavor = "multi_thread")]
async fn limits_that_the_operator_tells_hold() {
    for version in Version::ALL {
        for (kind, refusal) in [(Kind::Authz, 500), (Kind::ExtProc, 500)] {
            let mut statuses = Vec::new();
            for limit in [15, 200] {
                let callout = json!({"header_limits": {"max_headers_count": limit}});
                let gateway = Gateway::start_with(
                    version,
                    adding(30, 1),
                    |port| vec![kind.module_with(callout, only_requests_of(kind), port)],
                    raised,
                )
                .await
                .unwrap();
                statuses.push(gateway.send(with_lines(90)).await.status);
            }
            assert_eq!(statuses, [refusal, 200], "{version} {kind:?}");
        }
    }
}

fn only_requests_of(kind: Kind) -> Value {
    if kind == Kind::ExtProc { only_requests() } else { json!({}) }
}
