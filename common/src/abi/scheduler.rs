//! The owner of a stream's scheduler in Envoy: made, committed to and deleted here only.

use core::ffi::c_void;
use core::ptr::NonNull;

use super::table::table;
use crate::host::Scheduler;

/// Envoy's scheduler of one stream; deleted exactly once, when this is dropped.
pub(super) struct AbiScheduler(Option<NonNull<c_void>>);

// SAFETY: Envoy's scheduler may be used and deleted from any thread; it holds the stream weakly, so
// it may also outlive it (measured for 1.38, 1.39 and 1.40).
unsafe impl Send for AbiScheduler {}

impl AbiScheduler {
    /// A scheduler for `filter`, which has to be the filter of the running hook.
    pub(super) fn new(filter: *mut c_void) -> Self {
        // SAFETY: `filter` is live in its hook, and the call is made on the stream's worker.
        let scheduler = table().map(|t| unsafe {
            t.required.envoy_dynamic_module_callback_http_filter_scheduler_new(filter)
        });
        Self(scheduler.and_then(NonNull::new))
    }
}

impl Scheduler for AbiScheduler {
    fn commit(&self, event: u64) {
        if let (Some(scheduler), Some(table)) = (self.0, table()) {
            // SAFETY: the scheduler lives until `self` is dropped; committing after the stream's end
            // does nothing.
            unsafe {
                table.required.envoy_dynamic_module_callback_http_filter_scheduler_commit(
                    scheduler.as_ptr(),
                    event,
                );
            }
        }
    }
}

impl Drop for AbiScheduler {
    fn drop(&mut self) {
        if let (Some(scheduler), Some(table)) = (self.0.take(), table()) {
            // SAFETY: made by `scheduler_new`, and taken out of `self`, so this is its only deletion.
            unsafe {
                table
                    .required
                    .envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler.as_ptr());
            }
        }
    }
}
