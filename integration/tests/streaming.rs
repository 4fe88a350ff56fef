//! Streamed bodies: whole and in order, whatever the sizes, the pace and the buffer.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::client::http1::Connection;
use callout_integration::prelude::*;
use callout_integration::services::unchanged;
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::processing_request::Request as Part;
use proto::processing_response::Response as Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A processor that writes bodies in capitals, and takes its time over every seventh message.
fn capitals(duplex: bool) -> Script {
    Script::default().process(move |request, n| async move {
        if n % 7 == 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let capitals = |body: &[u8]| proto::BodyResponse {
            response: Some(proto::CommonResponse {
                body_mutation: Some(proto::BodyMutation {
                    mutation: Some(proto::body_mutation::Mutation::Body(body.to_ascii_uppercase())),
                }),
                ..Default::default()
            }),
        };
        let streamed = |body: &proto::HttpBody| proto::BodyResponse {
            response: Some(proto::CommonResponse {
                body_mutation: Some(proto::BodyMutation {
                    mutation: Some(proto::body_mutation::Mutation::StreamedResponse(
                        proto::StreamedBodyResponse {
                            body: body.body.to_ascii_uppercase(),
                            end_of_stream: body.end_of_stream,
                            ..Default::default()
                        },
                    )),
                }),
                ..Default::default()
            }),
        };
        let response = match &request.request {
            Some(Part::RequestBody(body)) if duplex => Reply::RequestBody(streamed(body)),
            Some(Part::ResponseBody(body)) if duplex => Reply::ResponseBody(streamed(body)),
            Some(Part::RequestBody(body)) => Reply::RequestBody(capitals(&body.body)),
            Some(Part::ResponseBody(body)) => Reply::ResponseBody(capitals(&body.body)),
            _ => return Ok(unchanged(&request)),
        };
        Ok(proto::ProcessingResponse { response: Some(response), ..Default::default() })
    })
}

fn letters(length: usize) -> Vec<u8> {
    (0..length).map(|n| b'a' + u8::try_from(n % 26).unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_size_arrive_whole_through_a_small_buffer() {
    for version in Version::ALL {
        for mode in ["STREAMED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"] {
            let large = letters(300_000);
            let answer = Answer { body: vec![large.clone()], ..Answer::default() };
            let upstream = Upstream::start(answer).await.unwrap();
            let services = Services::start(capitals(mode == "FULL_DUPLEX_STREAMED").unrecorded())
                .await
                .unwrap();
            let config = json!({"processing_mode": {
                "request_body_mode": mode, "response_body_mode": mode,
                "request_trailer_mode": "SEND", "response_trailer_mode": "SEND",
            }});
            let filter = Kind::ExtProc.module(config, services.port());
            let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
            bootstrap.listener = json!({"per_connection_buffer_limit_bytes": 16384});
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            let pieces: Vec<Vec<u8>> = large.chunks(7_001).map(<[u8]>::to_vec).collect();
            let requests = [
                Request::post("/").body(large.clone()),
                Request::post("/").pieces(pieces.clone()).gap(Duration::from_millis(1)),
                Request::post("/").pieces(pieces).gap(Duration::from_millis(1)).http2(),
                Request::post("/").pieces(["ab", "cd"]).trailer("t", "1"),
            ];
            for (index, request) in requests.iter().enumerate() {
                let response = request.send(envoy.port()).await;
                let what = format!("{version} {mode} {index}");
                assert_eq!(response.status, 200, "{what}: {response:?}");
                let same = |got: &[u8], sent: &[u8]| got.eq_ignore_ascii_case(sent);
                assert!(same(&response.body, &large), "{what}: {} bytes", response.body.len());
                let seen = upstream.seen();
                let sent = if index == 3 { b"abcd".to_vec() } else { large.clone() };
                assert!(same(&seen[index].body, &sent), "{what}: {} bytes", seen[index].body.len());
                if mode != "BUFFERED_PARTIAL" {
                    assert_eq!(response.body, large.to_ascii_uppercase(), "{what}");
                    assert_eq!(seen[index].body, sent.to_ascii_uppercase(), "{what}");
                }
            }
            envoy.stat_becomes("live_streams", 0).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_behind_may_buffer_what_the_processor_let_go_on() {
    for version in Version::ALL {
        for mode in ["NONE", "BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED"] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(capitals(mode == "FULL_DUPLEX_STREAMED")).await.unwrap();
            let port = services.port();
            let processed = json!({"processing_mode": {"request_body_mode": mode, "request_trailer_mode": "SEND"}});
            let checked = json!({"with_request_body": {"max_request_bytes": 1_000_000}});
            let filters =
                vec![Kind::ExtProc.module(processed, port), Kind::Authz.module(checked, port)];
            let envoy =
                Envoy::start(version, &Bootstrap::new(upstream.port(), filters)).await.unwrap();
            let body = letters(20_000);
            let pieces: Vec<Vec<u8>> = body.chunks(1_999).map(<[u8]>::to_vec).collect();
            let slowly = Request::post("/").pieces(pieces).gap(Duration::from_millis(3));
            for (index, request) in [slowly.clone(), slowly.http2()].iter().enumerate() {
                let what = format!("{version} {mode} {index}");
                let response = request.send(envoy.port()).await;
                assert_eq!(response.status, 200, "{what}: {response:?}");
                let wanted = if mode == "NONE" { body.clone() } else { body.to_ascii_uppercase() };
                let got = &upstream.seen()[index].body;
                assert!(*got == wanted, "{what}: {} bytes", got.len());
                let asked = services.asked();
                let check = asked.iter().rfind(|asked| asked.get("attributes").is_some()).unwrap();
                let shown = check["attributes"]["request"]["http"]["body"].as_str().unwrap();
                assert!(shown.as_bytes() == wanted, "{what}: {} bytes shown", shown.len());
            }
        }
    }
}

/// An upstream that answers as soon as it has the headers, and sends back each chunk as it comes.
async fn echo() -> std::io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                let body = loop {
                    stream.read_buf(&mut read).await?;
                    let end = read.windows(4).position(|window| window == b"\r\n\r\n");
                    if let Some(end) = end {
                        break end + 4;
                    }
                };
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head).await?;
                stream.write_all(&read[body..]).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_each_answer_before_it_sends_more_never_waits_for_ever() {
    for version in Version::ALL {
        for mode in ["STREAMED", "FULL_DUPLEX_STREAMED"] {
            let upstream = echo().await.unwrap();
            let services = Services::start(capitals(mode == "FULL_DUPLEX_STREAMED")).await.unwrap();
            let config = json!({"message_timeout": "20s", "processing_mode": {
                "request_body_mode": mode, "response_body_mode": mode,
                "request_trailer_mode": "SEND", "response_trailer_mode": "SEND",
            }});
            let filter = Kind::ExtProc.module(config, services.port());
            let envoy =
                Envoy::start(version, &Bootstrap::new(upstream, vec![filter])).await.unwrap();
            let mut client = Connection::open(envoy.port()).await.unwrap();
            // The first piece comes with the headers, before their answer.
            let mut next =
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nturn\r\n"
                    .to_owned();
            for turn in 0..10 {
                client.write(&next).await.unwrap();
                let wanted = if turn == 0 { "TURN".to_owned() } else { format!("TURN{turn}") };
                let mut got = String::new();
                let answered = async {
                    while !got.contains(&wanted) {
                        let read = client.read().await.unwrap();
                        assert!(!read.is_empty(), "{version} {mode} {turn}: cut after {got}");
                        got += &read;
                    }
                };
                tokio::time::timeout(Duration::from_secs(10), answered)
                    .await
                    .unwrap_or_else(|_| panic!("{version} {mode} {turn}: {got}"));
                next = format!("5\r\nturn{}\r\n", turn + 1);
            }
            client.write("0\r\n\r\n").await.unwrap();
            let end = tokio::time::timeout(Duration::from_secs(10), client.read()).await;
            assert!(end.unwrap().unwrap().contains("0\r\n"), "{version} {mode}");
        }
    }
}
