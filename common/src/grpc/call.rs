//! One call: a single deadline around all of it, connecting included, and a bound on how many are in
//! flight. Dropping the future cancels the call at the service.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use futures::Stream;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};

use super::cluster::Cluster;
use super::endpoint::ConnectionPool;
use super::error::CallError;
use super::retry::{RetryPermit, RetryPolicy};
use super::target::Target;
use super::wire::{Line, Way, Wire, WireError};
use crate::cluster_streams::ClusterStreams;

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Calls of one client that may be in flight. A pending request costs Envoy and us about 13 KiB.
const MAX_IN_FLIGHT: usize = 10_000;
/// How often a call that never left is sent again.
const RESENDS: u32 = 2;

/// Calls one service. Cheap to clone; connects at the first call.
#[derive(Clone)]
pub struct Client {
    way: Way,
    origin: http::Uri,
    max_answer: usize,
    in_flight: Arc<Semaphore>,
    retry: Option<Arc<RetryPolicy>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.way {
            Way::Dialled(endpoint) => {
                f.debug_struct("Client").field("target", endpoint.target()).finish_non_exhaustive()
            }
            Way::Cluster(cluster) => f.debug_tuple("Client").field(cluster).finish(),
        }
    }
}

impl Client {
    /// A client of `target`. Does no I/O. `None` when the target makes no valid `:authority`.
    #[must_use]
    pub fn new(target: Target) -> Option<Self> {
        let origin = http::Uri::builder()
            .scheme("http")
            .authority(target.authority())
            .path_and_query("/")
            .build()
            .ok()?;
        Some(Self::on(Way::Dialled(ConnectionPool::shared(target)), origin, MAX_ANSWER))
    }

    /// A client of Envoy's cluster `name`, with `authority` as the `:authority` of calls, and with
    /// answers of up to `max_answer` bytes.
    pub(super) fn of_cluster(name: &str, authority: &str, max_answer: Option<usize>) -> Self {
        let cluster = Cluster {
            name: name.into(),
            authority: authority.into(),
            clusters: ClusterStreams::default(),
        };
        // What the cluster's transport is not told: it has its own authority.
        let origin = http::Uri::from_static("http://cluster/");
        Self::on(Way::Cluster(cluster), origin, max_answer.unwrap_or(MAX_ANSWER))
    }

    fn on(way: Way, origin: http::Uri, max_answer: usize) -> Self {
        let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        Self { way, origin, max_answer, in_flight, retry: None }
    }

    /// The client, with its calls going through `clusters` where Envoy carries them. A filter's own
    /// needs it once, a route's at its use.
    #[must_use]
    pub fn with_cluster_streams(mut self, clusters: &ClusterStreams) -> Self {
        if let Way::Cluster(cluster) = &mut self.way {
            cluster.clusters = clusters.clone();
        }
        self
    }

    /// With unary calls made again as `policy` says.
    pub(super) fn with_retries(mut self, policy: Option<RetryPolicy>) -> Self {
        self.retry = policy.map(Arc::new);
        self
    }

    /// Calls the unary method at `path` (`/package.Service/Method`). The whole call, connecting
    /// included, ends by `deadline`. A call that never reached the service is sent again, and one
    /// that failed is made again where `retry_policy` says so.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unary<R: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
        metadata: &MetadataMap,
        deadline: Option<Instant>,
    ) -> Result<R, CallError> {
        let _permit = self.permit()?;
        let bytes = Bytes::from(request.encode_to_vec());
        let (mut resends, mut retries) = (0, 0);
        // Kept over the second attempt: it counts against the budget until it is over.
        let mut _leave;
        loop {
            let attempt = self.unary_once(path, bytes.clone(), metadata, deadline);
            match attempt.await {
                Err(CallError::NotSent) if resends < RESENDS => resends += 1,
                Err(error) => {
                    let Some((delay, leave)) = self.again(&error, retries) else {
                        return Err(error);
                    };
                    _leave = leave;
                    retries += 1;
                    within(deadline, tokio::time::sleep(delay)).await?;
                }
                Ok(answer) => {
                    return R::decode(answer).map_err(|error| CallError::Decode(error.to_string()));
                }
            }
        }
    }

    async fn unary_once(
        &self,
        path: &'static str,
        bytes: Bytes,
        metadata: &MetadataMap,
        deadline: Option<Instant>,
    ) -> Result<Bytes, CallError> {
        let line = within(deadline, self.way.line()).await??;
        let mut request = Request::new(bytes);
        *request.metadata_mut() = metadata.clone();
        let left = deadline.map(|deadline| {
            deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
        });
        if let Some(left) = left {
            request.set_timeout(left);
        }
        let mut grpc = self.grpc(&line, left);
        let call = async {
            grpc.ready().await.map_err(|error| not_sent(&error))?;
            let answer = grpc.unary(request, PathAndQuery::from_static(path), Raw).await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| CallError::from_status(&status))
        };
        let answer = match within(deadline, call).await {
            Ok(Err(error)) => Ok(Err(line.tell_apart(error).at(Instant::now(), deadline))),
            answer => answer,
        };
        line.heard(answer.is_ok());
        answer?
    }

    /// Opens a call of the bidirectional method at `path`. `requests` are encoded messages; when it
    /// ends, the request side is closed. Returns when the service has begun to answer, which may be
    /// only after the first request.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn bidi(
        &self,
        path: &'static str,
        metadata: &MetadataMap,
        requests: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Answers, CallError> {
        let permit = self.permit()?;
        let line = self.way.line().await?;
        let mut request = Request::new(requests);
        *request.metadata_mut() = metadata.clone();
        let mut grpc = self.grpc(&line, None);
        grpc.ready().await.map_err(|error| not_sent(&error))?;
        let answers = grpc
            .streaming(request, PathAndQuery::from_static(path), Raw)
            .await
            .map_err(|status| line.tell_apart(CallError::from_status(&status)))?
            .into_inner();
        Ok(Answers { answers, line, _permit: permit })
    }

    /// Where its calls go, in words that no other place has.
    pub(super) fn place(&self) -> String {
        match &self.way {
            Way::Dialled(endpoint) => format!("dialled {}", endpoint.target()),
            Way::Cluster(Cluster { name, authority, .. }) => format!("cluster {name} {authority}"),
        }
    }

    /// Whether there is a `retry_policy`.
    #[must_use]
    pub const fn retries(&self) -> bool {
        self.retry.is_some()
    }

    /// After how long an exchange that failed with `error`, without any answer, may be begun again, as
    /// `retry_policy` says; `retries` were made already. The budget counts it until the leave is
    /// dropped.
    #[must_use]
    pub fn again(&self, error: &CallError, retries: u32) -> Option<(Duration, RetryPermit<'_>)> {
        let policy = self.retry.as_deref()?;
        let delay = policy.delay(error, retries, rand::random())?;
        Some((delay, policy.leave(self.calls_in_flight())?))
    }

    fn calls_in_flight(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.in_flight.available_permits())
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, CallError> {
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| CallError::Overload)
    }

    fn grpc(&self, line: &Line, timeout: Option<Duration>) -> Grpc<Wire> {
        Grpc::with_origin(line.wire(timeout), self.origin.clone())
            .max_decoding_message_size(self.max_answer)
    }
}

/// The answers of a bidirectional call. Dropping it cancels the call.
pub struct Answers {
    answers: Streaming<Bytes>,
    line: Line,
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
        match self.answers.message().await {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => {
                R::decode(bytes).map(Some).map_err(|error| CallError::Decode(error.to_string()))
            }
            Err(status) => Err(self.line.tell_apart(CallError::from_status(&status))),
        }
    }
}

fn not_sent(error: &WireError) -> CallError {
    tracing::debug!(%error, "a connection closed before a call was sent");
    CallError::NotSent
}

/// Runs `work` until `deadline`.
async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, CallError> {
    match deadline {
        Some(deadline) => {
            tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| CallError::Timeout)
        }
        None => Ok(work.await),
    }
}

/// Messages as bytes: encoded once for all attempts, and decoded where the error is told apart.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
