//! What is known of one connection to a service, on the runtime's threads or on a worker: whether
//! calls may start on it, and how calls are given up on it. Time is an argument.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::resets::Resets;

/// Calls in a row without a word of the service, after which a connection counts as dead.
const MUTE_CALLS: u32 = 3;
/// A connection is not taken for dead before this age, lest a service that never answers costs one
/// for every few calls.
const MUTE_AGE: Duration = Duration::from_secs(2);
/// A connection that ends sooner, and without an answer, was none.
const FLEETING: Duration = Duration::from_secs(1);
/// Calls that were given up without a reset and may run out on one connection. With more of them it
/// takes no new calls, and is closed after its last.
const MOST_GIVEN_UP: usize = 1024;
/// How often a call that was given up asks whether it may be reset.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Bytes that are read of an answer that nobody waits for. A longer one is reset: that is the
/// service's doing, and no client's.
pub(super) const MOST_DRAINED: usize = 256 << 10;

/// The state of one connection.
pub(super) struct Health {
    opened: Instant,
    mute: AtomicU32,
    proved: AtomicBool,
    retired: AtomicBool,
    given_up: AtomicUsize,
    resets: Mutex<Resets>,
}

impl Health {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            opened: now,
            mute: AtomicU32::new(0),
            proved: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            given_up: AtomicUsize::new(0),
            resets: Mutex::new(Resets::new(now)),
        }
    }

    /// Whether calls may still start.
    pub(super) fn takes_calls(&self) -> bool {
        !self.retired.load(Ordering::Relaxed) && self.mute.load(Ordering::Relaxed) < MUTE_CALLS
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    /// Whether the service has answered a call.
    pub(super) fn proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
    }

    /// The service has said something to a call. Whether for the first time.
    pub(super) fn answered(&self) -> bool {
        self.mute.store(0, Ordering::Relaxed);
        !self.proved() && !self.proved.swap(true, Ordering::Relaxed)
    }

    /// The service has said nothing to a call for as long as it had.
    pub(super) fn was_silent(&self, now: Instant) {
        if self.age(now) >= MUTE_AGE || self.mute.load(Ordering::Relaxed) + 1 < MUTE_CALLS {
            self.mute.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether its peer ended it so soon that the service can't be said to have been there.
    pub(super) fn was_fleeting(&self, ended: Instant) -> bool {
        // What we close because clients left says nothing of the service.
        let closed_by_us = self.retired.load(Ordering::Relaxed);
        !closed_by_us && !self.proved() && self.age(ended) < FLEETING
    }

    /// Whether a call that is given up may be reset now.
    pub(super) fn may_reset(&self, now: Instant) -> bool {
        self.resets.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }

    /// A call is given up without a reset. It is over with [`Health::ran_out`].
    pub(super) fn gave_up(&self) {
        if self.given_up.fetch_add(1, Ordering::Relaxed) >= MOST_GIVEN_UP {
            self.retired.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn ran_out(&self) {
        self.given_up.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_dead_after_three_silent_calls_but_not_in_its_youth() {
        let now = Instant::now();
        let health = Health::new(now);
        (0..10).for_each(|_| health.was_silent(now));
        assert!(health.takes_calls());
        health.was_silent(now + MUTE_AGE);
        assert!(!health.takes_calls());
        assert!(health.answered() && health.takes_calls() && !health.answered());
    }

    #[test]
    fn with_too_many_calls_that_nobody_waits_for_no_new_ones_start() {
        let health = Health::new(Instant::now());
        (0..=MOST_GIVEN_UP).for_each(|_| health.gave_up());
        assert!(!health.takes_calls() && !health.was_fleeting(Instant::now()));
        (0..=MOST_GIVEN_UP).for_each(|_| health.ran_out());
        assert!(!health.takes_calls());
    }

    #[test]
    fn a_connection_that_ends_at_once_and_without_an_answer_was_none() {
        let now = Instant::now();
        let health = Health::new(now);
        assert!(health.was_fleeting(now) && !health.was_fleeting(now + FLEETING));
        health.answered();
        assert!(!health.was_fleeting(now));
    }
}
