//! Carries out the changes that an allowing answer asks for.

use callout_common::StreamContext;
use callout_common::api::header_limits::HeaderLimits;

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
    for mutation in &edits.request {
        mutation.apply(&mut headers);
    }
    if !edits.query.is_empty()
        && let Some(path) = headers.view().get_str(":path").map(|path| edits.query.apply(path))
    {
        headers.set(":path", path.as_bytes());
    }
    cx.request().size().is_within(limits.request(), before)
}

/// Whether the response has no more header lines than Envoy allows.
pub(crate) fn response_within_limits<E: Send + 'static>(
    cx: &StreamContext<'_, E>,
    limits: &HeaderLimits,
) -> bool {
    cx.response().size().lines <= limits.response(cx.cluster_name()).lines
}
