//! A header `upgrade` alone upgrades nothing: checks of the body hold.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::client::http1::Connection;
use callout_integration::envoy::header_mutation;
use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;

/// A body with the word "attack" passes neither service.
fn no_attack() -> Script {
    Script::default()
        .check(|request, _| {
            let attack = format!("{request:?}").contains("attack");
            std::future::ready(Ok(message(json!({"status": {"code": if attack { 7 } else { 0 }}}))))
        })
        .process(|request, _| {
            let attack = matches!(&request.request, Some(Part::RequestBody(body))
                if body.body.windows(6).any(|bytes| bytes == b"attack"));
            let refused = json!({"immediateResponse": {"status": {"code": "Forbidden"}}});
            std::future::ready(Ok(if attack { message(refused) } else { unchanged(&request) }))
        })
}

fn body_checked(kind: Kind) -> Value {
    match kind {
        Kind::Authz => json!({"with_request_body": {"max_request_bytes": 100}}),
        _ => json!({"processing_mode": {
            "request_body_mode": "BUFFERED", "response_header_mode": "SKIP",
        }}),
    }
}

async fn gateway(version: Version, kind: Kind, before: Option<Value>) -> Gateway {
    Gateway::start_with(
        version,
        no_attack(),
        |port| before.into_iter().chain([kind.module(body_checked(kind), port)]).collect(),
        |mut bootstrap| {
            bootstrap.hcm = json!({"upgrade_configs": [
                {"upgrade_type": "websocket"}, {"upgrade_type": "SPDY/3.1"},
            ]});
            bootstrap
        },
    )
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_header_of_an_earlier_filter_hides_no_body() {
    for version in Version::ALL {
        for kind in [Kind::Authz, Kind::ExtProc] {
            for value in ["x", "websocket"] {
                let add = json!([{"append": {"header": {"key": "upgrade", "value": value}}}]);
                let gateway = gateway(version, kind, Some(header_mutation(&add))).await;
                for http2 in [false, true] {
                    let at = format!("{version} {kind:?} {value} {http2}");
                    let protocol = |request: Request| if http2 { request.http2() } else { request };
                    let whole = protocol(Request::post("/p").body("an attack"));
                    let pieces = protocol(Request::post("/p").pieces(["an att", "ack"]));
                    assert_eq!(gateway.statuses([whole, pieces]).await, [403, 403], "{at}");
                    assert!(gateway.upstream.seen().is_empty(), "{at}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_header_of_the_client_hides_no_body() {
    for version in Version::ALL {
        for kind in [Kind::Authz, Kind::ExtProc] {
            let gateway = gateway(version, kind, None).await;
            for lines in ["upgrade: websocket", "upgrade: SPDY/3.1", "upgrade: h2c", "upgrade: x"] {
                let mut client = Connection::open(gateway.envoy.port()).await.unwrap();
                let head = format!(
                    "POST /p HTTP/1.1\r\nhost: a\r\n{lines}\r\ncontent-length: 6\r\n\r\nattack"
                );
                client.write(&head).await.unwrap();
                // Envoy itself may refuse what it does not upgrade; nothing gets through.
                let status = client.response("POST").await.map(|response| response.status);
                let status = status.unwrap_or_default();
                assert!(status >= 400, "{version} {kind:?} {lines}: {status}");
                let seen = gateway.upstream.seen();
                assert!(seen.is_empty(), "{version} {kind:?} {lines}: {seen:?}");
            }
        }
    }
}

/// Of a request to upgrade that announces a body, the body is checked as far as it is announced.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_upgrade_with_a_body_is_checked_by_authz() {
    for version in Version::ALL {
        let gateway = gateway(version, Kind::Authz, None).await;
        let mut client = Connection::open(gateway.envoy.port()).await.unwrap();
        let head = "POST /p HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n\
                    content-length: 6\r\n\r\nattack";
        client.write(head).await.unwrap();
        assert_eq!(client.response("POST").await.unwrap().status, 403, "{version}");
        assert!(gateway.upstream.seen().is_empty(), "{version}");
    }
}
