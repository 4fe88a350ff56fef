//! Calls that ratelimit saves, and what it does when the service is down.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use callout_integration::envoy::merge;
use callout_integration::peers::limitador;
use callout_integration::prelude::*;
use callout_integration::services::message;
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures::future::join_all;
use tonic::Status;

/// A fixed window aligned to the clock, as envoyproxy/ratelimit's: a batch that does not fit is
/// refused, and counted all the same.
#[derive(Clone)]
struct Window {
    limit: u32,
    seconds: u64,
    counted: Arc<Mutex<(u64, u64)>>,
}

impl Window {
    fn new(limit: u32, seconds: u64) -> Self {
        Self { limit, seconds, counted: Arc::default() }
    }

    fn answer(&self, request: &RateLimitRequest) -> RateLimitResponse {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut counted = self.counted.lock().unwrap();
        if counted.0 != now / self.seconds {
            *counted = (now / self.seconds, 0);
        }
        counted.1 += u64::from(request.hits_addend.max(1));
        let code = if counted.1 > u64::from(self.limit) { "OVER_LIMIT" } else { "OK" };
        let remaining = u64::from(self.limit).saturating_sub(counted.1);
        message(json!({"overallCode": code, "statuses": [{
            "code": code,
            "currentLimit": {
                "requestsPerUnit": self.limit, "unit": "SECOND", "unitMultiplier": self.seconds,
            },
            "limitRemaining": remaining,
            "durationUntilReset": format!("{}s", self.seconds - now % self.seconds),
        }]}))
    }

    fn script(&self) -> Script {
        let window = self.clone();
        Script::default().limit(move |request, _| std::future::ready(Ok(window.answer(&request))))
    }

    /// Waits until the next window has just begun.
    async fn next(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let window = Duration::from_secs(self.seconds).as_millis();
        pause(u64::try_from(window - now.as_millis() % window).unwrap() + 5).await;
    }

    /// Waits until a window has just begun, so that a test lies in one.
    async fn begins(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let window = Duration::from_secs(self.seconds);
        let past = now.as_millis() % window.as_millis();
        if past > window.as_millis() / 3 {
            pause(u64::try_from(window.as_millis() - past).unwrap() + 5).await;
        }
    }
}

struct Gateway {
    envoy: Envoy,
    services: Services,
    _upstream: Upstream,
}

impl Gateway {
    async fn start(version: Version, callout: Value, fields: Value, script: Script) -> Self {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let services = Services::start(script).await.unwrap();
        let filter = Kind::RateLimit.module_with(callout, fields, services.port());
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let envoy = Envoy::start(version, &bootstrap).await.unwrap();
        Self { envoy, services, _upstream: upstream }
    }

    async fn get(&self) -> Response {
        Request::get("/p").send(self.envoy.port()).await
    }

    /// How many of so many requests, one after the other, pass.
    async fn admitted(&self, requests: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..requests {
            match self.get().await.status {
                200 => admitted += 1,
                status => assert_eq!(status, 429),
            }
        }
        admitted
    }

    fn asked(&self) -> usize {
        self.services.asked().len()
    }

    async fn outcomes(&self, count: usize) -> Vec<Value> {
        eventually("the access log", || self.envoy.access_log().len() >= count).await.unwrap();
        self.envoy.access_log().into_iter().map(|mut entry| entry["ratelimit"].take()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_holds_and_nobody_is_asked_meanwhile() {
    for version in Version::ALL {
        let window = Window::new(3, 60);
        window.begins().await;
        let fields = json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true});
        let callout = json!({"mode": "cache_over_limit"});
        let gateway = Gateway::start(version, callout, fields, window.script()).await;
        assert_eq!(gateway.admitted(20).await, 3, "{version}");
        assert_eq!(gateway.asked(), 4, "{version}");
        let refused = gateway.get().await;
        assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
        assert_eq!(refused.header("x-envoy-ratelimited"), Some("true"));
        assert!(refused.header("retry-after").is_some());
        assert_eq!(gateway.envoy.stat("ratelimit.cache_over_limit").await, 17);
        assert_eq!(gateway.envoy.stat("ratelimit.over_limit").await, 18);
        let last = gateway.outcomes(21).await.remove(20);
        assert_eq!(
            last,
            json!({"verdict": "over_limit", "source": "cache", "descriptor": "generic_key=all", "limit": "3/60s"})
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_holds_for_the_tenant_that_the_service_refused() {
    // The service tells tenants apart by the call's metadata alone.
    let script = Script::default().limit(|_, n| async move {
        let code = if n == 1 { "OVER_LIMIT" } else { "OK" };
        Ok(message(json!({"overallCode": code, "statuses": [{
            "code": code, "currentLimit": {"requestsPerUnit": 10, "unit": "MINUTE"},
            "limitRemaining": 5, "durationUntilReset": "50s",
        }]})))
    });
    for mode in ["cache_over_limit", "lease", "async"] {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let services = Services::start(script.clone()).await.unwrap();
        let service =
            json!({"initial_metadata": [{"key": "x-tenant", "value": "%REQ(x-tenant)%"}]});
        let fields = json!({"rate_limit_service": {"grpc_service": service}});
        let filter = Kind::RateLimit.module_with(json!({"mode": mode}), fields, services.port());
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
        let get = |tenant: &str| Request::get("/p").header("x-tenant", tenant);
        let mut statuses = Vec::new();
        for tenant in ["b", "a", "b", "a"] {
            statuses.push(get(tenant).send(envoy.port()).await.status);
        }
        assert_eq!(statuses, [200, 429, 200, 429], "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_window_ends_the_service_is_asked_again() {
    let window = Window::new(2, 5);
    let callout = json!({"mode": "cache_over_limit"});
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), window.script()).await;
    for (admitted, asked) in [(2, 3), (2, 6)] {
        window.next().await;
        assert_eq!(gateway.admitted(10).await, admitted);
        assert_eq!(gateway.asked(), asked);
    }
}

/// 2400 requests to three Envoys, one of each version, that share a limit of 2000: how many pass, and
/// for how many calls.
async fn three_proxies(callout: Value, script: Script) -> (usize, usize) {
    let services = Services::start(script).await.unwrap();
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let mut envoys = Vec::new();
    for version in Version::ALL {
        let filter = Kind::RateLimit.module_with(callout.clone(), json!({}), services.port());
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        envoys.push(Envoy::start(version, &bootstrap).await.unwrap());
    }
    let mut admitted = 0;
    for _ in 0..40 {
        let requests = envoys.iter().flat_map(|envoy| (0..20).map(|_| envoy.port()));
        let requests: Vec<_> = requests
            .map(|port| async move { Request::get("/p").send(port).await.status })
            .collect();
        admitted += join_all(requests).await.iter().filter(|status| **status == 200).count();
    }
    (admitted, services.asked().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_save_calls_admit_no_more_than_the_limit_and_leave_little_unspent() {
    let window = Window::new(2000, 60);
    window.begins().await;
    let callout = json!({"mode": "lease", "server": "envoy_ratelimit", "expected_proxies": 3});
    let (admitted, asked) = three_proxies(callout, window.script()).await;
    // Five per cent of 2000.
    assert!((1900..=2000).contains(&admitted), "{admitted}");
    assert!(asked < 600, "{asked} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_hot_key_under_its_limit_save_nine_of_ten_calls() {
    let window = Window::new(10_000, 10);
    let callout = json!({"mode": "lease", "server": "envoy_ratelimit", "expected_proxies": 3});
    let services = Services::start(window.script()).await.unwrap();
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let mut envoys = Vec::new();
    for _ in 0..3 {
        let filter = Kind::RateLimit.module_with(callout.clone(), json!({}), services.port());
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        envoys.push(Envoy::start(Version::LATEST, &bootstrap).await.unwrap());
    }
    // 500 requests a second for more than a window.
    let (mut sent, mut tick) = (0, tokio::time::interval(Duration::from_millis(48)));
    for _ in 0..250 {
        tick.tick().await;
        let requests = (0..24).map(|number| envoys[number % 3].port());
        let requests =
            requests.map(|port| async move { Request::get("/p").send(port).await.status });
        for status in join_all(requests).await {
            assert_eq!(status, 200);
            sent += 1;
        }
    }
    let asked = services.asked().len();
    assert!(asked * 10 <= sent, "{asked} calls for {sent} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_no_batch_with_it() {
    let window = Window::new(2000, 60);
    window.begins().await;
    let answers = window.clone();
    let script = Script::default().limit(move |request, n| {
        let answers = answers.clone();
        async move {
            let answer = answers.answer(&request);
            if n > 0 {
                pause(400).await;
            }
            Ok(answer)
        }
    });
    let callout = json!({"mode": "lease", "server": "envoy_ratelimit", "expected_proxies": 1});
    let fields = json!({"timeout": "5s"});
    let gateway = Gateway::start(Version::LATEST, callout, fields, script).await;
    assert_eq!(gateway.get().await.status, 200);
    // The second request asks for a batch, and its client does not wait for the answer.
    let request = Request::get("/p").abort_after(Duration::from_millis(150));
    assert!(!request.send(gateway.envoy.port()).await.is_complete());
    eventually("the service has been asked", || gateway.asked() == 2).await.unwrap();
    let counted = window.counted.lock().unwrap().1;
    assert!(counted > 2, "{counted} hits are no batch");
    pause(500).await;
    // What the batch paid for is there for others.
    assert_eq!(gateway.get().await.status, 200);
    assert_eq!(gateway.envoy.stat("ratelimit.lease_hit").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_limitador_are_exact_to_the_same_bound() {
    let callout = json!({"mode": "lease", "server": "limitador", "expected_proxies": 3});
    let (admitted, asked) = three_proxies(callout, limitador("generic_key", 2000, 60)).await;
    assert!((1900..=2000).contains(&admitted), "{admitted}");
    assert!(asked < 600, "{asked} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_limitador_are_kept_by_the_reset_in_its_headers() {
    let callout = json!({"mode": "cache_over_limit", "server": "limitador"});
    let script = limitador("generic_key", 5, 60);
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), script).await;
    assert_eq!(gateway.admitted(30).await, 5);
    assert_eq!(gateway.asked(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reported_afterwards_is_reported_in_full() {
    let window = Window::new(4000, 60);
    window.begins().await;
    let callout = json!({"mode": "async", "expected_proxies": 1});
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), window.script()).await;
    assert_eq!(gateway.admitted(150).await, 150);
    eventually("all hits are reported", || window.counted.lock().unwrap().1 == 150).await.unwrap();
    assert!(gateway.asked() < 30, "{} calls", gateway.asked());
    assert!(gateway.envoy.stat("ratelimit.lease_hit").await > 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn unless_asked_for_each_request_is_a_call() {
    let window = Window::new(3, 60);
    window.begins().await;
    let gateway = Gateway::start(Version::LATEST, json!({}), json!({}), window.script()).await;
    assert_eq!(gateway.admitted(10).await, 3);
    assert_eq!(gateway.asked(), 10);
    assert_eq!(gateway.envoy.stat("ratelimit.requests").await, 10);
    assert_eq!(gateway.envoy.stat("ratelimit.rpc").await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_spares_requests_the_wait_and_a_limit_of_our_own_decides() {
    let callout = json!({
        "breaker": {"consecutive_failures": 3, "pause": "3s"},
        "fallback": {"requests": 5, "window": "60s"},
    });
    for version in Version::ALL {
        let script = Script::default().limit(|_, n| async move {
            // Silent at first, and well again later.
            if n < 3 {
                std::future::pending::<()>().await;
            }
            Ok(message(json!({"overallCode": "OK"})))
        });
        let fields = json!({"timeout": "0.2s"});
        let gateway = Gateway::start(version, callout.clone(), fields, script).await;
        assert_eq!(gateway.admitted(9).await, 5, "{version}");
        assert_eq!(gateway.asked(), 3, "{version}");
        assert!(gateway.envoy.stat("ratelimit.breaker_open").await >= 5);
        assert_eq!(gateway.envoy.stat("ratelimit.fallback_ok").await, 5);
        let outcomes = gateway.outcomes(9).await;
        assert_eq!(outcomes[8]["source"], "fallback");
        assert!(outcomes[8]["latency_us"].is_null(), "it waited: {}", outcomes[8]);
        pause(3100).await;
        assert_eq!(gateway.admitted(5).await, 5);
        assert_eq!(gateway.asked(), 8, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_of_our_own_an_open_breaker_follows_the_failure_mode() {
    for (deny, status) in [(false, 200), (true, 500)] {
        let callout = json!({"breaker": {"consecutive_failures": 1, "pause": "60s"}});
        let fields = json!({"timeout": "0.2s", "failure_mode_deny": deny});
        let gateway = Gateway::start(Version::LATEST, callout, fields, Script::silent()).await;
        for _ in 0..3 {
            assert_eq!(gateway.get().await.status, status);
        }
        assert_eq!(gateway.asked(), 1);
        assert_eq!(gateway.outcomes(3).await[2]["cause"], "breaker");
    }
    // A service that says no by its status is no service that is down.
    let callout = json!({"breaker": {"consecutive_failures": 1, "pause": "60s"}});
    let script = Script::failing(&Status::unavailable("later"));
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), script).await;
    for _ in 0..3 {
        gateway.get().await;
    }
    assert_eq!(gateway.asked(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_services_own_limit_holds_while_it_is_down() {
    let window = Window::new(60, 60);
    let answers = window.clone();
    let script = Script::default().limit(move |request, n| {
        let answers = answers.clone();
        async move {
            if n > 0 {
                std::future::pending::<()>().await;
            }
            Ok(answers.answer(&request))
        }
    });
    let callout = json!({
        "breaker": {"consecutive_failures": 1, "pause": "60s"},
        "fallback": {"from_service": true},
        "expected_proxies": 10,
    });
    let gateway =
        Gateway::start(Version::LATEST, callout, json!({"timeout": "0.2s"}), script).await;
    assert_eq!(gateway.get().await.status, 200);
    // A tenth of 60.
    assert_eq!(gateway.admitted(12).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_never_reaches_the_service() {
    let window = Window::new(10, 60);
    window.begins().await;
    let callout = json!({"shield": {"multiple": 2}});
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), window.script()).await;
    assert_eq!(gateway.admitted(60).await, 10);
    // The first, which told the limit, and twice the limit.
    let asked = gateway.asked();
    assert!((20..=25).contains(&asked), "{asked}");
    assert!(gateway.envoy.stat("ratelimit.shield_over_limit").await >= 35);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_mode_limits_are_counted_and_nothing_is_refused() {
    let window = Window::new(2, 60);
    window.begins().await;
    let callout = json!({"shadow": true});
    let gateway = Gateway::start(Version::LATEST, callout, json!({}), window.script()).await;
    for _ in 0..6 {
        let response = gateway.get().await;
        assert_eq!((response.status, response.header("x-envoy-ratelimited")), (200, None));
    }
    assert_eq!(gateway.envoy.stat("ratelimit.shadow_over_limit").await, 4);
    assert_eq!(gateway.outcomes(6).await[5]["verdict"], "over_limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_for_the_descriptors_that_they_cover() {
    let by = |name: &str| {
        json!({"actions": [{"request_headers": {
            "header_name": name, "descriptor_key": name, "skip_if_absent": false,
        }}]})
    };
    let fields = json!({"rate_limits": [by("x-strict"), by("x-trial")]});
    let rule = |key: &str, fields: Value| merge(json!({"descriptor": [{"key": key}]}), fields);
    let callout = json!({"rules": [
        rule("x-trial", json!({"shadow": true, "failure_mode_deny": false})),
        rule("x-strict", json!({"mode": "cache_over_limit", "failure_mode_deny": true})),
    ]});
    let over = Script::default().limit(|request, _| async move {
        let status = |_: &_| {
            json!({"code": "OVER_LIMIT", "currentLimit": {"requestsPerUnit": 1, "unit": "HOUR"},
                "durationUntilReset": "1000s"})
        };
        let statuses: Vec<Value> = request.descriptors.iter().map(status).collect();
        Ok(message(json!({"overallCode": "OVER_LIMIT", "statuses": statuses})))
    });
    let failing = Script::failing(&Status::internal("broken"));
    for (script, strict, trial) in [(over, 429, 200), (failing, 500, 200)] {
        let gateway =
            Gateway::start(Version::LATEST, callout.clone(), fields.clone(), script).await;
        let port = gateway.envoy.port();
        for _ in 0..3 {
            let trial_only = Request::get("/").header("x-trial", "a").send(port).await;
            assert_eq!(trial_only.status, trial);
            let strict_only = Request::get("/").header("x-strict", "a").send(port).await;
            assert_eq!(strict_only.status, strict);
        }
        let both = Request::get("/").header("x-trial", "a").header("x-strict", "a");
        assert_eq!(both.send(port).await.status, strict);
        if strict == 429 {
            // Three about the trial, one about the strict one, and one about both.
            assert_eq!(gateway.asked(), 5);
            assert_eq!(gateway.envoy.stat("ratelimit.shadow_over_limit").await, 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_has_nothing_to_say_is_counted_and_denies_where_asked_for() {
    let fields = json!({"rate_limits": [
        {"actions": [{"request_headers": {"header_name": "x-none", "descriptor_key": "k"}}]},
    ]});
    for (callout, status) in [(json!({}), 200), (json!({"deny_unevaluable": true}), 500)] {
        let script = Script::default();
        let gateway = Gateway::start(Version::LATEST, callout, fields.clone(), script).await;
        assert_eq!(gateway.get().await.status, status);
        assert_eq!(gateway.asked(), 0);
        assert_eq!(gateway.envoy.stat("ratelimit.descriptor_skipped").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_without_limits_of_its_own_says_so_and_counts_what_it_lets_pass() {
    let window = Window::new(1, 60);
    let fields = json!({"rate_limits": null});
    let gateway = Gateway::start(Version::LATEST, json!({}), fields, window.script()).await;
    assert_eq!(gateway.admitted(3).await, 3);
    assert_eq!(gateway.envoy.stat("ratelimit.no_descriptors").await, 3);
    assert_eq!(gateway.asked(), 0);
    let log = gateway.envoy.log();
    assert!(log.contains("ratelimit: rate_limits is empty"), "{log}");
    let gateway = Gateway::start(Version::LATEST, json!({}), json!({}), window.script()).await;
    assert!(!gateway.envoy.log().contains("rate_limits is empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_duration_of_a_request_is_hits_in_milliseconds() {
    for version in Version::ALL {
        let fields = json!({"rate_limits": [{
            "actions": [{"generic_key": {"descriptor_value": "done"}}],
            "apply_on_stream_done": true,
            "hits_addend": {"format": "%REQUEST_DURATION%"},
        }]});
        let gateway = Gateway::start(version, json!({}), fields, Window::new(9, 60).script()).await;
        let request =
            Request::post("/p").pieces(["a", "b"]).gap(Duration::from_millis(300)).http2();
        assert_eq!(request.send(gateway.envoy.port()).await.status, 200);
        eventually("the hits are told", || gateway.asked() == 1).await.unwrap();
        let asked = gateway.services.asked().remove(0);
        let hits: u64 = asked["descriptors"][0]["hitsAddend"].as_str().unwrap().parse().unwrap();
        assert!((250..5000).contains(&hits), "{version}: {hits}");
    }
}
