//! `callout` of a route: what holds there in place of what the filter has.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::envoy::Form;
use callout_integration::prelude::*;

struct Gateway {
    envoy: Envoy,
    _upstream: Upstream,
    _services: Services,
}

/// A gateway with `filter`, and one more route, `/route`, with `config` for it.
async fn gateway(
    version: Version,
    kind: Kind,
    (callout, fields): (Value, Value),
    config: Value,
) -> Gateway {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(Script::silent()).await.unwrap();
    let filter = kind.module_with(callout, fields, services.port());
    let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    let route = json!({
        "match": {"path": "/route"},
        "route": {"cluster": "upstream"},
        "typed_per_filter_config": kind.module_route(Form::Struct, config),
    });
    bootstrap.routes.insert(0, route);
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    Gateway { envoy, _upstream: upstream, _services: services }
}

impl Gateway {
    async fn status(&self, path: &str) -> u16 {
        Request::get(path).send(self.envoy.port()).await.status
    }
}

/// The filter alone would wait for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_waits_as_long_as_it_says() {
    for version in Version::ALL {
        for (kind, deny, status) in [
            (Kind::Authz, json!({}), 403),
            (Kind::RateLimit, json!({"failure_mode_deny": true}), 500),
            (Kind::ExtProc, json!({}), 504),
        ] {
            let field = if kind == Kind::ExtProc { "message_timeout" } else { "timeout" };
            let fields = callout_integration::envoy::merge(kind.patient(), deny);
            let route = json!({"callout": {field: "0.05s"}});
            let gateway = gateway(version, kind, (json!({}), fields), route).await;
            assert_eq!(gateway.status("/route").await, status, "{version} {kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_extproc_answers_failures_and_bounds_bodies_as_it_says() {
    for version in Version::ALL {
        let error = |code: u16| json!({"status": {"code": code}});
        let filter = (
            json!({"on_error": {"timeout": error(502)}, "body_limit": {"bytes": 1, "over": "skip"}}),
            json!({"message_timeout": "0.05s"}),
        );
        let route = json!({
            "overrides": {"processing_mode": {
                "request_header_mode": "SKIP", "request_body_mode": "BUFFERED",
            }},
            "callout": {
                "on_error": {"timeout": error(429)},
                "body_limit": {"bytes": 10, "over": "reject"},
            },
        });
        let gateway = gateway(version, Kind::ExtProc, filter, route).await;
        assert_eq!(gateway.status("/").await, 502, "{version}");
        for (body, status) in [("0123456789", 429), ("0123456789-", 413)] {
            let response = Request::post("/route").body(body).send(gateway.envoy.port()).await;
            assert_eq!(response.status, status, "{version} {body}");
        }
    }
}
