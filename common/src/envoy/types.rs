//! The plain types in which a filter and Envoy speak of a stream.

use std::collections::BTreeMap;

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
    /// A list.
    List(Vec<Self>),
    /// An object. Envoy's module interface hands out none: it comes from the filter state.
    Object(BTreeMap<String, Self>),
    /// Null, from there, too.
    Null,
    /// There is a value that Envoy's module interface does not hand out: an object, null, or a list
    /// that holds one of these or a list.
    Unreadable,
}

/// One step into a metadata value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathSegment {
    /// To this key of an object.
    Key(String),
    /// To this place of a list.
    Index(usize),
}

/// Where a metadata value stands in its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataPath {
    /// The key in the namespace.
    pub key: String,
    /// The way from the value of that key inwards.
    pub within: Vec<PathSegment>,
}

impl MetadataPath {
    /// Follows the path from the value of its key. [`MetadataValue::Unreadable`] where that, or what
    /// is on the way, can't be read.
    #[must_use]
    pub fn follow(&self, value: MetadataValue) -> Option<MetadataValue> {
        self.within.iter().try_fold(value, |value, step| match (value, step) {
            (MetadataValue::Object(mut fields), PathSegment::Key(key)) => fields.remove(key),
            (MetadataValue::List(mut list), PathSegment::Index(index)) => {
                (*index < list.len()).then(|| list.swap_remove(*index))
            }
            (MetadataValue::Unreadable, _) => Some(MetadataValue::Unreadable),
            _ => None,
        })
    }
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
    /// Sets a gauge.
    Set(u64),
    /// Records one value of a histogram.
    Record(u64),
}
