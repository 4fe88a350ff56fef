//! A processor that answers the client itself, part by part.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::prelude::*;
use callout_integration::services::message;
use callout_protos::envoy::service::ext_proc::v3::ProcessingResponse;
use futures::stream;
use tonic::Status;

type Answer_ = Result<ProcessingResponse, Status>;

fn part(fields: Value) -> Answer_ {
    Ok(message(json!({"streamedImmediateResponse": fields})))
}

fn header(key: &str, value: &str) -> Value {
    use base64::Engine as _;
    let raw = base64::prelude::BASE64_STANDARD.encode(value);
    json!({"key": key, "rawValue": raw})
}

fn begin(status: &str) -> Answer_ {
    let headers = [header(":status", status), header("X-Own", "1"), header("upgrade", "x")];
    part(json!({"headersResponse": {"headers": {"headers": headers}}}))
}

fn data(text: &str, end: bool) -> Answer_ {
    use base64::Engine as _;
    let body = base64::prelude::BASE64_STANDARD.encode(text);
    part(json!({"bodyResponse": {"body": body, "endOfStream": end}}))
}

fn trailers() -> Answer_ {
    part(json!({"trailersResponse": {"headers": [header("x-end", "yes")]}}))
}

/// Answers the request's headers with these parts, a while between them.
fn replying(parts: Vec<Answer_>) -> Script {
    Script::default().process_each(move |_, _| {
        stream::unfold(parts.clone().into_iter(), |mut parts| async move {
            let next = parts.next()?;
            pause(20).await;
            Some((next, parts))
        })
    })
}

async fn envoy(version: Version, upstream: &Upstream, services: &Services) -> Envoy {
    let filter = Kind::ExtProc.module(json!({"failure_mode_allow": true}), services.port());
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    Envoy::start(version, &bootstrap).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_arrive_as_the_processor_sends_them() {
    let parts = vec![begin("203"), data("one,", false), data("two", false), trailers()];
    for version in Version::ALL {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let services = Services::start(replying(parts.clone())).await.unwrap();
        let envoy = envoy(version, &upstream, &services).await;
        for request in [
            Request::get("/"),
            Request::get("/").http2(),
            Request::post("/").pieces(["ab", "cd"]).gap(Duration::from_millis(30)),
            Request::post("/").body("body").http2(),
        ] {
            let response = request.send(envoy.port()).await;
            assert_eq!((response.status, response.is_complete()), (203, true), "{version}");
            assert_eq!(response.body, b"one,two", "{version}");
            assert_eq!(response.header("x-own"), Some("1"), "{version}");
            // What belongs to the connection is not the processor's to say.
            assert_eq!(response.header("upgrade"), None, "{version}");
            let end = response.trailers.iter().find(|(name, _)| name == "x-end");
            assert!(end.is_some(), "{version}: {response:?}");
        }
        assert!(upstream.seen().is_empty(), "{version}");
        envoy.stat_becomes("live_streams", 0).await.unwrap();
        eventually("the exchanges are over", || services.open() == 0).await.unwrap();
        assert_eq!(envoy.stat("panics").await, 0);
        let (status, log) = envoy.stop().await.unwrap();
        assert!(status.success(), "{version}: {status}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_never_taken_for_whole_nor_opened() {
    let broken = vec![begin("200"), data("one", false), Err(Status::internal("gone"))];
    let confused = vec![begin("200"), data("one", false), begin("200")];
    let unchanged = Ok(message(json!({"requestHeaders": {}})));
    let mixed = vec![begin("200"), data("one", false), unchanged];
    for version in Version::ALL {
        for parts in [&broken, &confused, &mixed] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(replying(parts.clone())).await.unwrap();
            let envoy = envoy(version, &upstream, &services).await;
            for request in [Request::get("/"), Request::get("/").http2()] {
                let response = request.send(envoy.port()).await;
                assert!(!response.is_complete(), "{version} {response:?}");
            }
            assert!(upstream.seen().is_empty(), "{version}");
            envoy.stat_becomes("live_streams", 0).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_ends_the_exchange() {
    for version in Version::ALL {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let script = Script::default().process_each(|_, _| {
            use futures::StreamExt;
            stream::iter([begin("200"), data("one", false)]).chain(stream::pending())
        });
        let services = Services::start(script).await.unwrap();
        let envoy = envoy(version, &upstream, &services).await;
        let request = Request::get("/").abort_after(Duration::from_millis(200));
        assert!(!request.send(envoy.port()).await.is_complete());
        eventually("the processor sees it", || services.open() == 0).await.unwrap();
        envoy.stat_becomes("live_streams", 0).await.unwrap();
    }
}
