use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use pbjson_types::Duration as Text;

use super::*;
use crate::grpc::tests::thread::{self, Serving, USUAL, client};
use crate::worker::testing::Loop;

const PATH: &str = "/test.Service/Method";

/// A service whose connections are `serve`'s.
fn service<F: Future<Output = ()> + 'static>(
    serve: impl Fn(Serving, usize) -> F + Send + 'static,
) -> Client {
    client(thread::service(USUAL, serve))
}

fn text() -> Text {
    Text { seconds: 7, nanos: 9 }
}

fn framed() -> Bytes {
    Framed::of(&text()).into_bytes()
}

/// Sends an answer in pieces, then a status.
fn answer(respond: &mut SendResponse<Bytes>, pieces: &[Bytes], status: &str) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut body = respond.send_response(head, false).unwrap();
    for piece in pieces {
        body.send_data(piece.clone(), false).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", HeaderValue::from_static("so%20what"));
    body.send_trailers(trailers).unwrap();
}

/// Answers every call of a connection at once.
async fn well(mut serving: Serving, _: usize) {
    while let Some(Ok((_, mut respond))) = serving.accept().await {
        answer(&mut respond, &[framed()], "0");
    }
}

fn call(
    client: &Client,
    timeout: Duration,
) -> impl Future<Output = Result<Text, CallError>> + use<> {
    let message = Framed::of(&text());
    let deadline = Some(Instant::now() + timeout);
    client.unary_on_worker(PATH, message, MetadataMap::new(), deadline).unwrap()
}

/// The deadline that a call tells, in milliseconds.
fn left(request: &Request<RecvStream>) -> u64 {
    let text = request.headers()["grpc-timeout"].to_str().unwrap();
    let micros = text.strip_suffix('u').map(|text| text.parse::<u64>().unwrap() / 1000);
    micros.unwrap_or_else(|| text.strip_suffix('m').unwrap().parse().unwrap())
}

const LONG: Duration = Duration::from_secs(20);

fn outcome(client: &Client) -> Result<Text, CallError> {
    Loop::new().run(call(client, LONG))
}

fn status(code: i32, message: &str) -> CallError {
    CallError::Status { code, message: message.to_owned() }
}

#[test]
fn many_calls_share_a_connection() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let client = service(|serving, number| {
        CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        well(serving, number)
    });
    let events = Loop::new();
    let got = Rc::new(RefCell::new(Vec::new()));
    let mut streams = Vec::new();
    for _ in 0..300 {
        let (mut place, waiter) = events.register();
        let (call, got) = (call(&client, LONG), Rc::clone(&got));
        place.start(async move {
            let answer = call.await;
            got.borrow_mut().push(answer);
        });
        streams.push((place, waiter));
    }
    events.until(|| got.borrow().len() == 300);
    assert!(got.borrow().iter().all(|answer| *answer == Ok(text())));
    // More than one where the service's limit of streams asks for it.
    assert!(CONNECTIONS.load(Ordering::SeqCst) <= 4);
}

#[test]
fn an_answer_may_come_in_any_pieces() {
    let client = service(|mut serving, _| async move {
        while let Some(Ok((_, mut respond))) = serving.accept().await {
            let bytes: Vec<_> = framed().iter().map(|byte| Bytes::from(vec![*byte])).collect();
            answer(&mut respond, &bytes, "0");
        }
    });
    assert_eq!(outcome(&client), Ok(text()));
}

#[test]
fn whatever_is_wrong_with_an_answer_has_its_cause() {
    /// What is sent, in turn.
    const WRONG: &str = "abcdefgh";
    let client = service(|mut serving, _| async move {
        let mut kinds = WRONG.chars();
        while let Some(Ok((_, mut respond))) = serving.accept().await {
            let head = |status: u16| Response::builder().status(status);
            match kinds.next().unwrap() {
                'a' => answer(&mut respond, &[], "7"),
                'b' => {
                    let head = head(200).header("grpc-status", "16").header("grpc-message", "no");
                    respond.send_response(head.body(()).unwrap(), true).map(drop).unwrap();
                }
                'c' => {
                    respond.send_response(head(503).body(()).unwrap(), true).map(drop).unwrap();
                }
                'd' => {
                    let head = head(200).body(()).unwrap();
                    let mut body = respond.send_response(head, false).unwrap();
                    body.send_data(framed(), true).unwrap();
                }
                'e' => answer(&mut respond, &[], "0"),
                'f' => answer(&mut respond, &[framed(), framed()], "0"),
                'g' => answer(&mut respond, &[Bytes::from_static(b"\0\xff\xff\xff\xff")], "0"),
                _ => answer(&mut respond, &[Bytes::from_static(b"\0\0\0\0\x01\xff")], "0"),
            }
        }
    });
    let events = Loop::new();
    let next = || events.run(call(&client, LONG)).unwrap_err();
    assert_eq!(next(), status(7, "so what"));
    assert_eq!(next(), status(16, "no"));
    assert_eq!(next().cause(), "status");
    assert!(matches!(next(), CallError::Status { code: 2, .. }));
    assert_eq!(next().cause(), "decode");
    assert_eq!(next().cause(), "decode");
    assert_eq!(next(), CallError::TooLarge);
    assert_eq!(next().cause(), "decode");
}

#[test]
fn a_call_that_is_too_slow_ends_in_time_and_others_go_on() {
    let client = service(|mut serving, _| async move {
        let mut kept = Vec::new();
        while let Some(Ok((request, mut respond))) = serving.accept().await {
            if left(&request) < 1000 {
                kept.push(respond);
            } else {
                answer(&mut respond, &[framed()], "0");
            }
        }
    });
    let events = Loop::new();
    for _ in 0..2 {
        let slow = events.run(call(&client, Duration::from_millis(30)));
        assert_eq!(slow, Err(CallError::Timeout));
        assert_eq!(events.run(call(&client, LONG)), Ok(text()));
    }
}

#[test]
fn a_service_that_says_nothing_loses_its_connection_and_a_new_one_is_made() {
    let client = service(|mut serving, number| async move {
        let mut kept = Vec::new();
        while let Some(Ok((_, mut respond))) = serving.accept().await {
            if number == 0 {
                kept.push(respond);
            } else {
                answer(&mut respond, &[framed()], "0");
            }
        }
    });
    let events = Loop::new();
    // A connection is not taken for dead in its youth.
    let ask = |_: &i32| events.run(call(&client, Duration::from_millis(500)));
    let silent = (0..20).take_while(|n| ask(n) == Err(CallError::Timeout)).count();
    assert!((3..20).contains(&silent), "{silent}");
    assert_eq!(events.run(call(&client, LONG)), Ok(text()));
}

#[test]
fn a_call_that_the_service_has_not_looked_at_is_sent_again() {
    let client = service(|mut serving, number| async move {
        let Some(Ok((_, mut respond))) = serving.accept().await else { return };
        answer(&mut respond, &[framed()], "0");
        if number == 0 {
            let Some(Ok((_, mut respond))) = serving.accept().await else { return };
            respond.send_reset(Reason::REFUSED_STREAM);
        }
        serving.graceful_shutdown();
        while serving.accept().await.is_some() {}
    });
    let events = Loop::new();
    for _ in 0..4 {
        assert_eq!(events.run(call(&client, LONG)), Ok(text()));
    }
}

#[test]
fn a_connection_that_breaks_midway_fails_its_calls_and_the_next_gets_another() {
    let client = service(|mut serving, number| async move {
        if number == 0 {
            let Some(Ok((_, mut respond))) = serving.accept().await else { return };
            answer(&mut respond, &[framed()], "0");
            let _pending = serving.accept().await;
            return;
        }
        well(serving, number).await;
    });
    let events = Loop::new();
    assert_eq!(events.run(call(&client, LONG)), Ok(text()));
    assert_eq!(events.run(call(&client, LONG)).unwrap_err().cause(), "reset");
    assert_eq!(events.run(call(&client, LONG)), Ok(text()));
}

#[test]
fn a_connection_that_was_closed_while_nobody_waited_costs_no_call() {
    let client = service(|mut serving, _| async move {
        let Some(Ok((_, mut respond))) = serving.accept().await else { return };
        answer(&mut respond, &[framed()], "0");
        // Closed without a word, some time after the answer.
        let _ = tokio::time::timeout(Duration::from_millis(20), serving.accept()).await;
    });
    let events = Loop::new();
    for _ in 0..3 {
        assert_eq!(events.run(call(&client, LONG)), Ok(text()));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nobody_at_the_target_is_an_error_at_once_and_again_while_it_rests() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(listener.local_addr().unwrap());
    drop(listener);
    let events = Loop::new();
    for _ in 0..3 {
        assert_eq!(events.run(call(&client, LONG)).unwrap_err().cause(), "connect");
    }
}

#[test]
fn clients_that_leave_in_bulk_cost_a_few_resets_and_nobody_elses_call() {
    static RESETS: AtomicUsize = AtomicUsize::new(0);
    let client = service(|mut serving, _| async move {
        while let Some(Ok((request, mut respond))) = serving.accept().await {
            if left(&request) > 19_000 {
                answer(&mut respond, &[framed()], "0");
                continue;
            }
            tokio::task::spawn_local(async move {
                let reset = poll_fn(|cx| respond.poll_reset(cx));
                if tokio::time::timeout(Duration::from_secs(1), reset).await.is_ok() {
                    RESETS.fetch_add(1, Ordering::SeqCst);
                } else {
                    answer(&mut respond, &[framed()], "0");
                }
            });
        }
    });
    let events = Loop::new();
    assert_eq!(events.run(call(&client, LONG)), Ok(text()));
    let mut streams = Vec::new();
    for _ in 0..100 {
        let (mut place, waiter) = events.register();
        let call = call(&client, Duration::from_secs(19));
        place.start(async move { drop(call.await) });
        streams.push((place, waiter));
    }
    let (mut place, waiter) = events.register();
    let kept = call(&client, LONG);
    place.start(async move { assert_eq!(kept.await, Ok(text())) });
    assert!(events.fire(LONG));
    drop(streams);
    events.until(|| waiter.told.get() == 1);
    for _ in 0..20 {
        assert_eq!(events.run(call(&client, LONG)), Ok(text()));
    }
    let resets = RESETS.load(Ordering::SeqCst);
    // Ten at once, and some more where the machine is slow.
    assert!((1..60).contains(&resets), "{resets} resets");
}
