//! What an action makes of a request.

use callout_common::api::text::sanitized;
use percent_encoding::percent_decode_str;

use super::Request;

/// What one action makes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DescriptorEntry {
    /// An entry.
    Entry(String, String),
    /// No entry, and the descriptor goes on without it.
    Nothing,
    /// No entry, and so no descriptor.
    Failed,
}

/// The first value of a query parameter, its percent escapes decoded.
pub(super) fn query_value(request: &dyn Request, name: &str) -> Option<String> {
    let path = request.header(":path");
    let path = sanitized(path.first()?);
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let decoded = |text: &str| sanitized(&percent_decode_str(text).collect::<Vec<u8>>());
        (decoded(key) == name).then(|| decoded(value))
    })
}
