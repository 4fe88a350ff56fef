//! Decisions of authz that are kept or shared, what is said about them, and what counts as none.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::envoy::Form;
use callout_integration::prelude::*;
use callout_integration::services::message;
use futures::future::join_all;
use tonic::Status;

struct Gateway {
    envoy: Envoy,
    upstream: Upstream,
    services: Services,
}

impl Gateway {
    async fn start(version: Version, callout: Value, fields: Value, script: Script) -> Self {
        Self::on_route(version, callout, fields, script, |bootstrap| bootstrap).await
    }

    async fn on_route(
        version: Version,
        callout: Value,
        fields: Value,
        script: Script,
        with: impl Fn(Bootstrap) -> Bootstrap,
    ) -> Self {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let services = Services::start(script).await.unwrap();
        let filter = Kind::Authz.module_with(callout, fields, services.port());
        let bootstrap = with(Bootstrap::new(upstream.port(), vec![filter]));
        let envoy = Envoy::start(version, &bootstrap).await.unwrap();
        Self { envoy, upstream, services }
    }

    async fn get(&self, path: &str) -> Response {
        Request::get(path).send(self.envoy.port()).await
    }

    fn asked(&self) -> usize {
        self.services.asked().len()
    }

    /// The outcomes in the access log, when `count` are there.
    async fn outcomes(&self, count: usize) -> Vec<Value> {
        eventually("the access log", || self.envoy.access_log().len() >= count).await.unwrap();
        self.envoy.access_log().into_iter().map(|mut entry| entry["authz"].take()).collect()
    }
}

fn check(reply: Value) -> Script {
    Script::default().check(move |_, _| std::future::ready(Ok(message(reply.clone()))))
}

/// The first call is answered so, the others as `then` says.
fn first(reply: Value, then: impl Fn() -> Result<Value, Status> + Send + Sync + 'static) -> Script {
    Script::default().check(move |_, n| {
        std::future::ready(if n == 0 { Ok(message(reply.clone())) } else { then().map(message) })
    })
}

fn cache() -> Value {
    json!({"cache": {"ttl": "60s", "denied_ttl": "60s"}})
}

fn allow() -> Value {
    json!({"status": {}, "okResponse": {
        "headers": [{"header": {"key": "x-user", "value": "u"}}],
        "headersToRemove": ["x-gone"],
        "responseHeadersToAdd": [{"header": {"key": "x-seen", "value": "1"}}],
        "queryParametersToSet": [{"key": "q", "value": "2"}],
    }, "dynamicMetadata": {"a": "b"}})
}

fn deny() -> Value {
    json!({"status": {"code": 7}, "deniedResponse": {
        "status": {"code": "Unauthorized"}, "body": "no",
        "headers": [{"header": {"key": "www-authenticate", "value": "x"}}],
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_allow_replays_all_that_the_service_said_and_asks_nobody() {
    for version in Version::ALL {
        let gateway = Gateway::start(version, cache(), json!({}), check(allow())).await;
        for http2 in [false, true, false] {
            let request = Request::get("/p?z=1").header("x-gone", "1");
            let request = if http2 { request.http2() } else { request };
            let response = request.send(gateway.envoy.port()).await;
            assert_eq!((response.status, response.header("x-seen")), (200, Some("1")), "{version}");
        }
        // The protocol is among what the service is told.
        assert_eq!(gateway.asked(), 2, "{version}");
        for seen in gateway.upstream.seen() {
            assert_eq!((seen.header("x-user"), seen.header("x-gone")), (Some("u"), None));
            assert_eq!(seen.path, "/p?q=2&z=1");
        }
        let sources: Vec<Value> =
            gateway.outcomes(3).await.iter().map(|outcome| outcome["source"].clone()).collect();
        assert_eq!(sources, ["service", "service", "cache"], "{version}");
        assert_eq!(gateway.envoy.stat("authz.cache_hit").await, 1);
        assert_eq!(gateway.envoy.stat("authz.ok").await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_denial_is_sent_again_as_it_was() {
    for version in Version::ALL {
        let gateway = Gateway::start(version, cache(), json!({}), check(deny())).await;
        for _ in 0..3 {
            let response = gateway.get("/p").await;
            assert_eq!((response.status, response.body_text().as_str()), (401, "no"), "{version}");
            assert_eq!(response.header("www-authenticate"), Some("x"));
        }
        assert_eq!(gateway.asked(), 1, "{version}");
        assert!(gateway.upstream.seen().is_empty());
        assert_eq!(gateway.envoy.stat("authz.denied").await, 3);
        gateway.outcomes(3).await;
        let details = gateway.envoy.access_log()[2]["details"].clone();
        assert_eq!(details, "ext_authz_denied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_share_what_is_kept() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(check(allow())).await.unwrap();
    let filter = Kind::Authz.module_with(cache(), json!({}), services.port());
    let options = callout_integration::envoy::Options {
        concurrency: 4,
        ..callout_integration::envoy::Options::default()
    };
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    let envoy = Envoy::start_with(Version::LATEST, &bootstrap, options).await.unwrap();
    for _ in 0..40 {
        assert_eq!(Request::get("/p").send(envoy.port()).await.status, 200);
    }
    assert_eq!(services.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_are_kept_only_where_asked_for_and_requests_that_differ_are_asked_about() {
    let only_allows = json!({"cache": {"ttl": "60s"}});
    let gateway = Gateway::start(Version::LATEST, only_allows, json!({}), check(deny())).await;
    gateway.get("/p").await;
    gateway.get("/p").await;
    assert_eq!(gateway.asked(), 2);

    let gateway = Gateway::start(Version::LATEST, cache(), json!({}), check(allow())).await;
    let port = gateway.envoy.port();
    gateway.get("/p").await;
    for (number, request) in [
        Request::get("/p?q=1"),
        Request::get("/p").header("authorization", "a"),
        Request::get("/p").authority("other"),
        Request::post("/p").body("b"),
    ]
    .into_iter()
    .enumerate()
    {
        request.send(port).await;
        assert_eq!(gateway.asked(), number + 2, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_body_is_sent_is_always_asked_about() {
    let body = json!({"with_request_body": {"max_request_bytes": 100}});
    let gateway = Gateway::start(Version::LATEST, cache(), body, check(allow())).await;
    for _ in 0..2 {
        let request = Request::post("/p").body("body");
        assert_eq!(request.send(gateway.envoy.port()).await.status, 200);
    }
    assert_eq!(gateway.asked(), 2);
    assert_eq!(gateway.envoy.stat("authz.cache_bypassed").await, 2);
    // A body that turns out to be empty is none; the held request is let go by what is kept.
    for reply in [allow(), deny()] {
        let body = json!({"with_request_body": {"max_request_bytes": 100}});
        let status = if reply == allow() { 200 } else { 401 };
        let gateway = Gateway::start(Version::LATEST, cache(), body, check(reply)).await;
        for _ in 0..2 {
            let request = Request::post("/p").pieces([""]).trailer("x-t", "1");
            assert_eq!(request.send(gateway.envoy.port()).await.status, status);
        }
        assert_eq!(gateway.asked(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_key_looks_at_what_was_chosen() {
    let callout = json!({"cache": {"ttl": "60s", "key": {"headers": ["authorization"]}}});
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), check(allow())).await;
    let port = gateway.envoy.port();
    let ask = |path: &str, user: &str, noise: &str| {
        Request::get(path).header("authorization", user).header("x-noise", noise)
    };
    ask("/p", "a", "1").send(port).await;
    ask("/p", "a", "2").send(port).await;
    assert_eq!(gateway.asked(), 1);
    ask("/p", "b", "1").send(port).await;
    ask("/q", "a", "1").send(port).await;
    assert_eq!(gateway.asked(), 3);
    // Without what the key is made of there is none.
    gateway.get("/p").await;
    gateway.get("/p").await;
    assert_eq!(gateway.asked(), 5);
    assert_eq!(gateway.envoy.stat("authz.cache_bypassed").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_always_ask_and_its_configuration_is_part_of_the_key() {
    for version in Version::ALL {
        always_asking(version).await;
    }
}

async fn always_asking(version: Version) {
    let gateway = Gateway::on_route(version, cache(), json!({}), check(allow()), |mut base| {
        let route = |path: &str, config: Value| {
            json!({
                "match": {"path": path},
                "route": {"cluster": "upstream", "prefix_rewrite": "/same"},
                "typed_per_filter_config": Kind::Authz.module_route(Form::Struct, config),
            })
        };
        let context = |value: &str| json!({"check_settings": {"context_extensions": {"k": value}}});
        let mut always = context("a");
        always["callout"] = json!({"always_ask": true});
        base.routes = vec![route("/a", context("a")), route("/never", always)];
        base
    })
    .await;
    for _ in 0..2 {
        gateway.get("/a").await;
    }
    assert_eq!(gateway.asked(), 1);
    for _ in 0..2 {
        gateway.get("/never").await;
    }
    assert_eq!(gateway.asked(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_shortens_the_life_of_its_decision() {
    let mut brief = allow();
    brief["dynamicMetadata"] = json!({"callout.cache.max_age": 0.3});
    let callout = json!({"cache": {"ttl": "60s", "jitter_percent": 0}});
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), check(brief)).await;
    gateway.get("/p").await;
    gateway.get("/p").await;
    assert_eq!(gateway.asked(), 1);
    pause(400).await;
    gateway.get("/p").await;
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_allow_answers_at_once_while_the_service_is_asked_again() {
    let callout =
        json!({"cache": {"ttl": "0.2s", "jitter_percent": 0, "stale_while_revalidate": "60s"}});
    let script = first(allow(), || Ok(deny()));
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), script).await;
    assert_eq!(gateway.get("/p").await.status, 200);
    pause(300).await;
    assert_eq!(gateway.get("/p").await.status, 200);
    eventually("the service is asked again", || gateway.asked() == 2).await.unwrap();
    // The denial that came of it holds.
    eventually_denied(&gateway).await;
    assert!(gateway.envoy.stat("authz.cache_stale").await >= 1);
    assert_eq!(gateway.outcomes(2).await[1]["source"], "stale");
}

/// The next requests are denied, once the answer of the service is there.
async fn eventually_denied(gateway: &Gateway) {
    for _ in 0..50 {
        if gateway.get("/p").await.status == 401 {
            return;
        }
        pause(20).await;
    }
    assert_eq!(gateway.get("/p").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_allow_stands_in_for_a_service_that_is_silent_but_not_for_one_that_says_no() {
    let callout = json!({"cache": {"ttl": "0.1s", "jitter_percent": 0, "stale_if_error": "60s"}});
    let fields = json!({"grpc_service": {"timeout": "0.3s"}});
    // It answers once, and then never.
    let silent = Script::default().check(|_, n| async move {
        if n > 0 {
            std::future::pending::<()>().await;
        }
        Ok(message(allow()))
    });
    let gateway = Gateway::start(Version::LATEST, callout.clone(), fields.clone(), silent).await;
    assert_eq!(gateway.get("/p").await.status, 200);
    pause(150).await;
    assert_eq!(gateway.get("/p").await.status, 200);
    assert_eq!(gateway.envoy.stat("authz.cache_stale_on_error").await, 1);
    assert_eq!(gateway.get("/other").await.status, 403);
    // The next one is down.
    drop(gateway.services);
    assert_eq!(Request::get("/p").send(gateway.envoy.port()).await.status, 200);

    for refusal in [Status::permission_denied("no"), Status::internal("broken")] {
        let script = first(allow(), move || Err(refusal.clone()));
        let gateway =
            Gateway::start(Version::LATEST, callout.clone(), fields.clone(), script).await;
        assert_eq!(gateway.get("/p").await.status, 200);
        pause(150).await;
        assert_eq!(gateway.get("/p").await.status, 403);
    }
    let script = first(allow(), || Ok(deny()));
    let gateway = Gateway::start(Version::LATEST, callout, fields, script).await;
    assert_eq!(gateway.get("/p").await.status, 200);
    pause(150).await;
    assert_eq!(gateway.get("/p").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_what_can_not_be_done_are_never_kept() {
    let error = json!({"status": {"code": 13}, "errorResponse": {}});
    let empty = json!({});
    let invalid = json!({"status": {}, "okResponse": {
        "headers": [{"header": {"key": "x y", "value": "u"}}],
    }});
    let many: Vec<Value> =
        (0..120).map(|n| json!({"header": {"key": format!("x-{n}"), "value": "v"}})).collect();
    let large = json!({"status": {}, "okResponse": {"headers": many}});
    let limited =
        json!({"status": {"code": 7}, "deniedResponse": {"status": {"code": "TooManyRequests"}}});
    for reply in [error, empty, invalid, large, limited] {
        let gateway =
            Gateway::start(Version::LATEST, cache(), json!({}), check(reply.clone())).await;
        gateway.get("/p").await;
        gateway.get("/p").await;
        assert_eq!(gateway.asked(), 2, "{reply}");
    }
}

/// A service that answers after a while.
fn slow(reply: Value) -> Script {
    Script::default().check(move |_, _| {
        let reply = reply.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            Ok(message(reply))
        }
    })
}

fn patient() -> Value {
    json!({"grpc_service": {"timeout": "10s"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_requests_in_flight_share_one_call() {
    for version in Version::ALL {
        let coalesce = json!({"coalesce": true});
        let gateway = Gateway::start(version, coalesce, patient(), slow(allow())).await;
        let mut requests: Vec<_> = (0..20).map(|_| gateway.get("/p")).collect();
        requests.push(gateway.get("/other"));
        let responses = join_all(requests).await;
        assert!(responses.iter().all(|response| response.status == 200), "{version}");
        assert_eq!(gateway.asked(), 2, "{version}");
        assert_eq!(gateway.envoy.stat("authz.coalesced").await, 19);
        // Nothing is kept.
        gateway.get("/p").await;
        assert_eq!(gateway.asked(), 3, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_one_that_leaves_does_not_end_the_call_and_all_that_leave_do() {
    let coalesce = json!({"coalesce": true});
    let gateway = Gateway::start(Version::LATEST, coalesce, patient(), slow(allow())).await;
    let port = gateway.envoy.port();
    let first = Request::get("/p").abort_after(Duration::from_millis(200));
    let second = async {
        eventually("the first is asked about", || gateway.asked() == 1).await.unwrap();
        gateway.get("/p").await
    };
    let (_, response) = tokio::join!(first.send(port), second);
    assert_eq!(response.status, 200);
    assert_eq!((gateway.asked(), gateway.services.cancelled()), (1, 0));

    let leaving = Request::get("/q").abort_after(Duration::from_millis(100));
    tokio::join!(leaving.send(port), leaving.send(port));
    eventually("the call is cancelled", || gateway.services.cancelled() == 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_keeps_its_own_deadline_and_a_shared_error_is_no_allow() {
    // The first call never ends; the second is answered at once.
    let script = Script::default().check(|_, n| async move {
        if n == 0 {
            std::future::pending::<()>().await;
        }
        Ok(message(allow()))
    });
    let fields = json!({"grpc_service": {"timeout": "1s"}});
    let coalesce = json!({"coalesce": true});
    let gateway = Gateway::start(Version::LATEST, coalesce.clone(), fields.clone(), script).await;
    let follower = async {
        pause(500).await;
        gateway.get("/p").await
    };
    let (leader, follower) = tokio::join!(gateway.get("/p"), follower);
    assert_eq!((leader.status, follower.status), (403, 200));
    assert_eq!(gateway.asked(), 2);

    let failing = Script::default().check(|_, _| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Err(Status::internal("broken"))
    });
    let gateway = Gateway::start(Version::LATEST, coalesce, fields, failing).await;
    let responses = join_all((0..5).map(|_| gateway.get("/p"))).await;
    assert!(responses.iter().all(|response| response.status == 403));
    assert_eq!(gateway.asked(), 1);
    let outcomes = gateway.outcomes(5).await;
    assert!(outcomes.iter().all(|outcome| outcome["verdict"] == "refused"));
    assert_eq!(outcomes.iter().filter(|outcome| outcome["source"] == "coalesced").count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_says_verdict_cause_source_and_latency() {
    let outcome = |fields: Value, script: Script| async {
        let gateway = Gateway::start(Version::LATEST, json!({}), fields, script).await;
        gateway.get("/p").await;
        gateway.outcomes(1).await.remove(0)
    };
    let allowed = outcome(json!({}), slow(allow())).await;
    assert_eq!((&allowed["verdict"], &allowed["source"]), (&json!("allowed"), &json!("service")));
    assert!(allowed["latency_us"].as_f64().unwrap() >= 400_000.0 && allowed["cause"].is_null());
    let denied = outcome(json!({}), check(deny())).await;
    assert_eq!(denied["verdict"], "denied");
    let brief = json!({"grpc_service": {"timeout": "0.1s"}, "failure_mode_allow": true});
    let passed = outcome(brief, Script::silent()).await;
    assert_eq!(
        (&passed["verdict"], &passed["cause"]),
        (&json!("failure_mode_allowed"), &json!("timeout"))
    );
    let broken = outcome(json!({}), Script::failing(&Status::internal("broken"))).await;
    assert_eq!((&broken["verdict"], &broken["cause"]), (&json!("refused"), &json!("status")));
    let error = json!({"status": {"code": 13}, "errorResponse": {}});
    assert_eq!(outcome(json!({}), check(error)).await["cause"], "error_response");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_failures_pass_and_a_timeout_has_its_own_status() {
    let callout = json!({
        "failure_mode_allow_on": ["timeout", "status:UNAVAILABLE"],
        "status_on_timeout": {"code": 504},
    });
    let fields = json!({"failure_mode_allow": true, "grpc_service": {"timeout": "0.2s"}});
    for (script, status) in [
        (Script::silent(), 200),
        (Script::failing(&Status::unavailable("later")), 200),
        (Script::failing(&Status::internal("broken")), 403),
        (check(json!({"status": {"code": 13}, "errorResponse": {}})), 403),
    ] {
        let gateway =
            Gateway::start(Version::LATEST, callout.clone(), fields.clone(), script).await;
        assert_eq!(gateway.get("/p").await.status, status);
    }
    let late = json!({"status_on_timeout": {"code": 504}});
    let fields = json!({"grpc_service": {"timeout": "0.2s"}});
    let gateway = Gateway::start(Version::LATEST, late, fields, Script::silent()).await;
    assert_eq!(gateway.get("/p").await.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_mode_refuses_what_the_builtin_lets_pass() {
    let framing = [json!({"header": {"key": "transfer-encoding", "value": "chunked"}})];
    for reply in [
        json!({}),
        json!({"status": {"code": 7}, "okResponse": {}}),
        json!({"status": {}, "deniedResponse": {}}),
        json!({"status": {}, "okResponse": {"headers": framing}}),
    ] {
        let lenient =
            Gateway::start(Version::LATEST, json!({}), json!({}), check(reply.clone())).await;
        let status = if reply["status"]["code"] == 7 { 403 } else { 200 };
        assert_eq!(lenient.get("/p").await.status, status, "{reply}");
        let fields = json!({"status_on_error": {"code": 503}});
        let strict =
            Gateway::start(Version::LATEST, json!({"strict": true}), fields, check(reply.clone()))
                .await;
        assert_eq!(strict.get("/p").await.status, 503, "{reply}");
        assert_eq!(strict.outcomes(1).await[0]["cause"], "invalid_reply");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_keeps_decisions_and_enforces_none() {
    let fields = json!({"shadow_mode": true});
    let gateway = Gateway::start(Version::LATEST, cache(), fields, check(deny())).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/p").await.status, 200);
    }
    assert_eq!(gateway.asked(), 1);
    assert_eq!(gateway.envoy.stat("authz.shadow_denied").await, 3);
}
