//! HTTP streams to Envoy's own clusters, for work on any thread.
//!
//! Envoy opens such streams on its threads only, and what outlives a request (a shared call, a
//! report) can't belong to one. So every configuration has a desk on the main thread: work
//! elsewhere sends it commands through [`ClusterStreams`], and it sends back what Envoy hands to it.

mod desk;
pub mod http;

use crate::envoy::cluster::ClusterError;
use crate::envoy::cluster::OpenRequest;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) use self::desk::ClusterStreamManager;
use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::tasks::mailbox::Outbox;

/// Bytes of an answer that may wait to be read. The work behind reads them at once; more means that
/// it can't keep up.
const MAX_WAITING: usize = 64 << 20;

/// The way to the clusters of one configuration. Cheap to clone; the default leads nowhere.
#[derive(Debug, Clone, Default)]
pub struct ClusterStreams(Option<Outbox<Command>>);

/// What the desk is to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open a stream.
    Open(u64, OpenRequest, ResponseSender),
    /// Send a piece of the request.
    Send(u64, Bytes, bool),
    /// End the stream, whatever its state.
    Reset(u64),
}

/// A part of an answer, in the order of arrival.
#[derive(Debug)]
pub(crate) enum ResponseEvent {
    /// The status and the headers; `true` when nothing follows.
    Head(StatusCode, HeaderMap, bool),
    Data(Bytes),
    /// The answer is complete, with trailers if there are any.
    End(Option<HeaderMap>),
    Failed(ClusterError),
}

/// The desk's end of a call.
#[derive(Debug)]
pub(crate) struct ResponseSender {
    parts: UnboundedSender<ResponseEvent>,
    waiting: Arc<AtomicUsize>,
}

impl ResponseSender {
    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool {
        self.parts.is_closed()
    }

    fn send(&self, part: ResponseEvent) {
        // Whoever has gone needs no answer.
        let _ = self.parts.send(part);
    }

    /// Hands on a piece of the body; `false` when too much waits already.
    fn data(&self, bytes: Bytes) -> bool {
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        let room = waiting <= MAX_WAITING;
        if room {
            self.send(ResponseEvent::Data(bytes));
        }
        room
    }
}

/// The caller's end of a call. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct ClusterStream {
    number: u64,
    clusters: ClusterStreams,
    parts: UnboundedReceiver<ResponseEvent>,
    waiting: Arc<AtomicUsize>,
    /// Nothing is left to be reset.
    over: bool,
}

impl ClusterStreams {
    pub(crate) const fn new(outbox: Outbox<Command>) -> Self {
        Self(Some(outbox))
    }

    /// A client for HTTP requests to the cluster called `cluster`, by its load balancing, TLS, limits and
    /// statistics.
    #[must_use]
    pub fn http(&self, cluster: &str) -> http::HttpClient {
        http::HttpClient::new(self.clone(), cluster)
    }

    /// Opens a stream.
    pub(crate) fn open(&self, opening: OpenRequest) -> ClusterStream {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (sender, parts) = unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        let caller = ResponseSender { parts: sender, waiting: Arc::clone(&waiting) };
        // A configuration that is gone drops the command, and the caller in it: a reset.
        self.command(Command::Open(number, opening, caller));
        ClusterStream { number, clusters: self.clone(), parts, waiting, over: false }
    }

    /// Sends a piece of the request of call `number`.
    pub(crate) fn send(&self, number: u64, bytes: Bytes, end: bool) {
        self.command(Command::Send(number, bytes, end));
    }

    pub(crate) fn reset(&self, number: u64) {
        self.command(Command::Reset(number));
    }

    fn command(&self, command: Command) {
        if let Some(outbox) = &self.0 {
            // Envoy ends the streams of a configuration that is gone.
            let _ = outbox.send(command);
        }
    }
}

impl ClusterStream {
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The next part. A call whose desk has gone was reset.
    pub(crate) fn poll_part(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<ResponseEvent> {
        self.parts.poll_recv(cx).map(|part| match part {
            Some(part) => {
                if let ResponseEvent::Data(bytes) = &part {
                    self.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
                }
                part
            }
            None => ResponseEvent::Failed(ClusterError::Reset),
        })
    }

    /// Notes that both sides of the stream have ended.
    pub(crate) const fn is_over(&mut self) {
        self.over = true;
    }
}

impl Drop for ClusterStream {
    fn drop(&mut self) {
        if !self.over {
            self.clusters.reset(self.number);
        }
    }
}

#[cfg(test)]
mod tests;
