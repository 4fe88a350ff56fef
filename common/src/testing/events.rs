//! What work sends to a stream, without the stream.

use crate::envoy::host::Scheduler;
use crate::tasks::mailbox::{Mailbox, Message, Outbox};

/// The events that were sent to a stream that does not exist.
pub struct SentEvents<E>(Mailbox<E>);

impl<E> std::fmt::Debug for SentEvents<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentEvents").finish_non_exhaustive()
    }
}

impl<E> Default for SentEvents<E> {
    fn default() -> Self {
        Self(Mailbox::new(Box::new(Nobody)))
    }
}

/// Nobody is told.
struct Nobody;

impl Scheduler for Nobody {
    fn commit(&self, _: u64) {}
}

impl<E> SentEvents<E> {
    /// Sends them.
    #[must_use]
    pub fn outbox(&self) -> Outbox<E> {
        self.0.outbox()
    }

    /// What was sent since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<E> {
        let event = |mail| match mail {
            Message::Event(event) => Some(event),
            Message::Lost(_) | Message::TryAgain => None,
        };
        self.0.take().into_iter().filter_map(event).collect()
    }
}
