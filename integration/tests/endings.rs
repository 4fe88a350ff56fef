//! Bodies whose end Envoy does not tell, and those that have none.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::client::http1::Connection;
use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;

/// `hello hello hello`, packed.
const PACKED: [u8; 28] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57,
    0xc8, 0x40, 0x90, 0x00, 0x80, 0x88, 0xf9, 0xe5, 0x11, 0x00, 0x00, 0x00,
];
const PLAIN: &[u8] = b"hello hello hello";

fn decompressor() -> Value {
    json!({"name": "decompressor", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.decompressor.v3.Decompressor",
        "decompressor_library": {"name": "gzip", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.compression.gzip.decompressor.v3.Gzip",
        }},
    }})
}

/// A processor that writes response bodies in capitals.
fn capitals(duplex: bool) -> Script {
    Script::default().process(move |request, _| async move {
        let Some(Part::ResponseBody(body)) = &request.request else {
            return Ok(unchanged(&request));
        };
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let bytes = engine.encode(body.body.to_ascii_uppercase());
        let mutation = if duplex {
            json!({"streamedResponse": {"body": bytes, "endOfStream": body.end_of_stream}})
        } else {
            json!({"body": bytes})
        };
        Ok(message(json!({"responseBody": {"response": {
            "headerMutation": {"removeHeaders": ["content-length"]}, "bodyMutation": mutation,
        }}})))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_behind_a_decompressor_is_processed_whole_in_every_mode() {
    for version in Version::ALL {
        for mode in ["BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED"] {
            let lines = [("content-encoding", "gzip"), ("content-length", "28")];
            let headers = lines.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let answer = Answer {
                headers: headers.into(),
                body: vec![PACKED.to_vec()],
                ..Answer::default()
            };
            let upstream = Upstream::start(answer).await.unwrap();
            let services = Services::start(capitals(mode == "FULL_DUPLEX_STREAMED")).await.unwrap();
            let config = json!({"processing_mode": {
                "response_body_mode": mode, "response_trailer_mode": "SEND",
            }});
            let filters = vec![Kind::ExtProc.module(config, services.port()), decompressor()];
            let envoy =
                Envoy::start(version, &Bootstrap::new(upstream.port(), filters)).await.unwrap();
            let request = Request::get("/").timeout(Duration::from_secs(5));
            for request in [request.clone(), request.http2()] {
                let response = request.send(envoy.port()).await;
                let what = format!("{version} {mode}: {response:?}");
                assert!(response.is_complete() && response.status == 200, "{what}");
                assert_eq!(response.body, PLAIN.to_ascii_uppercase(), "{what}");
            }
            envoy.stat_becomes("live_streams", 0).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_whose_body_would_have_to_be_shown_whole_is_refused_and_does_not_hang() {
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    for version in Version::ALL {
        for direction in ["request_body_mode", "response_body_mode"] {
            for (mode, status) in [("BUFFERED", 500), ("BUFFERED_PARTIAL", 500), ("STREAMED", 101)]
            {
                let upstream = Upstream::start(Answer::default()).await.unwrap();
                let services = Services::start(Script::default()).await.unwrap();
                let config = json!({
                    "failure_mode_allow": true, "processing_mode": {direction: mode},
                });
                let filter = Kind::ExtProc.module(config, services.port());
                let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
                let envoy = Envoy::start(version, &bootstrap).await.unwrap();
                let mut client = Connection::open(envoy.port()).await.unwrap();
                client.write(head).await.unwrap();
                let answer = client.response("GET");
                let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
                let what = format!("{version} {direction} {mode}: {answer:?}");
                assert_eq!(answer.unwrap().unwrap().status, status, "{what}");
                if status == 500 {
                    let logged = || !envoy.access_log().is_empty();
                    eventually("the access log is written", logged).await.unwrap();
                    let details = &envoy.access_log()[0]["details"];
                    assert_eq!(details, "ext_proc_buffered_body_of_an_upgrade", "{what}");
                }
            }
        }
    }
}
