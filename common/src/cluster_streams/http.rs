//! HTTP requests to Envoy's clusters, for work off the worker.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use bytes::{Bytes, BytesMut};

use super::{ClusterStream, ClusterStreams, ResponseEvent};
use crate::envoy::cluster::{ClusterError, OpenRequest};
use crate::http::rules::is_framing;

/// Bytes of an answer's body, unless [`HttpClient::limit`] says otherwise.
const LIMIT: usize = 1 << 20;

/// A client of one of Envoy's clusters. Cheap to clone. Requests are made on Envoy's main thread, as all
/// that may outlive a request of a client.
#[derive(Debug, Clone)]
pub struct HttpClient {
    clusters: ClusterStreams,
    cluster: Arc<str>,
    timeout: Duration,
    limit: usize,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No whole answer within the time.
    #[error("no answer in time")]
    Timeout,
    /// The answer's body is longer than the limit.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// Envoy could not open the stream, or it was reset.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl HttpClient {
    pub(super) fn new(clusters: ClusterStreams, cluster: &str) -> Self {
        let timeout = Duration::from_secs(1);
        Self { clusters, cluster: cluster.into(), timeout, limit: LIMIT }
    }

    /// Waits so long for a whole answer; 1 s unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Takes bodies of so many bytes; 1 MiB unless set.
    #[must_use]
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Sends `request` and waits for the whole answer. The `:authority` is that of the URI, its header `host`, or
    /// the cluster's name. Header lines of the framing are left out. Any status is an answer. Dropping
    /// the future ends the request.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = head.headers.get("host").and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(|authority| authority.as_str()).or(host);
        let mut headers = vec![
            (":method".to_owned(), head.method.as_str().into()),
            (":scheme".to_owned(), head.uri.scheme_str().unwrap_or("http").into()),
            (":authority".to_owned(), authority.unwrap_or(&self.cluster).into()),
            (":path".to_owned(), path.into()),
        ];
        let lines =
            head.headers.iter().filter(|(name, _)| !is_framing(name.as_str()) && *name != "host");
        headers.extend(lines.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())));
        if !body.is_empty() {
            headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        let opening = OpenRequest {
            cluster: Arc::clone(&self.cluster),
            headers,
            body,
            end: true,
            timeout: 0,
        };
        let answer = answer(self.clusters.open(opening), self.limit);
        tokio::time::timeout(self.timeout, answer).await.map_err(|_| HttpError::Timeout)?
    }
}

async fn answer(mut stream: ClusterStream, limit: usize) -> Result<Response<Bytes>, HttpError> {
    let mut response = Response::new(Bytes::new());
    let mut body = BytesMut::new();
    loop {
        match std::future::poll_fn(|cx| stream.poll_part(cx)).await {
            ResponseEvent::Head(status, headers, end) => {
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                if end {
                    break;
                }
            }
            ResponseEvent::Data(piece) => {
                if body.len() + piece.len() > limit {
                    return Err(HttpError::TooLarge(limit));
                }
                body.extend_from_slice(&piece);
            }
            ResponseEvent::End(_) => break,
            ResponseEvent::Failed(error) => {
                stream.is_over();
                return Err(error.into());
            }
        }
    }
    stream.is_over();
    *response.body_mut() = body.freeze();
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_streams::ClusterStreamManager;
    use crate::envoy::cluster::ClusterHost;
    use crate::envoy::host::Scheduler;
    use crate::envoy::types::Header;

    struct Ignored;

    impl Scheduler for Ignored {
        fn commit(&self, _event: u64) {}
    }

    /// Headers, body, and whether that is all.
    type Opening = (Vec<(String, Vec<u8>)>, Bytes, bool);

    #[derive(Default)]
    struct Seen {
        openings: Vec<Opening>,
        resets: usize,
    }

    impl ClusterHost for Seen {
        fn open_stream(&mut self, opening: &OpenRequest) -> Result<u64, ClusterError> {
            if &*opening.cluster == "none" {
                return Err(ClusterError::NoCluster);
            }
            self.openings.push((opening.headers.clone(), opening.body.clone(), opening.end));
            Ok(1)
        }
        fn send_data(&mut self, _: u64, _: &[u8], _: bool) {}
        fn reset_stream(&mut self, _: u64) {
            self.resets += 1;
        }
    }

    fn request() -> Request<Bytes> {
        Request::post("/introspect?a=b")
            .header("content-type", "text/plain")
            .header("connection", "close")
            .header("host", "example.com")
            .body(Bytes::from_static(b"token=t"))
            .unwrap()
    }

    /// Sends a request, lets `play` be Envoy, and returns what came of it.
    async fn sent(
        client: impl Fn(&ClusterStreams) -> HttpClient,
        play: impl FnOnce(&ClusterStreamManager, &mut Seen),
    ) -> (Result<Response<Bytes>, HttpError>, Seen) {
        let (desk, mut host) = (ClusterStreamManager::new(Box::new(Ignored)), Seen::default());
        let client = client(&desk.clusters());
        let call = tokio::spawn(async move { client.send(request()).await });
        tokio::task::yield_now().await;
        desk.scheduled(&mut host, 1);
        play(&desk, &mut host);
        let result = call.await.unwrap();
        desk.scheduled(&mut host, 2);
        (result, host)
    }

    const OK: Header<'static> = Header { name: b":status", value: b"201" };

    #[tokio::test(start_paused = true)]
    async fn a_request_goes_out_whole_and_its_answer_comes_back_whole() {
        let (answer, host) = sent(
            |clusters| clusters.http("c"),
            |desk, host| {
                desk.headers(1, &[OK, Header { name: b"x-a", value: b"1" }], false);
                desk.data(host, 1, &[b"ye", b"s"], false);
                desk.data(host, 1, &[b"!"], true);
            },
        )
        .await;
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (201, &b"yes!"[..]));
        assert_eq!(answer.headers()["x-a"], "1");
        let (headers, body, end) = &host.openings[0];
        let of = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        for (name, value) in [
            (":method", "POST"),
            (":path", "/introspect?a=b"),
            (":authority", "example.com"),
            (":scheme", "http"),
            ("content-type", "text/plain"),
            ("content-length", "7"),
        ] {
            assert_eq!(of(name), Some(value.as_bytes().to_vec()), "{name}");
        }
        assert_eq!(
            (of("connection").or_else(|| of("host")), &body[..], *end, host.resets),
            (None, &b"token=t"[..], true, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_whole_is_an_error_and_ends_the_stream() {
        let silent = sent(|clusters| clusters.http("c"), |_, _| {}).await;
        assert_eq!((silent.0.unwrap_err(), silent.1.resets), (HttpError::Timeout, 1));
        let long = sent(
            |clusters| clusters.http("c").limit(2),
            |desk, host| {
                desk.headers(1, &[OK], false);
                desk.data(host, 1, &[b"yes"], true);
            },
        )
        .await;
        assert_eq!((long.0.unwrap_err(), long.1.resets), (HttpError::TooLarge(2), 1));
        let none = sent(|clusters| clusters.http("none"), |_, _| {}).await;
        assert_eq!(none.0.unwrap_err(), HttpError::Cluster(ClusterError::NoCluster));
        let reset = sent(
            |clusters| clusters.http("c"),
            |desk, _| {
                desk.headers(1, &[OK], false);
                desk.ended(1, ClusterError::Reset);
            },
        )
        .await;
        assert_eq!(reset.0.unwrap_err(), HttpError::Cluster(ClusterError::Reset));
    }
}
