//! A processor that makes a body longer than Envoy may buffer: the exchange ends as with the built-in
//! filter, and nothing of Envoy or of the module is hurt.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::processing_request::Request as Part;

const LIMIT: usize = 64 << 10;
const LONG: usize = 200_000;

/// What the processor replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaces {
    RequestBody,
    ResponseBody,
    /// The whole message, with its answer to the headers.
    Request,
    Response,
}

impl Replaces {
    const ALL: [Self; 4] = [Self::RequestBody, Self::ResponseBody, Self::Request, Self::Response];

    fn answer(self, request: &proto::ProcessingRequest) -> proto::ProcessingResponse {
        let common = |status: &str| {
            json!({"response": {
                "status": status,
                "headerMutation": {"removeHeaders": ["content-length"]},
                "bodyMutation": {"body": base64(&vec![b'y'; LONG])},
            }})
        };
        match (self, &request.request) {
            (Self::RequestBody, Some(Part::RequestBody(_))) => {
                message(json!({"requestBody": common("CONTINUE")}))
            }
            (Self::ResponseBody, Some(Part::ResponseBody(_))) => {
                message(json!({"responseBody": common("CONTINUE")}))
            }
            (Self::Request, Some(Part::RequestHeaders(_))) => {
                message(json!({"requestHeaders": common("CONTINUE_AND_REPLACE")}))
            }
            (Self::Response, Some(Part::ResponseHeaders(_))) => {
                message(json!({"responseHeaders": common("CONTINUE_AND_REPLACE")}))
            }
            _ => unchanged(request),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

struct Gateway {
    envoy: Envoy,
    upstream: Upstream,
    _services: Services,
}

impl Gateway {
    async fn start(version: Version, replaces: Replaces, fields: Value) -> Self {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let script = Script::default()
            .process(move |request, _| std::future::ready(Ok(replaces.answer(&request))))
            .unrecorded();
        let services = Services::start(script).await.unwrap();
        let filter = Kind::ExtProc.module(fields, services.port());
        let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        bootstrap.listener = json!({"per_connection_buffer_limit_bytes": LIMIT});
        let envoy = Envoy::start(version, &bootstrap).await.unwrap();
        Self { envoy, upstream, _services: services }
    }

    async fn ends_well(self, what: &str) {
        self.envoy.stat_becomes("live_streams", 0).await.unwrap();
        assert_eq!(self.envoy.stat("panics").await, 0, "{what}");
        let (status, log) = self.envoy.stop().await.unwrap();
        assert!(status.success(), "{what}: {status}\n{log}");
        assert!(!log.contains("panic"), "{what}: {log}");
    }
}

/// Over HTTP/1.1: a stream of HTTP/2 may buffer as much as its window is wide.
fn requests() -> Vec<Request> {
    let pieces = Request::post("/").pieces([vec![b'x'; 20_000], vec![b'x'; 20_000]]);
    vec![Request::post("/").body("short"), pieces]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffered_body_that_grows_over_the_limit_is_413_or_500() {
    let fields = json!({"processing_mode": {
        "request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED",
    }});
    for version in Version::ALL {
        for replaces in Replaces::ALL {
            let gateway = Gateway::start(version, replaces, fields.clone()).await;
            let (status, reached) = match replaces {
                Replaces::RequestBody | Replaces::Request => (413, 0),
                Replaces::ResponseBody | Replaces::Response => (500, 1),
            };
            // A request without a body has nothing that grows but by its replacement.
            let mut requests = requests();
            if replaces != Replaces::RequestBody {
                requests.push(Request::get("/"));
            }
            let count = requests.len();
            for request in requests {
                let response = request.send(gateway.envoy.port()).await;
                let what = format!("{version} {replaces:?}: {response:?}");
                assert_eq!((response.status, response.is_complete()), (status, true), "{what}");
            }
            assert_eq!(gateway.upstream.seen().len(), reached * count, "{version} {replaces:?}");
            gateway.ends_well(&format!("{version} {replaces:?}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_grows_after_its_headers_have_gone_is_cut() {
    let fields = json!({"processing_mode": {
        "request_header_mode": "SKIP", "response_header_mode": "SKIP",
        "response_body_mode": "BUFFERED",
    }});
    for version in Version::ALL {
        let gateway = Gateway::start(version, Replaces::ResponseBody, fields.clone()).await;
        for request in requests() {
            let response = request.send(gateway.envoy.port()).await;
            assert!(!response.is_complete(), "{version}: {response:?}");
        }
        gateway.ends_well(&version.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_streams_may_grow_as_it_likes() {
    let fields = json!({"processing_mode": {
        "request_body_mode": "STREAMED", "response_body_mode": "STREAMED",
    }});
    for version in Version::ALL {
        for replaces in [Replaces::RequestBody, Replaces::ResponseBody] {
            let gateway = Gateway::start(version, replaces, fields.clone()).await;
            for request in requests() {
                let response = request.send(gateway.envoy.port()).await;
                let what = format!("{version} {replaces:?}: {response:?}");
                assert_eq!((response.status, response.is_complete()), (200, true), "{what}");
                let grown = match replaces {
                    Replaces::RequestBody => gateway.upstream.seen().last().unwrap().body.len(),
                    _ => response.body.len(),
                };
                assert!(grown >= LONG && grown % LONG == 0, "{what}: {grown}");
            }
            gateway.ends_well(&format!("{version} {replaces:?}")).await;
        }
    }
}
