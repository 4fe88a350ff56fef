//! Clients that leave: the service sees the cancellation, nothing crashes, nothing leaks.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::envoy::{Options, merge};
use callout_integration::prelude::*;
use callout_integration::services::unchanged;
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;
use futures::StreamExt;

/// Longer than any answer that the test waits for.
const NEVER: Duration = Duration::from_secs(60);

/// Buffers whatever it can, and waits.
fn patient(kind: Kind) -> Value {
    let modes = match kind {
        Kind::Authz | Kind::RateLimit => json!({}),
        Kind::ExtProc => json!({"processing_mode": {
            "request_body_mode": "BUFFERED",
            "response_body_mode": "BUFFERED",
            "request_trailer_mode": "SEND",
        }}),
    };
    merge(kind.patient(), modes)
}

/// A processor that answers everything but one kind of message.
fn silent_at(phase: &'static str) -> Script {
    Script::default().process(move |request, _| async move {
        let now = match &request.request {
            Some(Part::RequestHeaders(_)) => "request headers",
            Some(Part::RequestBody(_)) => "request body",
            Some(Part::RequestTrailers(_)) => "request trailers",
            Some(Part::ResponseHeaders(_)) => "response headers",
            Some(Part::ResponseBody(_)) => "response body",
            Some(Part::ResponseTrailers(_)) | None => "something else",
        };
        if now == phase {
            tokio::time::sleep(NEVER).await;
        }
        Ok(unchanged(&request))
    })
}

/// A client leaves while the call is pending; the service sees it go, and the next request works.
async fn leaves(version: Version, kind: Kind, script: Script, request: Request, phase: &str) {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let filter = kind.module(patient(kind), services.port());
    let envoy =
        Envoy::start(version, &Bootstrap::new(upstream.port(), vec![filter])).await.unwrap();
    let response = request.abort_after(Duration::from_millis(150)).send(envoy.port()).await;
    assert!(!response.is_complete(), "{version} {kind:?} {phase}");
    envoy.stat_becomes("live_streams", 0).await.unwrap();
    let what = format!("{version} {kind:?} {phase}: the service sees the client go");
    eventually(&what, || services.open() == 0 && services.cancelled() > 0).await.unwrap();
    assert_eq!(envoy.stat("panics").await, 0);
    let (status, log) = envoy.stop().await.unwrap();
    assert!(status.success(), "{version} {kind:?} {phase}: {status}\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_the_check() {
    for version in Version::ALL {
        for kind in [Kind::Authz, Kind::RateLimit] {
            for request in [Request::get("/"), Request::post("/").pieces(["ab", "cd"]).http2()] {
                leaves(version, kind, Script::silent(), request, "request headers").await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_the_processing_in_every_phase() {
    for version in Version::ALL {
        for phase in [
            "request headers",
            "request body",
            "request trailers",
            "response headers",
            "response body",
        ] {
            let request = Request::post("/").pieces(["ab", "cd"]).trailer("t", "1");
            let request = request.gap(Duration::from_millis(1));
            leaves(version, Kind::ExtProc, silent_at(phase), request, phase).await;
        }
    }
}

/// A spread of numbers that looks random and is the same in every run.
fn spread(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_with_random_aborts_neither_crash_nor_leak() {
    const REQUESTS: u64 = 10_000;
    const AT_ONCE: usize = 64;
    let delay = |n: usize| Duration::from_millis(spread(n as u64) % 6);
    let script = Script::default()
        .check(move |_, n| async move {
            tokio::time::sleep(delay(n)).await;
            Ok(callout_integration::services::message(json!({"status": {}})))
        })
        .limit(move |_, n| async move {
            tokio::time::sleep(delay(n)).await;
            Ok(callout_integration::services::message(json!({"overallCode": "OK"})))
        })
        .process(move |request, n| async move {
            tokio::time::sleep(delay(n)).await;
            Ok(unchanged(&request))
        });
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let filters = Kind::ALL.map(|kind| kind.module(patient(kind), services.port())).to_vec();
    let options = Options { concurrency: 2, log_level: "warn", ..Options::default() };
    let bootstrap = Bootstrap::new(upstream.port(), filters);
    let envoy = Envoy::start_with(Version::LATEST, &bootstrap, options).await.unwrap();
    let port = envoy.port();
    let one = |n: u64| async move {
        let random = spread(n);
        let request = match random % 3 {
            0 => Request::get("/"),
            1 => Request::post("/").body(vec![b'x'; 1000]),
            _ => Request::post("/").pieces(["ab", "cd"]).gap(Duration::from_millis(2)),
        };
        let request = if random & 8 == 0 { request.http2() } else { request };
        // Six in ten leave, at any time of their life.
        let request = if random % 10 < 6 {
            request.abort_after(Duration::from_micros((random >> 20) % 30_000))
        } else {
            request
        };
        let response = request.send(port).await;
        u64::from(response.status == 200)
    };
    let served: u64 = futures::stream::iter((0..REQUESTS).map(one))
        .buffer_unordered(AT_ONCE)
        .fold(0, |sum, served| async move { sum + served })
        .await;
    assert!(served > REQUESTS / 5, "only {served} were served");
    for kind in Kind::ALL {
        envoy.stat_becomes(&format!("{}.live_streams", kind.name()), 0).await.unwrap();
        assert_eq!(envoy.stat(&format!("{}.panics", kind.name())).await, 0);
        assert_eq!(envoy.stat(&format!("{}.lost", kind.name())).await, 0);
    }
    envoy.stat_becomes("authz.in_flight", 0).await.unwrap();
    eventually("every call at the service is over", || services.open() == 0).await.unwrap();
    assert_eq!(Request::get("/").send(port).await.status, 200);
    let (status, log) = envoy.stop().await.unwrap();
    assert!(status.success(), "{status}\n{log}");
}
