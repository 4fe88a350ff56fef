//! The end of a request that a filter holds while the headers wait behind it.
//!
//! Envoy notes once, for all filters of a stream, that the client is done (F37). Headers that a filter
//! lets go from an event after that take the end along, though a filter in front still holds the rest
//! of the body: the upstream gets a request without it. So a filter that holds the end says so in the
//! dynamic metadata, where the filters of all modules find it, and those behind it wait. They ask again
//! every millisecond: no call of Envoy's leads from one module to another.

use crate::envoy::host::Host;
use crate::envoy::types::{MetadataSource, MetadataValue};

const NAMESPACE: &str = "callout.body";
const KEY: &str = "request_end_held";

/// A filter in front holds the end of the request from now on, or no longer does.
pub(crate) fn say(host: &mut dyn Host, held: bool) {
    host.set_metadata(NAMESPACE, KEY, &MetadataValue::Number(f64::from(u8::from(held))));
}

/// Whether a filter in front holds the end of the request.
pub(crate) fn is_held(host: &dyn Host) -> bool {
    let held = host.metadata(MetadataSource::Dynamic, NAMESPACE, KEY);
    matches!(held, Some(MetadataValue::Number(held)) if held > 0.0)
}
