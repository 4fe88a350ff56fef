//! Calls that Envoy carries to one of its clusters (`envoy_grpc`).

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt};
use http::HeaderMap;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::framing::Framed;
use super::http2::Piece;
use crate::cluster_streams::{ClusterStream, ClusterStreams, ResponseEvent};
use crate::envoy::cluster::{ClusterError, OpenRequest};

/// Bytes of a request that Envoy may have got since the service last said anything. Envoy takes all
/// that it is given, and can't be asked how much of it the service has read.
const MOST_AHEAD: usize = 32 << 20;
/// How long a service that has so much to read may stay silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cluster to call.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) name: Arc<str>,
    /// The `:authority` of calls.
    pub(super) authority: Arc<str>,
    /// The way there; leads nowhere until [`super::Client::with_cluster_streams`] says which.
    pub(super) clusters: ClusterStreams,
}

impl Cluster {
    /// Makes a call with the whole request `body`.
    pub(super) fn ask(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> ClusterCall {
        let opening = OpenRequest {
            cluster: Arc::clone(&self.name),
            headers: self.headers(path, headers),
            body,
            end: true,
            timeout: timeout.map_or(0, millis),
        };
        ClusterCall {
            call: self.clusters.open(opening),
            sent: Arc::new(AtomicBool::new(true)),
            ahead: Arc::default(),
            pump: None,
        }
    }

    /// Begins a call with `messages`; the request ends when they do.
    pub(super) fn stream(
        &self,
        path: &str,
        headers: &HeaderMap,
        messages: impl Stream<Item = Framed> + Send + 'static,
    ) -> ClusterCall {
        let mut messages: Messages = Box::pin(messages);
        // What is there already goes with the opening.
        let (mut first, mut end) = (BytesMut::new(), false);
        while let Some(next) = messages.next().now_or_never() {
            match next {
                Some(message) => first.extend_from_slice(&message.into_bytes()),
                None => {
                    end = true;
                    break;
                }
            }
        }
        let ahead = Arc::new(Ahead::default());
        ahead.bytes.store(first.len(), Ordering::SeqCst);
        let call = self.clusters.open(OpenRequest {
            cluster: Arc::clone(&self.name),
            headers: self.headers(path, headers),
            body: first.freeze(),
            end,
            timeout: 0,
        });
        let sent = Arc::new(AtomicBool::new(end));
        let pump = (!end).then(|| {
            let (sent, ahead) = (Arc::clone(&sent), Arc::clone(&ahead));
            let pump = pump(messages, self.clusters.clone(), call.number(), sent, ahead);
            Pump(tokio::spawn(pump).abort_handle())
        });
        ClusterCall { call, sent, ahead, pump }
    }

    /// The request's headers for Envoy, which adds the scheme that the cluster's transport has.
    fn headers(&self, path: &str, headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
        let pseudo = [
            (":method", "POST".as_bytes()),
            (":path", path.as_bytes()),
            (":authority", self.authority.as_bytes()),
        ];
        let others = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let owned = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
        pseudo.into_iter().chain(others).map(owned).collect()
    }
}

type Messages = Pin<Box<dyn Stream<Item = Framed> + Send>>;

/// Milliseconds, rounded up: our own deadline comes first.
fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

/// What Envoy has got of a request since the service last said anything.
#[derive(Debug, Default)]
struct Ahead {
    bytes: AtomicUsize,
    heard: Notify,
    /// The service said nothing although it had much to read.
    unread: AtomicBool,
}

impl Ahead {
    /// Waits until `more` bytes may go; `false` when the service stays silent.
    async fn room(&self, more: usize) -> bool {
        loop {
            let mut heard = pin!(self.heard.notified());
            // From here on no word of the service is missed.
            heard.as_mut().enable();
            let before = self.bytes.load(Ordering::SeqCst);
            if before == 0 || before + more <= MOST_AHEAD {
                self.bytes.fetch_add(more, Ordering::SeqCst);
                return true;
            }
            if tokio::time::timeout(PATIENCE, heard).await.is_err() {
                self.unread.store(true, Ordering::SeqCst);
                return false;
            }
        }
    }

    fn heard(&self) {
        self.bytes.store(0, Ordering::SeqCst);
        self.heard.notify_waiters();
    }
}

/// Sends the rest of a request.
async fn pump(
    mut messages: Messages,
    clusters: ClusterStreams,
    call: u64,
    sent: Arc<AtomicBool>,
    ahead: Arc<Ahead>,
) {
    while let Some(message) = messages.next().await {
        let bytes = message.into_bytes();
        if !ahead.room(bytes.len()).await {
            return clusters.reset(call);
        }
        clusters.send(call, bytes, false);
    }
    sent.store(true, Ordering::Relaxed);
    clusters.send(call, Bytes::new(), true);
}

/// Ends the sending when the call ends.
#[derive(Debug)]
struct Pump(AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A call under way. Dropping it ends the call.
#[derive(Debug)]
pub(super) struct ClusterCall {
    call: ClusterStream,
    /// Whether all of the request has been sent.
    sent: Arc<AtomicBool>,
    ahead: Arc<Ahead>,
    #[expect(dead_code, reason = "its end is what it is for")]
    pump: Option<Pump>,
}

impl ClusterCall {
    /// The next part of the answer.
    pub(super) async fn next(&mut self) -> Result<Piece, ClusterError> {
        let part = std::future::poll_fn(|cx| self.call.poll_part(cx)).await;
        if !matches!(part, ResponseEvent::Failed(_)) {
            self.ahead.heard();
        }
        let over = !matches!(part, ResponseEvent::Head(..) | ResponseEvent::Data(_));
        if over && (self.sent.load(Ordering::Relaxed) || matches!(part, ResponseEvent::Failed(_))) {
            self.call.is_over();
        }
        match part {
            ResponseEvent::Head(status, headers, ended) => {
                if ended && self.sent.load(Ordering::Relaxed) {
                    self.call.is_over();
                }
                Ok(Piece::Head(status, headers, ended))
            }
            ResponseEvent::Data(bytes) => Ok(Piece::Data(bytes)),
            ResponseEvent::End(trailers) => Ok(Piece::End(trailers)),
            ResponseEvent::Failed(_) if self.ahead.unread.load(Ordering::SeqCst) => {
                Err(ClusterError::Unread)
            }
            ResponseEvent::Failed(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::cluster_streams::ClusterStreamManager;
    use crate::envoy::cluster::ClusterHost;
    use crate::envoy::host::Scheduler;

    struct Ignored;

    impl Scheduler for Ignored {
        fn commit(&self, _event: u64) {}
    }

    #[derive(Default)]
    struct Seen {
        openings: Vec<(Bytes, bool)>,
        bytes: usize,
        resets: usize,
    }

    impl ClusterHost for Seen {
        fn open_stream(&mut self, opening: &OpenRequest) -> Result<u64, ClusterError> {
            self.openings.push((opening.body.clone(), opening.end));
            Ok(1)
        }
        fn send_data(&mut self, _: u64, bytes: &[u8], _: bool) {
            self.bytes += bytes.len();
        }
        fn reset_stream(&mut self, _: u64) {
            self.resets += 1;
        }
    }

    fn cluster(desk: &ClusterStreamManager) -> Cluster {
        Cluster { name: "c".into(), authority: "c".into(), clusters: desk.clusters() }
    }

    fn opened(messages: &[&'static str], ended: bool) -> (Bytes, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let desk = ClusterStreamManager::new(Box::new(Ignored));
        let messages: Vec<_> =
            messages.iter().map(|piece| Framed::encoded(piece.as_bytes())).collect();
        let messages = stream::iter(messages);
        let _call = if ended {
            cluster(&desk).stream("/p", &HeaderMap::new(), messages)
        } else {
            cluster(&desk).stream("/p", &HeaderMap::new(), messages.chain(stream::pending()))
        };
        let mut host = Seen::default();
        desk.scheduled(&mut host, 1);
        host.openings.remove(0)
    }

    #[test]
    fn all_that_is_there_goes_with_the_opening() {
        let framed = |words: &[&str]| -> Bytes {
            words.iter().flat_map(|word| Framed::encoded(word.as_bytes()).into_bytes()).collect()
        };
        assert_eq!(opened(&["a", "b"], true), (framed(&["a", "b"]), true));
        assert_eq!(opened(&["a", "b", "c"], false), (framed(&["a", "b", "c"]), false));
        assert_eq!(opened(&[], false), (Bytes::new(), false));
    }

    /// Lets the call send what it may; what of it has reached Envoy.
    async fn settle(desk: &ClusterStreamManager, host: &mut Seen) -> usize {
        for event in 1..200 {
            tokio::task::yield_now().await;
            desk.scheduled(host, event);
        }
        host.bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_says_nothing_gets_no_more_than_the_bound() {
        let (desk, mut host) = (ClusterStreamManager::new(Box::new(Ignored)), Seen::default());
        let piece = Framed::encoded(&vec![0; (1 << 20) - 5]);
        // They come after the opening.
        let messages = stream::once(tokio::task::yield_now())
            .flat_map(move |()| stream::repeat(piece.clone()));
        let mut call = cluster(&desk).stream("/p", &HeaderMap::new(), messages);
        let first = settle(&desk, &mut host).await;
        assert!(first > MOST_AHEAD - (2 << 20) && first <= MOST_AHEAD, "{first}");
        // A word of it makes room.
        desk.headers(1, &[crate::envoy::types::Header { name: b":status", value: b"200" }], false);
        assert!(matches!(call.next().await, Ok(Piece::Head(..))));
        let second = settle(&desk, &mut host).await - first;
        assert!(second > MOST_AHEAD - (2 << 20) && second <= MOST_AHEAD, "{second}");
        tokio::time::sleep(PATIENCE * 2).await;
        settle(&desk, &mut host).await;
        assert_eq!(host.resets, 1);
        assert!(matches!(call.next().await, Err(ClusterError::Unread)));
    }
}
