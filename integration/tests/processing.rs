//! What extproc does beyond the built-in filter: the fields under `callout`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callout_integration::envoy::merge;
use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;
use tonic::Status;

struct Gateway {
    envoy: Envoy,
    services: Services,
    upstream: Upstream,
}

impl Gateway {
    async fn with(
        version: Version,
        callout: Value,
        fields: Value,
        script: Script,
        answer: Answer,
    ) -> Self {
        let upstream = Upstream::start(answer).await.unwrap();
        let services = Services::start(script).await.unwrap();
        let filter = Kind::ExtProc.module_with(callout, fields, services.port());
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let envoy = Envoy::start(version, &bootstrap).await.unwrap();
        Self { envoy, services, upstream }
    }

    async fn start(callout: Value, fields: Value, script: Script) -> Self {
        Self::with(Version::LATEST, callout, fields, script, Answer::default()).await
    }

    async fn send(&self, request: Request) -> Response {
        request.send(self.envoy.port()).await
    }

    async fn stat(&self, name: &str) -> u64 {
        self.envoy.stat(&format!("extproc.{name}")).await
    }

    /// The outcomes in the access log, once there are so many.
    async fn outcomes(&self, count: usize) -> Vec<Value> {
        let logged = || self.envoy.access_log().len() >= count;
        eventually("the access log is written", logged).await.unwrap();
        self.envoy.access_log().into_iter().map(|line| line["extproc"].clone()).collect()
    }
}

fn buffered() -> Value {
    json!({"processing_mode": {
        "request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED",
    }})
}

fn bodies(gateway: &Gateway) -> Vec<&'static str> {
    let asked = gateway.services.asked();
    let body = |name: &str| asked.iter().any(|message| message.get(name).is_some());
    ["requestBody", "responseBody"].into_iter().filter(|name| body(name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_skipped_are_nobodys_business() {
    let callout = json!({"skip": {"methods": ["OPTIONS"], "paths": [{"prefix": "/assets/"}]}});
    for version in Version::ALL {
        let refusing = Script::failing(&Status::internal("nobody asks"));
        let answer = Answer::default();
        let gateway = Gateway::with(version, callout.clone(), buffered(), refusing, answer).await;
        for request in [
            Request::new("OPTIONS", "/"),
            Request::get("/assets/a?b"),
            Request::post("/assets/").pieces(["ab", "cd"]),
            Request::post("/assets/").body("body").http2(),
        ] {
            assert_eq!(gateway.send(request).await.status, 200, "{version}");
        }
        assert_eq!(gateway.send(Request::get("/other")).await.status, 500, "{version}");
        assert_eq!(gateway.stat("skipped").await, 4, "{version}");
        assert_eq!(gateway.services.asked().len(), 1, "{version}");
        assert_eq!(gateway.upstream.seen()[2].body, b"abcd", "{version}");
        let outcomes = gateway.outcomes(5).await;
        assert_eq!(outcomes[0]["verdict"], "skipped", "{version}");
        assert_eq!(
            (&outcomes[4]["verdict"], &outcomes[4]["cause"]),
            (&json!("refused"), &json!("status")),
            "{version}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_some_types_are_not_shown() {
    let callout = json!({"skip_body": {"content_types": [{"prefix": "image/"}]}});
    let answer = Answer {
        headers: vec![("content-type".to_owned(), "IMAGE/png; x=y".to_owned())],
        ..Answer::default()
    };
    let gateway =
        Gateway::with(Version::LATEST, callout, buffered(), Script::default(), answer).await;
    let text = Request::post("/").header("content-type", "text/plain").body("text");
    assert_eq!(gateway.send(text).await.body, b"upstream body");
    assert_eq!(bodies(&gateway), ["requestBody"]);
    assert_eq!(gateway.stat("body_skipped").await, 1);
    let image = Request::post("/").header("content-type", "image/gif").pieces(["gi", "f"]);
    assert_eq!(gateway.send(image).await.status, 200);
    assert_eq!(gateway.stat("body_skipped").await, 3);
    assert_eq!(gateway.upstream.seen()[1].body, b"gif");
    // Of both exchanges the headers of both directions, and one body.
    assert_eq!(gateway.services.asked().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_passes_unseen_or_is_refused() {
    let long = "x".repeat(3000);
    let requests = || {
        let pieces = [&long[..1000], &long[1000..]];
        [
            Request::post("/").body(long.clone()),
            Request::post("/").pieces(pieces).gap(Duration::from_millis(20)),
            Request::post("/").pieces(pieces).gap(Duration::from_millis(20)).http2(),
        ]
    };
    for version in Version::ALL {
        for (over, status) in [("skip", 200), ("reject", 413)] {
            let callout = json!({"body_limit": {"bytes": 2000, "over": over}});
            let script = Script::default();
            let answer = Answer::default();
            let gateway = Gateway::with(version, callout, buffered(), script, answer).await;
            for (index, request) in requests().into_iter().enumerate() {
                let what = format!("{version} {over} {index}");
                assert_eq!(gateway.send(request).await.status, status, "{what}");
                if over == "skip" {
                    assert_eq!(gateway.upstream.seen()[index].body.len(), 3000, "{what}");
                }
            }
            assert!(!bodies(&gateway).contains(&"requestBody"), "{version} {over}");
            let counted = if over == "skip" { "body_skipped" } else { "body_rejected" };
            assert_eq!(gateway.stat(counted).await, 3, "{version} {over}");
            let short = Request::post("/").body(long[..2000].to_owned());
            assert_eq!(gateway.send(short).await.status, 200, "{version} {over}");
            assert!(bodies(&gateway).contains(&"requestBody"), "{version} {over}");
        }
        let callout = json!({"body_limit": {"bytes": 10, "over": "reject"}});
        let (script, answer) = (Script::default(), Answer::default());
        let gateway = Gateway::with(version, callout, buffered(), script, answer).await;
        let response = gateway.send(Request::get("/")).await;
        assert_eq!(response.status, 500, "{version}: {response:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_answered_by_their_cause() {
    let own = |code: u32| json!({"status": {"code": code}, "body": format!("own {code}"), "headers": {"X-Own": "1"}});
    let callout = json!({"on_error": {
        "timeout": own(503), "unavailable": own(502), "status": own(429), "invalid_answer": own(500),
    }});
    let fields = json!({"message_timeout": "0.3s"});
    let wrong = Script::default()
        .process(|_, _| std::future::ready(Ok(message(json!({"responseHeaders": {}})))));
    for (script, status) in
        [(Script::silent(), 503), (Script::failing(&Status::internal("broken")), 429), (wrong, 500)]
    {
        let gateway = Gateway::start(callout.clone(), fields.clone(), script).await;
        let response = gateway.send(Request::get("/")).await;
        assert_eq!((response.status, response.header("x-own")), (status, Some("1")));
        assert_eq!(response.body, format!("own {status}").into_bytes());
    }
    let gateway = Gateway::start(callout, fields, Script::default()).await;
    let Gateway { envoy, services, upstream: _upstream } = gateway;
    drop(services);
    assert_eq!(Request::get("/").send(envoy.port()).await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_breaker_is_open_nobody_waits_and_one_finds_out_when_it_is_over() {
    for open in [true, false] {
        let down = Arc::new(AtomicUsize::new(1));
        let switch = Arc::clone(&down);
        let script = Script::default().process(move |request, _| {
            let down = switch.load(Ordering::SeqCst) == 1;
            async move {
                if down {
                    std::future::pending::<()>().await;
                }
                Ok(unchanged(&request))
            }
        });
        let callout = json!({"breaker": {"consecutive_failures": 2, "pause": "1s"}});
        let fields = json!({"message_timeout": "0.4s", "failure_mode_allow": open});
        let gateway = Gateway::start(callout, fields, script).await;
        let expected = if open { 200 } else { 504 };
        for _ in 0..2 {
            assert_eq!(gateway.send(Request::get("/")).await.status, expected);
        }
        let started = Instant::now();
        let refused = if open { 200 } else { 500 };
        for _ in 0..3 {
            assert_eq!(gateway.send(Request::post("/").body("b")).await.status, refused);
        }
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(gateway.stat("breaker_open").await, 3);
        assert_eq!(gateway.services.asked().len(), 2);
        down.store(0, Ordering::SeqCst);
        pause(1100).await;
        assert_eq!(gateway.send(Request::get("/")).await.status, 200);
        assert_eq!(gateway.stat("breaker_open").await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_exchanges_are_open_than_may_be() {
    let script = Script::default().process(|request, n| async move {
        if n == 0 {
            pause(800).await;
        }
        Ok(unchanged(&request))
    });
    let fields = json!({"failure_mode_allow": true});
    let gateway = Gateway::start(json!({"max_streams": 1}), fields, script).await;
    let port = gateway.envoy.port();
    let first = tokio::spawn(async move { Request::get("/").send(port).await.status });
    eventually("the first is open", || gateway.services.open() == 1).await.unwrap();
    assert_eq!(gateway.send(Request::get("/")).await.status, 200);
    assert_eq!(gateway.stat("too_many_streams").await, 1);
    assert_eq!(gateway.services.asked().len(), 1);
    assert_eq!(first.await.unwrap(), 200);
    eventually("the place is free", || gateway.services.open() == 0).await.unwrap();
    assert_eq!(gateway.send(Request::get("/")).await.status, 200);
    assert_eq!(gateway.stat("too_many_streams").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_fails_before_any_answer_is_begun_again() {
    let script = Script::default().process(|request, n| async move {
        if n == 0 { Err(Status::unavailable("later")) } else { Ok(unchanged(&request)) }
    });
    let retry = json!({"grpc_service": {"retry_policy": {
        "retry_on": "unavailable", "num_retries": 1,
    }}});
    let fields = merge(buffered(), retry);
    for version in Version::ALL {
        let (callout, answer) = (json!({}), Answer::default());
        let gateway = Gateway::with(version, callout, fields.clone(), script.clone(), answer).await;
        let response = gateway.send(Request::post("/").body("body")).await;
        assert_eq!(response.status, 200, "{version}: {response:?}");
        assert_eq!(gateway.stat("retried").await, 1, "{version}");
        assert_eq!(gateway.upstream.seen()[0].body, b"body", "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_falls_silent_is_not_waited_for() {
    let modes = json!({"processing_mode": {
        "request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND",
    }});
    let silent = Script::default().process(|request, _| async move {
        if !matches!(request.request, Some(Part::RequestHeaders(_))) {
            std::future::pending::<()>().await;
        }
        Ok(unchanged(&request))
    });
    let callout = json!({"stall_timeout": "0.3s"});
    let gateway = Gateway::start(callout, modes, silent).await;
    // The headers went on with the processor's leave, so that only a reset is left.
    let response = gateway.send(Request::post("/").body("body")).await;
    assert_eq!(response.status, 504, "{response:?}");
    assert_eq!(gateway.stat("message_timeouts").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn append_actions_count_where_asked_for() {
    use base64::Engine as _;
    let raw = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    let set = |key: &str, action: &str| json!({"header": {"key": key, "rawValue": raw("new")}, "appendAction": action});
    let mutation = json!({"requestHeaders": {"response": {"headerMutation": {"setHeaders": [
        set("x-there", "APPEND_IF_EXISTS_OR_ADD"),
        set("x-a", "ADD_IF_ABSENT"), set("x-b", "ADD_IF_ABSENT"),
        set("x-c", "OVERWRITE_IF_EXISTS"), set("x-d", "OVERWRITE_IF_EXISTS"),
    ]}}}});
    let script = Script::default().process(move |request, _| {
        let answer = match &request.request {
            Some(Part::RequestHeaders(_)) => message(mutation.clone()),
            _ => unchanged(&request),
        };
        std::future::ready(Ok(answer))
    });
    for (by_action, there, absent) in [
        (true, vec!["old", "new"], vec!["old", "new", "-", "new"]),
        (false, vec!["new"], vec!["new"; 4]),
    ] {
        let callout = json!({"append_action": by_action});
        let gateway = Gateway::start(callout, json!({}), script.clone()).await;
        let request = ["x-there", "x-a", "x-d"]
            .iter()
            .fold(Request::get("/"), |request, name| request.header(name, "old"));
        assert_eq!(gateway.send(request).await.status, 200);
        let seen = &gateway.upstream.seen()[0];
        let lines: Vec<&str> = seen
            .headers
            .iter()
            .filter(|(name, _)| name == "x-there")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(lines, there);
        let found = ["x-a", "x-b", "x-c", "x-d"].map(|name| seen.header(name).unwrap_or("-"));
        assert_eq!(found.to_vec(), absent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_pieces_reach_the_processor_together() {
    let modes = json!({"processing_mode": {
        "request_body_mode": "STREAMED", "request_header_mode": "SKIP",
        "response_header_mode": "SKIP",
    }});
    let callout = json!({"chunking": {"min_bytes": 100, "max_delay": "2s"}});
    for version in Version::ALL {
        let (script, answer) = (Script::default(), Answer::default());
        let gateway = Gateway::with(version, callout.clone(), modes.clone(), script, answer).await;
        let pieces: Vec<String> = (0..20).map(|n| format!("{n:010}")).collect();
        let request = Request::post("/").pieces(pieces.clone()).gap(Duration::from_millis(5));
        assert_eq!(gateway.send(request).await.status, 200, "{version}");
        assert_eq!(gateway.upstream.seen()[0].body, pieces.concat().into_bytes(), "{version}");
        let asked = gateway.services.asked().len();
        assert!((2..=6).contains(&asked), "{version}: {asked}");
        // A piece that stays alone goes when its time is up.
        let request = Request::post("/").pieces(["a", "b"]).gap(Duration::from_secs(3));
        assert_eq!(gateway.send(request).await.status, 200, "{version}");
        assert_eq!(gateway.services.asked().len() - asked, 2, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_says_how_long_each_part_took_and_whether_it_was_changed() {
    let script = Script::default().process(|request, _| async move {
        pause(30).await;
        Ok(match &request.request {
            Some(Part::ResponseHeaders(_)) => message(json!({"responseHeaders": {"response": {
                "headerMutation": {"removeHeaders": ["x-none"]},
            }}})),
            _ => unchanged(&request),
        })
    });
    for version in Version::ALL {
        let (callout, answer) = (json!({}), Answer::default());
        let gateway = Gateway::with(version, callout, buffered(), script.clone(), answer).await;
        assert_eq!(gateway.send(Request::post("/").body("b")).await.status, 200);
        let outcome = &gateway.outcomes(1).await[0];
        assert_eq!(outcome["verdict"], "processed", "{version}: {outcome}");
        for part in ["request_headers", "request_body", "response_headers", "response_body"] {
            let micros = outcome[format!("{part}_us")].as_f64().unwrap();
            assert!((25_000.0..5_000_000.0).contains(&micros), "{version}: {outcome}");
            let mutated = &outcome[format!("{part}_mutated")];
            assert_eq!(mutated, part == "response_headers", "{version}: {outcome}");
        }
        assert!(outcome.get("request_trailers_us").is_none(), "{version}: {outcome}");
        let log = gateway.envoy.access_log();
        let state = log[0]["extproc_state"].as_str().unwrap();
        let parts: Vec<&str> = state.split(',').filter_map(|part| part.split(':').next()).collect();
        assert_eq!(parts, ["rh", "rb", "sh", "sb", "bs", "br", "os"], "{version}: {state}");
        assert!(state.contains(",rb:1:"), "{version}: {state}");
    }
}
