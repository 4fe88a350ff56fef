//! A service that is down, slow, gone midway or talks nonsense: the configured failure mode, within
//! the deadline; and when it is back, it is asked again.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use callout_integration::prelude::*;
use callout_integration::services::message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Status;

const DEADLINE: Duration = Duration::from_millis(300);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(3);

fn config(kind: Kind, open: bool) -> Value {
    match kind {
        Kind::Authz => json!({"grpc_service": {"timeout": "0.3s"}, "failure_mode_allow": open}),
        Kind::RateLimit => json!({"timeout": "0.3s", "failure_mode_deny": !open}),
        Kind::ExtProc => json!({"message_timeout": "0.3s", "failure_mode_allow": open}),
    }
}

/// What a closed failure mode answers, when nothing or not the right thing comes.
const fn refusal(kind: Kind, too_late: bool) -> u16 {
    match kind {
        Kind::Authz => 403,
        Kind::RateLimit => 500,
        Kind::ExtProc if too_late => 504,
        Kind::ExtProc => 500,
    }
}

async fn envoy(kind: Kind, open: bool, upstream: &Upstream, port: u16) -> Envoy {
    let filter = kind.module(config(kind, open), port);
    Envoy::start(Version::LATEST, &Bootstrap::new(upstream.port(), vec![filter])).await.unwrap()
}

/// Sends a request and expects the failure mode's outcome, in time.
async fn fails(kind: Kind, open: bool, envoy: &Envoy, allowed: &[u16], what: &str) {
    let started = Instant::now();
    let response = Request::post("/").body("body").send(envoy.port()).await;
    let allowed = if open { &[200] } else { allowed };
    assert!(allowed.contains(&response.status), "{kind:?} {what}, open {open}: {response:?}");
    assert!(started.elapsed() < DEADLINE + SLACK, "{kind:?} {what}: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn down_at_the_start_and_up_later() {
    for kind in Kind::ALL {
        for open in [false, true] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let port = Services::start(Script::default()).await.unwrap().port();
            let envoy = envoy(kind, open, &upstream, port).await;
            fails(kind, open, &envoy, &[refusal(kind, false)], "down").await;
            let services = Services::start_on(port, Script::default()).await.unwrap();
            // The next attempt waits for the end of the back-off.
            let mut asked = false;
            for _ in 0..100 {
                Request::get("/").send(envoy.port()).await;
                asked = !services.asked().is_empty();
                if asked {
                    break;
                }
                pause(50).await;
            }
            assert!(asked, "{kind:?}: the service is not asked again");
            assert_eq!(Request::get("/").send(envoy.port()).await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slower_than_the_deadline() {
    for kind in Kind::ALL {
        for open in [false, true] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::silent()).await.unwrap();
            let envoy = envoy(kind, open, &upstream, services.port()).await;
            fails(kind, open, &envoy, &[refusal(kind, true)], "slow").await;
            eventually("the service sees the call end", || services.open() == 0).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_midway() {
    for kind in Kind::ALL {
        for open in [false, true] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            // It takes connections and their bytes, and closes them without an answer.
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let mut bytes = [0; 1024];
                        let _ = stream.read(&mut bytes).await;
                        pause(50).await;
                    });
                }
            });
            let envoy = envoy(kind, open, &upstream, port).await;
            fails(kind, open, &envoy, &[refusal(kind, false), refusal(kind, true)], "gone").await;
            server.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn talking_nonsense() {
    for kind in Kind::ALL {
        for open in [false, true] {
            for nonsense in [&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], &[0xff; 4096]] {
                let upstream = Upstream::start(Answer::default()).await.unwrap();
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                let port = listener.local_addr().unwrap().port();
                let server = tokio::spawn(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        tokio::spawn(async move {
                            let _ = stream.write_all(nonsense).await;
                            let mut bytes = [0; 1024];
                            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                        });
                    }
                });
                let envoy = envoy(kind, open, &upstream, port).await;
                let allowed = [refusal(kind, false), refusal(kind, true)];
                fails(kind, open, &envoy, &allowed, "nonsense").await;
                server.abort();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_its_connections_between_requests_fails_nothing() {
    for kind in Kind::ALL {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let first = Services::start(Script::default()).await.unwrap();
        let port = first.port();
        let envoy = envoy(kind, false, &upstream, port).await;
        assert_eq!(Request::get("/").send(envoy.port()).await.status, 200);
        drop(first);
        pause(100).await;
        let second = Services::start_on(port, Script::default()).await.unwrap();
        assert_eq!(Request::get("/").send(envoy.port()).await.status, 200, "{kind:?}");
        assert!(!second.asked().is_empty());
    }
}

/// How often the service is asked about one request, and what the client gets.
async fn retried(policy: Value) -> (usize, u16) {
    let script = Script::default().check(|_, n| {
        std::future::ready(match n {
            0 | 1 => Err(Status::unavailable("not now")),
            _ => Ok(message(json!({"status": {}}))),
        })
    });
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let filter =
        Kind::Authz.module(json!({"grpc_service": {"retry_policy": policy}}), services.port());
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
    let status = Request::get("/").send(envoy.port()).await.status;
    (services.asked().len(), status)
}

// The built-in does so through envoy_grpc only.
#[tokio::test(flavor = "multi_thread")]
async fn failing_calls_are_made_again_where_the_policy_says_so() {
    let unavailable = |retries: u32| json!({"num_retries": retries, "retry_on": "unavailable"});
    assert_eq!(retried(unavailable(2)).await, (3, 200));
    assert_eq!(retried(unavailable(1)).await, (2, 403));
    assert_eq!(retried(json!({"num_retries": 2, "retry_on": "internal"})).await, (1, 403));
    assert_eq!(retried(json!({"num_retries": 2})).await, (1, 403));
}
