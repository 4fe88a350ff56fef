//! A breaker: after enough failures in a row nobody waits for a service that is down; now and then
//! one call finds out whether it is back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerFields {
    /// It opens after so many calls in a row without an answer.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    consecutive_failures: u32,
    /// One call tries after each pause.
    #[cfg_attr(
        any(test, feature = "schema"),
        schemars(with = "Option<crate::api::schema::DurationText>", extend("default" = "1s"))
    )]
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

#[derive(Debug)]
struct State {
    now: Now,
    /// Grows whenever it opens or lets one call try. What calls of an earlier epoch come to says
    /// nothing of this one.
    epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    /// Calls go through; so many failed in a row.
    Closed { failures: u32 },
    /// No call goes through before this instant.
    Open { until: Instant },
    /// One call tries, and has until then.
    HalfOpen { until: Instant },
}

/// Leave for one call. Whoever has it says what came of the call; a trial that is dropped without a word
/// is given back, so that the next call may try.
#[derive(Debug)]
pub struct Permit {
    breaker: Option<Arc<CircuitBreaker>>,
    epoch: u64,
    /// Since when a trial may have been made, if this one is a trial without a word of it yet.
    trial: Option<Instant>,
}

impl CircuitBreaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(settings: BreakerSettings) -> Self {
        let state = State { now: Now::Closed { failures: 0 }, epoch: 0 };
        Self { settings, state: Mutex::new(state) }
    }

    /// Leave for a call at `now`, if it may be made.
    #[must_use]
    pub fn enter(self: &Arc<Self>, now: Instant) -> Option<Permit> {
        let mut state = self.lock();
        let trial = match state.now {
            Now::Closed { .. } => None,
            Now::Open { until } | Now::HalfOpen { until } if now < until => return None,
            Now::Open { .. } | Now::HalfOpen { .. } => {
                // A trial that takes longer than a pause keeps others out no longer than that.
                state.now = Now::HalfOpen { until: self.pause_from(now) };
                state.epoch += 1;
                Some(now)
            }
        };
        Some(Permit { breaker: Some(Arc::clone(self)), epoch: state.epoch, trial })
    }

    /// Whether calls go through at `now`, in a word: `closed`, `open` or `half_open`.
    #[must_use]
    pub fn word(&self, now: Instant) -> &'static str {
        match self.lock().now {
            Now::Closed { .. } => "closed",
            Now::Open { until } | Now::HalfOpen { until } if now < until => "open",
            Now::Open { .. } | Now::HalfOpen { .. } => "half_open",
        }
    }

    fn pause_from(&self, now: Instant) -> Instant {
        now.checked_add(self.settings.pause).unwrap_or(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Leave where there is no breaker.
    #[must_use]
    pub const fn free() -> Self {
        Self { breaker: None, epoch: 0, trial: None }
    }

    /// The call was answered.
    pub fn answered(&mut self) {
        self.trial = None;
        self.change(|_, state| state.now = Now::Closed { failures: 0 });
    }

    /// The call was not answered.
    pub fn failed(&mut self, now: Instant) {
        self.trial = None;
        self.change(|breaker, state| match state.now {
            Now::Closed { failures } if failures + 1 < breaker.settings.failures => {
                state.now = Now::Closed { failures: failures + 1 };
            }
            Now::Closed { .. } | Now::HalfOpen { .. } | Now::Open { .. } => {
                state.now = Now::Open { until: breaker.pause_from(now) };
                state.epoch += 1;
            }
        });
    }

    /// Changes the breaker, unless it has opened, or let another call try, since this one began.
    fn change(&self, change: impl FnOnce(&CircuitBreaker, &mut State)) {
        let Some(breaker) = &self.breaker else { return };
        let mut state = breaker.lock();
        if state.epoch == self.epoch {
            change(breaker, &mut state);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(since) = self.trial.take() {
            self.change(|_, state| state.now = Now::Open { until: since });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn breaker() -> (Arc<CircuitBreaker>, Instant) {
        let settings = BreakerSettings { failures: 3, pause: PAUSE };
        (Arc::new(CircuitBreaker::new(settings)), Instant::now())
    }

    fn enter(breaker: &Arc<CircuitBreaker>, now: Instant) -> Permit {
        breaker.enter(now).unwrap()
    }

    /// Opens it.
    fn open(breaker: &Arc<CircuitBreaker>, now: Instant) {
        for _ in 0..3 {
            enter(breaker, now).failed(now);
        }
        assert!(breaker.enter(now).is_none());
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let (breaker, now) = breaker();
        for _ in 0..2 {
            enter(&breaker, now).failed(now);
        }
        enter(&breaker, now).answered();
        for _ in 0..2 {
            enter(&breaker, now).failed(now);
        }
        enter(&breaker, now).failed(now);
        assert!(breaker.enter(now).is_none());
    }

    #[test]
    fn after_the_pause_one_call_tries_and_its_answer_closes_it() {
        let (breaker, now) = breaker();
        open(&breaker, now);
        let later = now + PAUSE;
        let mut trial = enter(&breaker, later);
        assert!(breaker.enter(later).is_none());
        trial.failed(later);
        assert!(breaker.enter(later).is_none());
        let again = later + PAUSE;
        let mut trial = enter(&breaker, again);
        assert!(breaker.enter(again).is_none());
        trial.answered();
        assert!(breaker.enter(again).is_some() && breaker.enter(again).is_some());
    }

    #[test]
    fn a_trial_that_is_never_made_is_given_to_the_next_call() {
        let (breaker, now) = breaker();
        open(&breaker, now);
        let later = now + PAUSE;
        drop(enter(&breaker, later));
        let mut trial = enter(&breaker, later);
        assert!(breaker.enter(later).is_none());
        trial.answered();
        drop(trial);
        assert!(breaker.enter(later).is_some());
    }

    #[test]
    fn a_trial_that_is_never_heard_of_does_not_keep_it_open_for_good() {
        let (breaker, now) = breaker();
        open(&breaker, now);
        let mut slow = enter(&breaker, now + PAUSE);
        let mut next = enter(&breaker, now + 2 * PAUSE);
        // The next one counts from then on.
        slow.answered();
        assert!(breaker.enter(now + 2 * PAUSE).is_none());
        next.answered();
        assert!(breaker.enter(now + 2 * PAUSE).is_some());
    }

    #[test]
    fn what_calls_from_before_it_opened_come_to_changes_nothing() {
        let (breaker, now) = breaker();
        let (mut answered, mut failed) = (enter(&breaker, now), enter(&breaker, now));
        open(&breaker, now);
        answered.answered();
        assert!(breaker.enter(now).is_none());
        let mut trial = enter(&breaker, now + PAUSE);
        failed.failed(now + PAUSE);
        answered.answered();
        assert!(breaker.enter(now + PAUSE).is_none());
        trial.answered();
        assert!(breaker.enter(now + PAUSE).is_some());
    }

    #[test]
    fn without_a_breaker_every_call_has_leave() {
        let mut permit = Permit::free();
        permit.failed(Instant::now());
        permit.answered();
    }
}
