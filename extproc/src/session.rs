//! The exchange with the processor, off the worker: one bidirectional call for one request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use callout_common::Outbox;
use callout_common::grpc::{CallError, Client, Failure, MetadataMap};
use callout_protos::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};
use prost::Message;

use crate::stream::Event;

const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// The worker's end of an exchange. Dropping it closes our side.
#[derive(Debug)]
pub(crate) struct Session {
    messages: mpsc::UnboundedSender<Bytes>,
    backlog: Arc<Backlog>,
    /// Dropped with the session: the exchange lingers, and then goes.
    _over: oneshot::Sender<()>,
}

/// What was sent and not taken by the connection yet.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    /// The stream wants to know when there is room again.
    asked: AtomicBool,
}

/// Where a backlog that was too long has become short enough, in bytes.
const ROOM: usize = 16 << 10;

impl Session {
    /// An exchange, and the work that carries it. It lasts for `linger` after this end is dropped,
    /// at the most.
    pub(crate) fn new(
        client: Client,
        metadata: MetadataMap,
        linger: Duration,
        outbox: Outbox<Event>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (messages, queue) = mpsc::unbounded();
        let (over, ended) = oneshot::channel();
        let (answers, room) = (outbox.clone(), outbox.clone());
        let backlog = Arc::new(Backlog::default());
        let taken = Arc::clone(&backlog);
        let queue = queue.inspect(move |message: &Bytes| {
            let before = taken.bytes.fetch_sub(message.len(), Ordering::SeqCst);
            let short = before.saturating_sub(message.len()) <= ROOM;
            if short && taken.asked.swap(false, Ordering::SeqCst) {
                let _ = room.send(Event::Room);
            }
        });
        let exchange = async move {
            let exchange = async {
                let mut call = client.bidi(PROCESS, &metadata, queue).await?;
                while let Some(answer) = call.next::<ProcessingResponse>().await? {
                    if answers.send(Event::Answer(Box::new(answer))).is_err() {
                        // The stream is over; whatever else comes is read away until the end.
                        continue;
                    }
                }
                Ok::<(), CallError>(())
            };
            let lingering = async {
                let _ = ended.await;
                tokio::time::sleep(linger).await;
            };
            tokio::select! {
                result = exchange => result.map_err(Failure::Call),
                () = lingering => Ok(()),
            }
        };
        let work = async move {
            // A panic is logged by the panic hook; the stream learns that nothing more comes.
            let result =
                AssertUnwindSafe(exchange).catch_unwind().await.unwrap_or(Err(Failure::Lost));
            let _ = outbox.send(Event::Closed(result));
        };
        (Self { messages, backlog, _over: over }, work)
    }

    /// Sends a message. One that can't go any more is answered by the exchange's end.
    pub(crate) fn send(&self, message: &ProcessingRequest) {
        let message = Bytes::from(message.encode_to_vec());
        self.backlog.bytes.fetch_add(message.len(), Ordering::SeqCst);
        let _ = self.messages.unbounded_send(message);
    }

    /// Whether more than `limit` bytes wait for the processor. If so, [`Event::Room`] comes when
    /// they don't any more.
    pub(crate) fn backlog(&self, limit: usize) -> bool {
        if self.backlog.bytes.load(Ordering::SeqCst) <= limit.max(ROOM) {
            return false;
        }
        self.backlog.asked.store(true, Ordering::SeqCst);
        // It may have been taken in between, and then nobody would tell.
        self.backlog.bytes.load(Ordering::SeqCst) > ROOM
            || !self.backlog.asked.swap(false, Ordering::SeqCst)
    }
}
