//! `content-length` from a processor: it frames the message that goes on, or it does not go on.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::processing_request::Request as Part;
use tonic::Status;

/// What the processor does after it has said in its answers to headers how long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Answers,
    FallsSilent,
    Fails,
    Closes,
    ClosesAtOnce,
}

fn says(direction: &str, length: &str) -> proto::ProcessingResponse {
    let value = data_encoding(length.as_bytes());
    let line = json!({"header": {"key": "content-length", "rawValue": value}});
    message(json!({direction: {"response": {"headerMutation": {"setHeaders": [line]}}}}))
}

/// Base64, as the JSON form of bytes has it.
fn data_encoding(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn processor(length: &'static str, then: Then) -> Script {
    Script::default().process_each(move |request, _| {
        let headers = match &request.request {
            Some(Part::RequestHeaders(_)) => Some("requestHeaders"),
            Some(Part::ResponseHeaders(_)) => Some("responseHeaders"),
            _ => None,
        };
        let mut answers = Vec::new();
        match (headers, then) {
            (Some(direction), Then::ClosesAtOnce) => {
                answers.extend([Ok(says(direction, length)), Err(Status::ok(""))]);
            }
            (Some(direction), _) => answers.push(Ok(says(direction, length))),
            (None, Then::Answers) => answers.push(Ok(unchanged(&request))),
            (None, Then::FallsSilent) => {}
            (None, Then::Fails) => answers.push(Err(Status::internal("x"))),
            (None, Then::Closes | Then::ClosesAtOnce) => answers.push(Err(Status::ok(""))),
        }
        futures::stream::iter(answers)
    })
}

/// A message that arrived: its length as it says, and its body.
fn fits(length: Option<&str>, body: &[u8]) -> bool {
    length.is_none_or(|length| length.parse() == Ok(body.len()))
}

async fn gateway(callout: Value, open: bool, script: Script) -> (Envoy, Upstream, Services) {
    let answer = Answer { body: vec![b"hello".to_vec()], ..Answer::default() };
    let upstream = Upstream::start(answer).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let fields = json!({
        "failure_mode_allow": open, "message_timeout": "0.3s",
        "processing_mode": {"request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED"},
    });
    let filter = Kind::ExtProc.module_with(callout, fields, services.port());
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    (Envoy::start(Version::LATEST, &bootstrap).await.unwrap(), upstream, services)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_nobody_compared_with_the_body_does_not_go_on() {
    let skip = json!({"body_limit": {"bytes": 4, "over": "skip"}});
    let endings = [Then::Answers, Then::FallsSilent, Then::Fails, Then::Closes, Then::ClosesAtOnce];
    for length in ["3", "200", "+5", "5,5"] {
        for then in endings {
            for (callout, open) in [(json!({}), true), (json!({}), false), (skip.clone(), false)] {
                let what = format!("{length} {then:?} {callout} open={open}");
                let script = processor(length, then);
                let (envoy, upstream, _services) = gateway(callout, open, script).await;
                for request in [
                    Request::post("/").body("hello"),
                    Request::post("/").pieces(["hel", "lo"]),
                    Request::post("/").pieces(["hel", "lo"]).http2(),
                    Request::get("/"),
                ] {
                    let before = upstream.seen().len();
                    let response = request.send(envoy.port()).await;
                    // Whatever became of it, both sides agree on where it ends.
                    assert!(response.is_complete(), "{what}: {response:?}");
                    assert!(fits(response.header("content-length"), &response.body), "{what}");
                    if response.status == 200 {
                        assert_eq!(response.body, b"hello", "{what}");
                    }
                    for seen in &upstream.seen()[before..] {
                        assert!(seen.complete, "{what}: {seen:?}");
                        assert!(fits(seen.header("content-length"), &seen.body), "{what}");
                        assert!(matches!(seen.body.as_slice(), b"" | b"hello"), "{what}");
                    }
                    assert!(upstream.seen().len() <= before + 1, "{what}: a request of its own");
                }
                envoy.stat_becomes("live_streams", 0).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_a_response_to_head_may_be_told() {
    let (envoy, _upstream, _services) =
        gateway(json!({}), false, processor("7", Then::Answers)).await;
    let response = Request::new("HEAD", "/").send(envoy.port()).await;
    assert_eq!((response.status, response.header("content-length")), (200, Some("7")));
}
