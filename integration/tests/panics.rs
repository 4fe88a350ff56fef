//! A panic in a filter costs its request, and nothing else.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::client::End;
use callout_integration::envoy::{Options, example};
use callout_integration::modules;
use callout_integration::prelude::*;

/// Asks for a fault in `place`, then for a request without one.
async fn fails(version: Version, place: &str, check: impl Fn(&Response)) {
    let upstream =
        Upstream::start(Answer { body: vec![b"a".to_vec(), b"b".to_vec()], ..Answer::default() })
            .await
            .unwrap();
    let options = Options { modules: Some(modules::examples().unwrap()), ..Options::default() };
    let bootstrap = Bootstrap::new(upstream.port(), vec![example("faults", json!({}))]);
    let envoy = Envoy::start_with(version, &bootstrap, options).await.unwrap();
    let request = Request::post("/").body("body");
    for http2 in [false, true] {
        let fault = request.clone().header("x-fault", place);
        check(&if http2 { fault.http2() } else { fault }.send(envoy.port()).await);
        let next = request.send(envoy.port()).await;
        assert_eq!((next.status, next.end), (200, End::Complete), "{version} {place}");
    }
    assert_eq!(envoy.stat("faults.panics").await, 2, "{version} {place}");
    envoy.stat_becomes("faults.live_streams", 0).await.unwrap();
    let (status, log) = envoy.stop().await.unwrap();
    assert!(status.success(), "{version} {place}: {status}\n{log}");
    let lines = log.lines().filter(|line| line.contains("panic")).count();
    assert_eq!(lines, 2, "{version} {place}: one line for each panic\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_response_it_is_a_500() {
    for version in Version::ALL {
        for place in ["request_headers", "task", "event", "response_headers"] {
            fails(version, place, |response| {
                assert_eq!(response.status, 500, "{version} {place}: {response:?}");
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_response_has_begun_it_is_a_reset() {
    for version in Version::ALL {
        fails(version, "response_body", |response| {
            assert!(!response.is_complete(), "{version}: {response:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_response_nobody_sees_it() {
    for version in Version::ALL {
        fails(version, "complete", |response| {
            assert_eq!(response.status, 200, "{version}: {response:?}");
        })
        .await;
    }
}
