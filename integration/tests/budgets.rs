//! Token budgets: `callout.reserve` and `callout.settle`, over a service that counts.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;

const BUDGET: i64 = 1000;

/// A service with one budget, and what is left of it.
fn counting() -> (Script, Arc<AtomicI64>) {
    let left = Arc::new(AtomicI64::new(BUDGET));
    let counter = Arc::clone(&left);
    let script = Script::default().limit(move |request, _| {
        let descriptor = &request.descriptors[0];
        let hits = descriptor.hits_addend.map_or(1, |hits| i64::try_from(hits.value).unwrap());
        let hits = if descriptor.is_negative_hits { -hits } else { hits };
        let enough = hits <= counter.load(Ordering::SeqCst);
        if enough {
            counter.fetch_sub(hits, Ordering::SeqCst);
        }
        let code = if enough { "OK" } else { "OVER_LIMIT" };
        std::future::ready(Ok(message(json!({"overallCode": code}))))
    });
    (script, left)
}

/// A processor that tells what the response used, as in an AI gateway: nothing without `x-usage`.
fn metering() -> Script {
    Script::default().process(|request, _| {
        let mut answer = unchanged(&request);
        if let Some(Part::ResponseHeaders(headers)) = &request.request {
            let mut lines = headers.headers.iter().flat_map(|map| &map.headers);
            let usage = lines.find(|line| line.key == "x-usage");
            let usage = usage.map(|line| String::from_utf8(line.raw_value.clone()).unwrap());
            if let Some(usage) = usage {
                let total: f64 = usage.parse().unwrap();
                answer.dynamic_metadata = Some(message(json!({"ai": {"usage": {"total": total}}})));
            }
        }
        std::future::ready(Ok(answer))
    })
}

struct Gateway {
    envoy: Envoy,
    left: Arc<AtomicI64>,
    upstream: Upstream,
    _services: [Services; 2],
}

async fn gateway(version: Version, without_usage: &str) -> Gateway {
    let (script, left) = counting();
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services =
        [Services::start(script).await.unwrap(), Services::start(metering()).await.unwrap()];
    let callout = json!({
        "reserve": {"format": "%REQ(x-estimate)%", "default": 100},
        "settle": {"format": "%DYNAMIC_METADATA(ai:usage:total)%", "without_usage": without_usage},
    });
    let limit = Kind::RateLimit.module_with(callout, json!({}), services[0].port());
    let receives = json!({"metadata_options": {"receiving_namespaces": {"untyped": ["ai"]}}});
    let meter = Kind::ExtProc.module(receives, services[1].port());
    let bootstrap = Bootstrap::new(upstream.port(), vec![limit, meter]);
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    Gateway { envoy, left, upstream, _services: services }
}

impl Gateway {
    async fn ask(&self, estimate: &str, usage: Option<i64>) -> u16 {
        let headers = usage.map(|usage| ("x-usage".to_owned(), usage.to_string()));
        let headers = headers.into_iter().collect();
        self.upstream.answer(Answer { headers, ..Answer::default() });
        let request = Request::get("/").header("x-estimate", estimate);
        request.send(self.envoy.port()).await.status
    }

    async fn is_left(&self, left: i64, what: &str) {
        let now = || self.left.load(Ordering::SeqCst);
        let settled = eventually("the settlement", || now() == left).await;
        assert!(settled.is_ok(), "{what}: {} is left, not {left}", now());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_used_is_counted_in_the_end() {
    for version in Version::ALL {
        let gateway = gateway(version, "keep").await;
        let mut left = BUDGET;
        for (estimate, usage) in [("200", 350), ("200", 50), ("none", 100)] {
            let what = format!("{version} {estimate} {usage}");
            assert_eq!(gateway.ask(estimate, Some(usage)).await, 200, "{what}");
            left -= usage;
            gateway.is_left(left, &what).await;
        }
        // 500 are left: an estimate that is more does not pass, and costs nothing.
        assert_eq!(gateway.ask("501", Some(1)).await, 429, "{version}");
        gateway.is_left(left, "refused").await;
        assert_eq!(gateway.envoy.stat("ratelimit.budget_charged").await, 150, "{version}");
        assert_eq!(gateway.envoy.stat("ratelimit.budget_refunded").await, 150, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_usage_the_reservation_stays_or_is_given_back() {
    for (without_usage, left) in [("keep", BUDGET - 300), ("refund", BUDGET)] {
        let gateway = gateway(Version::LATEST, without_usage).await;
        assert_eq!(gateway.ask("300", None).await, 200);
        gateway.envoy.stat_becomes("ratelimit.budget_without_usage", 1).await.unwrap();
        gateway.is_left(left, without_usage).await;
    }
}
