//! Failures of ratelimit by cause: which of them `failure_mode_allow_on` lets pass, and the status of a
//! refusal.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::faulty::{Fault, FaultyService};
use callout_integration::prelude::*;

/// Ways to fail, with the names that cover each.
const FAULTS: [(Fault, &[&str]); 6] = [
    (Fault::Silent, &["timeout"]),
    (Fault::Refused, &["unavailable"]),
    (Fault::AcceptsAndCloses, &["unavailable"]),
    (Fault::Status(14), &["status", "status:UNAVAILABLE"]),
    (Fault::Status(13), &["status", "status:INTERNAL"]),
    (Fault::Malformed, &["invalid_reply"]),
];
const NAMES: [&str; 6] =
    ["timeout", "unavailable", "status", "status:UNAVAILABLE", "status:INTERNAL", "invalid_reply"];

/// ratelimit in front of a service with this fault from the start.
async fn gateway(
    version: Version,
    fault: Fault,
    callout: &Value,
    fields: Value,
) -> (Envoy, FaultyService, Upstream) {
    let service = FaultyService::start().await.unwrap();
    service.set(fault);
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let filter = Kind::RateLimit.module_with(callout.clone(), fields, service.port());
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    (Envoy::start(version, &bootstrap).await.unwrap(), service, upstream)
}

async fn status(envoy: &Envoy) -> u16 {
    Request::get("/p").send(envoy.port()).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_failures_pass() {
    for version in Version::ALL {
        for (fault, covering) in FAULTS {
            let others: Vec<&str> =
                NAMES.into_iter().filter(|name| !covering.contains(name)).collect();
            let each = covering.iter().map(|name| (vec![*name], true));
            for (names, passes) in each.chain([(others, false)]) {
                let callout = json!({"failure_mode_allow_on": names});
                let fields = json!({"timeout": "0.3s"});
                let (envoy, _service, upstream) = gateway(version, fault, &callout, fields).await;
                let at = format!("{version} {fault:?} {names:?}");
                assert_eq!(status(&envoy).await, if passes { 200 } else { 500 }, "{at}");
                assert_eq!(upstream.seen().len(), usize::from(passes), "{at}");
                let passed = envoy.stat("ratelimit.failure_mode_allowed").await;
                assert_eq!(passed, u64::from(passes), "{at}");
                assert_eq!(envoy.stat("ratelimit.error").await, 1, "{at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_has_a_status_of_its_own() {
    let callout = json!({"status_on_timeout": {"code": "GatewayTimeout"}});
    for version in Version::ALL {
        for (fault, refusal) in
            [(Fault::Silent, 504), (Fault::Status(13), 503), (Fault::Refused, 503)]
        {
            let fields = json!({
                "timeout": "0.3s", "failure_mode_deny": true,
                "status_on_error": {"code": "ServiceUnavailable"},
            });
            let (envoy, _service, _upstream) = gateway(version, fault, &callout, fields).await;
            assert_eq!(status(&envoy).await, refusal, "{version} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_is_a_service_that_is_not_there() {
    for version in Version::ALL {
        for (name, after) in [("unavailable", 200), ("status", 500)] {
            let callout = json!({
                "failure_mode_allow_on": [name],
                "breaker": {"consecutive_failures": 1, "pause": "60s"},
            });
            let fields = json!({"timeout": "0.3s"});
            let (envoy, service, _upstream) =
                gateway(version, Fault::Silent, &callout, fields).await;
            assert_eq!(
                status(&envoy).await,
                500,
                "{version} {name}: a timeout, which nobody named"
            );
            let calls = service.calls();
            assert_eq!(status(&envoy).await, after, "{version} {name}");
            assert_eq!(service.calls(), calls, "{version} {name}: nobody is asked");
        }
    }
}
