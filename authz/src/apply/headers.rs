//! Carries out the changes that an allowing answer asks for.

use callout_common::StreamContext;
use callout_common::api::header_limits::HeaderLimits;
use callout_protos::envoy::config::core::v3::header_value_option::HeaderAppendAction;

use crate::decide::edits::Edits;

/// Changes the request. `false` when the changes made it larger than Envoy allows.
pub(crate) fn request<E: Send + 'static>(
    cx: &mut StreamContext<'_, E>,
    edits: &Edits,
    limits: &HeaderLimits,
) -> bool {
    if edits.leave_request_as_it_is() {
        return true;
    }
    let before = cx.request().size();
    let mut headers = cx.request_mut();
    for (name, value) in &edits.set {
        headers.set(name, value);
    }
    for (name, value) in &edits.append {
        if headers.view().get(name).is_some() {
            headers.append(name, value);
        }
    }
    for name in &edits.remove {
        headers.remove(name);
    }
    if !edits.query.is_empty()
        && let Some(path) = headers.view().get_str(":path").map(|path| edits.query.apply(path))
    {
        headers.set(":path", path.as_bytes());
    }
    cx.request().size().is_within(limits.request(), before)
}

/// Changes the response.
pub(crate) fn response<E: Send + 'static>(
    cx: &mut StreamContext<'_, E>,
    edits: &[(HeaderAppendAction, String, Vec<u8>)],
) {
    let mut headers = cx.response_mut();
    for (action, name, value) in edits {
        let present = headers.view().get(name).is_some();
        match action {
            HeaderAppendAction::AppendIfExistsOrAdd => {
                headers.add(name, value);
            }
            HeaderAppendAction::AddIfAbsent if !present => {
                headers.add(name, value);
            }
            HeaderAppendAction::OverwriteIfExists if present => {
                headers.set(name, value);
            }
            HeaderAppendAction::OverwriteIfExistsOrAdd => {
                headers.set(name, value);
            }
            HeaderAppendAction::AddIfAbsent | HeaderAppendAction::OverwriteIfExists => {}
        }
    }
}

/// Whether the response has no more header lines than Envoy allows.
pub(crate) fn response_within_limits<E: Send + 'static>(
    cx: &StreamContext<'_, E>,
    limits: &HeaderLimits,
) -> bool {
    cx.response().size().lines <= limits.response(cx.cluster_name()).lines
}
