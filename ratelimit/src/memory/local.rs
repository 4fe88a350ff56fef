//! Limits of this proxy's own, where the service can't be asked or is not to be: one for each set of
//! descriptors, counted by GCRA (governor).

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::direct::NotKeyed;

use crate::memory::key::Key;
use crate::memory::table::{Kept, Part, Room};

/// Parts of the table, with a lock each.
const PARTS: usize = 16;
/// Limits that sets share for which there is no room.
const SHARED: usize = 256;
/// No window counts for longer: governor's nanoseconds end at 584 years.
const LONGEST_WINDOW: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

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

    fn quota(self) -> governor::Quota {
        let period = self.window.min(LONGEST_WINDOW) / self.requests.get();
        governor::Quota::with_period(period.max(Duration::from_nanos(1)))
            .unwrap_or_else(|| governor::Quota::per_second(self.requests))
            .allow_burst(self.requests)
    }
}

/// What was counted against one limit.
#[derive(Debug, Clone, Copy)]
struct Limit {
    size: Size,
    /// When all of it is there again, if nothing more is counted.
    whole_at: Instant,
}

impl Limit {
    const fn new(size: Size, now: Instant) -> Self {
        Self { size, whole_at: now }
    }

    /// Counts one more request, if it fits.
    fn admits(&mut self, now: Instant) -> bool {
        let state = AsOf { now, whole_at: Cell::new(self.whole_at) };
        let limiter: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> =
            RateLimiter::new(self.size.quota(), state, Still);
        let admitted = limiter.check().is_ok();
        self.whole_at = limiter.into_state_store().whole_at.get();
        admitted
    }
}

impl Kept for Limit {
    fn expires(&self) -> Instant {
        self.whole_at
    }
}

/// What governor keeps of a limit, as of an instant, from which its time counts.
struct AsOf {
    now: Instant,
    whole_at: Cell<Instant>,
}

impl StateStore for AsOf {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let left = self.whole_at.get().saturating_duration_since(self.now);
        let (outcome, left) = measure(Some(left.into()))?;
        self.whole_at.set(self.now.checked_add(left.into()).unwrap_or(self.now));
        Ok(outcome)
    }
}

/// The time of a measurement: its own beginning.
struct Still;

impl Clock for Still {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::default()
    }
}

/// The limits of all sets.
#[derive(Debug)]
pub(crate) struct LocalLimiters {
    parts: [Mutex<Part<Limit>>; PARTS],
    shared: Mutex<Vec<Option<Limit>>>,
}

impl LocalLimiters {
    /// Limits of `most` sets at a time.
    pub(crate) fn new(most: usize) -> Self {
        let room = Room { entries: most.div_ceil(PARTS), bytes: usize::MAX };
        Self {
            parts: std::array::from_fn(|_| Mutex::new(Part::new(room))),
            shared: Mutex::new(vec![None; SHARED]),
        }
    }

    /// Whether one more request of `key` fits a limit of `size`; `None` when there is no room to
    /// count it.
    pub(crate) fn admits(&self, key: Key, size: Size, now: Instant) -> Option<bool> {
        let part = self.parts.get(key.part_of(PARTS))?;
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.with_or(
            key,
            now,
            || Limit::new(size, now),
            |limit| {
                if limit.size != size {
                    *limit = Limit::new(size, now);
                }
                limit.admits(now)
            },
        )
    }

    /// The same for a set for which there is no room: it shares a limit with others. The first one's
    /// size holds until nothing is counted any more.
    pub(crate) fn shared_admits(&self, key: Key, size: Size, now: Instant) -> bool {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = shared.get_mut(key.part_of(SHARED)) else { return false };
        let counted = place.filter(|limit| limit.whole_at > now);
        let mut limit = counted.unwrap_or_else(|| Limit::new(size, now));
        let admitted = limit.admits(now);
        *place = Some(limit);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn size(requests: u32, window: Duration) -> Size {
        Size { requests: NonZeroU32::new(requests).unwrap(), window }
    }

    fn key(name: &str) -> Key {
        Key::of(name.as_bytes(), &[])
    }

    /// How many of so many requests of a set fit.
    fn admitted(locals: &LocalLimiters, name: &str, requests: usize, now: Instant) -> usize {
        let admits = |_: &usize| locals.admits(key(name), size(5, HOUR), now) == Some(true);
        (0..requests).filter(admits).count()
    }

    #[test]
    fn no_more_than_the_limit_passes_at_once_and_keys_do_not_share() {
        let (locals, now) = (LocalLimiters::new(100), Instant::now());
        assert_eq!(admitted(&locals, "a", 20, now), 5);
        assert_eq!(admitted(&locals, "b", 1, now), 1);
        // A fifth of the window gives one back.
        assert_eq!(admitted(&locals, "a", 20, now + HOUR / 5), 1);
        assert_eq!(admitted(&locals, "a", 20, now + HOUR * 3), 5);
    }

    #[test]
    fn a_limit_that_changed_counts_anew() {
        let (locals, now) = (LocalLimiters::new(1), Instant::now());
        let admits = |requests| locals.admits(key("a"), size(requests, HOUR), now);
        assert_eq!((admits(1), admits(1)), (Some(true), Some(false)));
        assert_eq!((admits(2), admits(2), admits(2)), (Some(true), Some(true), Some(false)));
    }

    #[test]
    fn others_never_make_a_full_table_forget_what_a_set_used() {
        let (locals, now) = (LocalLimiters::new(64), Instant::now());
        assert_eq!(admitted(&locals, "a", 4, now), 4);
        for other in 0..1000 {
            locals.admits(key(&other.to_string()), size(5, HOUR), now);
        }
        assert_eq!(admitted(&locals, "a", 8, now), 1);
        // Once they are whole again they make room, one for one.
        let later = now + HOUR * 2;
        let admits = |other: &i32| {
            locals.admits(key(&other.to_string()), size(5, HOUR), later) == Some(true)
        };
        assert_eq!((1000..2000).filter(admits).count(), 64);
    }

    #[test]
    fn sets_without_room_share_limits_and_do_not_pass_uncounted() {
        let (locals, now) = (LocalLimiters::new(1), Instant::now());
        for other in 0..1000 {
            locals.admits(key(&other.to_string()), size(5, HOUR), now);
        }
        assert_eq!(locals.admits(key("b"), size(5, HOUR), now), None);
        let shared = |size| locals.shared_admits(key("b"), size, now);
        assert_eq!((0..20).filter(|_| shared(size(5, HOUR))).count(), 5);
        // Another size does not begin anew.
        assert!(!shared(size(7, HOUR)));
        let later = now + HOUR;
        assert!(locals.shared_admits(key("b"), size(7, HOUR), later));
    }

    #[test]
    fn a_part_of_a_limit_is_at_least_one_request() {
        let second = Duration::from_secs(1);
        let part = |limit, part| Size::part_of(limit, second, part).unwrap().requests.get();
        assert_eq!((part(100, (1, 10)), part(5, (1, 10)), part(10, (2, 1))), (10, 1, 20));
        assert_eq!(part(u64::MAX, (2, 1)), u32::MAX);
        assert_eq!(Size::part_of(10, Duration::ZERO, (1, 1)), None);
    }

    proptest! {
        #[test]
        fn no_window_is_too_long_or_too_short(
            requests in 1..u32::MAX, seconds in any::<u64>(), nanos in 0..1_000_000_000_u32,
        ) {
            let window = Duration::new(seconds, nanos);
            let locals = LocalLimiters::new(10);
            let now = Instant::now();
            let size = size(requests, window);
            prop_assert_eq!(locals.admits(key("a"), size, now), Some(true));
            if requests == 1 && window > Duration::ZERO {
                prop_assert_eq!(locals.admits(key("a"), size, now), Some(false));
            }
        }

        #[test]
        fn in_no_window_more_passes_than_twice_the_limit(
            requests in 1..20_u32,
            pauses in prop::collection::vec(0..400_u64, 1..200),
        ) {
            // GCRA: what the bucket holds at first, and what comes back in a window.
            let (locals, window) = (LocalLimiters::new(10), Duration::from_secs(1));
            let mut now = Instant::now();
            let mut passed = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                if locals.admits(key("a"), size(requests, window), now) == Some(true) {
                    passed.push(now);
                }
            }
            for from in &passed {
                let within = passed.iter().filter(|at| *at >= from && **at < *from + window);
                prop_assert!(within.count() <= usize::try_from(requests * 2).unwrap());
            }
        }
    }
}
