//! The one seam to Envoy: what the suite needs of its host, as an object-safe trait.
//!
//! There are two implementations: one over the dynamic-module ABI, one with real state for tests.
//! Reads borrow `&self` and writes take `&mut self`, so the borrow checker keeps a slice that Envoy
//! lent from outliving the next setter.

use crate::envoy::types::Body;
use crate::envoy::types::Header;
use crate::envoy::types::Level;
use crate::envoy::types::Map;
use crate::envoy::types::MetadataSource;
use crate::envoy::types::MetadataValue;
use crate::envoy::types::MetricId;
use crate::envoy::types::MetricKind;
use crate::envoy::types::MetricOp;
use std::rc::Rc;

use crate::envoy::attributes::Attribute;
use crate::envoy::reply::{Reply, ReplyPart};
use crate::envoy::types::Direction;
use crate::http::trace::SpanIds;

/// Wakes a stream on its worker, or a configuration on the main thread. Owned by its mailbox alone;
/// deleted when dropped.
///
/// Committing after its end does nothing.
pub trait Scheduler: Send {
    /// Asks Envoy to fire `event`.
    fn commit(&self, event: u64);
}

/// What a filter's configuration may ask of Envoy while it is made, on the main thread.
pub trait ConfigHost {
    /// Defines a metric; `None` when Envoy refuses it.
    fn define_metric(&mut self, kind: MetricKind, name: &str, labels: &[&str]) -> Option<MetricId>;
    /// Whether Envoy only validates the configuration: start no thread, open no socket.
    fn validating(&self) -> bool;
    /// A scheduler for this configuration, which fires on the main thread.
    fn scheduler(&mut self) -> Box<dyn Scheduler>;
}

/// What may be read of a stream, on its worker and inside a hook.
pub trait HostRead {
    /// Every line of `map`, in order.
    fn headers(&self, map: Map) -> Vec<Header<'_>>;
    /// The value of the line number `index` of `name` (lower-case).
    fn header(&self, map: Map, name: &str, index: usize) -> Option<&[u8]>;

    /// Length of `body` in bytes.
    fn body_len(&self, body: Body) -> usize;
    /// The slices of `body`, in order.
    fn body(&self, body: Body) -> Vec<&[u8]>;
    /// Whether the received piece *is* the buffered body (the same bytes), as after a hold of
    /// everything.
    fn received_is_buffered(&self, direction: Direction) -> bool;
    /// The stream's buffer limit in bytes.
    fn buffer_limit(&self) -> u64;

    /// A textual attribute.
    fn attribute_str(&self, attribute: Attribute) -> Option<&[u8]>;
    /// A numeric attribute.
    fn attribute_int(&self, attribute: Attribute) -> Option<u64>;
    /// A truth-valued attribute.
    fn attribute_bool(&self, attribute: Attribute) -> Option<bool>;
    /// The upstream cluster that the route names; `None` for a route without one, and when there is
    /// no such cluster.
    fn cluster_name(&self) -> Option<&[u8]>;
    /// Index of the worker that runs this stream.
    fn worker_index(&self) -> u32;

    /// One metadata value; `None` when there is no such key.
    fn metadata(&self, source: MetadataSource, namespace: &str, key: &str)
    -> Option<MetadataValue>;
    /// The keys of a metadata namespace; empty when the namespace is absent.
    fn metadata_keys(&self, source: MetadataSource, namespace: &str) -> Vec<Vec<u8>>;
    /// The metadata namespaces of `source`.
    fn metadata_namespaces(&self, source: MetadataSource) -> Vec<Vec<u8>>;
    /// Whether this Envoy hands out typed metadata (1.40).
    fn reads_typed_metadata(&self) -> bool;
    /// Typed metadata as (type URL, value) (Envoy 1.40).
    fn typed_metadata(&self, source: MetadataSource, namespace: &str)
    -> Option<(Vec<u8>, Vec<u8>)>;
    /// The ids of the active tracing span; `None` where the request is not traced.
    fn span_ids(&self) -> Option<SpanIds>;
    /// A filter-state object in its serialized form.
    fn filter_state(&self, key: &str) -> Option<Vec<u8>>;

    /// Whether a line of `level` would be logged.
    fn log_enabled(&self, level: Level) -> bool;
    /// The configuration of the most specific route level, as `export!` made it.
    fn route_config(&self) -> Option<crate::envoy::route_config::RouteConfig>;
}

/// What may be changed, started and counted from inside a hook: nothing of it re-enters the filter.
pub trait HostWrite {
    /// Replaces every line of `name` by one. `false` when the map does not exist (yet).
    fn set_header(&mut self, map: Map, name: &str, value: &[u8]) -> bool;
    /// Adds one more line of `name`. `false` when the map does not exist (yet).
    fn add_header(&mut self, map: Map, name: &str, value: &[u8]) -> bool;
    /// Removes every line of `name`. `false` when the map does not exist (yet).
    fn remove_header(&mut self, map: Map, name: &str) -> bool;

    /// Sets one value of the dynamic metadata, which is neither a list nor unreadable. `false` when
    /// this Envoy can't hold the value.
    fn set_metadata(&mut self, namespace: &str, key: &str, value: &MetadataValue) -> bool;
    /// Merges a serialized `google.protobuf.Struct` into the dynamic metadata (Envoy 1.40).
    /// `false` when this Envoy can't.
    fn merge_metadata(&mut self, namespace: &str, serialized_struct: &[u8]) -> bool;
    /// Sets typed dynamic metadata from a serialized `google.protobuf.Any` (Envoy 1.40).
    fn set_typed_metadata(&mut self, namespace: &str, serialized_any: &[u8]) -> bool;
    /// Stores a read-only string in the filter state.
    fn set_filter_state(&mut self, key: &str, value: &[u8]) -> bool;

    /// Changes a metric.
    fn metric(&mut self, id: MetricId, labels: &[&str], op: MetricOp);
    /// Makes Envoy choose the route again.
    fn clear_route_cache(&mut self);
    /// Makes Envoy send the request to this host (`ip:port`) of the route's cluster. `strict` answers
    /// 503 where there is none such; else the load balancer chooses another. `false` when Envoy does
    /// not take the address.
    fn set_override_host(&mut self, host: &str, strict: bool) -> bool;
    /// Sets a tag on the active tracing span, if there is one.
    fn tag_span(&mut self, key: &str, value: &str);
    /// A child of the active tracing span, if there is one.
    fn child_span(&mut self, operation: &str) -> Option<Box<dyn ChildSpan>>;
    /// Adds a flag to those that `%CUSTOM_FLAGS%` prints.
    fn add_custom_flag(&mut self, flag: &str);
    /// A scheduler for this stream.
    fn scheduler(&mut self) -> Box<dyn Scheduler>;
    /// The stream, as its worker tells it of work that runs there. `None` where there is no worker.
    fn waiting_stream(&self) -> Option<Rc<dyn WaitingStream>> {
        None
    }
}

/// A span of the module's own, on the worker of its stream. Dropping it finishes it.
pub trait ChildSpan {
    /// Its ids.
    fn ids(&self) -> Option<SpanIds>;
    /// Sets a tag.
    fn tag(&mut self, key: &str, value: &str);
}

/// What a filter has of Envoy while one of its hooks runs.
pub trait Host: HostRead + HostWrite {}

impl<T: HostRead + HostWrite> Host for T {}

/// The calls that can re-enter the filter or end the stream. The runner alone has them, and makes
/// them when no filter is borrowed; afterwards it looks at whether the stream has ended before it
/// touches anything.
pub(crate) trait HostEnd: Host {
    /// Appends to what is buffered of `direction`. Over the limit Envoy may answer the request.
    fn append_body(&mut self, direction: Direction, bytes: &[u8]);
    /// Removes all of `body`.
    fn drain_body(&mut self, body: Body);
    /// Sets the stream's buffer limit in bytes. With more than that in a buffer Envoy may answer the
    /// request.
    fn set_buffer_limit(&mut self, limit: u64);

    /// Answers the request. Re-enters the filter and may end the stream: nothing of the stream may
    /// be touched afterwards.
    fn send_reply(&mut self, reply: &Reply);
    /// Answers the request part by part. May re-enter the filter, and the last part may end the
    /// stream.
    fn send_part(&mut self, part: &ReplyPart);
    /// Whether this Envoy has one mark "goes on" for both directions (1.38).
    fn marks_both_directions(&self) -> bool;
    /// Ends the response that is held, and complete, with trailers, which may have no line.
    /// Re-enters the trailers hook.
    fn end_with_trailers(&mut self, lines: &[(String, Vec<u8>)]);
    /// Lets a held direction go on. Re-enters the filter and may end the stream.
    fn resume(&mut self, direction: Direction);
    /// Resets the stream. Re-enters the filter and may end the stream.
    fn reset(&mut self, details: &str);
}

/// A stream that waits on its worker for work that runs there. Lives from the hook that starts the
/// work to the stream's end.
pub trait WaitingStream {
    /// A scheduler for the stream.
    fn scheduler(&self) -> Box<dyn Scheduler>;
    /// Tells the stream that some of its work has ended. May end the stream.
    fn deliver(&self);
}
