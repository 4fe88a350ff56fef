//! Servers that misbehave, and that come and go.

use std::time::{Duration, Instant};

use bytes::Bytes;
use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use futures::stream;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::TcpListener;

use super::server::{Asked, Server, answer};
use crate::grpc::{CallError, Client, Framed, MetadataMap, Target};

async fn ask(client: &Client, millis: u64) -> Result<CheckResponse, CallError> {
    let deadline = Some(Instant::now() + Duration::from_millis(millis));
    client.unary("/test/Check", &CheckRequest::default(), &MetadataMap::new(), deadline).await
}

fn client(port: u16) -> Client {
    Client::new(Target::parse(&format!("127.0.0.1:{port}")).unwrap()).unwrap()
}

/// Answers with these bytes and status OK.
fn answer_with(mut respond: Asked, status: u16, content: &'static str, body: &'static [u8]) {
    let head = Response::builder().status(status).header("content-type", content).body(()).unwrap();
    let mut sending = respond.send_response(head, false).unwrap();
    sending.send_data(Bytes::from_static(body), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    sending.send_trailers(trailers).unwrap();
}

const EMPTY: &[u8] = &[0, 0, 0, 0, 0];
const GRPC: &str = "application/grpc";

#[tokio::test]
async fn an_answer_that_is_not_grpcs_is_a_failure_though_it_ends_with_status_ok() {
    let mut server = Server::start().await;
    for (status, content, body, cause) in [
        (200, GRPC, EMPTY, ""),
        (503, GRPC, EMPTY, "status"),
        (200, "text/html", EMPTY, "status"),
        (200, GRPC, &EMPTY[..3], "decode"),
        (200, GRPC, &[0, 0, 0, 0, 9, 1], "decode"),
        (200, GRPC, &[1, 0, 0, 0, 0], "decode"),
        (200, GRPC, &[0; 10], "decode"),
        (200, GRPC, &[], "decode"),
    ] {
        let client = server.client.clone();
        let call = tokio::spawn(async move { ask(&client, 5000).await });
        answer_with(server.next().await, status, content, body);
        let got = call.await.unwrap().map_or_else(|error| error.cause(), |_| "");
        assert_eq!(got, cause, "{status} {content} {body:?}");
    }
}

#[tokio::test]
async fn a_message_that_is_cut_is_no_clean_end_of_an_exchange() {
    let mut server = Server::start().await;
    let requests = stream::iter([Framed::encoded(&[])]);
    let mut call = server.client.bidi("/t/T", &MetadataMap::new(), requests).await.unwrap();
    answer_with(server.next().await, 200, GRPC, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 1]);
    assert_eq!(call.next::<CheckResponse>().await, Ok(Some(CheckResponse::default())));
    assert_eq!(call.next::<CheckResponse>().await.unwrap_err().cause(), "decode");
}

#[tokio::test]
async fn a_peer_that_accepts_and_closes_is_left_alone_between_attempts() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = client(listener.local_addr().unwrap().port());
    let accepted = tokio::spawn(async move {
        let mut accepted = 0;
        let close = async {
            while listener.accept().await.is_ok() {
                accepted += 1;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), close).await;
        accepted
    });
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert_eq!(ask(&client, 500).await.unwrap_err().cause(), "connect");
        tokio::task::yield_now().await;
    }
    assert!((1..10).contains(&accepted.await.unwrap()));
}

#[tokio::test]
async fn connections_that_went_silent_are_left_by_exchanges() {
    let mut server = Server::start().await;
    let mut warm = Vec::new();
    for _ in 0..4 {
        let client = server.client.clone();
        warm.push(tokio::spawn(async move { ask(&client, 5000).await }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for call in warm {
        answer(server.next().await);
        call.await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // What is open now goes silent; what is opened later works.
    server.cut.send(server.opened()).unwrap();
    let began = Instant::now();
    let mut lost = Vec::new();
    loop {
        let requests = stream::iter([Framed::encoded(&[])]);
        let call = server.client.bidi("/t/T", &MetadataMap::new(), requests).await.unwrap();
        lost.push(tokio::spawn(async move {
            let mut call = call;
            call.next::<CheckResponse>().await
        }));
        let asked = tokio::time::timeout(Duration::from_millis(100), server.asked.recv()).await;
        if asked.is_ok() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(8));
    }
}

#[tokio::test]
async fn a_service_that_is_back_is_asked_within_a_second() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let client = client(port);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(ask(&client, 500).await.unwrap_err().cause(), "connect");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut server = Server::start_on(port).await;
    let answers = tokio::spawn(async move {
        loop {
            answer(server.next().await);
        }
    });
    let began = Instant::now();
    while ask(&client, 500).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    answers.abort();
}
