//! Deadlines of one worker, earliest first.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// A deadline that was set.
pub(crate) type Alarm = (Instant, u64);

/// What is to be woken, and when.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeMap<Alarm, Waker>,
    next: u64,
}

impl Timers {
    /// Wakes `waker` at `at`, until [`Timers::clear`].
    pub(crate) fn set(&mut self, at: Instant, waker: Waker) -> Alarm {
        let alarm = (at, self.next);
        self.next += 1;
        self.set.insert(alarm, waker);
        alarm
    }

    pub(crate) fn clear(&mut self, alarm: &Alarm) {
        self.set.remove(alarm);
    }

    /// What is due at `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(first) = self.set.first_entry().filter(|first| first.key().0 <= now) {
            due.push(first.remove());
        }
        due
    }

    /// The earliest deadline.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.set.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_due_goes_and_what_was_cleared_is_not_due() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        timers.set(now, Waker::noop().clone());
        let cleared = timers.set(now, Waker::noop().clone());
        timers.set(later, Waker::noop().clone());
        timers.clear(&cleared);
        assert_eq!(timers.earliest(), Some(now));
        assert_eq!(timers.due(now).len(), 1);
        assert_eq!((timers.due(now).len(), timers.earliest()), (0, Some(later)));
    }
}
