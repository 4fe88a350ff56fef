//! The plain types in which a filter and Envoy speak of a stream.

/// One of the two directions of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the upstream.
    Request,
    /// From the upstream to the client.
    Response,
}

/// A header map of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Map {
    /// Request headers.
    Request,
    /// Request trailers.
    RequestTrailers,
    /// Response headers.
    Response,
    /// Response trailers.
    ResponseTrailers,
}

/// A piece of a body as Envoy holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Body {
    /// The request piece that the running hook received.
    ReceivedRequest,
    /// The request pieces buffered so far.
    BufferedRequest,
    /// The response piece that the running hook received.
    ReceivedResponse,
    /// The response pieces buffered so far.
    BufferedResponse,
}

impl Body {
    /// The piece that the running hook of `direction` received.
    #[must_use]
    pub const fn received(direction: Direction) -> Self {
        match direction {
            Direction::Request => Self::ReceivedRequest,
            Direction::Response => Self::ReceivedResponse,
        }
    }

    /// What is buffered of `direction`.
    #[must_use]
    pub const fn buffered(direction: Direction) -> Self {
        match direction {
            Direction::Request => Self::BufferedRequest,
            Direction::Response => Self::BufferedResponse,
        }
    }
}

/// One header line. Names are lower-case; values are bytes, not necessarily UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Where a metadata value is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetadataSource {
    /// Dynamic metadata of the request.
    Dynamic,
    /// The selected route.
    Route,
    /// The upstream cluster.
    Cluster,
    /// The upstream host.
    Host,
    /// The locality of the upstream host.
    HostLocality,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataValue {
    /// A number.
    Number(f64),
    /// A string, as bytes.
    String(Vec<u8>),
    /// A truth value.
    Bool(bool),
    /// A list of numbers, strings and truth values.
    List(Vec<Self>),
    /// There is a value that Envoy's module interface does not hand out: an object, null, or a list
    /// that holds one of these or a list.
    Unreadable,
}

/// A log level of Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Trace.
    Trace,
    /// Debug.
    Debug,
    /// Info.
    Info,
    /// Warning.
    Warn,
    /// Error.
    Error,
}

/// A counter, gauge or histogram as Envoy numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MetricId(pub usize);

/// What kind of metric to define.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Records a distribution.
    Histogram,
}

/// How a metric changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricOp {
    /// Adds to a counter.
    Count(u64),
    /// Adds to a gauge.
    Raise(u64),
    /// Takes from a gauge.
    Lower(u64),
    /// Records one value of a histogram.
    Record(u64),
}
