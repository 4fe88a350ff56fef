//! The exchange with the processor: one bidirectional call for one request, on its worker or off it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use callout_common::grpc::{CallError, Client, Failure, Framed, MetadataMap};
use callout_common::{Outbox, sleep};
use callout_protos::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call::event::Event;
use crate::call::replay_buffer::ReplayBuffer;

const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// The worker's end of an exchange. Dropping it closes our side.
#[derive(Debug)]
pub(crate) struct Exchange {
    messages: mpsc::UnboundedSender<Framed>,
    backlog: Arc<Backlog>,
    /// Dropped with the session: the exchange lingers, and then goes.
    _over: oneshot::Sender<()>,
    _place: Place,
}

/// The bound on open exchanges.
#[derive(Debug)]
pub(crate) struct StreamPermits(Arc<Semaphore>, usize);

/// One of the places; given back when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl StreamPermits {
    /// So many; without a number as many as there can be.
    pub(crate) fn new(most: Option<usize>) -> Self {
        let most = most.unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(most)), most)
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.1.saturating_sub(self.0.available_permits())
    }

    /// A free place, if there is one.
    pub(crate) fn take(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
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

/// One attempt at an exchange, to its end.
async fn run_attempt(
    client: &Client,
    metadata: &MetadataMap,
    tape: &ReplayBuffer,
    answers: &Outbox<Event>,
    backlog: &Arc<Backlog>,
    room: &Outbox<Event>,
) -> Result<(), CallError> {
    let (backlog, room) = (Arc::clone(backlog), room.clone());
    let messages = tape.play().inspect(move |message| {
        if backlog.taken(message.len()) {
            let _ = room.send(Event::Room);
        }
    });
    let mut call = client.bidi(PROCESS, metadata, messages).await?;
    while let Some(answer) = call.next::<ProcessingResponse>().await? {
        tape.forget();
        if answers.send(Event::Answer(Box::new(answer))).is_err() {
            // The stream is over; whatever else comes is read away until the end.
            continue;
        }
    }
    Ok(())
}

impl Backlog {
    /// So many bytes were taken; whether the stream wants to know that there is room again.
    fn taken(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            // What is sent again was taken before.
            Some(now.saturating_sub(bytes))
        });
        let left = before.unwrap_or_default().saturating_sub(bytes);
        left <= ROOM && self.asked.swap(false, Ordering::SeqCst)
    }
}

impl Exchange {
    /// An exchange, and the work that carries it, wherever that is polled. It lasts for `linger` after
    /// this end is dropped, at the most.
    pub(crate) fn new(
        client: Client,
        metadata: MetadataMap,
        linger: Duration,
        place: Place,
        outbox: Outbox<Event>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (messages, queue) = mpsc::unbounded();
        let (over, ended) = oneshot::channel();
        let (answers, room) = (outbox.clone(), outbox.clone());
        let backlog = Arc::new(Backlog::default());
        let taken = Arc::clone(&backlog);
        let tape = ReplayBuffer::new(queue, client.retries());
        let exchange = async move {
            let exchange = async {
                let mut retries = 0;
                // Kept over the next attempt: it counts against the budget until it is over.
                let mut _leave;
                loop {
                    let played =
                        run_attempt(&client, &metadata, &tape, &answers, &taken, &room).await;
                    let Err(error) = played else { return Ok(()) };
                    let again = tape.is_whole().then(|| client.again(&error, retries)).flatten();
                    let Some((delay, leave)) = again else { return Err(error) };
                    _leave = leave;
                    retries += 1;
                    let _ = answers.send(Event::Retried);
                    sleep(delay).await;
                }
            };
            let lingering = async {
                let _ = ended.await;
                sleep(linger).await;
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
        (Self { messages, backlog, _over: over, _place: place }, work)
    }

    /// Sends a message. One that can't go any more is answered by the exchange's end.
    pub(crate) fn send(&self, message: &ProcessingRequest) {
        let message = Framed::of(message);
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

#[cfg(test)]
mod tests;
