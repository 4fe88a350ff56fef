//! Traces: what the services are told, and the spans that a collector gets.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::collector::{Collector, Span};
use callout_integration::envoy::merge;
use callout_integration::prelude::*;

struct Gateway {
    envoy: Envoy,
    services: Services,
    collector: Collector,
    _upstream: Upstream,
}

async fn gateway(
    version: Version,
    kind: Kind,
    fields: Value,
    by_cluster: bool,
    script: Script,
) -> Gateway {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let collector = Collector::start().await.unwrap();
    let way = if by_cluster { kind.by_cluster() } else { json!({}) };
    let filter = kind.module_with(json!({}), merge(way, fields), services.port());
    let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    bootstrap.service = Some(services.port());
    bootstrap.collector = Some(collector.port());
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    Gateway { envoy, services, collector, _upstream: upstream }
}

impl Gateway {
    async fn get(&self) -> u16 {
        Request::get("/").send(self.envoy.port()).await.status
    }

    /// The service's copy of `traceparent`: trace and parent.
    fn told(&self) -> (String, String) {
        let parent = line(&self.services, "traceparent").unwrap();
        let parts: Vec<&str> = parent.split('-').collect();
        (parts[1].to_owned(), parts[2].to_owned())
    }

    /// The spans of the only trace, once that of the request itself is there.
    async fn spans(&self) -> Vec<Span> {
        let spans = || self.collector.spans();
        eventually("the spans", || spans().iter().any(|span| span.parent.is_empty()))
            .await
            .unwrap();
        spans()
    }
}

fn line(services: &Services, name: &str) -> Option<String> {
    let metadata = services.metadata();
    Some(metadata[0].get(name)?.to_str().unwrap().to_owned())
}

const CALLS: [(Kind, &str); 3] = [
    (Kind::Authz, "async envoy.service.auth.v3.Authorization.Check egress"),
    (Kind::RateLimit, "async envoy.service.ratelimit.v3.RateLimitService.ShouldRateLimit egress"),
    (Kind::ExtProc, "async envoy.service.ext_proc.v3.ExternalProcessor.Process egress"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_a_span_of_its_requests_trace_and_the_service_is_told() {
    for version in Version::ALL {
        for (kind, name) in CALLS {
            for by_cluster in [false, true] {
                let what = format!("{version} {kind:?} {by_cluster}");
                let script = Script::default();
                let gateway = gateway(version, kind, json!({}), by_cluster, script).await;
                assert_eq!(gateway.get().await, 200, "{what}");
                let (trace, parent) = gateway.told();
                let spans = gateway.spans().await;
                let call = spans.iter().find(|span| span.name == name);
                let call = call.unwrap_or_else(|| panic!("{what}: {spans:?}"));
                assert_eq!((&call.trace, &call.id), (&trace, &parent), "{what}");
                let request = spans.iter().find(|span| span.parent.is_empty()).unwrap();
                assert_eq!((&request.trace, &request.id), (&trace, &call.parent), "{what}");
                assert_eq!(
                    call.tags.get("grpc.status_code").map(String::as_str),
                    Some("0"),
                    "{what}"
                );
                let target = if by_cluster {
                    "service".to_owned()
                } else {
                    format!("127.0.0.1:{}", gateway.services.port())
                };
                assert_eq!(call.tags.get("upstream_cluster"), Some(&target), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_marked_on_its_span_and_in_the_custom_flags() {
    let flags = [(Kind::Authz, "UAEX"), (Kind::RateLimit, "RLSE")];
    for (kind, flag) in flags {
        let failing = Script::failing(&tonic::Status::internal("no"));
        let deny =
            if kind == Kind::RateLimit { json!({"failure_mode_deny": true}) } else { json!({}) };
        let gateway = gateway(Version::LATEST, kind, deny, false, failing).await;
        gateway.get().await;
        let spans = gateway.spans().await;
        let call = spans.iter().find(|span| span.name.starts_with("async")).unwrap();
        for (tag, value) in
            [("error", "true"), ("grpc.status_code", "13"), ("callout.cause", "status")]
        {
            assert_eq!(call.tags.get(tag).map(String::as_str), Some(value), "{kind:?} {tag}");
        }
        let logged = || gateway.envoy.access_log();
        eventually("the access log", || !logged().is_empty()).await.unwrap();
        assert_eq!(logged()[0]["flags"], flag, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_span_of_its_own_a_call_belongs_to_the_requests() {
    let fields = json!({"emit_client_span": false});
    let gateway = gateway(Version::LATEST, Kind::Authz, fields, false, Script::default()).await;
    assert_eq!(gateway.get().await, 200);
    let (trace, parent) = gateway.told();
    let spans = gateway.spans().await;
    let request = spans.iter().find(|span| span.parent.is_empty()).unwrap();
    assert_eq!((&request.trace, &request.id), (&trace, &parent));
    assert!(!spans.iter().any(|span| span.name.starts_with("async")));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_envoy_traces_nothing_the_requests_own_lines_go_on() {
    for version in Version::ALL {
        for (kind, _) in CALLS {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::default()).await.unwrap();
            let filter = kind.module(json!({}), services.port());
            let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            let request = Request::get("/").header("traceparent", "a").header("b3", "b");
            assert_eq!(request.send(envoy.port()).await.status, 200);
            for (name, value) in [("traceparent", "a"), ("b3", "b")] {
                let told = line(&services, name);
                assert_eq!(told.as_deref(), Some(value), "{version} {kind:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_the_flags_of_the_built_in_filters() {
    let deny = json!({"status": {"code": 7}, "deniedResponse": {}});
    let script = || {
        let deny = deny.clone();
        Script::default()
            .check(move |_, _| {
                std::future::ready(Ok(callout_integration::services::message(deny.clone())))
            })
            .limit(|_, _| {
                std::future::ready(Ok(callout_integration::services::message(
                    json!({"overallCode": "OVER_LIMIT"}),
                )))
            })
    };
    for version in Version::ALL {
        for (kind, flag) in [(Kind::Authz, "UAEX"), (Kind::RateLimit, "RL")] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(script()).await.unwrap();
            let filter = kind.module(json!({}), services.port());
            let envoy = Envoy::start(version, &Bootstrap::new(upstream.port(), vec![filter]))
                .await
                .unwrap();
            Request::get("/").send(envoy.port()).await;
            let logged = || envoy.access_log();
            eventually("the access log", || !logged().is_empty()).await.unwrap();
            assert_eq!(logged()[0]["flags"], flag, "{version} {kind:?}");
        }
    }
}
