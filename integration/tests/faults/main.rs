//! The fault matrix: what a service can do wrong, against each filter, failing closed and open, over
//! connections of its own and through Envoy's cluster. Each failure ends in the configured way, in time,
//! once; and when the fault is over, the service is asked again.
//!
//! `FAULTS=all cargo test -p callout-integration --test faults` runs all three Envoys and writes
//! `FAULTS.md`; without it the newest one has to do what stands there.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod rows;
mod table;

use std::time::Duration;

use callout_integration::envoy::merge;
use callout_integration::faulty::{Fault, FaultyService};
use callout_integration::prelude::*;
use futures::stream::{self, StreamExt};
use rows::{Expected, ROWS};

/// Envoys at a time.
const TOGETHER: usize = 3;

/// One of our filters, how it fails, and how it reaches its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) kind: Kind,
    pub(crate) open: bool,
    pub(crate) cluster: bool,
}

impl Lane {
    fn all() -> Vec<Self> {
        let mut lanes = Vec::new();
        for kind in Kind::ALL {
            for open in [false, true] {
                lanes.extend([false, true].map(|cluster| Self { kind, open, cluster }));
            }
        }
        lanes
    }

    fn filter(self, port: u16) -> Value {
        let open = self.open;
        let fields = match self.kind {
            Kind::Authz => json!({"grpc_service": {"timeout": "0.5s"}, "failure_mode_allow": open}),
            Kind::RateLimit => json!({"timeout": "0.5s", "failure_mode_deny": !open}),
            Kind::ExtProc => json!({
                "message_timeout": "0.5s", "failure_mode_allow": open,
                "processing_mode": {"response_header_mode": "SKIP"},
            }),
        };
        let fields = if self.cluster { merge(self.kind.by_cluster(), fields) } else { fields };
        self.kind.module(fields, port)
    }

    /// The status of a refusal.
    const fn refusal(self, cause: &str) -> u16 {
        match self.kind {
            Kind::Authz => 403,
            Kind::ExtProc if matches!(cause.as_bytes(), b"timeout") => 504,
            Kind::RateLimit | Kind::ExtProc => 500,
        }
    }
}

/// What came of a row in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    /// The kind of failure; empty where there was none.
    pub(crate) class: &'static str,
}

/// Kinds of failures, as `failure_mode_allow_on` has them.
fn class(cause: &str) -> &'static str {
    match cause {
        "" => "",
        "timeout" => "timeout",
        "unavailable" | "connect" | "unreachable" | "not_sent" | "reset" => "unavailable",
        "status" => "status",
        "decode" | "too_large" => "invalid_reply",
        // extproc's name of the same.
        "invalid_answer" => "invalid_answer",
        other => panic!("no failure of a service is called {other}"),
    }
}

async fn lane(version: Version, lane: Lane) -> Vec<Seen> {
    let service = FaultyService::start().await.unwrap();
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let mut bootstrap = Bootstrap::new(upstream.port(), vec![lane.filter(service.port())]);
    bootstrap.service = Some(service.port());
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    let (mut seen, mut requests) = (Vec::new(), 0);
    for row in ROWS {
        let at = format!("{version} {lane:?} {}", row.name);
        // A processor's message lets the request go on, whatever comes after it and when.
        if row.fault == Fault::LongTrailers && lane.kind == Kind::ExtProc {
            seen.push(Seen { status: 0, class: "" });
            continue;
        }
        recovers(&envoy, &service, &mut requests, &at).await;
        service.set(row.fault);
        if row.fault.is_of_connections() {
            // What is open is closed, and that is noticed.
            pause(100).await;
        }
        let before = upstream.seen().len();
        let response = Request::get("/p").send(envoy.port()).await;
        requests += 1;
        assert!(response.is_complete(), "{at}: {response:?}");
        eventually("the access log", || envoy.access_log().len() >= requests).await.unwrap();
        let outcome = envoy.access_log()[requests - 1][lane.kind.name()].clone();
        let cause = outcome["cause"].as_str().unwrap_or_default();
        let forwarded = upstream.seen().len() - before;
        let allowed = match row.expected {
            Expected::Allowed => true,
            Expected::Failure => false,
            Expected::Either => cause.is_empty(),
        };
        match (allowed, lane.open) {
            (true, _) => {
                assert_eq!((response.status, cause), (200, ""), "{at}: {outcome}");
            }
            (false, true) => {
                assert_eq!(response.status, 200, "{at}: {outcome}");
                assert_eq!(outcome["verdict"], "failure_mode_allowed", "{at}: {outcome}");
            }
            (false, false) => {
                assert_eq!(response.status, lane.refusal(cause), "{at}: {outcome}");
                assert_eq!(outcome["verdict"], "refused", "{at}: {outcome}");
            }
        }
        let answered_first = row.fault == Fault::NoStatus && lane.kind == Kind::ExtProc;
        if !answered_first {
            assert_eq!(
                forwarded,
                usize::from(response.status == 200),
                "{at}: forwarded once, or not"
            );
        }
        seen.push(Seen { status: response.status, class: class(cause) });
    }
    recovers(&envoy, &service, &mut requests, &format!("{version} {lane:?} at the end")).await;
    nothing_is_left(&envoy, lane).await;
    seen
}

/// When the fault is over, the service is asked again, and says what happens.
async fn recovers(envoy: &Envoy, service: &FaultyService, requests: &mut usize, at: &str) {
    service.set(Fault::None);
    for _ in 0..200 {
        let before = service.calls();
        let response = Request::get("/p").send(envoy.port()).await;
        *requests += 1;
        if response.status == 200 && service.calls() > before {
            return;
        }
        pause(25).await;
    }
    panic!("{at}: the service is not asked again");
}

async fn nothing_is_left(envoy: &Envoy, lane: Lane) {
    let name = lane.kind.name();
    for gauge in ["live_streams", "in_flight"] {
        envoy.stat_becomes(&format!("{name}.{gauge}"), 0).await.unwrap();
    }
    for counter in ["panics", "lost"] {
        assert_eq!(envoy.stat(&format!("{name}.{counter}")).await, 0, "{lane:?} {counter}");
    }
}

async fn matrix(version: Version) -> Vec<(Lane, Vec<Seen>)> {
    stream::iter(Lane::all())
        .map(|one| async move { (one, lane(version, one).await) })
        .buffered(TOGETHER)
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_ends_as_configured_and_leaves_nothing() {
    let newest = table::rows(&matrix(Version::LATEST).await);
    if std::env::var("FAULTS").is_ok_and(|value| value == "all") {
        for version in [Version::V1_38, Version::V1_39] {
            assert_eq!(table::rows(&matrix(version).await), newest, "{version} does otherwise");
        }
        table::write(&newest);
    }
    assert_eq!(table::published(), newest, "FAULTS.md says otherwise");
}

/// The deadline is what a busy machine may add seconds to, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn no_fault_holds_a_request_beyond_its_deadline() {
    for lane in Lane::all() {
        let service = FaultyService::start().await.unwrap();
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let mut bootstrap = Bootstrap::new(upstream.port(), vec![lane.filter(service.port())]);
        bootstrap.service = Some(service.port());
        let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
        for fault in [Fault::BlackHole, Fault::Mute, Fault::Silent] {
            service.set(fault);
            let request = Request::get("/p");
            let requests = (0..20).map(|_| request.send(envoy.port()));
            for response in futures::future::join_all(requests).await {
                assert!(response.is_complete(), "{lane:?} {fault:?}: {response:?}");
                assert!(
                    response.elapsed < Duration::from_secs(4),
                    "{lane:?} {fault:?}: {response:?}"
                );
            }
        }
        nothing_is_left(&envoy, lane).await;
    }
}
