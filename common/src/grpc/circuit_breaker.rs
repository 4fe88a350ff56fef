//! A breaker: after enough failures in a row nobody waits for a service that is down; now and then
//! one call finds out whether it is back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use callout_protos::pbjson_types;
use serde::Deserialize;

use crate::api::config::{ConfigError, positive_duration, refuse_if};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// How long it stays open before one call may try.
    pub pause: Duration,
}

/// [`BreakerSettings`], as they are written under `callout.breaker`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerFields {
    consecutive_failures: u32,
    pause: Option<pbjson_types::Duration>,
}

impl BreakerSettings {
    /// Checks what is written.
    ///
    /// # Errors
    /// The field that is wrong and why.
    pub fn configure(fields: &BreakerFields) -> Result<Self, ConfigError> {
        let BreakerFields { consecutive_failures: failures, pause } = fields;
        refuse_if(*failures == 0, "consecutive_failures", "must be greater than 0")?;
        let pause = positive_duration(pause.as_ref(), "pause", Duration::from_secs(1))?;
        Ok(Self { failures: *failures, pause })
    }
}

/// The breaker of one service. Verdicts don't feed it: only calls without an answer are failures.
#[derive(Debug)]
pub struct CircuitBreaker {
    settings: BreakerSettings,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Calls go through; so many failed in a row.
    Closed { failures: u32 },
    /// No call goes through before this instant.
    Open { until: Instant },
    /// One call tries, and has until then.
    HalfOpen { until: Instant },
}

impl CircuitBreaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether a call may be made. Whoever may has to say what came of it.
    pub fn admits(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => true,
            State::Open { until } | State::HalfOpen { until } if now < until => false,
            State::Open { .. } | State::HalfOpen { .. } => {
                // A caller that never says what came of it keeps others out no longer than a pause.
                *state = State::HalfOpen { until: self.pause_from(now) };
                true
            }
        }
    }

    /// A call was answered.
    pub fn answered(&self) {
        *self.lock() = State::Closed { failures: 0 };
    }

    /// A call was not answered.
    pub fn failed(&self, now: Instant) {
        let mut state = self.lock();
        *state = match *state {
            State::Closed { failures } if failures + 1 < self.settings.failures => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } | State::HalfOpen { .. } => {
                State::Open { until: self.pause_from(now) }
            }
            // Calls that were under way when it opened.
            State::Open { until } => State::Open { until },
        };
    }

    fn pause_from(&self, now: Instant) -> Instant {
        now.checked_add(self.settings.pause).unwrap_or(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn breaker() -> (CircuitBreaker, Instant) {
        (CircuitBreaker::new(BreakerSettings { failures: 3, pause: PAUSE }), Instant::now())
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let (breaker, now) = breaker();
        for _ in 0..2 {
            breaker.failed(now);
        }
        breaker.answered();
        for _ in 0..2 {
            breaker.failed(now);
            assert!(breaker.admits(now));
        }
        breaker.failed(now);
        assert!(!breaker.admits(now));
    }

    #[test]
    fn after_the_pause_one_call_tries_and_its_answer_closes_it() {
        let (breaker, now) = breaker();
        for _ in 0..3 {
            breaker.failed(now);
        }
        let later = now + PAUSE;
        assert!(breaker.admits(later) && !breaker.admits(later));
        breaker.failed(later);
        assert!(!breaker.admits(later));
        let again = later + PAUSE;
        assert!(breaker.admits(again) && !breaker.admits(again));
        breaker.answered();
        assert!(breaker.admits(again) && breaker.admits(again));
    }

    #[test]
    fn a_try_that_is_never_heard_of_does_not_keep_it_open_for_good() {
        let (breaker, now) = breaker();
        for _ in 0..3 {
            breaker.failed(now);
        }
        assert!(breaker.admits(now + PAUSE));
        assert!(breaker.admits(now + 2 * PAUSE));
    }
}
