//! `extproc` does what the built-in filter does: the same configuration, processor and requests,
//! and all that client, upstream and processor see is the same.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use callout_integration::client::Request;
use callout_integration::envoy::{Kind, Version};
use callout_integration::oracle::Scenario;
use callout_integration::services::{Script, message, unchanged};
use callout_integration::upstream::Answer;
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;
use serde_json::{Value, json};
use tonic::Status;

/// A processor that answers the messages of these kinds so, and leaves the others as they are.
fn answering(answers: Value) -> Script {
    Script::default().process(move |request, _| {
        let kind = match &request.request {
            Some(Part::RequestHeaders(_)) => "requestHeaders",
            Some(Part::RequestBody(_)) => "requestBody",
            Some(Part::RequestTrailers(_)) => "requestTrailers",
            Some(Part::ResponseHeaders(_)) => "responseHeaders",
            Some(Part::ResponseBody(_)) => "responseBody",
            Some(Part::ResponseTrailers(_)) => "responseTrailers",
            None => "nothing",
        };
        let answer = match answers.get(kind) {
            Some(answer) => message(answer.clone()),
            None => unchanged(&request),
        };
        std::future::ready(Ok(answer))
    })
}

async fn same(scenario: Scenario) {
    scenario.same_as_builtin(Version::LATEST).await.unwrap();
}

fn scenario(config: Value) -> Scenario {
    Scenario::new(Kind::ExtProc, config)
}

fn buffered(fields: Value) -> Value {
    callout_integration::envoy::merge(
        json!({"processing_mode": {"request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED"}}),
        fields,
    )
}

/// A header with a raw value; `eA==` is `x`.
fn set(entries: &[(&str, &str)]) -> Value {
    let header = |(key, value): &(&str, &str)| json!({"header": {"key": key, "rawValue": value}});
    json!(entries.iter().map(header).collect::<Vec<_>>())
}

fn chunked() -> Request {
    Request::post("/").pieces(["ab", "cd"])
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_both_directions_are_shown() {
    let requests = [Request::get("/p?q=1").header("x-a", "1"), Request::post("/").body("body")];
    same(scenario(json!({})).requests(requests)).await;
    same(scenario(json!({"processing_mode": {"request_header_mode": "SKIP"}}))).await;
    same(scenario(json!({"forward_rules": {"allowed_headers": {"patterns": [{"prefix": "x-"}]}}})))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_both_directions_are_changed() {
    let append = json!([{"header": {"key": "x-a", "rawValue": "eA=="}, "append": true}]);
    let answers = json!({
        "requestHeaders": {"requestHeaders": {"response": {"headerMutation": {
            "setHeaders": [append[0], set(&[("x-new", "eA==")])[0]], "removeHeaders": ["x-gone"],
        }}}},
        "responseHeaders": {"responseHeaders": {"response": {"headerMutation": {
            "setHeaders": set(&[("x-up", "eA=="), (":status", "NDE4")]),
        }}}},
    });
    let upstream =
        Answer { headers: vec![("x-up".to_owned(), "up".to_owned())], ..Answer::default() };
    let request = Request::get("/").header("x-a", "1").header("x-gone", "1");
    same(scenario(json!({})).script(answering(answers)).upstream(upstream).requests([request]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buffered_bodies_of_both_directions_are_shown_whole() {
    same(scenario(buffered(json!({}))).requests([
        chunked(),
        Request::get("/"),
        Request::post("/").body("whole"),
    ]))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buffered_bodies_of_both_directions_are_replaced() {
    let body = json!({"response": {"bodyMutation": {"body": "TkVX"}, "headerMutation": {"setHeaders": set(&[("x-b", "eA==")])}}});
    let answers =
        json!({"requestBody": {"requestBody": body}, "responseBody": {"responseBody": body}});
    let upstream = Answer { body: vec![b"u1".to_vec(), b"u2".to_vec()], ..Answer::default() };
    same(
        scenario(buffered(json!({})))
            .script(answering(answers))
            .upstream(upstream)
            .requests([chunked()]),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_body_has_to_fit_its_content_length() {
    let request = || Request::post("/").body("body");
    let replaced = |headers: Value| {
        json!({"requestBody": {"requestBody": {"response": {
            "bodyMutation": {"body": "TkVX"}, "headerMutation": headers,
        }}}})
    };
    let config = || buffered(json!({}));
    same(scenario(config()).script(answering(replaced(json!({})))).requests([request()])).await;
    let right = json!({"setHeaders": set(&[("content-length", "Mw==")])});
    same(scenario(config()).script(answering(replaced(right))).requests([request()])).await;
    let removed = json!({"removeHeaders": ["content-length"]});
    same(scenario(config()).script(answering(replaced(removed))).requests([request()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_and_replace_makes_a_body() {
    let replace = json!({"requestHeaders": {"requestHeaders": {"response": {
        "status": "CONTINUE_AND_REPLACE", "bodyMutation": {"body": "TkVX"},
        "headerMutation": {"setHeaders": set(&[(":method", "UE9TVA==")])},
    }}}});
    same(
        scenario(buffered(json!({})))
            .script(answering(replace))
            .requests([Request::get("/"), chunked()]),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_are_shown_and_changed() {
    let config = json!({"processing_mode": {"request_trailer_mode": "SEND", "response_trailer_mode": "SEND", "request_body_mode": "BUFFERED"}});
    let mutation =
        json!({"headerMutation": {"setHeaders": set(&[("t2", "eA==")]), "removeHeaders": ["t1"]}});
    let answers = json!({"requestTrailers": {"requestTrailers": mutation}, "responseTrailers": {"responseTrailers": mutation}});
    let upstream =
        Answer { trailers: vec![("t1".to_owned(), "u".to_owned())], ..Answer::default() };
    let request = chunked().trailer("t1", "v");
    same(scenario(config).script(answering(answers)).upstream(upstream).requests([request])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_response_answers_the_client() {
    let immediate = json!({"immediateResponse": {
        "status": {"code": "Forbidden"}, "body": "bm8=", "details": "why",
        "headers": {"setHeaders": set(&[("x-i", "eA=="), ("x-envoy-i", "eA==")])},
    }});
    for kind in ["requestHeaders", "responseHeaders", "requestBody"] {
        let requests = [chunked(), chunked().http2()];
        same(
            scenario(buffered(json!({})))
                .script(answering(json!({kind: immediate})))
                .requests(requests),
        )
        .await;
    }
    let disabled = json!({"disable_immediate_response": true});
    same(scenario(disabled).script(answering(json!({"requestHeaders": immediate})))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_closed_unless_the_configuration_opens_them() {
    for config in [
        json!({}),
        json!({"failure_mode_allow": true}),
        json!({"status_on_error": {"code": "ServiceUnavailable"}}),
    ] {
        let requests = || [Request::get("/"), chunked()];
        let failing = Script::failing(&Status::internal("bad thing"));
        same(scenario(config.clone()).script(failing).requests(requests())).await;
        same(scenario(config).services_down().requests(requests())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_too_late_is_a_504_and_an_answer_of_the_wrong_kind_a_500() {
    let late = || {
        Script::default().process(|request, _| async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(unchanged(&request))
        })
    };
    for config in [
        json!({"message_timeout": "0.1s"}),
        json!({"message_timeout": "0.1s", "failure_mode_allow": true}),
    ] {
        same(scenario(config).script(late())).await;
    }
    let wrong = || answering(json!({"requestHeaders": {"responseHeaders": {}}}));
    same(scenario(json!({})).script(wrong())).await;
    same(scenario(json!({"failure_mode_allow": true})).script(wrong())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_limit_what_a_processor_may_change() {
    let answers = || {
        answering(json!({"requestHeaders": {"requestHeaders": {"response": {"headerMutation": {
            "setHeaders": set(&[("host", "eA=="), ("x-envoy-a", "eA=="), ("x-a", "eA==")]), "removeHeaders": [":path"],
        }}}}}))
    };
    same(scenario(json!({})).script(answers())).await;
    same(scenario(json!({"mutation_rules": {"disallow_is_error": true}})).script(answers())).await;
    let some =
        json!({"mutation_rules": {"disallow_all": true, "allow_expression": {"regex": "x-.*"}}});
    same(scenario(some).script(answers())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_override_and_a_route_change_what_is_shown() {
    let answers = json!({"requestHeaders": {"requestHeaders": {}, "modeOverride": {"requestBodyMode": "BUFFERED", "responseHeaderMode": "SKIP"}}});
    same(
        scenario(json!({"allow_mode_override": true}))
            .script(answering(answers))
            .requests([chunked()]),
    )
    .await;
    same(scenario(json!({})).route(json!({"disabled": true}))).await;
    let route = json!({"overrides": {"processing_mode": {"response_header_mode": "SKIP", "request_body_mode": "BUFFERED"}}});
    same(scenario(json!({})).route(route).requests([chunked()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streamed_bodies_of_both_directions_are_changed_piece_by_piece() {
    let config = json!({"processing_mode": {"request_body_mode": "STREAMED", "response_body_mode": "STREAMED"}});
    let cleared = json!({"response": {"bodyMutation": {"clearBody": true}}});
    let answers =
        json!({"requestBody": {"requestBody": cleared}, "responseBody": {"responseBody": cleared}});
    // One piece in each direction: how more of them are cut is a matter of timing.
    let one = || Request::post("/").body("whole");
    for script in [answering(json!({})), answering(answers)] {
        same(scenario(config.clone()).script(script).requests([one(), Request::get("/")])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_body_under_the_limit_is_shown_whole() {
    let config = json!({"processing_mode": {"request_body_mode": "BUFFERED_PARTIAL"}});
    let answers = json!({"requestBody": {"requestBody": {"response": {
        "bodyMutation": {"body": "TkVX"}, "headerMutation": {"setHeaders": set(&[("x-b", "eA==")])},
    }}}});
    same(scenario(config).script(answering(answers)).requests([chunked()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observing_processor_is_shown_everything_and_changes_nothing() {
    let config = json!({
        "observability_mode": true,
        "processing_mode": {"request_body_mode": "STREAMED", "response_body_mode": "STREAMED"},
    });
    let immediate = json!({"immediateResponse": {"status": {"code": "Forbidden"}}});
    let answers = || answering(json!({"requestHeaders": immediate}));
    same(scenario(config).script(answers()).requests([Request::post("/").body("whole")])).await;
    let open = json!({"observability_mode": true, "failure_mode_allow": true});
    same(scenario(open).services_down()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_wait_for_the_header_answer_is_changed_all_the_same() {
    let config = json!({
        "send_body_without_waiting_for_header_response": true,
        "processing_mode": {"request_body_mode": "STREAMED"},
    });
    let cleared = json!({"response": {"bodyMutation": {"clearBody": true}}});
    let answers = json!({"requestBody": {"requestBody": cleared}});
    same(scenario(config).script(answering(answers)).requests([Request::post("/").body("whole")]))
        .await;
}
