//! [`Host`](crate::envoy::host::Host) over the ABI: one stream, for the length of one hook. Split by what a
//! call may do: `read`, `write`, and `end` for what can re-enter the filter or end the stream.

mod end;
mod read;
mod write;

use core::ffi::c_void;

use super::bindings::newer::Newer;
use super::bindings::required::Required;
use super::objects::Stream;
use super::table::table;
use crate::envoy::types::{Body, Map, MetadataSource};

/// Envoy's side of a stream. Numbers in brackets are facts of `docs/ENVOY-FACTS.md`.
///
/// Made at the start of a hook from the filter pointer that Envoy gave to it, or in the worker's turn
/// from that of an [`AbiWaitingStream`](super::waiting_stream::AbiWaitingStream), and dropped at its end; neither `Send` nor kept. That is
/// why every call of this folder may use the pointer: it is live, and this is its worker (F1). The
/// calls of `end` may end the stream (F2, F3, F4); the runner
/// ([`crate::runner`]) makes them, and uses the pointer again only when Envoy has not ended the stream
/// meanwhile.
pub(in crate::abi) struct AbiHost(*mut c_void, Stream);

impl AbiHost {
    pub(in crate::abi) const fn new(filter: *mut c_void, stream: Stream) -> Self {
        Self(filter, stream)
    }
}

fn required() -> Option<&'static Required> {
    table().map(|table| &table.required)
}

fn newer() -> Option<&'static Newer> {
    table().map(|table| &table.newer)
}

const fn map_number(map: Map) -> u32 {
    match map {
        Map::Request => 0,
        Map::RequestTrailers => 1,
        Map::Response => 2,
        Map::ResponseTrailers => 3,
    }
}

const fn body_number(body: Body) -> u32 {
    match body {
        Body::ReceivedRequest => 0,
        Body::BufferedRequest => 1,
        Body::ReceivedResponse => 2,
        Body::BufferedResponse => 3,
    }
}

const fn source_number(source: MetadataSource) -> u32 {
    match source {
        MetadataSource::Dynamic => 0,
        MetadataSource::Route => 1,
        MetadataSource::Cluster => 2,
        MetadataSource::Host => 3,
        MetadataSource::HostLocality => 4,
    }
}
