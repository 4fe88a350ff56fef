//! Clients that leave while their answers are on the way.

use std::time::{Duration, Instant};

use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use tokio::task::JoinHandle;

use super::server::{Server, answer};
use crate::grpc::{CallError, Client, MetadataMap};

/// More than any limit of an HTTP/2 library on what it resets by itself.
const LEAVERS: usize = 1500;

fn call(client: &Client) -> JoinHandle<Result<CheckResponse, CallError>> {
    let client = client.clone();
    tokio::spawn(async move {
        let metadata = MetadataMap::new();
        let deadline = Some(Instant::now() + Duration::from_secs(20));
        client.unary("/test/Check", &CheckRequest::default(), &metadata, deadline).await
    })
}

#[tokio::test]
async fn answers_to_calls_that_were_given_up_cost_no_other_call() {
    let mut server = Server::start().await;
    let leavers: Vec<_> = (0..LEAVERS).map(|_| call(&server.client)).collect();
    let mut asked = Vec::new();
    for _ in 0..LEAVERS {
        asked.push(server.next().await);
    }
    let stays: Vec<_> = (0..4).map(|_| call(&server.client)).collect();
    let mut last = Vec::new();
    for _ in 0..stays.len() {
        last.push(server.next().await);
    }
    // What the client says of its leaving comes after the server has answered.
    server.held.send(true).unwrap();
    for leaver in leavers {
        leaver.abort();
        let _ = leaver.await;
    }
    asked.into_iter().for_each(answer);
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.held.send(false).unwrap();
    last.into_iter().for_each(answer);
    for call in stays {
        assert_eq!(call.await.unwrap(), Ok(CheckResponse::default()));
    }
}

#[tokio::test]
async fn a_connection_that_leavers_cost_is_not_the_services_failure() {
    let mut server = Server::start().await;
    // More on each of two connections than may run out there.
    let leavers: Vec<_> = (0..2 * LEAVERS).map(|_| call(&server.client)).collect();
    let mut asked = Vec::new();
    for _ in 0..leavers.len() {
        asked.push(server.next().await);
    }
    for leaver in leavers {
        leaver.abort();
        let _ = leaver.await;
    }
    let before = server.opened();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stays = call(&server.client);
    answer(server.next().await);
    assert_eq!(stays.await.unwrap(), Ok(CheckResponse::default()));
    assert!(server.opened() > before);
}
