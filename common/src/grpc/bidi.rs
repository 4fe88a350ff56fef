//! A bidirectional call. The same future wherever it is polled: on a worker in its turns over that
//! worker's own connection, elsewhere over connections that all share, or through Envoy.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use h2::client::SendRequest;
use http::HeaderMap;
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tonic::metadata::MetadataMap;

use super::answer::{Answer, Inbound};
use super::call::{Client, RESENDS, Way, headers};
use super::connection;
use super::endpoint::ConnectionPool;
use super::error::{Broken, CallError};
use super::framing::Framed;
use super::http2::{self, Sending};
use super::stream_slots::StreamSlot;
use super::worker_pool::{self, WorkerPools};
use crate::worker::{self, Sleep};

/// How long a service may say nothing at all on a connection, with something to answer, before the
/// call speaks against that connection.
const SILENCE: Duration = Duration::from_secs(1);

impl Client {
    /// Opens a call of the bidirectional method at `path`, which closes its request side when
    /// `requests` end.
    ///
    /// Polled on a worker in its turn, with [`Client::runs_on_workers`], it goes over a connection of
    /// that worker's own; else it has to be polled on the runtime.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn bidi(
        &self,
        path: &'static str,
        metadata: &MetadataMap,
        requests: impl Stream<Item = Framed> + Send + 'static,
    ) -> Result<Answers, CallError> {
        let permit = self.permit()?;
        let (headers, _) = headers(metadata, None);
        let call = match &self.way {
            Way::Cluster(cluster) => {
                let call = Inbound::Cluster(cluster.stream(path, &headers, requests));
                Carried::Cluster(Answer::new(call, self.max_answer))
            }
            Way::Dialled(endpoint) => {
                let call = self.begin(endpoint, path, &headers, Box::pin(requests)).await?;
                Carried::Dialled(Box::new(call))
            }
        };
        Ok(Answers { call, _permit: permit })
    }

    /// Whether its calls can be made on a worker: not where Envoy carries them, nor with what a worker's
    /// own connections do not have.
    #[must_use]
    pub fn runs_on_workers(&self) -> bool {
        matches!(&self.way, Way::Dialled(endpoint) if endpoint.serves_workers())
    }

    async fn begin(
        &self,
        endpoint: &Arc<ConnectionPool>,
        path: &'static str,
        headers: &HeaderMap,
        requests: Requests,
    ) -> Result<Dialled, CallError> {
        let mut resends = 0;
        loop {
            let connection = Entered::enter(endpoint).await?;
            let slot = connection.slot().await?;
            let head = self.head(path, headers.clone())?;
            match http2::open(connection.sender(), slot, head).await.map_err(Broken::from) {
                Ok((receiving, sending)) => {
                    let answer = Answer::new(Inbound::Dialled(receiving), self.max_answer);
                    let outgoing = Outgoing { requests, sending: Some(sending), asked: false };
                    let watch = Watch::default();
                    let endpoint = Arc::clone(endpoint);
                    return Ok(Dialled { outgoing, answer, watch, connection, endpoint });
                }
                // Nothing of the requests has been taken yet.
                Err(broken) if broken.resend && resends < RESENDS => resends += 1,
                Err(broken) => return Err(broken.error),
            }
        }
    }
}

/// A connection with one more call on it.
enum Entered {
    Shared(connection::Entered),
    Own(Arc<worker_pool::Connection>),
}

impl Entered {
    /// A connection for one call, of the place where this is polled.
    async fn enter(endpoint: &Arc<ConnectionPool>) -> Result<Self, CallError> {
        let mut waits = None;
        let mut shared: Option<BoxFuture<'_, _>> = None;
        poll_fn(|cx| {
            if shared.is_none() && endpoint.serves_workers() && worker::in_turn() {
                let pool = WorkerPools::of(endpoint)
                    .ok_or_else(|| CallError::Internal("this thread has no worker".to_owned()))?;
                return pool.poll_connection(&mut waits, cx).map_ok(|connection| {
                    connection.begun();
                    Self::Own(connection)
                });
            }
            let shared = shared.get_or_insert_with(|| endpoint.connection().boxed());
            shared.as_mut().poll(cx).map_ok(Self::Shared)
        })
        .await
    }

    fn sender(&self) -> SendRequest<Bytes> {
        match self {
            Self::Shared(entered) => entered.sender(),
            Self::Own(connection) => connection.sender(),
        }
    }

    /// Waits until the service takes one more call here.
    async fn slot(&self) -> Result<StreamSlot, CallError> {
        match self {
            Self::Shared(entered) => entered.slot().await,
            Self::Own(connection) => connection.slot().await,
        }
    }

    /// Bytes that came so far.
    fn heard(&self) -> u64 {
        match self {
            Self::Shared(entered) => entered.connection().heard(),
            Self::Own(connection) => connection.http2().heard(),
        }
    }

    /// The service has said something to a call.
    fn answered(&self, endpoint: &ConnectionPool) {
        match self {
            Self::Shared(entered) => entered.connection().answered(),
            Self::Own(connection) => {
                if connection.health().answered() {
                    endpoint.proved();
                }
            }
        }
    }

    /// The service has said nothing though it had something to answer.
    fn was_silent(&self) {
        match self {
            Self::Shared(entered) => entered.connection().was_silent(),
            Self::Own(connection) => connection.health().was_silent(worker::now()),
        }
    }

    /// Nobody wants the rest of an answer any more.
    fn give_up(&self, rest: Inbound) {
        match self {
            Self::Shared(entered) => entered.connection().give_up(rest),
            Self::Own(connection) => connection.give_up(rest),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Self::Own(connection) = self {
            connection.over();
        }
    }
}

type Requests = Pin<Box<dyn Stream<Item = Framed> + Send>>;

/// The messages of a call, as the service takes them.
struct Outgoing {
    requests: Requests,
    /// `None` once the request side is closed.
    sending: Option<Sending>,
    /// The service has something to answer.
    asked: bool,
}

impl Outgoing {
    /// Sends what there is, as far as the service takes it.
    fn poll(&mut self, cx: &mut Context<'_>) {
        while let Some(sending) = &mut self.sending {
            match sending.poll_sent(cx) {
                Poll::Pending => return,
                // The answers tell why a call is over.
                Poll::Ready(Err(_)) => return self.finish(),
                Poll::Ready(Ok(())) => {}
            }
            match self.requests.as_mut().poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(message)) => {
                    self.asked = true;
                    sending.put(message.into_bytes());
                }
                Poll::Ready(None) => return self.finish(),
            }
        }
    }

    fn finish(&mut self) {
        if let Some(sending) = self.sending.take() {
            sending.finish();
        }
    }
}

/// Whether a connection says anything at all while a call waits.
#[derive(Default)]
struct Watch {
    next: Option<Sleep>,
    heard: u64,
    /// The service had something to answer when `heard` was noted.
    asked: bool,
    /// It has said nothing for too long.
    silent: bool,
}

impl Watch {
    fn poll(&mut self, connection: &Entered, asked: bool, cx: &mut Context<'_>) {
        while !self.silent {
            let heard = connection.heard();
            if let Some(next) = &mut self.next {
                if next.poll_unpin(cx).is_pending() {
                    return;
                }
                if self.asked && asked && heard == self.heard {
                    self.silent = true;
                    return connection.was_silent();
                }
            }
            (self.heard, self.asked, self.next) = (heard, asked, Some(worker::sleep(SILENCE)));
        }
    }
}

/// A call over a connection of our own. When it is dropped, its request ends, and what is left of its
/// answer is given up.
struct Dialled {
    outgoing: Outgoing,
    answer: Answer,
    watch: Watch,
    connection: Entered,
    endpoint: Arc<ConnectionPool>,
}

impl Dialled {
    /// The next message, while those of the request go out.
    async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let Self { outgoing, answer, watch, connection, endpoint } = self;
        let mut next = pin!(answer.next());
        let message = poll_fn(|cx| {
            outgoing.poll(cx);
            let message = next.as_mut().poll(cx);
            if message.is_pending() {
                watch.poll(connection, outgoing.asked, cx);
            }
            message
        })
        .await;
        if message.as_ref().map_or_else(|broken| !broken.error.is_silence(), |_| true) {
            connection.answered(endpoint);
        }
        (outgoing.asked, watch.asked) = (false, false);
        message.map_err(|broken| broken.error)
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.outgoing.finish();
        if let Some(rest) = self.answer.rest() {
            self.connection.give_up(rest);
        }
    }
}

/// What carries a bidirectional call.
enum Carried {
    Dialled(Box<Dialled>),
    Cluster(Answer),
}

/// The answers of a bidirectional call. Its messages go out while an answer is waited for. Dropping
/// it cancels the call.
pub struct Answers {
    call: Carried,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Answers {
    /// The next answer; `None` when the service closed the call with status OK.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn next<R: Message + Default>(&mut self) -> Result<Option<R>, CallError> {
        let message = match &mut self.call {
            Carried::Cluster(answer) => {
                answer.next().await.map_err(|broken| broken.error.of_cluster())?
            }
            Carried::Dialled(call) => call.next().await?,
        };
        let decode = |bytes| R::decode(bytes).map_err(|error| CallError::Decode(error.to_string()));
        message.map(decode).transpose()
    }
}

#[cfg(test)]
mod tests;
