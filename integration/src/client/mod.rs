//! A client that sends exactly what it is told to.
//!
//! ```no_run
//! # async fn example(port: u16) {
//! use callout_integration::client::Request;
//! let response = Request::post("/upload").header("x-a", "1").pieces(["ab", "cd"]).send(port).await;
//! assert_eq!((response.status, response.body_text()), (200, "ok".to_owned()));
//! # }
//! ```

pub mod http1;
pub(crate) mod http2;

use std::time::{Duration, Instant};

use crate::{Headers, header, text};

/// One request. The host is `example.test` unless a `host` header says otherwise.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    pub(crate) trailers: Headers,
    pub(crate) gap: Duration,
    pub(crate) abort_after: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) http2: bool,
}

/// A body as it is sent.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    /// With a content length.
    Whole(Vec<u8>),
    /// Chunked (HTTP/1.1) or as separate DATA frames.
    Pieces(Vec<Vec<u8>>),
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            authority: "example.test".to_owned(),
            headers: Vec::new(),
            body: Body::None,
            trailers: Vec::new(),
            gap: Duration::from_millis(20),
            abort_after: None,
            timeout: Duration::from_secs(12),
            http2: false,
        }
    }

    /// GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// POST, still without a body.
    #[must_use]
    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The `host` of HTTP/1.1, the `:authority` of HTTP/2.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    /// A body with its content length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Whole(body.into());
        self
    }

    /// A body in pieces, [`gap`](Self::gap) apart, without a content length (give the header
    /// yourself to have one).
    #[must_use]
    pub fn pieces<P: Into<Vec<u8>>>(mut self, pieces: impl IntoIterator<Item = P>) -> Self {
        self.body = Body::Pieces(pieces.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a trailer line.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The time before each piece of the body; 20 ms unless set.
    #[must_use]
    pub fn gap(mut self, gap: Duration) -> Self {
        self.gap = gap;
        self
    }

    /// Leaves (closes the connection, resets the stream) after so long, whatever has come.
    #[must_use]
    pub fn abort_after(mut self, after: Duration) -> Self {
        self.abort_after = Some(after);
        self
    }

    /// Gives up waiting after so long; 12 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Speaks HTTP/2 with prior knowledge.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends it on a connection of its own and waits for the end of the response. Failures are part
    /// of the answer: see [`Response::end`].
    pub async fn send(&self, port: u16) -> Response {
        let started = Instant::now();
        let mut response = Response::default();
        let exchange = async {
            let result = if self.http2 {
                http2::exchange(self, port, &mut response).await
            } else {
                http1::exchange(self, port, &mut response).await.map_err(Into::into)
            };
            result.unwrap_or_else(|error| End::Broken(error.to_string()))
        };
        let limit = self.abort_after.unwrap_or(self.timeout);
        let end = tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            if self.abort_after.is_some() { End::Aborted } else { End::TimedOut }
        });
        response.end = end;
        response.elapsed = started.elapsed();
        response
    }

    /// Whether the body has no content length.
    pub(crate) fn is_chunked(&self) -> bool {
        (matches!(self.body, Body::Pieces(_)) || !self.trailers.is_empty())
            && header(&self.headers, "content-length").is_none()
    }

    pub(crate) fn body_pieces(&self) -> Vec<&[u8]> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Whole(body) => vec![body],
            Body::Pieces(pieces) => pieces.iter().map(Vec::as_slice).collect(),
        }
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status; 0 when no response head came.
    pub status: u16,
    /// The header lines, without pseudo headers.
    pub headers: Headers,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// The trailer lines.
    pub trailers: Headers,
    /// Statuses of 1xx responses that came before.
    pub informational: Vec<u16>,
    /// How it ended.
    pub end: End,
    /// From before connecting to the end.
    pub elapsed: Duration,
}

/// How an exchange ended, seen from the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The response is complete.
    #[default]
    Complete,
    /// The connection was closed before the response was complete.
    Closed,
    /// The HTTP/2 stream was reset for this reason.
    Reset(String),
    /// The client left, as it was told to.
    Aborted,
    /// The client's patience ended.
    TimedOut,
    /// The connection failed.
    Broken(String),
}

impl Response {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as Latin-1 text.
    #[must_use]
    pub fn body_text(&self) -> String {
        text(&self.body)
    }

    /// Whether the response came to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end == End::Complete && self.status != 0
    }
}
