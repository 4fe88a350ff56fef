//! Calls of requests, on their workers and off them, while clients abort in bulk, listeners are replaced
//! and services come and go: nothing passes that is denied, nobody else's call is lost, and nothing
//! hangs.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callout_integration::envoy::{Options, merge};
use callout_integration::prelude::*;
use callout_integration::services::message;
use futures::StreamExt;
use futures::future::join_all;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const KINDS: [Kind; 2] = [Kind::Authz, Kind::RateLimit];
const CALLS: [&str; 2] = ["worker", "off_thread"];

/// How long the service takes, and how long an aborting client waits: its answers are on their way.
const DELAY: Duration = Duration::from_millis(10);
/// How long an honest client waits: a busy machine is slow, and what is lost never comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests of one connection that are aborted together.
const AT_ONCE: usize = 40;

/// The filter, with its calls made at `calls`, that lets pass what it can't ask about.
fn open(kind: Kind, calls: &str, port: u16) -> Value {
    let fields = match kind {
        Kind::Authz => json!({"failure_mode_allow": true}),
        _ => json!({"failure_mode_deny": false}),
    };
    kind.module_with(json!({"calls": calls}), merge(kind.patient(), fields), port)
}

/// As [`open`], but what it can't ask about is refused.
fn closed(kind: Kind, calls: &str, fields: Value, port: u16) -> Value {
    let deny = match kind {
        Kind::Authz => json!({}),
        _ => json!({"failure_mode_deny": true}),
    };
    kind.module_with(json!({"calls": calls}), merge(deny, fields), port)
}

/// Refuses everything, and not at once.
fn denying() -> Script {
    Script::default()
        .unrecorded()
        .check(|_, _| async {
            tokio::time::sleep(DELAY).await;
            Ok(message(json!({"status": {"code": 7}})))
        })
        .limit(|_, _| async {
            tokio::time::sleep(DELAY).await;
            Ok(message(json!({"overallCode": "OVER_LIMIT"})))
        })
}

const fn denied(kind: Kind) -> u16 {
    match kind {
        Kind::Authz => 403,
        _ => 429,
    }
}

/// Begins requests on one connection, and resets them all when their answers are on the way.
async fn abort(port: u16) -> Option<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let (sender, connection) = h2::client::handshake(stream).await.ok()?;
    let driven = tokio::spawn(connection);
    let mut pending = Vec::new();
    for _ in 0..AT_ONCE {
        let request = http::Request::get("http://example.test/").body(()).ok()?;
        pending.push(sender.clone().ready().await.ok()?.send_request(request, true).ok()?.0);
    }
    tokio::time::sleep(DELAY).await;
    drop(pending);
    // What resets them goes out before the connection.
    drop(sender);
    let _ = driven.await;
    Some(())
}

/// Clients that abort until they are told to stop.
struct Storm {
    over: Arc<AtomicBool>,
    aborted: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Storm {
    /// Aborts at the pace of `services`: what is to be shown is what aborting does, not what too many
    /// calls do.
    fn begin(port: u16, services: &[Arc<Services>]) -> Self {
        let (over, aborted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |_| {
            let (over, aborted) = (Arc::clone(&over), Arc::clone(&aborted));
            let services = services.to_vec();
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    if services.iter().any(|services| services.open() > AT_ONCE) {
                        tokio::time::sleep(DELAY / 2).await;
                        continue;
                    }
                    if abort(port).await.is_some() {
                        aborted.fetch_add(AT_ONCE, Ordering::SeqCst);
                    }
                }
            })
        };
        Self { clients: (0..4).map(client).collect(), over, aborted }
    }

    /// Waits until so many requests were aborted.
    async fn rages(&self, requests: usize) {
        let wanted = self.aborted.load(Ordering::SeqCst) + requests;
        let begun = Instant::now();
        while self.aborted.load(Ordering::SeqCst) < wanted {
            assert!(begun.elapsed() < 4 * PATIENCE, "fewer than {requests} requests are aborted");
            pause(20).await;
        }
    }

    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        join_all(self.clients).await;
    }
}

/// Clients that wait for their answers, until they are told to stop; what they got, by status.
fn honest(port: u16, over: &Arc<AtomicBool>) -> Vec<JoinHandle<BTreeMap<u16, usize>>> {
    let client = |_| {
        let over = Arc::clone(over);
        tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            while !over.load(Ordering::SeqCst) {
                let request = Request::get("/").timeout(PATIENCE);
                let response = request.send(port).await;
                let status = if response.is_complete() { response.status } else { 0 };
                *seen.entry(status).or_default() += 1;
            }
            seen
        })
    };
    (0..8).map(client).collect()
}

async fn seen(clients: Vec<JoinHandle<BTreeMap<u16, usize>>>) -> BTreeMap<u16, usize> {
    let mut all = BTreeMap::new();
    for client in clients {
        for (status, count) in client.await.unwrap() {
            *all.entry(status).or_default() += count;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_abort_in_bulk_let_nothing_pass_and_cost_nobody_else_a_call() {
    for version in Version::ALL {
        for (kind, calls) in KINDS.into_iter().flat_map(|kind| CALLS.map(|calls| (kind, calls))) {
            let what = format!("{version} {kind:?} {calls}");
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Arc::new(Services::start(denying()).await.unwrap());
            let filter = open(kind, calls, services.port());
            let options = Options { concurrency: 2, log_level: "warn", ..Options::default() };
            let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
            let envoy = Envoy::start_with(version, &bootstrap, options).await.unwrap();
            let over = Arc::default();
            let clients = honest(envoy.port(), &over);
            let storm = Storm::begin(envoy.port(), std::slice::from_ref(&services));
            storm.rages(2000).await;
            over.store(true, Ordering::SeqCst);
            let seen = seen(clients).await;
            storm.end().await;
            let failed = envoy.admin("/stats?usedonly&filter=call_failed").await;
            let what = format!("{what}: {seen:?}, {failed:?}");
            assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [denied(kind)], "{what}");
            assert!(upstream.seen().is_empty(), "{what}");
            assert_eq!(envoy.stat("failure_mode_allowed").await, 0, "{what}");
            envoy.stat_becomes("live_streams", 0).await.unwrap();
            envoy.stat_becomes("in_flight", 0).await.unwrap();
            assert_eq!(envoy.stat("panics").await, 0, "{what}");
            let last = Request::get("/").timeout(PATIENCE).send(envoy.port()).await;
            assert_eq!(last.status, denied(kind), "{what}: {last:?}");
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{what}: {status}\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_drains_and_a_shutdown_in_a_storm_are_clean() {
    for version in Version::ALL {
        for kind in KINDS {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = [(); 2].map(|()| Services::start(denying()));
            let services: Vec<_> =
                join_all(services).await.into_iter().map(|one| Arc::new(one.unwrap())).collect();
            let to = |n: usize| {
                let filter = open(kind, "worker", services[n % 2].port());
                Bootstrap::new(upstream.port(), vec![filter])
            };
            let options =
                Options { concurrency: 2, lds: true, log_level: "warn", ..Options::default() };
            let mut envoy = Envoy::start_with(version, &to(0), options).await.unwrap();
            let over = Arc::default();
            let clients = honest(envoy.port(), &over);
            let storm = Storm::begin(envoy.port(), &services);
            for n in 1..=4 {
                storm.rages(300).await;
                assert!(envoy.replace_listener(&to(n)).await.unwrap(), "{version} {kind:?}");
            }
            storm.rages(300).await;
            over.store(true, Ordering::SeqCst);
            let seen = seen(clients).await;
            assert!(seen.contains_key(&denied(kind)), "{version} {kind:?}: {seen:?}");
            // A listener that drains may close a connection before its request.
            assert!(seen.keys().all(|status| [0, denied(kind)].contains(status)), "{seen:?}");
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version} {kind:?}: {status}\n{log}");
            assert!(!log.contains("panic"), "{version} {kind:?}: {log}");
            storm.end().await;
            assert!(upstream.seen().is_empty(), "{version} {kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_went_away_and_is_back_is_asked_within_a_second() {
    // What a busy machine may add to it.
    const SLACK: Duration = Duration::from_secs(2);
    for (kind, calls) in KINDS.into_iter().flat_map(|kind| CALLS.map(|calls| (kind, calls))) {
        let what = format!("{kind:?} {calls}");
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let services = Services::start(Script::default()).await.unwrap();
        let port = services.port();
        let filter = closed(kind, calls, json!({}), port);
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
        let status = || async { Request::get("/").send(envoy.port()).await.status };
        assert_eq!(status().await, 200, "{what}");
        drop(services);
        // Long enough for the longest back-off.
        for _ in 0..60 {
            assert_ne!(status().await, 200, "{what}");
            pause(50).await;
        }
        let services = Services::start_on(port, Script::default()).await.unwrap();
        let back = Instant::now();
        while status().await != 200 {
            assert!(back.elapsed() < Duration::from_secs(1) + SLACK, "{what}");
            pause(20).await;
        }
        drop(services);
    }
}

/// A message that says yes to whoever asks: both kinds of answer have a status of 0 in field 1.
fn yes(kind: Kind) -> Bytes {
    match kind {
        // `status {}`.
        Kind::Authz => Bytes::from_static(&[0, 0, 0, 0, 2, 0x0a, 0]),
        // `overall_code: OK`.
        _ => Bytes::from_static(&[0, 0, 0, 0, 2, 0x08, 1]),
    }
}

fn answer(respond: &mut SendResponse<Bytes>, message: Bytes) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut body = respond.send_response(head, false)?;
    body.send_data(message, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers)
}

/// A service that goes away (GOAWAY) after every few calls of a connection.
async fn restless(kind: Kind, connections: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let Ok(mut serving) = h2::server::handshake(socket).await else { return };
                let mut calls = 0;
                while let Some(Ok((_, mut respond))) = serving.accept().await {
                    let _ = answer(&mut respond, yes(kind));
                    calls += 1;
                    if calls == 20 {
                        serving.graceful_shutdown();
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_away_politely_fails_no_call() {
    for (kind, calls) in KINDS.into_iter().flat_map(|kind| CALLS.map(|calls| (kind, calls))) {
        let connections = Arc::<AtomicUsize>::default();
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let port = restless(kind, Arc::clone(&connections)).await;
        let filter = closed(kind, calls, json!({}), port);
        let options = Options { concurrency: 2, ..Options::default() };
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let envoy = Envoy::start_with(Version::LATEST, &bootstrap, options).await.unwrap();
        let port = envoy.port();
        let statuses: Vec<u16> = futures::stream::iter(0..600)
            .map(|_| async move { Request::get("/").send(port).await.status })
            .buffer_unordered(16)
            .collect()
            .await;
        assert!(statuses.iter().all(|status| *status == 200), "{kind:?} {calls}: {statuses:?}");
        assert!(connections.load(Ordering::SeqCst) > 10, "{kind:?} {calls}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_calls_end_in_time_beside_fast_ones() {
    const DEADLINE: Duration = Duration::from_secs(2);
    const SLACK: Duration = Duration::from_secs(5);
    for version in Version::ALL {
        for calls in CALLS {
            let script = Script::default().check(|request, _| async move {
                let http = request.attributes.unwrap().request.unwrap().http.unwrap();
                if http.path == "/slow" {
                    std::future::pending::<()>().await;
                }
                Ok(message(json!({"status": {}})))
            });
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(script).await.unwrap();
            let fields = json!({"grpc_service": {"timeout": "2s"}});
            let filter = closed(Kind::Authz, calls, fields, services.port());
            let options = Options { concurrency: 2, ..Options::default() };
            let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
            let envoy = Envoy::start_with(version, &bootstrap, options).await.unwrap();
            let port = envoy.port();
            // The connection is made before anything is measured.
            assert_eq!(Request::get("/").send(port).await.status, 200);
            let requests = (0..60).map(|n| async move {
                let slow = n % 2 == 0;
                let begun = Instant::now();
                let path = if slow { "/slow" } else { "/fast" };
                let response = Request::get(path).send(port).await;
                (slow, response.status, begun.elapsed())
            });
            for (slow, status, took) in join_all(requests).await {
                let what = format!("{version} {calls} slow {slow}: {status} after {took:?}");
                assert_eq!(status, if slow { 403 } else { 200 }, "{what}");
                assert!(took < DEADLINE + SLACK && (!slow || took >= DEADLINE / 2), "{what}");
            }
            let what = "the service sees the calls end";
            eventually(what, || services.open() < 30).await.unwrap();
        }
    }
}
