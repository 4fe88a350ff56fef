//! The owners of schedulers in Envoy: made, committed to and deleted here only.

use core::ffi::c_void;
use core::ptr::NonNull;

use super::table::table;
use crate::envoy::host::Scheduler;

/// Envoy's scheduler of one stream; deleted exactly once, when this is dropped.
pub(super) struct StreamScheduler(Option<NonNull<c_void>>);

// SAFETY: Envoy's scheduler may be used and deleted from any thread; it holds the stream weakly, so
// it may also outlive it (F6).
unsafe impl Send for StreamScheduler {}

impl StreamScheduler {
    /// A scheduler for `filter`, which has to be the filter of the running hook, or one that is live
    /// in its worker's turn.
    pub(super) fn new(filter: *mut c_void) -> Self {
        // SAFETY: `filter` is live, and the call is made on the stream's worker.
        let scheduler = table().map(|t| unsafe {
            t.required.envoy_dynamic_module_callback_http_filter_scheduler_new(filter)
        });
        Self(scheduler.and_then(NonNull::new))
    }
}

impl Scheduler for StreamScheduler {
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

impl Drop for StreamScheduler {
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

/// Envoy's scheduler of one configuration; deleted exactly once, when this is dropped.
pub(super) struct ConfigScheduler(Option<NonNull<c_void>>);

// SAFETY: as for `StreamScheduler`: it holds the configuration weakly.
unsafe impl Send for ConfigScheduler {}

impl ConfigScheduler {
    /// A scheduler for `config`, which has to be the configuration of the running `config_new` hook.
    pub(super) fn new(config: *mut c_void) -> Self {
        // SAFETY: `config` is live in its hook, and this is the main thread.
        let scheduler = table().map(|t| unsafe {
            t.required.envoy_dynamic_module_callback_http_filter_config_scheduler_new(config)
        });
        Self(scheduler.and_then(NonNull::new))
    }
}

impl Scheduler for ConfigScheduler {
    fn commit(&self, event: u64) {
        if let (Some(scheduler), Some(table)) = (self.0, table()) {
            // SAFETY: the scheduler lives until `self` is dropped; committing after the
            // configuration's end does nothing.
            unsafe {
                table.required.envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
                    scheduler.as_ptr(),
                    event,
                );
            }
        }
    }
}

impl Drop for ConfigScheduler {
    fn drop(&mut self) {
        if let (Some(scheduler), Some(table)) = (self.0.take(), table()) {
            // SAFETY: made by `config_scheduler_new`, and taken out of `self`, so this is its only
            // deletion.
            unsafe {
                table.required.envoy_dynamic_module_callback_http_filter_config_scheduler_delete(
                    scheduler.as_ptr(),
                );
            }
        }
    }
}
