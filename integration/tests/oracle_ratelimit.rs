//! `ratelimit` does what the built-in filter does: the same configuration, service and requests,
//! and all that client, upstream and service see is the same.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::client::Request;
use callout_integration::envoy::{Kind, Version};
use callout_integration::oracle::Scenario;
use callout_integration::services::{Script, message};
use callout_integration::upstream::Answer;
use serde_json::{Value, json};
use tonic::Status;

fn answering(answer: Value) -> Script {
    Script::default().limit(move |_, _| std::future::ready(Ok(message(answer.clone()))))
}

/// As the built-in of each version of Envoy.
async fn same(scenario: Scenario) {
    for version in Version::ALL {
        scenario.same_as_builtin(version).await.unwrap();
    }
}

/// As the built-in of the newest Envoy, which alone knows a field of the configuration.
async fn same_as_newest(scenario: Scenario) {
    scenario.same_as_builtin(Version::LATEST).await.unwrap();
}

fn scenario(config: Value) -> Scenario {
    Scenario::new(Kind::RateLimit, config)
}

fn limits(actions: Value) -> Value {
    json!({"rate_limits": [{"actions": actions}]})
}

fn over() -> Value {
    json!({
        "overallCode": "OVER_LIMIT",
        "statuses": [{
            "code": "OVER_LIMIT",
            "currentLimit": {"requestsPerUnit": 10, "unit": "MINUTE", "name": "n"},
            "limitRemaining": 0,
            "durationUntilReset": "7.5s",
        }],
        "responseHeadersToAdd": [{"key": "X-Rls", "value": "1"}, {"key": "set-cookie", "value": "a"}, {"key": "set-cookie", "value": "b"}],
        "rawBody": "c2xvdyBkb3du",
    })
}

fn grpc_request() -> Request {
    Request::post("/s.S/M").header("content-type", "application/grpc").body("\0\0\0\0\0").http2()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_within_its_limits_passes_unchanged() {
    same(scenario(json!({}))).await;
    same(scenario(json!({})).script(answering(json!({})))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_its_limit_is_answered_with_429_and_the_services_headers_and_body() {
    let requests = [Request::get("/"), Request::new("HEAD", "/"), grpc_request()];
    same(scenario(json!({})).script(answering(over())).requests(requests)).await;
    let exhausted = json!({"rate_limited_as_resource_exhausted": true});
    same(scenario(exhausted).script(answering(over())).requests([grpc_request()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_optional_headers_of_a_limited_reply() {
    let config = json!({
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "enable_retry_after_header": true,
        "response_headers_to_add": [
            {"header": {"key": "x-added", "value": "v"}},
            {"header": {"key": "x-rls", "value": "mine"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        ],
    });
    same_as_newest(scenario(config).script(answering(over()))).await;
    let status = json!({
        "rate_limited_status": {"code": "ServiceUnavailable"},
        "disable_x_envoy_ratelimited_header": true,
    });
    same_as_newest(scenario(status).script(answering(over()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_request_gets_the_services_headers_appended() {
    let answer = json!({
        "overallCode": "OK",
        "requestHeadersToAdd": [{"key": "x-a", "value": "rls"}, {"key": "x-new", "value": "1"}],
        "responseHeadersToAdd": [{"key": "x-up", "value": "rls"}],
    });
    let upstream =
        Answer { headers: vec![("x-up".to_owned(), "up".to_owned())], ..Answer::default() };
    same(scenario(json!({})).script(answering(answer)).upstream(upstream)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_allow_by_default_and_deny_on_request() {
    let failing = || Script::failing(&Status::unavailable("no"));
    let requests = || [Request::get("/"), grpc_request()];
    same(scenario(json!({})).script(failing()).requests(requests())).await;
    same(scenario(json!({"failure_mode_deny": true})).script(failing()).requests(requests())).await;
    let status =
        json!({"failure_mode_deny": true, "status_on_error": {"code": "ServiceUnavailable"}});
    same(scenario(status).script(failing()).requests(requests())).await;
    same(scenario(json!({"failure_mode_deny": true})).services_down()).await;
    let slow = json!({"failure_mode_deny": true, "timeout": "0.5s"});
    same(scenario(slow).script(Script::silent())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_not_enforced_shows_but_passes() {
    let config = json!({"filter_enforced": {"default_value": {"numerator": 0}}});
    same(scenario(config).script(answering(over()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generic_keys_and_request_headers_make_descriptors() {
    let actions = json!([
        {"generic_key": {"descriptor_value": "v", "descriptor_key": "k"}},
        {"request_headers": {"header_name": "X-K", "descriptor_key": "h"}},
        {"request_headers": {"header_name": "x-none", "descriptor_key": "n", "skip_if_absent": true}},
    ]);
    let requests = [
        Request::get("/"),
        Request::get("/").header("x-k", "a").header("x-k", "b"),
        Request::get("/").header("x-k", ""),
    ];
    same(scenario(limits(actions)).requests(requests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_and_extensions_make_descriptors() {
    const DESCRIPTORS: &str = "type.googleapis.com/envoy.extensions.rate_limit_descriptors";
    let extension = |fields: Value| {
        limits(json!([{"extension": {"name": "n", "typed_config": fields}}]))["rate_limits"][0]
            .clone()
    };
    let expression = |text: &str, skip: bool| {
        extension(json!({
            "@type": format!("{DESCRIPTORS}.expr.v3.Descriptor"),
            "descriptor_key": "e", "text": text, "skip_if_error": skip,
        }))
    };
    let claim = |fields: Value| {
        extension(callout_integration::envoy::merge(
            json!({
                "@type": format!("{DESCRIPTORS}.jwt_claim.v3.Descriptor"),
                "descriptor_key": "c", "header_name": "authorization", "value_prefix": "Bearer ",
            }),
            fields,
        ))
    };
    let config = json!({"rate_limits": [
        {"actions": [{"source_cluster": {}}, {"destination_cluster": {}}]},
        extension(json!({
            "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
            "header_name": "X-A",
        })),
        expression("request.method == 'GET' ? request.headers['x-a'] : 'other'", false),
        expression("request.headers['x-a']", true),
        expression("size(request.path) > 3", false),
        claim(json!({"claim_name": "sub"})),
        claim(json!({"claim_name": "a.b", "skip_if_absent": true})),
        claim(json!({"claim_name": "n", "default_value": "d"})),
    ]});
    // {"alg":"RS256"}, {"sub":"bob","a":{"b":"deep"},"n":5}
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IiLCJhIjp7ImIiOiJkZWVwIn0sIm4iOjV9.c2ln";
    let requests = [
        Request::get("/"),
        Request::get("/long").header("x-a", "1").header("x-a", "2"),
        Request::get("/").header("x-a", "").header("authorization", &format!("Bearer {token}")),
        Request::get("/").header("authorization", &format!("Bearer {token}x.y")),
        Request::get("/").header("authorization", token),
    ];
    same_as_newest(scenario(config).requests(requests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_make_descriptors() {
    let trusted = || Request::get("/").header("x-forwarded-for", "10.1.2.3");
    let actions = json!([
        {"remote_address": {}},
        {"masked_remote_address": {"v4_prefix_mask_len": 8}},
        {"destination_cluster": {}},
    ]);
    same(scenario(limits(actions)).requests([trusted()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_and_query_matches_make_descriptors() {
    let actions = |expected: bool| {
        json!([
            {"header_value_match": {
                "descriptor_value": "v", "expect_match": expected,
                "headers": [{"name": "x-k", "string_match": {"prefix": "a"}}, {"name": "x-n", "present_match": true, "invert_match": true}],
            }},
        ])
    };
    for expected in [true, false] {
        let requests = [
            Request::get("/").header("x-k", "abc"),
            Request::get("/").header("x-k", "b"),
            Request::get("/").header("x-k", "abc").header("x-n", "1"),
            Request::get("/"),
        ];
        same(scenario(limits(actions(expected))).requests(requests)).await;
    }
    let query = json!([
        {"query_parameters": {"query_parameter_name": "q", "descriptor_key": "k"}},
        {"query_parameter_value_match": {"descriptor_value": "v", "query_parameters": [{"name": "q", "string_match": {"contains": " "}}]}},
    ]);
    let requests = ["/?q=a%20b", "/?q=ab", "/", "/?Q=a%20b"].map(Request::get);
    same(scenario(limits(query)).requests(requests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_and_overrides_travel_with_the_descriptor() {
    let config = json!({"rate_limits": [
        {"actions": [{"generic_key": {"descriptor_value": "a"}}], "hits_addend": {"number": 3}},
        {"actions": [{"generic_key": {"descriptor_value": "b"}}], "hits_addend": {"number": 0}},
        {"actions": [{"generic_key": {"descriptor_value": "c"}}], "limit": {"rate_limit": {"requests_per_unit": 5, "unit": "HOUR"}}},
    ]});
    same_as_newest(scenario(config)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_limits_and_domain_replace_the_filters() {
    let route = json!({
        "domain": "other",
        "rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "route"}}]}],
    });
    same(scenario(json!({})).route(route)).await;
    same(scenario(json!({})).route(json!({"domain": "other"}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_at_the_end_of_the_stream_are_counted_then() {
    let config = json!({"rate_limits": [
        {"actions": [{"generic_key": {"descriptor_value": "now"}}]},
        {"actions": [{"generic_key": {"descriptor_value": "done"}}], "apply_on_stream_done": true, "hits_addend": {"format": "%BYTES_SENT%"}},
    ]});
    same(scenario(config).asked(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn added_headers_quote_the_request_and_the_reply_to_come() {
    let added = |value: &str| json!({"response_headers_to_add": [{"header": {"key": "x-added", "value": value}}]});
    for value in [
        "%RESPONSE_CODE%|%RESPONSE_FLAGS%|%RESPONSE_CODE_DETAILS%",
        "%PROTOCOL%|%REQ(:METHOD)%|%REQ(x-none?x-k):2%|100%%",
        "%RESP(x-rls)%|%TRAILER(x-none)%|%REQ(x-none)%",
    ] {
        let requests = [Request::get("/p").header("x-k", "key"), grpc_request()];
        same(scenario(added(value)).script(answering(over())).requests(requests)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_one_header_are_matched_as_this_envoy_does() {
    let descriptor = |value: &str, invert: bool| {
        json!({"actions": [{"header_value_match": {
            "descriptor_value": value,
            "headers": [{"name": "x-k", "string_match": {"exact": value}, "invert_match": invert}],
        }}]})
    };
    let config = json!({"rate_limits": [
        descriptor("a", false), descriptor("c", false), descriptor("a,c", false),
        descriptor("c", true), {"actions": [{"generic_key": {"descriptor_value": "end"}}]},
    ]});
    let requests = [
        Request::get("/1").header("x-k", "a").header("x-k", "c"),
        Request::get("/2").header("x-k", "a, c"),
        Request::get("/3").header("x-k", "a,c"),
    ];
    same(scenario(config).requests(requests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_an_address_match_quote_the_stream() {
    let value = "a-%REQ(x-k)%-%PROTOCOL%-%RESPONSE_CODE%-%RESP(x-up)%";
    let actions = json!([{"remote_address_match": {
        "descriptor_value": value,
        "address_matcher": {"ranges": [{"address_prefix": "0.0.0.0", "prefix_len": 0}]},
    }}]);
    let requests = [Request::get("/").header("x-k", "v"), Request::get("/").http2()];
    same(scenario(limits(actions)).requests(requests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_join_no_texts() {
    let expression = |text: &str| {
        json!({"actions": [{"extension": {"name": "e", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor",
            "descriptor_key": "k", "text": text,
        }}}]})
    };
    let config = json!({"rate_limits": [
        expression("request.method + '-'"),
        expression("size(request.method) + 2"),
        expression("request.size"),
        expression("request.method == 'GET' ? 'read' : 'write'"),
    ]});
    let requests = [Request::get("/"), Request::post("/").body("12345")];
    same(scenario(config).requests(requests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_at_the_end_are_what_request_and_response_were() {
    let format = |format: &str| {
        json!({
            "actions": [{"generic_key": {"descriptor_value": format}}],
            "apply_on_stream_done": true,
            "hits_addend": {"format": format},
        })
    };
    let formats = [
        "%RESPONSE_CODE%",
        "%RESP(X-COST)%",
        "%RESP(x-none?x-cost):1%",
        "%RESP(x-none)%",
        "%TRAILER(x-none)%",
        "%BYTES_RECEIVED%",
        "%BYTES_SENT%",
        "%PROTOCOL%",
        "%RESPONSE_FLAGS%",
    ];
    let config = json!({"rate_limits": formats.map(format)});
    let upstream = Answer {
        status: 203,
        headers: vec![("x-cost".to_owned(), "7".to_owned())],
        ..Answer::default()
    };
    // One by one: nobody waits for what is told at the end, so that it has no order.
    for request in [
        Request::get("/"),
        Request::post("/").body("hello"),
        Request::post("/").pieces(["he", "llo"]),
    ] {
        let scenario = scenario(config.clone()).upstream(upstream.clone());
        same(scenario.requests([request]).asked(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_none_before_the_body_has_come() {
    let config = json!({"rate_limits": [{
        "actions": [{"generic_key": {"descriptor_value": "now"}}],
        "hits_addend": {"format": "%BYTES_RECEIVED%"},
    }]});
    let requests = [Request::get("/"), Request::post("/").body("hello")];
    same(scenario(config).requests(requests)).await;
}
