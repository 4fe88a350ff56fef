//! Bodies of any length in any pieces, through a processor that leaves, changes or clears them, or
//! dies: what arrives is what it decided, and what it no longer could decide is whole.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::client::Response;
use callout_integration::prelude::*;
use callout_integration::services::{in_place_of, message, unchanged, with_body};
use callout_integration::upstream::Seen;
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proto::body_mutation::Mutation;
use proto::processing_request::Request as Part;
use tonic::Status;

/// What the processor does with each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Leaves,
    /// Turns every byte into its opposite.
    Turns,
    Clears,
    /// Leaves so many messages as they are, and then breaks off.
    Dies(usize),
}

impl Doing {
    fn of(self, body: &[u8]) -> Vec<u8> {
        match self {
            Self::Leaves | Self::Dies(_) => body.to_vec(),
            Self::Turns => body.iter().map(|byte| !byte).collect(),
            Self::Clears => Vec::new(),
        }
    }
}

fn processor(doing: Doing, duplex: bool) -> Script {
    let script = Script::default().process(move |request, n| {
        std::future::ready(match doing {
            Doing::Dies(after) if n >= after => Err(Status::internal("gone")),
            _ => Ok(answer(doing, duplex, &request)),
        })
    });
    script.unrecorded()
}

fn answer(
    doing: Doing,
    duplex: bool,
    request: &proto::ProcessingRequest,
) -> proto::ProcessingResponse {
    let (Some(Part::RequestBody(body)) | Some(Part::ResponseBody(body))) = &request.request else {
        return unchanged(request);
    };
    let mutation = match doing {
        _ if duplex => Some(in_place_of(body, doing.of(&body.body), true)),
        Doing::Leaves | Doing::Dies(_) => None,
        Doing::Turns => Some(in_place_of(body, doing.of(&body.body), false)),
        Doing::Clears => Some(Mutation::ClearBody(true)),
    };
    let common = proto::CommonResponse {
        // A buffered body keeps its length, which is the processor's to say.
        header_mutation: Some(message(json!({"removeHeaders": ["content-length"]}))),
        body_mutation: mutation.map(|mutation| proto::BodyMutation { mutation: Some(mutation) }),
        ..Default::default()
    };
    with_body(request, common)
}

/// One exchange.
#[derive(Clone)]
struct Case {
    request: Vec<u8>,
    response: Vec<u8>,
    /// Where the bodies are cut.
    cuts: Vec<usize>,
    http2: bool,
    trailers: bool,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { request, response, cuts, http2, trailers } = self;
        let lengths = (request.len(), response.len());
        write!(f, "{lengths:?} bytes, cut {cuts:?}, HTTP/2 {http2}, trailers {trailers}")
    }
}

fn case() -> impl Strategy<Value = Case> {
    let length =
        || prop_oneof![Just(0_usize), 1..2000_usize, 10_000..70_000_usize, 200_000..300_000_usize,];
    let cuts = proptest::collection::vec(1..40_000_usize, 0..6);
    (length(), length(), any::<u8>(), cuts, any::<bool>(), any::<bool>()).prop_map(
        |(request, response, seed, cuts, http2, trailers)| Case {
            request: bytes(request, seed),
            response: bytes(response, seed.wrapping_add(7)),
            cuts,
            http2,
            trailers,
        },
    )
}

/// So many bytes, no two neighbours alike.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    let step = |n: usize| u8::try_from(n % 251).unwrap_or_default();
    (0..length).map(|n| step(n * 7 + n / 251).wrapping_add(seed)).collect()
}

fn pieces(body: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut rest = body;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, left) = rest.split_at((*cut).min(rest.len()));
        if !piece.is_empty() {
            pieces.push(piece.to_vec());
        }
        rest = left;
    }
    if !rest.is_empty() {
        pieces.push(rest.to_vec());
    }
    pieces
}

async fn exchange(envoy: &Envoy, upstream: &Upstream, case: &Case) -> Exchanged {
    let trailers =
        if case.trailers { vec![("x-end".to_owned(), "1".to_owned())] } else { Vec::new() };
    let body = pieces(&case.response, &case.cuts);
    upstream.answer(Answer { body, trailers, ..Answer::default() });
    let before = upstream.seen().len();
    let mut request = Request::post("/").pieces(pieces(&case.request, &case.cuts));
    request = request.gap(Duration::from_millis(1)).timeout(Duration::from_secs(30));
    if case.http2 {
        request = request.http2();
    }
    if case.trailers {
        request = request.trailer("t", "1");
    }
    let response = request.send(envoy.port()).await;
    Exchanged { request: upstream.seen().get(before).cloned().unwrap_or_default(), response }
}

/// What arrived.
struct Exchanged {
    request: Seen,
    response: Response,
}

impl Exchanged {
    /// Both messages are complete, with these bodies, and with their trailers.
    fn is(&self, case: &Case, request: &[u8], response: &[u8], what: &str) {
        let Self { request: seen, response: got } = self;
        assert_eq!((got.status, got.is_complete()), (200, true), "{what}: {got:?}");
        assert!(seen.complete, "{what}");
        assert!(seen.body == request, "{what}: {} bytes", seen.body.len());
        assert!(got.body == response, "{what}: {} bytes", got.body.len());
        let trailers = (!seen.trailers.is_empty(), !got.trailers.is_empty());
        assert_eq!(trailers, (case.trailers, case.trailers), "{what}");
    }
}

const MODES: [&str; 4] = ["BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED"];

async fn gateway(version: Version, mode: &str, doing: Doing) -> (Envoy, Upstream, Services) {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let (envoy, services) = gateway_to(version, mode, doing, (upstream.port(), false)).await;
    (envoy, upstream, services)
}

async fn gateway_to(
    version: Version,
    mode: &str,
    doing: Doing,
    (upstream, http2): (u16, bool),
) -> (Envoy, Services) {
    let services = Services::start(processor(doing, mode.starts_with("FULL"))).await.unwrap();
    let filter = Kind::ExtProc.module(
        json!({
            "message_timeout": "20s", "failure_mode_allow": true,
            "processing_mode": {
                "request_body_mode": mode, "response_body_mode": mode,
                "request_trailer_mode": "SEND", "response_trailer_mode": "SEND",
            },
        }),
        services.port(),
    );
    let mut bootstrap = Bootstrap::new(upstream, vec![filter]);
    bootstrap.http2_upstream = http2;
    // What is shown whole has to fit, what streams has not.
    let limit = if mode.starts_with("BUFFERED") { 16 << 20 } else { 32 << 10 };
    bootstrap.listener = json!({"per_connection_buffer_limit_bytes": limit});
    (Envoy::start(version, &bootstrap).await.unwrap(), services)
}

fn cases(count: u32, check: impl Fn(Case)) {
    let config = Config { cases: count, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&case(), |case| {
            check(case);
            Ok(())
        })
        .unwrap();
}

/// Runs a future of a test that is not itself asynchronous.
fn wait<T>(runtime: &tokio::runtime::Runtime, future: impl Future<Output = T>) -> T {
    runtime.block_on(future)
}

#[test]
fn what_arrives_is_what_the_processor_decided() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for version in Version::ALL {
        for mode in MODES {
            for doing in [Doing::Leaves, Doing::Turns, Doing::Clears] {
                let (envoy, upstream, _services) = wait(&runtime, gateway(version, mode, doing));
                let count = if version == Version::LATEST { 12 } else { 3 };
                let what = format!("{version} {mode} {doing:?}");
                cases(count, |case| {
                    let exchanged = wait(&runtime, exchange(&envoy, &upstream, &case));
                    let decided = [&case.request, &case.response].map(|body| doing.of(body));
                    exchanged.is(&case, &decided[0], &decided[1], &what);
                });
                wait(&runtime, envoy.stat_becomes("live_streams", 0)).unwrap();
                assert_eq!(wait(&runtime, envoy.stat("panics")), 0);
            }
        }
    }
}

#[test]
fn what_arrives_over_http2_on_both_sides_is_what_the_processor_decided() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for version in Version::ALL {
        let upstream = wait(&runtime, Upstream::start(Answer::default())).unwrap();
        // It speaks HTTP/2 where the upstream does not.
        let behind = Bootstrap::new(upstream.port(), Vec::new());
        let behind = wait(&runtime, Envoy::start(version, &behind)).unwrap();
        for mode in MODES {
            for doing in [Doing::Leaves, Doing::Turns] {
                let to = gateway_to(version, mode, doing, (behind.port(), true));
                let (envoy, _services) = wait(&runtime, to);
                let what = format!("{version} {mode} {doing:?}");
                cases(3, |case| {
                    let case = Case { http2: true, ..case };
                    let exchanged = wait(&runtime, exchange(&envoy, &upstream, &case));
                    let decided = [&case.request, &case.response].map(|body| doing.of(body));
                    exchanged.is(&case, &decided[0], &decided[1], &what);
                });
            }
        }
    }
}

#[test]
fn a_processor_that_dies_in_the_middle_leaves_bodies_whole_where_failures_pass() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for version in Version::ALL {
        for mode in MODES {
            for after in [0, 1, 2, 4] {
                let dies = Doing::Dies(after);
                let count = if version == Version::LATEST { 6 } else { 2 };
                let what = format!("{version} {mode} {after}");
                cases(count, |case| {
                    // The count of messages begins anew with each gateway.
                    let (envoy, upstream, _services) = wait(&runtime, gateway(version, mode, dies));
                    let exchanged = wait(&runtime, exchange(&envoy, &upstream, &case));
                    if !mode.starts_with("FULL") {
                        return exchanged.is(&case, &case.request, &case.response, &what);
                    }
                    // What went both ways at once is gone: nothing less may pass for the whole.
                    let Exchanged { request, response } = exchanged;
                    assert!(!request.complete || request.body == case.request, "{what}");
                    let whole = response.is_complete() && response.status == 200;
                    assert!(!whole || response.body == case.response, "{what}: {response:?}");
                });
            }
        }
    }
}
