//! Limits of this proxy's own, where the service can't be asked or is not to be: one for each set of
//! descriptors, counted by GCRA (governor).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, RateLimiter};

use crate::ledger::Key;

/// So many requests in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) requests: NonZeroU32,
    pub(crate) window: Duration,
}

impl Size {
    /// `limit` requests in `window` times `part` (numerator and denominator); at least one request.
    /// `None` without a window.
    pub(crate) fn part_of(
        limit: u64,
        window: Duration,
        (numerator, denominator): (u32, u32),
    ) -> Option<Self> {
        let requests = limit.saturating_mul(numerator.into()) / u64::from(denominator.max(1));
        let requests = NonZeroU32::new(u32::try_from(requests).unwrap_or(u32::MAX));
        let requests = requests.unwrap_or(NonZeroU32::MIN);
        (!window.is_zero()).then_some(Self { requests, window })
    }

    fn limiter(self) -> Option<DefaultDirectRateLimiter> {
        let period = self.window.checked_div(self.requests.get())?;
        let quota = governor::Quota::with_period(period.max(Duration::from_nanos(1)))?;
        Some(RateLimiter::direct(quota.allow_burst(self.requests)))
    }
}

/// The limiters of all sets, as many as there may be accounts.
#[derive(Debug)]
pub(crate) struct Locals {
    limiters: Mutex<HashMap<Key, (Size, DefaultDirectRateLimiter)>>,
    most: usize,
}

impl Locals {
    pub(crate) fn new(most: usize) -> Self {
        Self { limiters: Mutex::default(), most }
    }

    /// Whether one more request of `key` fits a limit of `size`; `None` when there is no room to
    /// count it.
    pub(crate) fn admits(&self, key: Key, size: Size) -> Option<bool> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        if limiters.get(&key).is_none_or(|(had, _)| *had != size) {
            let known = limiters.contains_key(&key);
            if !known && limiters.len() >= self.most {
                // Those that are full again have nothing to remember.
                limiters.retain(|_, (_, limiter)| limiter.check().is_err());
            }
            if !known && limiters.len() >= self.most {
                return None;
            }
            limiters.insert(key, (size, size.limiter()?));
        }
        limiters.get(&key).map(|(_, limiter)| limiter.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(requests: u32, window: Duration) -> Size {
        Size { requests: NonZeroU32::new(requests).unwrap(), window }
    }

    #[test]
    fn no_more_than_the_limit_passes_at_once_and_keys_do_not_share() {
        let locals = Locals::new(10);
        let hour = size(5, Duration::from_secs(3600));
        let admitted =
            (0..20).filter(|_| locals.admits(Key::of(b"a", &[]), hour) == Some(true)).count();
        assert_eq!(admitted, 5);
        assert_eq!(locals.admits(Key::of(b"b", &[]), hour), Some(true));
    }

    #[test]
    fn a_limit_that_changed_counts_anew_and_a_full_table_counts_nothing() {
        let locals = Locals::new(1);
        let hour = Duration::from_secs(3600);
        assert_eq!(locals.admits(Key::of(b"a", &[]), size(1, hour)), Some(true));
        assert_eq!(locals.admits(Key::of(b"a", &[]), size(1, hour)), Some(false));
        assert_eq!(locals.admits(Key::of(b"a", &[]), size(2, hour)), Some(true));
        assert_eq!(locals.admits(Key::of(b"a", &[]), size(2, hour)), Some(true));
        assert_eq!(locals.admits(Key::of(b"b", &[]), size(1, hour)), None);
    }

    #[test]
    fn a_part_of_a_limit_is_at_least_one_request() {
        let second = Duration::from_secs(1);
        let part = |limit, part| Size::part_of(limit, second, part).unwrap().requests.get();
        assert_eq!((part(100, (1, 10)), part(5, (1, 10)), part(10, (2, 1))), (10, 1, 20));
        assert_eq!(part(u64::MAX, (2, 1)), u32::MAX);
        assert_eq!(Size::part_of(10, Duration::ZERO, (1, 1)), None);
    }
}
