//! The same calls on a worker and on the runtime.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::{Either, join, select};
use futures::stream;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use pbjson_types::BytesValue;

use super::*;
use crate::grpc::tests::thread::{self, Serving, USUAL, client};
use crate::worker::testing::Loop;

const PATH: &str = "/test.Service/Method";
const PATIENCE: Duration = Duration::from_secs(20);

/// A service whose connections are `serve`'s, with these windows.
fn service<F: Future<Output = ()> + 'static>(
    windows: u32,
    serve: impl Fn(Serving, usize) -> F + Send + 'static,
) -> Client {
    client(thread::service(windows, serve))
}

/// Begins an answer.
fn head(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    respond.send_response(head, false).unwrap()
}

/// Ends an answer.
fn end(mut body: SendStream<Bytes>) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    body.send_trailers(trailers).unwrap();
}

/// Sends bytes back as they come, and ends when they do.
async fn echo(mut request: RecvStream, mut respond: SendResponse<Bytes>) {
    let mut body = head(&mut respond);
    while let Some(Ok(piece)) = request.data().await {
        request.flow_control().release_capacity(piece.len()).unwrap();
        if piece.is_empty() {
            // The end of the request; a frame without bytes that ends nothing is an attack.
            continue;
        }
        body.reserve_capacity(piece.len());
        while body.capacity() < piece.len() {
            if !matches!(poll_fn(|cx| body.poll_capacity(cx)).await, Some(Ok(_))) {
                return;
            }
        }
        body.send_data(piece, false).unwrap();
    }
    end(body);
}

async fn echoing(mut serving: Serving, _: usize) {
    while let Some(Ok((request, respond))) = serving.accept().await {
        tokio::task::spawn_local(echo(request.into_body(), respond));
    }
}

fn message(bytes: usize) -> BytesValue {
    BytesValue { value: vec![7; bytes].into() }
}

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Worker,
    Runtime,
}

const PLACES: [Place; 2] = [Place::Worker, Place::Runtime];

/// Runs `work` to its end.
fn run<T: Send + 'static>(place: Place, work: impl Future<Output = T> + Send + 'static) -> T {
    match place {
        Place::Worker => Loop::new().run(work),
        Place::Runtime => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() })
        }
    }
}

/// Sends `messages` one after the other, each when the one before was answered, and then ends.
async fn exchange(client: Client, messages: Vec<BytesValue>) -> Result<usize, CallError> {
    let (send, requests) = unbounded();
    let mut call = client.bidi(PATH, &MetadataMap::new(), requests).await?;
    for message in &messages {
        send.unbounded_send(Framed::of(message)).unwrap();
        assert_eq!(call.next().await?.as_ref(), Some(message));
    }
    drop(send);
    assert_eq!(call.next::<BytesValue>().await?, None);
    Ok(messages.len())
}

#[test]
fn messages_go_both_ways_and_the_end_of_the_requests_ends_the_call() {
    let client = service(USUAL, echoing);
    for place in PLACES {
        let messages = vec![message(0), message(1), message(300_000), message(5)];
        assert_eq!(run(place, exchange(client.clone(), messages)), Ok(4), "{place:?}");
    }
}

#[test]
fn many_calls_share_a_workers_connection() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let client = service(USUAL, |serving, number| {
        CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        echoing(serving, number)
    });
    let events = Loop::new();
    let mut streams = Vec::new();
    let done = Rc::new(Cell::new(0));
    for _ in 0..200 {
        let (mut place, waiter) = events.register();
        let (call, done) = (exchange(client.clone(), vec![message(300); 3]), Rc::clone(&done));
        place.start(async move {
            assert_eq!(call.await, Ok(3));
            done.set(done.get() + 1);
        });
        streams.push((place, waiter));
    }
    events.until(|| done.get() == 200);
    assert!(CONNECTIONS.load(Ordering::SeqCst) <= 4);
}

/// A call whose requests a test sends.
fn open(
    client: &Client,
    most: usize,
) -> (UnboundedSender<Framed>, Arc<AtomicUsize>, impl Future<Output = ()> + Send + use<>) {
    let (send, requests) = unbounded();
    let taken = Arc::new(AtomicUsize::new(0));
    let (counts, client) = (Arc::clone(&taken), client.clone());
    let work = async move {
        let requests = requests.inspect(move |_| _ = counts.fetch_add(1, Ordering::SeqCst));
        let mut call = client.bidi(PATH, &MetadataMap::new(), requests).await.unwrap();
        for _ in 0..most {
            if call.next::<BytesValue>().await.unwrap().is_none() {
                return;
            }
        }
    };
    (send, taken, work)
}

/// What a service reads when it is told to.
fn reading_when_told(windows: u32) -> (Client, tokio::sync::watch::Sender<bool>) {
    let (read, reads) = tokio::sync::watch::channel(false);
    let client = service(windows, move |mut serving, _| {
        let reads = reads.clone();
        async move {
            while let Some(Ok((request, respond))) = serving.accept().await {
                let mut reads = reads.clone();
                tokio::task::spawn_local(async move {
                    let _ = reads.wait_for(|read| *read).await;
                    echo(request.into_body(), respond).await;
                });
            }
        }
    });
    (client, read)
}

#[test]
fn a_service_that_does_not_read_holds_the_sender_back() {
    const PIECES: usize = 200;
    for place in PLACES {
        let (client, read) = reading_when_told(USUAL);
        let (send, taken, work) = open(&client, PIECES);
        for _ in 0..PIECES {
            send.unbounded_send(Framed::of(&message(60_000))).unwrap();
        }
        // While the service reads nothing, what was taken stays the same; then it reads on.
        let watched = async move {
            let mut work = pin!(work);
            let mut before = usize::MAX;
            while before != taken.load(Ordering::SeqCst) || before == 0 {
                before = taken.load(Ordering::SeqCst);
                let pause = worker::sleep(Duration::from_millis(100));
                assert!(matches!(select(&mut work, pause).await, Either::Right(_)));
            }
            assert!(before * 60_000 < 2 << 20, "{place:?}: {before} pieces were taken");
            read.send(true).unwrap();
            work.await;
            assert_eq!(taken.load(Ordering::SeqCst), PIECES);
        };
        run(place, watched);
    }
}

#[test]
fn a_message_larger_than_what_may_wait_for_the_socket_goes_without_a_word_of_the_service() {
    // With windows so large the service says nothing until it has got half of them.
    for place in PLACES {
        let client = service(1 << 28, echoing);
        let messages = vec![message(8 << 20)];
        assert_eq!(run(place, exchange(client, messages)), Ok(1), "{place:?}");
    }
}

/// Counts the ends of requests.
fn counting_ends() -> (Client, Arc<AtomicUsize>) {
    let ends = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&ends);
    let client = service(USUAL, move |mut serving, _| {
        let counts = Arc::clone(&counts);
        async move {
            while let Some(Ok((request, mut respond))) = serving.accept().await {
                let counts = Arc::clone(&counts);
                tokio::task::spawn_local(async move {
                    let mut request = request.into_body();
                    let body = head(&mut respond);
                    while let Some(Ok(piece)) = request.data().await {
                        request.flow_control().release_capacity(piece.len()).unwrap();
                    }
                    if request.is_end_stream() {
                        counts.fetch_add(1, Ordering::SeqCst);
                        end(body);
                    }
                });
            }
        }
    });
    (client, ends)
}

/// Waits until `done`, without a turn of the worker.
fn without_a_turn(done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it never happens");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_stream_leaves_goes_on_when_no_other_waits_on_its_worker() {
    let (client, ends) = counting_ends();
    let events = Loop::new();
    let (place, _waiter) = events.register();
    let (send, taken, work) = open(&client, 1);
    let ended = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&ended);
    worker::detach(async move {
        work.await;
        counts.fetch_add(1, Ordering::SeqCst);
    });
    send.unbounded_send(Framed::of(&message(3))).unwrap();
    events.until(|| taken.load(Ordering::SeqCst) == 1);
    // The stream ends, and with it the worker's turns. The call does not.
    drop(place);
    drop(send);
    without_a_turn(|| ends.load(Ordering::SeqCst) == 1 && ended.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_call_that_has_no_connection_yet_when_its_stream_ends_is_made_all_the_same() {
    let (client, ends) = counting_ends();
    let events = Loop::new();
    let (place, _waiter) = events.register();
    let (send, _, work) = open(&client, 1);
    worker::detach(work);
    send.unbounded_send(Framed::of(&message(3))).unwrap();
    drop(send);
    assert!(events.fire(Duration::ZERO));
    drop(place);
    without_a_turn(|| ends.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_dropped_call_ends_its_request_or_resets_it() {
    for place in PLACES {
        let (client, ends) = counting_ends();
        run(place, async move {
            // More than may be reset.
            for _ in 0..150 {
                let requests = stream::pending::<Framed>();
                drop(client.bidi(PATH, &MetadataMap::new(), requests).await.unwrap());
            }
            while ends.load(Ordering::SeqCst) == 0 {
                worker::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

#[test]
fn a_service_that_dies_resets_or_goes_away_is_told_by_its_cause() {
    let client = service(USUAL, |mut serving, number| async move {
        let mut held = Vec::new();
        while let Some(Ok((request, mut respond))) = serving.accept().await {
            match number {
                // It goes away: what it has is answered, and no more is taken.
                0 => {
                    serving.graceful_shutdown();
                    tokio::task::spawn_local(echo(request.into_body(), respond));
                }
                1 => {
                    let mut body = head(&mut respond);
                    body.send_data(Framed::of(&message(1)).into_bytes(), false).unwrap();
                    held.push((request, body));
                    if held.len() == 2 {
                        return;
                    }
                }
                _ => respond.send_reset(Reason::INTERNAL_ERROR),
            }
        }
    });
    let events = Loop::new();
    let one = || exchange(client.clone(), vec![message(1)]);
    assert_eq!(events.run(one()), Ok(1));
    // On the second connection two exchanges get an answer each, and then it closes.
    let (first, second) = (one(), one());
    let both = events.run(join(first, second));
    assert_eq!((both.0.unwrap_err().cause(), both.1.unwrap_err().cause()), ("reset", "reset"));
    assert_eq!(events.run(one()).unwrap_err().cause(), "reset");
}

#[test]
fn connections_that_say_nothing_are_left_by_exchanges() {
    let client = service(USUAL, |mut serving, number| async move {
        let mut held = Vec::new();
        while let Some(Ok((request, respond))) = serving.accept().await {
            if number == 0 {
                held.push((request, respond));
            } else {
                tokio::task::spawn_local(echo(request.into_body(), respond));
            }
        }
    });
    let (events, began) = (Loop::new(), Instant::now());
    let answered = Rc::new(Cell::new(false));
    let mut waiting = Vec::new();
    while !answered.get() {
        assert!(began.elapsed() < PATIENCE);
        let one = exchange(client.clone(), vec![message(1)]);
        let (mut place, waiter) = events.register();
        let flag = Rc::clone(&answered);
        place.start(async move { flag.set(one.await.is_ok()) });
        waiting.push((place, waiter));
        events.run(worker::sleep(SILENCE / 4));
    }
    assert!(waiting.len() > 3);
}

#[test]
fn a_panic_while_a_call_is_polled_is_its_own_end_only() {
    let client = service(USUAL, echoing);
    let events = Loop::new();
    let (place, _waiter) = events.register();
    worker::detach(async { panic!("a fault") });
    assert_eq!(events.run(exchange(client, vec![message(1)])), Ok(1));
    drop(place);
}
