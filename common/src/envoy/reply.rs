//! A local reply: what is sent to the client instead of the upstream's response.

/// An answer made by the filter.
///
/// Envoy validates none of it, so [`Reply::new`] and the setters keep it well-formed: statuses
/// outside 200 to 599 become 500, and header lines that would break framing are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    details: String,
    grpc_status: Option<u32>,
}

/// A part of a reply that is sent as it comes; see [`crate::EventAction::Send`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyPart {
    /// The beginning: the status and the headers of a reply, without its body and details, which
    /// Envoy has no place for here.
    Headers {
        /// The reply.
        reply: Reply,
        /// Whether it ends with them.
        end: bool,
    },
    /// A piece of the body.
    Data {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether it is the last, and no trailers follow.
        end: bool,
    },
    /// The end: header lines after the body. The same are dropped as in [`Reply::add_header`].
    Trailers(Vec<(String, Vec<u8>)>),
}

impl ReplyPart {
    /// Whether the reply ends with it.
    #[must_use]
    pub const fn ends(&self) -> bool {
        match self {
            Self::Headers { end, .. } | Self::Data { end, .. } => *end,
            Self::Trailers(_) => true,
        }
    }
}

impl Reply {
    /// A reply with `status` and nothing else. A status outside 200 to 599 becomes 500.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status: if (200..=599).contains(&status) { status } else { 500 },
            headers: Vec::new(),
            body: Vec::new(),
            details: String::new(),
            grpc_status: None,
        }
    }

    /// Adds a header line. Lines that are not well-formed, or that belong to the framing
    /// (RFC 9110 section 7.6.1, `content-length`, `host`, pseudo headers), are dropped;
    /// returns whether the line was taken.
    pub fn add_header(&mut self, name: &str, value: &[u8]) -> bool {
        let name = name.to_ascii_lowercase();
        let taken = crate::http::rules::valid_name(&name)
            && crate::http::rules::valid_value(value)
            && !crate::http::rules::is_framing(&name);
        if taken {
            self.headers.push((name, value.to_vec()));
        }
        taken
    }

    /// With a header line; see [`Reply::add_header`].
    #[must_use]
    pub fn header(mut self, name: &str, value: &[u8]) -> Self {
        self.add_header(name, value);
        self
    }

    /// With a body. Envoy adds `content-length`, and `content-type: text/plain` unless one is given.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With the response-code details for the access log.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// With the status that gRPC clients get; unset it is mapped from the HTTP status.
    #[must_use]
    pub const fn grpc_status(mut self, code: u32) -> Self {
        self.grpc_status = Some(code);
        self
    }

    /// With the lines that Envoy adds to a reply of one piece, for one that is sent in parts.
    pub(crate) fn framed(&self) -> Self {
        let mut framed = self.clone();
        framed
            .headers
            .push(("content-length".to_owned(), self.body.len().to_string().into_bytes()));
        if !self.body.is_empty() && !self.headers.iter().any(|(name, _)| name == "content-type") {
            framed.headers.push(("content-type".to_owned(), b"text/plain".to_vec()));
        }
        framed
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The header lines, in order, names in lower case.
    #[must_use]
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The body.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// The response-code details.
    #[must_use]
    pub fn details_str(&self) -> &str {
        &self.details
    }

    /// The gRPC status for gRPC clients: as given, else mapped from the HTTP status as gRPC's
    /// "HTTP to gRPC status code mapping" says, with Envoy's 429 as UNAVAILABLE.
    #[must_use]
    pub fn grpc_code(&self) -> u32 {
        self.grpc_status.unwrap_or(match self.status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        })
    }
}
