//! The one tokio runtime of a shared library: started once, never stopped, kept over reloads.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

/// Threads of the runtime. One carries tens of thousands of calls a second; the second keeps
/// timers exact while the first decodes a large reply.
const THREADS: usize = 2;

static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();

/// The threads of the runtime could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the threads for calls could not be started")]
pub struct NoRuntime;

/// Starts the runtime, if it does not run yet.
///
/// # Errors
/// [`NoRuntime`] when this process may start no more threads; the answer is final.
pub fn start() -> Result<(), NoRuntime> {
    get().map(|_| ())
}

pub(crate) fn spawn(
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<AbortHandle, NoRuntime> {
    #[cfg(any(test, feature = "testing"))]
    if let Some(runtime) = here() {
        return Ok(runtime.spawn(work).abort_handle());
    }
    get().map(|runtime| runtime.spawn(work).abort_handle())
}

fn get() -> Result<&'static Runtime, NoRuntime> {
    RUNTIME.get_or_init(build).as_ref().ok_or(NoRuntime)
}

fn build() -> Option<Runtime> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name_fn(|| format!("callout-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
            .on_thread_start(mask_signals)
            .enable_all()
            .build()
    };
    // tokio panics, instead of returning the error, when a worker thread can't be started.
    std::panic::catch_unwind(AssertUnwindSafe(build)).ok()?.ok()
}

/// Envoy's signal handlers belong on Envoy's threads.
pub(crate) fn mask_signals() {
    if let Err(error) = nix::sys::signal::SigSet::all().thread_block() {
        tracing::warn!(%error, "signals could not be masked on a callout thread");
    }
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static HERE: std::cell::RefCell<Option<tokio::runtime::Handle>> =
        const { std::cell::RefCell::new(None) };
}

#[cfg(any(test, feature = "testing"))]
fn here() -> Option<tokio::runtime::Handle> {
    HERE.with_borrow(Clone::clone)
}

/// Runs the work that this thread starts on a runtime of a test's own, until the guard goes.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn use_here(runtime: &tokio::runtime::Handle) -> impl Drop + '_ {
    struct Guard<'a> {
        /// So that this thread has the runtime's clock, too.
        _entered: tokio::runtime::EnterGuard<'a>,
    }
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            HERE.set(None);
        }
    }
    HERE.set(Some(runtime.clone()));
    Guard { _entered: runtime.enter() }
}
