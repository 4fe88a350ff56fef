//! Several processors in one chain: Envoy has one buffer for all of them, and each byte arrives once, in
//! order, as all of them together decided.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::prelude::*;
use callout_integration::services::{in_place_of, message, unchanged, with_body};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proto::processing_request::Request as Part;

const MODES: [&str; 4] = ["BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED"];

/// Adds `by` to each byte, so that a byte that was shown twice, or passed a filter, has another value.
fn adds(by: u8, duplex: bool, delay: Duration) -> Script {
    let script = Script::default().process(move |request, _| {
        let answer = answer(by, duplex, &request);
        async move {
            tokio::time::sleep(delay).await;
            Ok(answer)
        }
    });
    script.unrecorded()
}

fn answer(by: u8, duplex: bool, request: &proto::ProcessingRequest) -> proto::ProcessingResponse {
    let (Some(Part::RequestBody(body)) | Some(Part::ResponseBody(body))) = &request.request else {
        return unchanged(request);
    };
    let bytes = body.body.iter().map(|byte| byte.wrapping_add(by)).collect();
    let mutation = in_place_of(body, bytes, duplex);
    let common = proto::CommonResponse {
        header_mutation: Some(message(json!({"removeHeaders": ["content-length"]}))),
        body_mutation: Some(proto::BodyMutation { mutation: Some(mutation) }),
        ..Default::default()
    };
    with_body(request, common)
}

struct Gateway {
    envoy: Envoy,
    upstream: Upstream,
    _services: Vec<Services>,
    /// What all processors together add to each byte.
    added: u8,
}

/// A chain of processors in these modes, nearest to the client first; a mode with a `*` is that of the
/// built-in filter.
async fn gateway(version: Version, modes: &[&str]) -> Gateway {
    gateway_with(version, modes, |_| {}).await
}

/// As [`gateway`], with something else about Envoy.
async fn gateway_with(
    version: Version,
    modes: &[&str],
    change: impl FnOnce(&mut Bootstrap),
) -> Gateway {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let (mut filters, mut services, mut added) = (Vec::new(), Vec::new(), 0);
    for (index, mode) in modes.iter().enumerate() {
        let builtin = mode.strip_prefix('*');
        let mode = builtin.unwrap_or(mode);
        let by = 1 << index;
        added += by;
        let script = adds(by, mode.starts_with("FULL"), Duration::from_millis(1 + index as u64));
        let service = Services::start(script).await.unwrap();
        let trailers = if mode.starts_with("FULL") { "SEND" } else { "SKIP" };
        let fields = json!({"message_timeout": "10s", "processing_mode": {
            "request_body_mode": mode, "response_body_mode": mode,
            "request_trailer_mode": trailers, "response_trailer_mode": trailers,
        }});
        let mut filter = if builtin.is_some() {
            Kind::ExtProc.builtin(fields, service.port())
        } else {
            Kind::ExtProc.module(fields, service.port())
        };
        filter["name"] = json!(format!("processor-{index}"));
        filters.push(filter);
        services.push(service);
    }
    let mut bootstrap = Bootstrap::new(upstream.port(), filters);
    change(&mut bootstrap);
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    Gateway { envoy, upstream, _services: services, added }
}

#[derive(Clone, Debug)]
struct Case {
    pieces: Vec<usize>,
    gap: u64,
    http2: bool,
    trailers: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let pieces = proptest::collection::vec(1..3000_usize, 1..30);
    let case = (pieces, 0..3_u64, any::<bool>(), any::<bool>());
    case.prop_map(|(pieces, gap, http2, trailers)| Case { pieces, gap, http2, trailers })
}

/// Pieces of these lengths, no two neighbours alike.
fn pieces(lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut n = 0_usize;
    let mut byte = || {
        n += 1;
        u8::try_from((n * 7 + n / 251) % 251).unwrap_or_default()
    };
    lengths.iter().map(|length| (0..*length).map(|_| byte()).collect()).collect()
}

async fn check(gateway: &Gateway, case: &Case, responses: bool, what: &str) {
    let body = pieces(&case.pieces);
    let expected: Vec<u8> =
        body.concat().iter().map(|byte| byte.wrapping_add(gateway.added)).collect();
    let before = gateway.upstream.seen().len();
    let gap = Duration::from_millis(case.gap);
    let trailers = case.trailers.then(|| ("t".to_owned(), "1".to_owned()));
    let request = if responses {
        let trailers = trailers.into_iter().collect();
        gateway.upstream.answer(Answer { body, trailers, ..Answer::default() });
        Request::get("/")
    } else {
        let request = Request::post("/").pieces(body).gap(gap);
        if case.trailers { request.trailer("t", "1") } else { request }
    };
    let request = request.timeout(Duration::from_secs(30));
    let request = if case.http2 { request.http2() } else { request };
    let response = request.send(gateway.envoy.port()).await;
    assert_eq!((response.status, response.is_complete()), (200, true), "{what} {case:?}");
    let seen = &gateway.upstream.seen()[before];
    let got = if responses { &response.body } else { &seen.body };
    let trailers = if responses { &response.trailers } else { &seen.trailers };
    assert_eq!(trailers.len(), usize::from(case.trailers), "{what} {case:?}: {trailers:?}");
    assert!(seen.complete && *got == expected, "{what} {case:?}: {} bytes", got.len());
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

fn arrives_once(chains: &[Vec<&str>], responses: bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for version in Version::ALL {
        for modes in chains {
            let what = format!("{version} {modes:?}");
            let gateway = runtime.block_on(gateway(version, modes));
            let count = if version == Version::LATEST { 6 } else { 3 };
            cases(count, |case| runtime.block_on(check(&gateway, &case, responses, &what)));
            runtime.block_on(gateway.envoy.stat_becomes("live_streams", 0)).unwrap();
            assert_eq!(runtime.block_on(gateway.envoy.stat("panics")), 0, "{what}");
        }
    }
}

/// All pairs, and some longer chains.
fn chains() -> Vec<Vec<&'static str>> {
    let pairs =
        MODES.iter().flat_map(|first| MODES.iter().map(move |second| vec![*first, *second]));
    let mut chains: Vec<_> = pairs.collect();
    chains.extend([
        vec!["STREAMED", "BUFFERED", "STREAMED"],
        vec!["STREAMED"; 4],
        vec!["FULL_DUPLEX_STREAMED"; 3],
        vec!["STREAMED", "FULL_DUPLEX_STREAMED", "STREAMED", "BUFFERED_PARTIAL"],
        vec!["FULL_DUPLEX_STREAMED", "STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED"],
    ]);
    chains
}

#[test]
fn each_byte_of_a_request_arrives_once_as_all_processors_decided() {
    arrives_once(&chains(), false);
}

#[test]
fn each_byte_of_a_response_arrives_once_as_all_processors_decided() {
    arrives_once(&chains(), true);
}

#[test]
fn behind_the_built_in_filter_each_byte_of_a_request_arrives_once() {
    arrives_once(&[vec!["*STREAMED", "BUFFERED"]], false);
}

/// The router keeps what it sent in the buffer that the filters have, too.
#[test]
fn each_attempt_at_a_request_gets_what_the_processors_decided_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chains = [
        vec!["STREAMED"],
        vec!["FULL_DUPLEX_STREAMED"],
        vec!["BUFFERED_PARTIAL"],
        vec!["STREAMED", "FULL_DUPLEX_STREAMED"],
        vec!["STREAMED"; 3],
    ];
    for (version, modes) in
        Version::ALL.into_iter().flat_map(|v| chains.iter().map(move |m| (v, m)))
    {
        let gateway = runtime.block_on(gateway_with(version, modes, |bootstrap| {
            bootstrap.routes[0]["route"]["retry_policy"] =
                json!({"retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.01s"}});
        }));
        gateway.upstream.answer(Answer { status: 503, ..Answer::default() });
        cases(4, |case| {
            let body = pieces(&case.pieces);
            let expected: Vec<u8> =
                body.concat().iter().map(|byte| byte.wrapping_add(gateway.added)).collect();
            let before = gateway.upstream.seen().len();
            let request = Request::post("/").pieces(body).gap(Duration::from_millis(case.gap));
            let request = if case.http2 { request.http2() } else { request };
            let request = if case.trailers { request.trailer("t", "1") } else { request };
            let response = runtime.block_on(request.send(gateway.envoy.port()));
            let what = format!("{version} {modes:?} {case:?}");
            assert_eq!(response.status, 503, "{what}");
            let seen = &gateway.upstream.seen()[before..];
            assert_eq!(seen.len(), 3, "{what}");
            for seen in seen {
                assert!(
                    seen.complete && seen.body == expected,
                    "{what}: {} bytes",
                    seen.body.len()
                );
            }
        });
        runtime.block_on(gateway.envoy.stat_becomes("live_streams", 0)).unwrap();
    }
}

#[test]
fn a_request_too_long_to_be_sent_again_goes_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (version, mode) in Version::ALL
        .into_iter()
        .flat_map(|version| ["STREAMED", "FULL_DUPLEX_STREAMED"].map(|mode| (version, mode)))
    {
        let gateway = runtime.block_on(gateway_with(version, &[mode], |bootstrap| {
            bootstrap.listener = json!({"per_connection_buffer_limit_bytes": 16384});
            bootstrap.routes[0]["route"]["retry_policy"] = json!({"retry_on": "5xx"});
        }));
        for http2 in [false, true] {
            let pieces = vec![1_500; 60];
            let case = Case { pieces, gap: 1, http2, trailers: http2 };
            let what = format!("{version} {mode}");
            runtime.block_on(check(&gateway, &case, false, &what));
        }
        runtime.block_on(gateway.envoy.stat_becomes("live_streams", 0)).unwrap();
    }
}
