//! One call: a single deadline around all of it, connecting included, and a bound on how many are in
//! flight. Dropping the future cancels the call at the service.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::metadata::MetadataMap;

use super::answer::{Answer, Inbound};
use super::cluster::Cluster;
use super::connection::{Connection, Entered};
use super::destination::Destination;
use super::endpoint::ConnectionPool;
use super::error::{Broken, CallError};
use super::framing::framed;
use super::http2;
use super::retry::{RetryPermit, RetryPolicy};
use super::stream_slots::StreamSlot;
use super::target::Target;
use crate::cluster_streams::ClusterStreams;

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Calls to one service that may be in flight. With its request a pending call costs this process
/// about 30 KiB.
const MAX_IN_FLIGHT: usize = 10_000;
/// How often a call that never left, or that our side broke, is sent again.
pub(super) const RESENDS: u32 = 2;
/// Calls one service. Cheap to clone; connects at the first call.
#[derive(Clone)]
pub struct Client {
    pub(super) way: Way,
    scheme: Scheme,
    authority: Authority,
    pub(super) max_answer: usize,
    in_flight: Arc<Semaphore>,
    retry: Option<Arc<RetryPolicy>>,
}

/// The way to a service.
#[derive(Clone)]
pub(super) enum Way {
    /// We dial it.
    Dialled(Arc<ConnectionPool>),
    /// Envoy does.
    Cluster(Cluster),
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.way {
            Way::Dialled(endpoint) => f
                .debug_struct("Client")
                .field("destination", endpoint.destination())
                .finish_non_exhaustive(),
            Way::Cluster(cluster) => f.debug_tuple("Client").field(cluster).finish(),
        }
    }
}

impl Client {
    /// A client of `target`. Does no I/O. `None` when the target makes no valid `:authority`.
    #[must_use]
    pub fn new(target: Target) -> Option<Self> {
        let authority = target.authority().parse().ok()?;
        Some(Self::dialled(target.into(), authority, None))
    }

    /// A client of `destination`, with `authority` as the `:authority` of calls, and with answers of up to
    /// `max_answer` bytes. Does no I/O.
    pub(super) fn dialled(
        destination: Destination,
        authority: Authority,
        max_answer: Option<usize>,
    ) -> Self {
        let scheme = if destination.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let way = Way::Dialled(ConnectionPool::shared(destination));
        Self { scheme, ..Self::on(way, authority, max_answer.unwrap_or(MAX_ANSWER)) }
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
        let authority = Authority::from_static("cluster");
        Self::on(Way::Cluster(cluster), authority, max_answer.unwrap_or(MAX_ANSWER))
    }

    fn on(way: Way, authority: Authority, max_answer: usize) -> Self {
        let in_flight = in_flight(&way.place());
        let scheme = Scheme::HTTP;
        Self { way, scheme, authority, max_answer, in_flight, retry: None }
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
    /// included, ends by `deadline`. A call that never reached the service, or that broke on our
    /// side, is sent again, and one that failed is made again where `retry_policy` says so.
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
        let bytes = framed(request);
        let (mut resends, mut retries) = (0, 0);
        // Kept over the second attempt: it counts against the budget until it is over.
        let mut _leave;
        loop {
            let attempt = self.unary_once(path, bytes.clone(), metadata, deadline);
            match attempt.await {
                Err(broken) if broken.resend && resends < RESENDS => resends += 1,
                Err(Broken { error, .. }) => {
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
        body: Bytes,
        metadata: &MetadataMap,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Broken> {
        let begun = Instant::now();
        let late = |broken: Broken| Broken {
            error: broken.error.at(begun, Instant::now(), deadline),
            ..broken
        };
        match &self.way {
            Way::Cluster(cluster) => {
                let (headers, left) = headers(metadata, deadline);
                let call = Inbound::Cluster(cluster.ask(path, &headers, body, left));
                let mut answer = Answer::new(call, self.max_answer);
                within(deadline, answer.only()).await?.map_err(|broken| late(broken.of_cluster()))
            }
            Way::Dialled(endpoint) => {
                let entered = within(deadline, endpoint.connection()).await??;
                let slot = within(deadline, entered.slot()).await??;
                let (headers, _) = headers(metadata, deadline);
                let head = self.head(path, headers)?;
                let answer = within(deadline, self.dialled_once(&entered, slot, head, body)).await;
                let connection = entered.connection();
                match &answer {
                    Ok(Ok(_)) => connection.answered(),
                    Ok(Err(broken)) if !broken.error.is_silence() => connection.answered(),
                    Ok(Err(_)) => {}
                    Err(_) => connection.was_silent(),
                }
                answer?.map_err(late)
            }
        }
    }

    async fn dialled_once(
        &self,
        entered: &Entered,
        slot: StreamSlot,
        head: Request<()>,
        body: Bytes,
    ) -> Result<Bytes, Broken> {
        let receiving = http2::ask(entered.sender(), slot, head, body).await?;
        let mut call = Dialled::new(entered, receiving, self.max_answer);
        call.answer.only().await
    }

    pub(super) fn head(
        &self,
        path: &'static str,
        headers: HeaderMap,
    ) -> Result<Request<()>, CallError> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::from_static(path))
            .build()
            .map_err(|error| CallError::Internal(error.to_string()))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Where its calls go, in words that no other place has.
    pub(super) fn place(&self) -> String {
        self.way.place()
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

    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, CallError> {
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| CallError::Overload)
    }
}

impl Way {
    fn place(&self) -> String {
        match self {
            Self::Dialled(endpoint) => format!("dialled {}", endpoint.destination()),
            Self::Cluster(Cluster { name, authority, .. }) => format!("cluster {name} {authority}"),
        }
    }
}

/// The permits for calls to the service at `place`, which all of its clients share: those of all
/// configurations and routes.
fn in_flight(place: &str) -> Arc<Semaphore> {
    static PLACES: OnceLock<Mutex<HashMap<String, Weak<Semaphore>>>> = OnceLock::new();
    let places = PLACES.get_or_init(Mutex::default);
    let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(permits) = places.get(place).and_then(Weak::upgrade) {
        return permits;
    }
    places.retain(|_, permits| permits.strong_count() > 0);
    let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    places.insert(place.to_owned(), Arc::downgrade(&permits));
    permits
}

/// The headers of a call, and how much of its time is left.
pub(super) fn headers(
    metadata: &MetadataMap,
    deadline: Option<Instant>,
) -> (HeaderMap, Option<Duration>) {
    let mut headers = metadata.clone().into_headers();
    headers.insert(HeaderName::from_static("te"), HeaderValue::from_static("trailers"));
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let left = deadline.map(|deadline| {
        deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    });
    if let Some(timeout) = left.and_then(|left| HeaderValue::try_from(timeout(left)).ok()) {
        headers.insert(HeaderName::from_static("grpc-timeout"), timeout);
    }
    (headers, left)
}

/// A `grpc-timeout`: at most eight digits, and a unit. Never more than is left, and coarse: so it is
/// mostly the same from call to call, and HPACK has it in its table.
fn timeout(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    const COARSE: u128 = 10;
    if left.as_millis() < COARSE {
        format!("{}u", left.as_micros() / 100 * 100)
    } else if left.as_millis() <= MOST {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", u128::from(left.as_secs()).min(MOST))
    }
}

/// A call over a connection of our own. What is left of its answer is given up when it is dropped.
struct Dialled {
    answer: Answer,
    connection: Arc<Connection>,
}

impl Dialled {
    fn new(entered: &Entered, receiving: http2::Receiving, largest: usize) -> Self {
        let answer = Answer::new(Inbound::Dialled(receiving), largest);
        Self { answer, connection: Arc::clone(entered.connection()) }
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        if let Some(rest) = self.answer.rest() {
            self.connection.give_up(rest);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_at_most_eight_digits() {
        assert_eq!(timeout(Duration::from_micros(9876)), "9800u");
        assert_eq!(timeout(Duration::from_secs(3600)), "3600000m");
        assert_eq!(timeout(Duration::from_secs(u64::MAX)), "99999999S");
    }

    #[test]
    fn calls_that_have_the_same_deadline_tell_the_same_timeout_and_never_a_longer_one() {
        for left in [199_001, 199_500, 199_999] {
            assert_eq!(timeout(Duration::from_micros(left)), "199m");
        }
    }

    #[test]
    fn all_clients_of_a_service_share_its_permits() {
        let client = || Client::new(Target::parse("permits.test:1").unwrap()).unwrap();
        let (one, other) = (client(), client());
        let held = one.permit().unwrap();
        assert_eq!(other.calls_in_flight(), 1);
        drop(held);
        assert_eq!(other.calls_in_flight(), 0);
    }
}
