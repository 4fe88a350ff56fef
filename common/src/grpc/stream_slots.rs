//! How many calls a service lets be open on one connection.
//!
//! The library would take more, and keep them for later. But a call that is given up there is sent
//! none the less, and reset in the same breath, which servers take for an attack; and those that are
//! not reset are work for nobody, ahead of everybody else's. So calls wait here, where leaving costs
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::CallError;

/// The slots of one connection, for any thread and any executor.
pub(super) struct StreamSlots {
    free: Arc<Semaphore>,
    /// How many there are in all. Never fewer than before: what a service lowers its limit by waits in
    /// the library.
    all: AtomicUsize,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct StreamSlot(
    #[expect(dead_code, reason = "held, to be dropped")] OwnedSemaphorePermit,
);

impl StreamSlots {
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(0)), all: AtomicUsize::new(0) }
    }

    /// Makes as many slots as the service allows by now.
    fn grow(&self, sender: &SendRequest<Bytes>) {
        let now = sender.current_max_send_streams().min(Semaphore::MAX_PERMITS);
        let before = self.all.fetch_max(now, Ordering::Relaxed);
        if let Some(more @ 1..) = now.checked_sub(before) {
            self.free.add_permits(more);
        }
    }

    /// Waits for a slot, among the calls on the connection of `sender`.
    ///
    /// # Errors
    /// None: nobody closes the slots.
    pub(super) async fn take(&self, sender: &SendRequest<Bytes>) -> Result<StreamSlot, CallError> {
        self.grow(sender);
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.map(StreamSlot).map_err(|error| CallError::Internal(error.to_string()))
    }

    /// Whether whoever takes one has to wait.
    pub(super) fn is_full(&self, sender: &SendRequest<Bytes>) -> bool {
        self.grow(sender);
        self.free.available_permits() == 0
    }
}
