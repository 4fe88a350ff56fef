//! While a check is pending, nothing of the request reaches the upstream, whatever its body does.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::client::http1::Connection;
use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;
use tokio::sync::watch;

/// Services that answer only once the gate is open.
fn gated(gate: &watch::Receiver<bool>) -> Script {
    let wait = |gate: &watch::Receiver<bool>| {
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
        }
    };
    let (a, b, c) = (gate.clone(), gate.clone(), gate.clone());
    Script::default()
        .check(move |_, _| {
            let wait = wait(&a);
            async move {
                wait.await;
                Ok(message(json!({"status": {}})))
            }
        })
        .limit(move |_, _| {
            let wait = wait(&b);
            async move {
                wait.await;
                Ok(message(json!({"overallCode": "OK"})))
            }
        })
        .process(move |request, _| {
            let wait = wait(&c);
            async move {
                wait.await;
                Ok(unchanged(&request))
            }
        })
}

/// Sends `request`, lets its body run against the closed gate, and opens it.
async fn held(version: Version, kind: Kind, config: Value, request: Request, body: &[u8]) {
    let (open, gate) = watch::channel(false);
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(gated(&gate)).await.unwrap();
    let config = callout_integration::envoy::merge(kind.patient(), config);
    let filter = kind.module(config, services.port());
    let envoy =
        Envoy::start(version, &Bootstrap::new(upstream.port(), vec![filter])).await.unwrap();
    let port = envoy.port();
    let exchange = tokio::spawn(async move { request.send(port).await });
    eventually("the service is asked", || !services.asked().is_empty()).await.unwrap();
    // Long enough for everything that could slip through to have done so.
    pause(300).await;
    assert!(upstream.seen().is_empty(), "{version} {kind:?}: {:?}", upstream.seen());
    open.send(true).unwrap();
    assert_eq!(exchange.await.unwrap().status, 200, "{version} {kind:?}");
    let seen = upstream.seen();
    assert_eq!(seen.len(), 1, "{version} {kind:?}");
    assert!(seen[0].body == body, "{version} {kind:?}: {} bytes", seen[0].body.len());
}

fn bodies() -> Vec<(Request, Vec<u8>)> {
    let large = vec![b'x'; 300_000];
    let gap = Duration::from_millis(20);
    vec![
        (Request::get("/"), Vec::new()),
        (Request::post("/").body("whole"), b"whole".to_vec()),
        (Request::post("/").pieces(["ab", "cd", "ef"]).gap(gap), b"abcdef".to_vec()),
        (Request::post("/").pieces(["ab", "cd"]).trailer("t", "1").gap(gap), b"abcd".to_vec()),
        (Request::post("/").pieces(["ab", "cd"]).gap(gap).http2(), b"abcd".to_vec()),
        (Request::post("/").pieces(["ab", "cd"]).trailer("t", "1").http2(), b"abcd".to_vec()),
        (Request::post("/").body(large.clone()), large),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_passes_an_open_check() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            for (request, body) in bodies() {
                held(version, kind, json!({}), request, &body).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_passes_a_check_of_the_body() {
    let authz = json!({"with_request_body": {"max_request_bytes": 1_000_000}});
    let partial =
        json!({"with_request_body": {"max_request_bytes": 2, "allow_partial_message": true}});
    let extproc = json!({"processing_mode": {"request_body_mode": "BUFFERED", "request_trailer_mode": "SEND"}});
    for version in Version::ALL {
        for (request, body) in bodies() {
            for config in [&authz, &partial] {
                held(version, Kind::Authz, config.clone(), request.clone(), &body).await;
            }
            held(version, Kind::ExtProc, extproc.clone(), request, &body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_an_upgrade_passes_an_open_check() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let (open, gate) = watch::channel(false);
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(gated(&gate)).await.unwrap();
            let filter = kind.module(kind.patient(), services.port());
            let envoy = Envoy::start(version, &Bootstrap::new(upstream.port(), vec![filter]))
                .await
                .unwrap();
            let mut client = Connection::open(envoy.port()).await.unwrap();
            let head =
                "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            client.write(head).await.unwrap();
            client.write("early frames").await.unwrap();
            eventually("the service is asked", || !services.asked().is_empty()).await.unwrap();
            pause(300).await;
            assert!(upstream.seen().is_empty(), "{version} {kind:?}: {:?}", upstream.seen());
            open.send(true).unwrap();
            assert_eq!(client.response("GET").await.unwrap().status, 101, "{version} {kind:?}");
            eventually("the frames arrive", || upstream.seen()[0].body == b"early frames")
                .await
                .unwrap();
        }
    }
}

/// A filter that lets its headers go takes the client's end along, wherever the rest of the body is.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_behind_a_processor_that_holds_its_end() {
    for version in Version::ALL {
        for kind in [Kind::Authz, Kind::RateLimit] {
            let (decide, decided) = watch::channel(false);
            let (answer, answers) = watch::channel(false);
            let script = gated(&decided).process(move |request, _| {
                let mut answers = answers.clone();
                async move {
                    if matches!(request.request, Some(Part::RequestBody(_))) {
                        let _ = answers.wait_for(|answers| *answers).await;
                    }
                    Ok(unchanged(&request))
                }
            });
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(script).await.unwrap();
            let mode = json!({"processing_mode":
                {"request_body_mode": "STREAMED", "response_header_mode": "SKIP"}});
            let mode = callout_integration::envoy::merge(Kind::ExtProc.patient(), mode);
            let chain = vec![
                Kind::ExtProc.module(mode, services.port()),
                kind.module(kind.patient(), services.port()),
            ];
            let bootstrap = Bootstrap::new(upstream.port(), chain);
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            let check = if kind == Kind::Authz { "attributes" } else { "domain" };
            let asked = |is: &dyn Fn(&Value) -> bool| services.asked().iter().any(is);
            let mut client = Connection::open(envoy.port()).await.unwrap();
            let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
            client.write(head).await.unwrap();
            eventually("a decision is asked for", || asked(&|asked| asked.get(check).is_some()))
                .await
                .unwrap();
            client.write("hello").await.unwrap();
            eventually("the processor has the body", || {
                asked(&|asked| asked.get("requestBody").is_some())
            })
            .await
            .unwrap();
            // Long enough for the end to come behind it.
            pause(100).await;
            decide.send(true).unwrap();
            // Long enough for the headers to go with the client's end.
            pause(200).await;
            assert!(upstream.seen().is_empty(), "{version} {kind:?}: {:?}", upstream.seen());
            answer.send(true).unwrap();
            assert_eq!(client.response("POST").await.unwrap().status, 200, "{version} {kind:?}");
            let seen = upstream.seen();
            assert_eq!(seen.len(), 1, "{version} {kind:?}");
            assert_eq!(seen[0].body, b"hello", "{version} {kind:?}");
        }
    }
}
