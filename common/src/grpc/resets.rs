//! How many calls may be reset. Time is an argument.
//!
//! A client that leaves, or a deadline, gives a call up. Told of it by a reset at once, a service stops
//! to work for nobody; but servers take many resets for an attack and end the connection, with the
//! calls of other clients on it. So resets have a budget, and what goes beyond it ends by itself.

use std::time::{Duration, Instant};

/// Resets that may come at once. Some servers end a connection on which twenty calls are reset that
/// they have not looked at yet.
const BURST: u32 = 10;
/// Resets a second on the long run. Servers allow some dozens.
const PER_SECOND: u32 = 20;

/// The budget of one connection.
#[derive(Debug)]
pub(crate) struct Resets {
    left: u32,
    /// Up to when the budget was filled.
    filled: Instant,
}

impl Resets {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now }
    }

    /// Whether one more reset may be sent at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / PER_SECOND;
        let since = now.saturating_duration_since(self.filled);
        let earned = u32::try_from(since.as_nanos() / each.as_nanos()).unwrap_or(BURST).min(BURST);
        self.left = (self.left + earned).min(BURST);
        self.filled = if self.left == BURST { now } else { self.filled + each * earned };
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut resets = Resets::new(now);
        let burst = (0..1000).filter(|_| resets.take(now)).count();
        assert_eq!(burst, 10);
        let taken = (0..10_000_u64).filter(|ms| resets.take(now + Duration::from_millis(*ms)));
        assert!((190..=201).contains(&taken.count()));
        let much_later = now + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| resets.take(much_later)).count(), 10);
    }
}
