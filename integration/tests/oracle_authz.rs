//! `authz` does what the built-in filter does: the same configuration, service and requests, and
//! all that client, upstream and service see is the same.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::client::Request;
use callout_integration::envoy::{Kind, Version};
use callout_integration::oracle::Scenario;
use callout_integration::services::{Script, message};
use callout_integration::upstream::Answer;
use serde_json::{Value, json};
use tonic::Status;

fn answering(answer: Value) -> Script {
    Script::default().check(move |_, _| std::future::ready(Ok(message(answer.clone()))))
}

async fn same(scenario: Scenario) {
    scenario.same_as_builtin(Version::LATEST).await.unwrap();
}

fn scenario(config: Value) -> Scenario {
    Scenario::new(Kind::Authz, config)
}

fn header(key: &str, value: &str) -> Value {
    json!({"header": {"key": key, "value": value}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_request_carries_headers_joined_and_cleaned() {
    let request = Request::get("/x%20y/../z?q=1&r=%41")
        .header("x-a", "1")
        .header("X-A", "2")
        .header("x-bin", "\u{ff}\u{fe}")
        .header("x-empty", "")
        .header("cookie", "a=1")
        .header("x-envoy-downstream-service-cluster", "sc");
    same(scenario(json!({})).requests([request.clone(), request.http2()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_headers_and_header_choices() {
    same(scenario(json!({"encode_raw_headers": true}))).await;
    same(
        scenario(json!({
            "allowed_headers": {"patterns": [{"prefix": "x-"}, {"exact": ":path"}]},
            "disallowed_headers": {"patterns": [{"exact": "x-secret"}]},
        }))
        .requests([Request::get("/").header("x-secret", "s").header("x-b", "2")]),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_the_node_are_the_destinations() {
    same(scenario(json!({"bootstrap_metadata_labels_key": "labels"}))).await;
    same(scenario(json!({"bootstrap_metadata_labels_key": "others"}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_sets_appends_and_removes_request_headers() {
    let answer = json!({"status": {}, "okResponse": {
        "headers": [
            header("x-set", "new"),
            {"header": {"key": "x-join", "value": "b"}, "append": true},
            {"header": {"key": "x-none", "value": "b"}, "append": true},
        ],
        "headersToRemove": ["X-Gone", ":path", "host"],
    }});
    let request = Request::get("/")
        .header("x-set", "1")
        .header("x-set", "2")
        .header("x-join", "a")
        .header("x-gone", "1");
    same(scenario(json!({})).script(answering(answer)).requests([request])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_adds_to_the_response_by_each_action() {
    let option = |key: &str, action: &str| json!({"header": {"key": key, "value": "z"}, "appendAction": action});
    let answer = json!({"status": {}, "okResponse": {"responseHeadersToAdd": [
        option("x-up", "APPEND_IF_EXISTS_OR_ADD"),
        option("x-up2", "OVERWRITE_IF_EXISTS_OR_ADD"),
        option("x-up3", "ADD_IF_ABSENT"),
        option("x-no", "OVERWRITE_IF_EXISTS"),
        option("x-new", "ADD_IF_ABSENT"),
    ]}});
    let headers = ["x-up", "x-up2", "x-up3"].map(|name| (name.to_owned(), "u".to_owned()));
    let upstream = Answer { headers: headers.to_vec(), ..Answer::default() };
    same(scenario(json!({})).script(answering(answer)).upstream(upstream)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_changes_the_query_and_the_path() {
    let answer = json!({"status": {}, "okResponse": {
        "headers": [header(":path", "/new?z=1&b=2&flag")],
        "queryParametersToSet": [{"key": "n", "value": "1"}],
        "queryParametersToRemove": ["b"],
    }});
    same(scenario(json!({})).script(answering(answer))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_has_its_status_headers_and_body() {
    let answer = json!({"status": {"code": 7}, "deniedResponse": {
        "status": {"code": "Unauthorized"},
        "headers": [header("www-authenticate", "Bearer"), header("set-cookie", "a=1"), header("set-cookie", "b=2")],
        "body": "no",
    }});
    let requests = [
        Request::get("/"),
        Request::new("HEAD", "/"),
        Request::post("/s.S/M")
            .header("content-type", "application/grpc")
            .body("\0\0\0\0\0")
            .http2(),
    ];
    same(scenario(json!({})).script(answering(answer)).requests(requests)).await;
    same(scenario(json!({})).script(answering(json!({"status": {"code": 7}})))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_follows_the_failure_mode_and_its_status() {
    let failing = || Script::failing(&Status::permission_denied("no"));
    same(scenario(json!({})).script(failing())).await;
    same(scenario(json!({"status_on_error": {"code": "ServiceUnavailable"}})).script(failing()))
        .await;
    same(
        scenario(json!({"failure_mode_allow": true, "failure_mode_allow_header_add": true}))
            .script(failing()),
    )
    .await;
    let denied = json!({"status": {"code": 7}, "deniedResponse": {"status": {"code": "ServiceUnavailable"}}});
    same(scenario(json!({"failure_mode_allow": true})).script(answering(denied))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_or_slow_is_an_error() {
    same(scenario(json!({})).services_down()).await;
    same(scenario(json!({"failure_mode_allow": true})).services_down()).await;
    let config = json!({"grpc_service": {"timeout": "0.1s"}});
    same(scenario(config).script(Script::silent())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_disables_the_filter_or_adds_context() {
    same(scenario(json!({})).route(json!({"disabled": true}))).await;
    let context = json!({"check_settings": {"context_extensions": {"a": "1", "b": "2"}}});
    same(scenario(json!({})).route(context)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_whole_or_in_part() {
    let post = || Request::post("/").body("0123456789");
    same(scenario(json!({"with_request_body": {"max_request_bytes": 10}})).requests([post()]))
        .await;
    same(scenario(json!({"with_request_body": {"max_request_bytes": 9}})).requests([post()])).await;
    let partial =
        json!({"with_request_body": {"max_request_bytes": 4, "allow_partial_message": true}});
    same(scenario(partial).requests([post()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_validation_of_mutations() {
    let answer = || {
        answering(json!({"status": {}, "okResponse": {"headers": [
            header("x-envoy-a", "1"), header(":method", "PUT"), header("x-a", "2"),
        ]}}))
    };
    same(scenario(json!({"decoder_header_mutation_rules": {}})).script(answer())).await;
    let strict = json!({"decoder_header_mutation_rules": {"disallow_is_error": true}});
    same(scenario(strict).script(answer())).await;
    let bad = json!({"status": {}, "okResponse": {"headers": [header("x-a", "a\nb")]}});
    same(scenario(json!({"validate_mutations": true})).script(answering(bad))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_the_filter_off() {
    let off = json!({"default_value": {"numerator": 0, "denominator": "HUNDRED"}});
    same(scenario(json!({"filter_enabled": off}))).await;
    let deny = json!({
        "filter_enabled": off,
        "deny_at_disable": {"default_value": true, "runtime_key": "k"},
    });
    same(scenario(deny)).await;
}
