//! What rings a worker: the one lock that it shares with other threads.
//!
//! Waking is all that another thread does. It notes what is ready and commits one event on the
//! scheduler of one waiting stream, the carrier; Envoy fires it on the worker, which then takes its
//! turn. At most one commit is outstanding. When the carrier ends, its event is lost with it: what
//! was announced is announced again through the next carrier, in the same critical section, so that
//! nothing that is ready is forgotten in between. Committing happens under the lock and only while
//! the scheduler is in it: once it was taken out, no other thread calls Envoy for that stream.

use std::time::Instant;

#[cfg(feature = "loom")]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "loom"))]
use std::sync::{Mutex, MutexGuard};

use crate::envoy::host::Scheduler;

/// Marks an event as a worker's turn; the rest of its number is the generation of the commit.
const TURN: u64 = 1 << 63;

/// What wants to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The task in this slot of the worker.
    Task(usize),
    /// The connection of this number.
    Line(usize),
}

/// Whether somebody is to do what is ready when no stream of the worker waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Told {
    /// The worker will.
    Worker,
    /// Nobody waits: connections are the doorbell's to serve.
    Nobody,
}

/// The bell of one worker.
pub(crate) struct Bell(Mutex<State>);

struct State {
    carrier: Option<Box<dyn Scheduler>>,
    generation: u64,
    /// A commit is outstanding.
    rung: bool,
    /// The next carrier is to be rung at once.
    wanted: bool,
    /// The worker takes its turn, and looks for what is ready by itself.
    turning: bool,
    ready: Vec<Ready>,
    /// When the worker is to be rung for a deadline.
    alarm: Option<Instant>,
}

impl State {
    fn ring(&mut self) -> Told {
        if self.turning || self.rung {
            return Told::Worker;
        }
        let Some(carrier) = &self.carrier else {
            self.wanted = true;
            return Told::Nobody;
        };
        self.rung = true;
        self.generation = (self.generation + 1) % TURN;
        carrier.commit(TURN | self.generation);
        Told::Worker
    }
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            carrier: None,
            generation: 0,
            rung: false,
            wanted: false,
            turning: false,
            ready: Vec::new(),
            alarm: None,
        }))
    }

    /// A poisoned lock still guards consistent data: no code that runs under it can leave it half
    /// done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether `event` is a worker's turn.
    pub(crate) const fn is_turn(event: u64) -> bool {
        event & TURN != 0
    }

    /// Notes that `what` is ready, and rings. From any thread.
    pub(crate) fn wake(&self, what: Ready) -> Told {
        let mut state = self.lock();
        state.ready.push(what);
        state.ring()
    }

    /// Worker: the stream behind `next` carries the bell from now on. The old carrier's scheduler
    /// is deleted.
    pub(crate) fn carry(&self, next: Option<Box<dyn Scheduler>>) -> Told {
        let mut state = self.lock();
        let old = std::mem::replace(&mut state.carrier, next);
        if state.rung {
            // The event ends with the stream that carried it.
            state.rung = false;
            state.wanted = true;
        }
        let told = if state.carrier.is_some() {
            if std::mem::take(&mut state.wanted) { state.ring() } else { Told::Worker }
        } else if state.ready.is_empty() || state.turning {
            Told::Worker
        } else {
            Told::Nobody
        };
        drop(state);
        drop(old);
        told
    }

    /// Worker: `event` fired. `false` when it is one that was announced anew meanwhile.
    pub(crate) fn begin(&self, event: u64) -> bool {
        let mut state = self.lock();
        if !state.rung || event != TURN | state.generation {
            return false;
        }
        state.rung = false;
        state.turning = true;
        true
    }

    /// Worker: moves what is ready to the end of `ready`.
    pub(crate) fn take(&self, ready: &mut Vec<Ready>) {
        ready.append(&mut self.lock().ready);
    }

    /// Worker: its turn is over. It is rung again when there is `more` to do. Whether the doorbell
    /// has to be told of an earlier alarm, and whether anybody is there to do what is ready.
    pub(crate) fn finish(&self, more: bool, deadline: Option<Instant>) -> (bool, Told) {
        let mut state = self.lock();
        state.turning = false;
        let earlier = deadline.is_some_and(|at| state.alarm.is_none_or(|alarm| at < alarm));
        if earlier {
            state.alarm = deadline;
        }
        let told = if more || !state.ready.is_empty() { state.ring() } else { Told::Worker };
        (earlier, told)
    }

    /// Doorbell: rings if the alarm is due at `now`. The next alarm.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        if state.alarm.is_some_and(|alarm| alarm <= now) {
            state.alarm = None;
            // Without a carrier nobody waits for what is late.
            let _ = state.ring();
        }
        state.alarm
    }

    /// Doorbell: the connections that are ready while no stream of the worker waits.
    pub(crate) fn idle_lines(&self) -> Vec<usize> {
        let mut state = self.lock();
        if state.carrier.is_some() || state.turning {
            return Vec::new();
        }
        let mut lines = Vec::new();
        state.ready.retain(|ready| match ready {
            Ready::Line(number) => {
                lines.push(*number);
                false
            }
            Ready::Task(_) => true,
        });
        lines
    }
}

/// Every interleaving of doorbell and carriers: `cargo test-loom`.
#[cfg(test)]
#[cfg(feature = "loom")]
mod model {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use loom::thread;

    use super::*;

    /// A stream: what was committed on its scheduler, until it ends.
    #[derive(Clone)]
    struct Stream {
        event: Arc<AtomicU64>,
        ended: Arc<AtomicBool>,
    }

    impl Stream {
        fn new() -> Self {
            Self { event: Arc::new(AtomicU64::new(0)), ended: Arc::new(AtomicBool::new(false)) }
        }

        fn scheduler(&self) -> Option<Box<dyn Scheduler>> {
            Some(Box::new(self.clone()))
        }

        /// Envoy fires what is committed on a stream that lives.
        fn fire(&self, bell: &Bell, seen: &mut Vec<Ready>) {
            let event = self.event.swap(0, Ordering::SeqCst);
            if event != 0 && bell.begin(event) {
                bell.take(seen);
                let _ = bell.finish(false, None);
            }
        }

        fn end(&self) {
            self.ended.store(true, Ordering::SeqCst);
        }
    }

    impl Scheduler for Stream {
        fn commit(&self, event: u64) {
            assert!(!self.ended.load(Ordering::SeqCst), "a commit for a stream that has ended");
            // A swap, not a store: the model orders swaps of one place, and may reorder a store.
            self.event.swap(event, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_ready_is_seen_once_though_carriers_end_in_between() {
        loom::model(|| {
            let bell = Arc::new(Bell::new());
            let (first, second) = (Stream::new(), Stream::new());
            let _ = bell.carry(first.scheduler());
            let doorbell = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let _ = bell.wake(Ready::Line(1));
                    let _ = bell.wake(Ready::Task(2));
                })
            };
            let mut seen = Vec::new();
            first.fire(&bell, &mut seen);
            let _ = bell.carry(second.scheduler());
            first.end();
            second.fire(&bell, &mut seen);
            doorbell.join().unwrap();
            second.fire(&bell, &mut seen);
            second.fire(&bell, &mut seen);
            assert_eq!(seen, [Ready::Line(1), Ready::Task(2)]);
        });
    }

    #[test]
    fn while_nobody_waits_the_doorbell_serves_connections_and_keeps_tasks_for_the_worker() {
        loom::model(|| {
            let bell = Arc::new(Bell::new());
            let stream = Stream::new();
            let doorbell = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let told = bell.wake(Ready::Line(1));
                    let _ = bell.wake(Ready::Task(2));
                    if told == Told::Nobody { bell.idle_lines().len() } else { 0 }
                })
            };
            let _ = bell.carry(stream.scheduler());
            let mut seen = Vec::new();
            stream.fire(&bell, &mut seen);
            let served = doorbell.join().unwrap();
            stream.fire(&bell, &mut seen);
            let lines = seen.iter().filter(|ready| **ready == Ready::Line(1)).count();
            assert_eq!(lines + served, 1);
            assert_eq!(seen.iter().filter(|ready| **ready == Ready::Task(2)).count(), 1);
            let _ = bell.carry(None);
            stream.end();
            let _ = bell.wake(Ready::Line(3));
        });
    }

    #[test]
    fn what_comes_during_a_turn_is_seen_without_another_commit_or_announced_at_its_end() {
        loom::model(|| {
            let bell = Arc::new(Bell::new());
            let stream = Stream::new();
            let _ = bell.carry(stream.scheduler());
            let _ = bell.wake(Ready::Task(0));
            let event = stream.event.swap(0, Ordering::SeqCst);
            assert!(bell.begin(event));
            let doorbell = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let _ = bell.wake(Ready::Task(1));
                })
            };
            let mut seen = Vec::new();
            bell.take(&mut seen);
            let _ = bell.finish(false, None);
            stream.fire(&bell, &mut seen);
            doorbell.join().unwrap();
            stream.fire(&bell, &mut seen);
            assert_eq!(seen, [Ready::Task(0), Ready::Task(1)]);
        });
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex as StdMutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Commits(Arc<StdMutex<Vec<u64>>>);

    impl Scheduler for Commits {
        fn commit(&self, event: u64) {
            self.0.lock().unwrap().push(event);
        }
    }

    impl Commits {
        fn boxed(&self) -> Option<Box<dyn Scheduler>> {
            Some(Box::new(self.clone()))
        }

        fn all(&self) -> Vec<u64> {
            self.0.lock().unwrap().clone()
        }
    }

    #[test]
    fn an_event_of_an_earlier_carrier_is_no_turn() {
        let (bell, first, second) = (Bell::new(), Commits::default(), Commits::default());
        let _ = bell.carry(first.boxed());
        assert_eq!(bell.wake(Ready::Task(1)), Told::Worker);
        assert_eq!(bell.wake(Ready::Task(2)), Told::Worker);
        let _ = bell.carry(second.boxed());
        let (old, new) = (first.all(), second.all());
        assert_eq!((old.len(), new.len()), (1, 1));
        assert!(Bell::is_turn(new[0]) && !bell.begin(old[0]) && bell.begin(new[0]));
        assert!(!bell.begin(new[0]));
    }

    #[test]
    fn an_alarm_rings_once_and_only_an_earlier_one_is_news() {
        let (bell, commits) = (Bell::new(), Commits::default());
        let _ = bell.carry(commits.boxed());
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        assert!(bell.finish(false, Some(later)).0);
        assert!(!bell.finish(false, Some(later)).0);
        assert!(bell.finish(false, Some(now)).0);
        assert_eq!(bell.tick(now), None);
        assert_eq!(bell.tick(later), None);
        assert_eq!(commits.all().len(), 1);
    }

    #[test]
    fn nobody_is_told_without_a_carrier_and_the_next_one_is_rung_at_once() {
        let (bell, commits) = (Bell::new(), Commits::default());
        assert_eq!(bell.wake(Ready::Line(7)), Told::Nobody);
        assert_eq!(bell.idle_lines(), [7]);
        let _ = bell.carry(commits.boxed());
        assert_eq!(commits.all().len(), 1);
        assert!(bell.idle_lines().is_empty());
    }
}
