//! The same exchange on a worker and on the runtime.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use callout_common::RawConfig;
use callout_common::grpc::MetadataMap;
use callout_common::testing::{SentEvents, WorkerLoop};
use callout_protos::envoy::service::ext_proc::v3::HttpBody;
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request;
use futures::future::{Either, select};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response};
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::config::Config;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(10);

/// Where an exchange runs.
#[derive(Clone, Copy, Debug)]
enum Where {
    Worker,
    Runtime,
}

const BOTH: [Where; 2] = [Where::Worker, Where::Runtime];

fn run<T: Send + 'static>(place: Where, work: impl Future<Output = T> + Send + 'static) -> T {
    match place {
        Where::Worker => WorkerLoop::new().run(work),
        Where::Runtime => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async { tokio::time::timeout(LONG, work).await.unwrap() })
        }
    }
}

/// A processor that does `serve` for its calls, which are numbered.
fn processor<F: Future<Output = ()> + 'static>(
    serve: impl Fn(usize, RecvStream, SendResponse<Bytes>) -> F + Clone + Send + 'static,
) -> SocketAddr {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let serve = serve.clone();
                tokio::task::spawn_local(async move {
                    let mut serving = h2::server::handshake(socket).await.unwrap();
                    let mut number = 0;
                    while let Some(Ok((request, respond))) = serving.accept().await {
                        tokio::task::spawn_local(serve(number, request.into_body(), respond));
                        number += 1;
                    }
                });
            }
        });
    });
    receive.recv().unwrap()
}

/// Reads the next piece of a request; `false` at its end.
async fn read(request: &mut RecvStream) -> bool {
    let Some(Ok(piece)) = request.data().await else { return false };
    request.flow_control().release_capacity(piece.len()).unwrap();
    true
}

fn head(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    respond.send_response(head, false).unwrap()
}

fn end(mut body: SendStream<Bytes>, status: &str) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    body.send_trailers(trailers).unwrap();
}

/// Answers with an empty message.
fn answer(body: &mut SendStream<Bytes>) {
    let length = u32::try_from(ProcessingResponse::default().encoded_len()).unwrap();
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    body.send_data(bytes.into(), false).unwrap();
}

fn client(address: SocketAddr, retries: Value) -> Client {
    let config = json!({"grpc_service": {
        "google_grpc": {"target_uri": address.to_string(), "stat_prefix": "s"},
        "retry_policy": retries,
    }});
    Config::read(RawConfig::new(config.to_string().as_bytes())).unwrap().service.client
}

fn message(bytes: usize) -> ProcessingRequest {
    let body = HttpBody { body: vec![7; bytes], ..HttpBody::default() };
    ProcessingRequest { request: Some(Request::RequestBody(body)), ..Default::default() }
}

/// A running exchange: the stream's end of it, and what it was told.
struct Running<W> {
    exchange: Option<Exchange>,
    events: SentEvents<Event>,
    told: Vec<Event>,
    work: W,
}

fn begin(client: Client, linger: Duration) -> Running<impl Future<Output = ()> + Send + Unpin> {
    let events = SentEvents::default();
    let place = StreamPermits::new(Some(1)).take().unwrap();
    let (exchange, work) =
        Exchange::new(client, MetadataMap::new(), linger, place, events.outbox());
    Running { exchange: Some(exchange), events, told: Vec::new(), work: Box::pin(work) }
}

impl<W: Future<Output = ()> + Unpin> Running<W> {
    /// Lets it run until it has told something for which `done`.
    async fn until(&mut self, done: impl Fn(&Event) -> bool) {
        loop {
            self.told.extend(self.events.take());
            if self.told.iter().any(&done) {
                return;
            }
            if let Either::Left(_) = select(&mut self.work, sleep(SHORT)).await {
                self.told.extend(self.events.take());
                assert!(self.told.iter().any(&done), "it ended with {:?}", self.told);
                return;
            }
        }
    }

    fn send(&self, bytes: usize) {
        self.exchange.as_ref().unwrap().send(&message(bytes));
    }
}

const fn is_answer(event: &Event) -> bool {
    matches!(event, Event::Answer(_))
}

const fn is_end(event: &Event) -> bool {
    matches!(event, Event::Closed(Ok(())))
}

#[test]
fn answers_are_events_and_the_end_of_the_stream_ends_the_request() {
    let address = processor(|_, mut request, mut respond| async move {
        let mut body = head(&mut respond);
        while read(&mut request).await {
            answer(&mut body);
        }
        end(body, "0");
    });
    for place in BOTH {
        let client = client(address, Value::Null);
        run(place, async move {
            let mut running = begin(client, LONG);
            running.send(1);
            running.until(is_answer).await;
            running.exchange = None;
            running.until(is_end).await;
        });
    }
}

#[test]
fn what_failed_before_any_answer_is_begun_again_with_all_that_was_sent() {
    let address = processor(|number, mut request, mut respond| async move {
        let mut body = head(&mut respond);
        // The request side stays open: it ends with the call.
        assert!(read(&mut request).await);
        if number == 0 {
            return end(body, "14");
        }
        answer(&mut body);
        while read(&mut request).await {}
        end(body, "0");
    });
    for place in BOTH {
        let client = client(address, json!({"num_retries": 1, "retry_on": "unavailable"}));
        run(place, async move {
            let mut running = begin(client, LONG);
            running.send(9);
            running.until(is_answer).await;
            let again = running.told.iter().filter(|event| matches!(event, Event::Retried));
            assert_eq!(again.count(), 1, "{place:?}");
            running.exchange = None;
            running.until(is_end).await;
        });
    }
}

#[test]
fn a_processor_that_does_not_end_is_left_when_its_time_is_over() {
    let address = processor(|_, mut request, mut respond| async move {
        let body = head(&mut respond);
        while read(&mut request).await {}
        // It says nothing more, until it is reset.
        let mut body = body;
        let _ = poll_fn(|cx| body.poll_reset(cx)).await;
    });
    for place in BOTH {
        let client = client(address, Value::Null);
        run(place, async move {
            let mut running = begin(client, SHORT);
            running.send(1);
            running.exchange = None;
            running.until(is_end).await;
        });
    }
}

#[test]
fn a_processor_that_does_not_read_makes_a_backlog_and_then_room() {
    const PIECES: usize = 30;
    for place in BOTH {
        let (read_now, reads) = tokio::sync::watch::channel(false);
        let address = processor(move |_, mut request, mut respond| {
            let mut reads = reads.clone();
            async move {
                let body = head(&mut respond);
                let _ = reads.wait_for(|reads| *reads).await;
                while read(&mut request).await {}
                end(body, "0");
            }
        });
        let client = client(address, Value::Null);
        run(place, async move {
            let mut running = begin(client, LONG);
            for _ in 0..PIECES {
                running.send(100_000);
            }
            assert!(running.exchange.as_ref().unwrap().backlog(1 << 20), "{place:?}");
            let idle = select(&mut running.work, sleep(20 * SHORT)).await;
            assert!(matches!(idle, Either::Right(_)));
            assert!(running.events.take().is_empty(), "{place:?}: nothing was read");
            read_now.send(true).unwrap();
            running.until(|event| matches!(event, Event::Room)).await;
            assert!(!running.exchange.as_ref().unwrap().backlog(1 << 20), "{place:?}");
            running.exchange = None;
            running.until(is_end).await;
        });
    }
}
