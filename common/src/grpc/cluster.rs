//! A cluster of Envoy's as a transport for tonic's client (`envoy_grpc`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use hyper::body::{Body as HttpBody, Frame};
use tokio::task::AbortHandle;
use tonic::body::Body;

use crate::cluster_streams::{ClusterStream, ClusterStreams, ResponseEvent};
use crate::envoy::cluster::{ClusterError, OpenRequest};

/// A cluster to call.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) name: Arc<str>,
    /// The `:authority` of calls.
    pub(super) authority: Arc<str>,
    /// The way there; leads nowhere until [`super::Client::through`] says which.
    pub(super) clusters: ClusterStreams,
}

impl Cluster {
    /// Sends `request`; the answer's head, and its body to come.
    pub(super) async fn call(
        self,
        request: http::Request<Body>,
        timeout: Option<Duration>,
    ) -> Result<http::Response<ClusterBody>, ClusterError> {
        let (parts, mut body) = request.into_parts();
        // What is there already goes at once: a unary request is one command instead of three.
        let (mut first, mut end) = (BytesMut::new(), false);
        while let Some(piece) = next(&mut body).now_or_never() {
            match piece {
                Some(piece) => first.extend_from_slice(&piece?),
                None => {
                    end = true;
                    break;
                }
            }
        }
        let call = self.clusters.open(OpenRequest {
            cluster: Arc::clone(&self.name),
            headers: self.headers(&parts),
            body: first.freeze(),
            end,
            timeout: timeout.map_or(0, millis),
        });
        let sent = Arc::new(AtomicBool::new(end));
        let pump = (!end).then(|| {
            let pump = pump(body, self.clusters.clone(), call.number(), Arc::clone(&sent));
            Pump(tokio::spawn(pump).abort_handle())
        });
        let mut body = ClusterBody { call, sent, ended: false, _pump: pump };
        match body.part().await {
            ResponseEvent::Head(status, headers) => {
                let mut response = http::Response::new(body);
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                Ok(response)
            }
            ResponseEvent::Failed(error) => Err(error),
            // Envoy hands out headers first.
            ResponseEvent::Data(_) | ResponseEvent::Trailers(_) | ResponseEvent::End => {
                Err(ClusterError::Reset)
            }
        }
    }

    /// The request's headers for Envoy, which adds the scheme that the cluster's transport has.
    fn headers(&self, request: &http::request::Parts) -> Vec<(String, Vec<u8>)> {
        let path = request.uri.path().as_bytes();
        let pseudo = [
            (":method", request.method.as_str().as_bytes()),
            (":path", path),
            (":authority", self.authority.as_bytes()),
        ];
        let others = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let owned = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
        pseudo.into_iter().chain(others).map(owned).collect()
    }
}

/// Milliseconds, rounded up: our own deadline comes first.
fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

/// The next piece of a request's body.
async fn next(body: &mut Body) -> Option<Result<Bytes, ClusterError>> {
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        match frame.map(Frame::into_data) {
            Ok(Ok(mut data)) => return Some(Ok(data.copy_to_bytes(data.remaining()))),
            // A gRPC request has no trailers.
            Ok(Err(_)) => {}
            // The sender gave up.
            Err(_) => return Some(Err(ClusterError::Reset)),
        }
    }
}

/// Sends the rest of a request.
async fn pump(mut body: Body, clusters: ClusterStreams, call: u64, sent: Arc<AtomicBool>) {
    while let Some(piece) = next(&mut body).await {
        match piece {
            Ok(piece) => clusters.send(call, piece, false),
            Err(_) => return clusters.reset(call),
        }
    }
    sent.store(true, Ordering::Relaxed);
    clusters.send(call, Bytes::new(), true);
}

/// Ends the sending when the call ends.
struct Pump(AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of an answer. Dropping it ends the call.
pub(super) struct ClusterBody {
    call: ClusterStream,
    /// Whether all of the request has been sent.
    sent: Arc<AtomicBool>,
    ended: bool,
    _pump: Option<Pump>,
}

impl ClusterBody {
    async fn part(&mut self) -> ResponseEvent {
        std::future::poll_fn(|cx| self.call.poll_part(cx)).await
    }
}

impl HttpBody for ClusterBody {
    type Data = Bytes;
    type Error = ClusterError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClusterError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.call.poll_part(cx)) {
            ResponseEvent::Data(bytes) => Some(Ok(Frame::data(bytes))),
            ResponseEvent::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            ResponseEvent::End => {
                self.ended = true;
                if self.sent.load(Ordering::Relaxed) {
                    self.call.is_over();
                }
                None
            }
            ResponseEvent::Failed(error) => {
                self.ended = true;
                self.call.is_over();
                Some(Err(error))
            }
            ResponseEvent::Head(..) => Some(Err(ClusterError::Reset)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::cluster_streams::ClusterStreamManager;
    use crate::envoy::cluster::ClusterHost;
    use crate::envoy::host::Scheduler;

    struct Ignored;

    impl Scheduler for Ignored {
        fn commit(&self, _event: u64) {}
    }

    /// Pieces that are there at once, and then the end, if it is known.
    struct Pieces(VecDeque<&'static str>, bool);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    #[derive(Default)]
    struct Openings(Vec<(Bytes, bool)>);

    impl ClusterHost for Openings {
        fn open_stream(&mut self, opening: &OpenRequest) -> Result<u64, ClusterError> {
            self.0.push((opening.body.clone(), opening.end));
            Ok(1)
        }
        fn send_data(&mut self, _: u64, _: &[u8], _: bool) {}
        fn reset_stream(&mut self, _: u64) {}
    }

    fn opened(pieces: &[&'static str], ended: bool) -> (Bytes, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let desk = ClusterStreamManager::new(Box::new(Ignored));
        let cluster =
            Cluster { name: "c".into(), authority: "c".into(), clusters: desk.clusters() };
        let body = Body::new(Pieces(pieces.iter().copied().collect(), ended));
        let mut call = Box::pin(cluster.call(http::Request::new(body), None));
        assert!(call.as_mut().now_or_never().is_none());
        let mut host = Openings::default();
        desk.scheduled(&mut host, 1);
        host.0.remove(0)
    }

    #[test]
    fn all_that_is_there_goes_with_the_opening() {
        assert_eq!(opened(&["a", "b"], true), (Bytes::from_static(b"ab"), true));
        assert_eq!(opened(&["a", "b", "c"], false), (Bytes::from_static(b"abc"), false));
        assert_eq!(opened(&[], false), (Bytes::new(), false));
    }
}
