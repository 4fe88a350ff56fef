//! Runtime keys: what an operator sets on the admin interface holds within a second or two (Envoy 1.40).
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::prelude::*;

async fn gateway(version: Version, kind: Kind, fields: Value) -> (Envoy, Upstream, Services) {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let failing = Script::failing(&tonic::Status::internal("no"));
    let services = Services::start(failing).await.unwrap();
    let filter = kind.module(fields, services.port());
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    (Envoy::start(version, &bootstrap).await.unwrap(), upstream, services)
}

/// Sets the runtime, and asks until the answer is this.
async fn becomes(envoy: &Envoy, set: &str, status: u16) {
    let taken = envoy.admin_post(&format!("/runtime_modify?{set}")).await;
    assert_eq!((taken.status, taken.body_text().trim()), (200, "OK"), "{set}");
    let mut last = 0;
    for _ in 0..100 {
        last = Request::get("/").send(envoy.port()).await.status;
        if last == status {
            return;
        }
        pause(100).await;
    }
    assert_eq!(last, status, "{set}");
}

fn percent(key: &str, default: u32) -> Value {
    json!({"runtime_key": key, "default_value": {"numerator": default}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_switches_filters_and_their_failure_modes() {
    let fields = json!({
        "filter_enabled": percent("k.enabled", 100),
        "deny_at_disable": {"runtime_key": "k.deny", "default_value": false},
        "status_on_error": {"code": 503},
    });
    let (envoy, _upstream, _services) = gateway(Version::V1_40, Kind::Authz, fields).await;
    becomes(&envoy, "k.other=1", 503).await;
    becomes(&envoy, "k.enabled=0", 200).await;
    becomes(&envoy, "k.deny=true", 503).await;
    becomes(&envoy, "k.deny=false", 200).await;
    becomes(&envoy, "k.enabled=", 503).await;

    let fields = json!({
        "filter_enabled": percent("k.enabled", 100),
        "failure_mode_deny_percent": percent("k.deny", 0),
    });
    let (envoy, _upstream, _services) = gateway(Version::V1_40, Kind::RateLimit, fields).await;
    becomes(&envoy, "k.other=1", 200).await;
    becomes(&envoy, "k.deny=100", 500).await;
    becomes(&envoy, "k.enabled=0", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_1_40_the_default_holds_with_a_warning() {
    let fields = json!({"filter_enabled": percent("k.enabled", 100)});
    let (envoy, _upstream, _services) = gateway(Version::V1_39, Kind::Authz, fields).await;
    assert!(envoy.log().contains("the runtime key `k.enabled` is not read"));
}
