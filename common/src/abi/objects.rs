//! What Envoy keeps of ours as pointers, and the guard that no panic passes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use crate::runner::AnyStream;
use crate::runner::export::AnyFilter;

pub(super) type Config = Arc<dyn AnyFilter>;

pub(super) type Stream = Rc<dyn AnyStream>;

/// Runs a hook; a panic in it becomes `fallback`. The filter's own panics are caught further in,
/// where they can be answered: what arrives here is a fault of this crate.
pub(super) fn guard<T>(fallback: T, hook: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(hook)) {
        Ok(value) => value,
        Err(payload) => {
            // Its drop might panic again.
            core::mem::forget(payload);
            fallback
        }
    }
}
