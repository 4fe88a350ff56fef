//! What the log says of a service: a line when it falls silent, one every ten seconds while it is, and one
//! when it answers again.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::filter::stats::Setup;
use crate::grpc::Failure;

/// The shortest time between two warnings.
const PAUSE: Duration = Duration::from_secs(10);

/// The service of one filter. It is one for all configurations of a process with the same name, so that
/// a reload says nothing anew.
#[derive(Debug)]
pub struct ServiceLog {
    name: String,
    /// It did not answer; looked at without the lock, since most calls are answered.
    silent: AtomicBool,
    state: Mutex<State>,
}

/// Whether it answers.
#[derive(Debug, Default)]
struct State {
    /// Since when it does not.
    since: Option<Instant>,
    /// Failures that were not told yet.
    untold: u64,
    /// When the last warning was.
    warned: Option<Instant>,
    /// The log knows that it does not answer.
    told: bool,
}

/// What is to be said.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Silent { calls: u64 },
    Still { calls: u64, since: Duration },
    Again { after: Duration },
}

impl State {
    fn failed(&mut self, now: Instant) -> Option<Word> {
        self.untold += 1;
        let since = *self.since.get_or_insert(now);
        if self.warned.is_some_and(|warned| now.duration_since(warned) < PAUSE) {
            return None;
        }
        self.warned = Some(now);
        let calls = std::mem::take(&mut self.untold);
        if std::mem::replace(&mut self.told, true) {
            return Some(Word::Still { calls, since: now.duration_since(since) });
        }
        Some(Word::Silent { calls })
    }

    fn answered(&mut self, now: Instant) -> Option<Word> {
        let since = self.since.take()?;
        let told = std::mem::take(&mut self.told);
        told.then(|| Word::Again { after: now.duration_since(since) })
    }
}

impl ServiceLog {
    /// That of the filter that `setup` configures, by its name and `stat_prefix`.
    pub fn of(setup: &Setup<'_>) -> &'static Self {
        static ALL: Mutex<Option<HashMap<String, &'static ServiceLog>>> = Mutex::new(None);
        let name = setup.name().to_owned();
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_with(HashMap::new);
        // As many as there are prefixes: they may stay.
        all.entry(name.clone()).or_insert_with(|| {
            Box::leak(Box::new(Self {
                name,
                silent: AtomicBool::new(false),
                state: Mutex::default(),
            }))
        })
    }

    /// A call has ended.
    pub fn ended(&self, failure: Option<&Failure>) {
        let word = match failure {
            Some(failure) if failure.is_silence() => {
                self.silent.store(true, Ordering::Relaxed);
                self.state().failed(Instant::now())
            }
            // A call that was not made says nothing.
            Some(failure) if failure.is_unasked() => None,
            _ if !self.silent.load(Ordering::Relaxed) => None,
            _ => {
                self.silent.store(false, Ordering::Relaxed);
                self.state().answered(Instant::now())
            }
        };
        if let Some(word) = word {
            self.say(&word, failure.map(|failure| failure as &dyn Display));
        }
    }

    fn say(&self, word: &Word, failure: Option<&dyn Display>) {
        let (name, why) = (&self.name, failure.map(ToString::to_string).unwrap_or_default());
        match word {
            Word::Silent { calls: 1 } => {
                tracing::warn!(
                    "{name}: the service does not answer: {why}; the failure mode decides"
                );
            }
            Word::Silent { calls } => tracing::warn!(
                "{name}: the service did not answer {calls} calls: {why}; the failure mode decides"
            ),
            Word::Still { calls, since } => tracing::warn!(
                "{name}: the service has not answered for {} s, {calls} calls since the last line: {why}",
                since.as_secs()
            ),
            Word::Again { after } => {
                tracing::warn!(
                    "{name}: the service answers again after {:.1} s",
                    after.as_secs_f64()
                );
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_then_every_ten_seconds_and_its_end() {
        let (mut state, start) = (State::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(state.answered(at(0)), None);
        assert_eq!(state.failed(at(1)), Some(Word::Silent { calls: 1 }));
        for _ in 0..1000 {
            assert_eq!(state.failed(at(5)), None);
        }
        let since = Duration::from_secs(11);
        assert_eq!(state.failed(at(12)), Some(Word::Still { calls: 1001, since }));
        assert_eq!(state.answered(at(44)), Some(Word::Again { after: Duration::from_secs(43) }));
        assert_eq!(state.answered(at(45)), None);
    }

    #[test]
    fn a_service_that_comes_and_goes_does_not_flood_the_log() {
        let (mut state, start) = (State::default(), Instant::now());
        let mut words = 0;
        for step in 0..1000_u64 {
            let now = start + Duration::from_millis(step * 50);
            words += usize::from(state.failed(now).is_some());
            words += usize::from(state.answered(now).is_some());
        }
        // 50 seconds.
        assert_eq!(words, 10);
    }
}
