//! Tracing spans: the ids of one, and children of the active one.

use core::ffi::c_void;
use std::ptr::NonNull;

use super::buffer::{borrow, empty, lend};
use super::table::table;
use crate::api::text::sanitized;
use crate::envoy::host::ChildSpan;
use crate::http::trace::SpanIds;

/// A span that the module owns, on the worker of its stream.
pub(super) struct Child(NonNull<c_void>);

impl Child {
    /// A child of the active span of `filter`'s stream; none where the request is not traced. `filter` is
    /// the pointer of the running hook, on its worker.
    pub(super) fn of_active(filter: *mut c_void, operation: &str) -> Option<Self> {
        let required = &table()?.required;
        // SAFETY: `filter` is live and this is its worker.
        let active = unsafe { required.envoy_dynamic_module_callback_http_get_active_span(filter) };
        // A request that is not traced has a span without ids.
        ids(active)?;
        // SAFETY: as above; `active` is the span that Envoy just handed out, and the text is copied.
        let child = unsafe {
            required.envoy_dynamic_module_callback_http_span_spawn_child(
                filter,
                active,
                lend(operation.as_bytes()),
            )
        };
        NonNull::new(child).map(Self)
    }
}

impl ChildSpan for Child {
    fn ids(&self) -> Option<SpanIds> {
        ids(self.0.as_ptr())
    }

    fn tag(&mut self, key: &str, value: &str) {
        let Some(table) = table() else { return };
        // SAFETY: the child is the module's until it is dropped, and this is its stream's worker, which
        // it can't leave; the texts are copied.
        unsafe {
            table.required.envoy_dynamic_module_callback_http_span_set_tag(
                self.0.as_ptr(),
                lend(key.as_bytes()),
                lend(value.as_bytes()),
            );
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(table) = table() {
            // SAFETY: as for `tag`; nothing touches the child afterwards.
            unsafe {
                table
                    .required
                    .envoy_dynamic_module_callback_http_child_span_finish(self.0.as_ptr());
            }
        }
    }
}

/// The ids of `span`, which is null or Envoy's, and alive.
pub(super) fn ids(span: *mut c_void) -> Option<SpanIds> {
    if span.is_null() {
        return None;
    }
    let required = &table()?.required;
    let mut text = empty();
    // SAFETY: `span` is alive; there is room for the buffer.
    let found = unsafe {
        required.envoy_dynamic_module_callback_http_span_get_trace_id(span, &raw mut text)
    };
    // SAFETY: the text is Envoy's until the next of these calls (F36); it is copied at once.
    let trace = found.then(|| unsafe { borrow(text) }.to_vec())?;
    // SAFETY: as for the first call.
    let found = unsafe {
        required.envoy_dynamic_module_callback_http_span_get_span_id(span, &raw mut text)
    };
    // SAFETY: as above.
    let id = found.then(|| unsafe { borrow(text) }.to_vec())?;
    Some(SpanIds { trace: sanitized(&trace), span: sanitized(&id) })
}
