//! Several authorizers at once: `callout.services`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use callout_integration::header;
use callout_integration::prelude::*;
use callout_integration::services::message;
use tokio::sync::Barrier;

/// Answers so, once `together` have been asked.
fn answers(reply: Value, together: &Arc<Barrier>) -> Script {
    let together = Arc::clone(together);
    Script::default().check(move |_, _| {
        let (reply, together) = (reply.clone(), Arc::clone(&together));
        async move {
            together.wait().await;
            Ok(message(reply))
        }
    })
}

/// Allows, and names itself in the header `x-by` and in a header of its own.
fn allow(name: &str) -> Value {
    let set = |key: &str| json!({"header": {"key": key, "value": name}});
    json!({"status": {}, "okResponse": {"headers": [set("x-by"), set(&format!("x-{name}"))]},
        "dynamicMetadata": {name: "allowed"}})
}

fn deny(code: u16) -> Value {
    json!({"status": {"code": 7}, "deniedResponse": {"status": {"code": code}}})
}

struct Gateway {
    envoy: Envoy,
    upstream: Upstream,
    services: Vec<Services>,
}

/// An authorizer for each script, the first as the filter's own service. `through` is the kind of service.
async fn gateway(version: Version, quorum: &str, fields: Value, scripts: Vec<Script>) -> Gateway {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let mut services = Vec::new();
    for script in scripts {
        services.push(Services::start(script).await.unwrap());
    }
    let others: Vec<Value> = services[1..]
        .iter()
        .map(|service| {
            let target = format!("127.0.0.1:{}", service.port());
            json!({"grpc_service": {"google_grpc": {"target_uri": target}, "timeout": "5s"}})
        })
        .collect();
    let callout = json!({"services": {quorum: others}});
    let filter = Kind::Authz.module_with(callout, fields, services[0].port());
    let envoy =
        Envoy::start(version, &Bootstrap::new(upstream.port(), vec![filter])).await.unwrap();
    Gateway { envoy, upstream, services }
}

impl Gateway {
    async fn get(&self) -> u16 {
        Request::get("/").send(self.envoy.port()).await.status
    }

    fn shown(&self, name: &str) -> Option<String> {
        header(&self.upstream.seen()[0].headers, name).map(str::to_owned)
    }
}

fn pair() -> Arc<Barrier> {
    Arc::new(Barrier::new(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_have_to_allow_and_their_changes_are_made_in_order() {
    for version in Version::ALL {
        // Neither answers before the other is asked.
        let together = pair();
        let scripts = vec![answers(allow("a"), &together), answers(allow("b"), &together)];
        let gateway = gateway(version, "all", json!({}), scripts).await;
        assert_eq!(gateway.get().await, 200, "{version}");
        for (name, value) in [("x-a", "a"), ("x-b", "b"), ("x-by", "b")] {
            assert_eq!(gateway.shown(name).as_deref(), Some(value), "{version} {name}");
        }
        assert_eq!(gateway.envoy.stat("authz.ok").await, 1, "{version}");
        for service in &gateway.services {
            assert_eq!(service.asked().len(), 1, "{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_denial_ends_the_rest() {
    for version in Version::ALL {
        let together = Arc::new(Barrier::new(1));
        for scripts in [
            vec![answers(deny(401), &together), Script::silent()],
            vec![Script::silent(), answers(deny(401), &together)],
        ] {
            let fields = Kind::Authz.patient();
            let gateway = gateway(version, "all", fields, scripts).await;
            assert_eq!(gateway.get().await, 401, "{version}");
            assert!(gateway.upstream.seen().is_empty(), "{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_any_one_that_allows_is_enough_and_the_first_denial_in_order_is_the_answer() {
    let at_once = || Arc::new(Barrier::new(1));
    for version in Version::ALL {
        let scripts = vec![answers(deny(401), &at_once()), answers(allow("b"), &at_once())];
        let allowed = gateway(version, "any", json!({}), scripts).await;
        assert_eq!(allowed.get().await, 200, "{version}");
        assert_eq!(allowed.shown("x-by").as_deref(), Some("b"), "{version}");

        let scripts = vec![Script::silent(), answers(allow("b"), &at_once())];
        let early = gateway(version, "any", Kind::Authz.patient(), scripts).await;
        assert_eq!(early.get().await, 200, "{version}");

        let together = pair();
        let scripts = vec![answers(deny(401), &together), answers(deny(402), &together)];
        let denied = gateway(version, "any", json!({}), scripts).await;
        assert_eq!(denied.get().await, 401, "{version}");
        assert_eq!(denied.envoy.stat("authz.denied").await, 1, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_refuses_or_is_passed_over_as_the_failure_mode_says() {
    let failing = || Script::failing(&tonic::Status::internal("no"));
    for version in Version::ALL {
        let at_once = Arc::new(Barrier::new(1));
        let scripts = vec![answers(allow("a"), &at_once), failing()];
        let closed = gateway(version, "all", json!({}), scripts).await;
        assert_eq!(closed.get().await, 403, "{version}");

        let open = json!({"failure_mode_allow": true, "failure_mode_allow_header_add": true});
        let scripts = vec![answers(allow("a"), &at_once), failing()];
        let open = gateway(version, "all", open, scripts).await;
        assert_eq!(open.get().await, 200, "{version}");
        for (name, value) in [("x-a", "a"), ("x-envoy-auth-failure-mode-allowed", "true")] {
            assert_eq!(open.shown(name).as_deref(), Some(value), "{version} {name}");
        }
        for (name, count) in [("ok", 1), ("error", 1), ("failure_mode_allowed", 1)] {
            assert_eq!(open.envoy.stat(&format!("authz.{name}")).await, count, "{version} {name}");
        }
    }
}
