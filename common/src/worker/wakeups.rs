//! What wakes a worker: the one lock that it shares with other threads.
//!
//! Waking is all that another thread does. It notes what is ready and commits one event on the
//! scheduler of one of its waiting streams, the *carrier*; Envoy fires it on the worker, which then takes its
//! turn. At most one commit is outstanding. When the carrier ends, its event is lost with it: what
//! was announced is announced again through the next carrier, in the same critical section, so that
//! nothing that is ready is forgotten in between. Committing happens under the lock and only while
//! the scheduler is in it: once it was taken out, no other thread calls Envoy for that stream.

use std::time::Instant;

#[cfg(feature = "loom")]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "loom"))]
use std::sync::{Mutex, MutexGuard};

use super::waiting::StreamId;
use crate::envoy::host::Scheduler;

/// Marks an event as a worker's turn; the rest of its number is the generation of the commit.
const TURN: u64 = 1 << 63;

/// What wants to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The task in this slot of the worker.
    Task(usize),
    /// The connection of this number.
    Connection(usize),
    /// The stream that was sent something.
    Stream(StreamId),
}

/// Whether somebody is to do what is ready when no stream of the worker waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Woken {
    /// The worker will.
    Worker,
    /// Nobody waits: connections are the poller's to serve.
    Nobody,
}

/// What is ready on one worker, and the scheduler by which it is told.
pub(crate) struct Wakeups(Mutex<State>);

struct State {
    carrier: Option<Box<dyn Scheduler>>,
    generation: u64,
    /// A commit is outstanding.
    committed: bool,
    /// The next carrier's scheduler gets a commit at once.
    owed: bool,
    /// The worker takes its turn, and looks for what is ready by itself.
    turning: bool,
    ready: Vec<Ready>,
    /// When the worker takes a turn for a deadline.
    alarm: Option<Instant>,
}

impl State {
    fn commit(&mut self) -> Woken {
        if self.turning || self.committed {
            return Woken::Worker;
        }
        let Some(carrier) = &self.carrier else {
            self.owed = true;
            return Woken::Nobody;
        };
        self.committed = true;
        self.generation = (self.generation + 1) % TURN;
        carrier.commit(TURN | self.generation);
        Woken::Worker
    }
}

impl Wakeups {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            carrier: None,
            generation: 0,
            committed: false,
            owed: false,
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

    /// Notes that `what` is ready, and has the worker take a turn. From any thread.
    pub(crate) fn wake(&self, what: Ready) -> Woken {
        let mut state = self.lock();
        state.ready.push(what);
        state.commit()
    }

    /// Worker: events are committed by `next` from now on. The old carrier's scheduler is deleted.
    pub(crate) fn set_carrier(&self, next: Option<Box<dyn Scheduler>>) -> Woken {
        let mut state = self.lock();
        let old = std::mem::replace(&mut state.carrier, next);
        if state.committed {
            // The event ends with the stream that carried it.
            state.committed = false;
            state.owed = true;
        }
        let woken = if state.carrier.is_some() {
            if std::mem::take(&mut state.owed) { state.commit() } else { Woken::Worker }
        } else if state.ready.is_empty() || state.turning {
            Woken::Worker
        } else {
            Woken::Nobody
        };
        drop(state);
        drop(old);
        woken
    }

    /// Worker: `event` fired. `false` when it is one that was announced anew meanwhile.
    pub(crate) fn begin(&self, event: u64) -> bool {
        let mut state = self.lock();
        if !state.committed || event != TURN | state.generation {
            return false;
        }
        state.committed = false;
        state.turning = true;
        true
    }

    /// Worker: moves what is ready to the end of `ready`.
    pub(crate) fn take(&self, ready: &mut Vec<Ready>) {
        ready.append(&mut self.lock().ready);
    }

    /// Worker: its turn is over. It takes another when there is `more` to do. Whether the poller
    /// has to be told of an earlier alarm, and whether anybody is there to do what is ready.
    pub(crate) fn finish(&self, more: bool, deadline: Option<Instant>) -> (bool, Woken) {
        let mut state = self.lock();
        state.turning = false;
        let earlier = deadline.is_some_and(|at| state.alarm.is_none_or(|alarm| at < alarm));
        if earlier {
            state.alarm = deadline;
        }
        let woken = if more || !state.ready.is_empty() { state.commit() } else { Woken::Worker };
        (earlier, woken)
    }

    /// Poller: wakes the worker if its alarm is due at `now`. The next alarm.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        if state.alarm.is_some_and(|alarm| alarm <= now) {
            state.alarm = None;
            // Without a carrier nobody waits for what is late.
            let _ = state.commit();
        }
        state.alarm
    }

    /// Poller: the connections that are ready while no stream of the worker waits.
    pub(crate) fn idle_connections(&self) -> Vec<usize> {
        let mut state = self.lock();
        if state.carrier.is_some() || state.turning {
            return Vec::new();
        }
        let mut connections = Vec::new();
        state.ready.retain(|ready| match ready {
            Ready::Connection(number) => {
                connections.push(*number);
                false
            }
            Ready::Task(_) | Ready::Stream(_) => true,
        });
        connections
    }
}

/// Every interleaving of poller and carriers: `cargo test-loom`.
#[cfg(test)]
#[cfg(feature = "loom")]
mod model {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use loom::thread;

    use super::*;
    use crate::tasks::mailbox::Mailbox;

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
        fn fire(&self, wakeups: &Wakeups, seen: &mut Vec<Ready>) {
            let event = self.event.swap(0, Ordering::SeqCst);
            if event != 0 && wakeups.begin(event) {
                wakeups.take(seen);
                let _ = wakeups.finish(false, None);
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
            let wakeups = Arc::new(Wakeups::new());
            let (first, second) = (Stream::new(), Stream::new());
            let _ = wakeups.set_carrier(first.scheduler());
            let poller = {
                let wakeups = Arc::clone(&wakeups);
                thread::spawn(move || {
                    let _ = wakeups.wake(Ready::Connection(1));
                    let _ = wakeups.wake(Ready::Task(2));
                })
            };
            let mut seen = Vec::new();
            first.fire(&wakeups, &mut seen);
            let _ = wakeups.set_carrier(second.scheduler());
            first.end();
            second.fire(&wakeups, &mut seen);
            poller.join().unwrap();
            second.fire(&wakeups, &mut seen);
            second.fire(&wakeups, &mut seen);
            assert_eq!(seen, [Ready::Connection(1), Ready::Task(2)]);
        });
    }

    #[test]
    fn while_nobody_waits_the_poller_serves_connections_and_keeps_tasks_for_the_worker() {
        loom::model(|| {
            let wakeups = Arc::new(Wakeups::new());
            let stream = Stream::new();
            let poller = {
                let wakeups = Arc::clone(&wakeups);
                thread::spawn(move || {
                    let woken = wakeups.wake(Ready::Connection(1));
                    let _ = wakeups.wake(Ready::Task(2));
                    if woken == Woken::Nobody { wakeups.idle_connections().len() } else { 0 }
                })
            };
            let _ = wakeups.set_carrier(stream.scheduler());
            let mut seen = Vec::new();
            stream.fire(&wakeups, &mut seen);
            let served = poller.join().unwrap();
            stream.fire(&wakeups, &mut seen);
            let connections = seen.iter().filter(|ready| **ready == Ready::Connection(1)).count();
            assert_eq!(connections + served, 1);
            assert_eq!(seen.iter().filter(|ready| **ready == Ready::Task(2)).count(), 1);
            let _ = wakeups.set_carrier(None);
            stream.end();
            let _ = wakeups.wake(Ready::Connection(3));
        });
    }

    #[test]
    fn what_comes_during_a_turn_is_seen_without_another_commit_or_announced_at_its_end() {
        loom::model(|| {
            let wakeups = Arc::new(Wakeups::new());
            let stream = Stream::new();
            let _ = wakeups.set_carrier(stream.scheduler());
            let _ = wakeups.wake(Ready::Task(0));
            let event = stream.event.swap(0, Ordering::SeqCst);
            assert!(wakeups.begin(event));
            let poller = {
                let wakeups = Arc::clone(&wakeups);
                thread::spawn(move || {
                    let _ = wakeups.wake(Ready::Task(1));
                })
            };
            let mut seen = Vec::new();
            wakeups.take(&mut seen);
            let _ = wakeups.finish(false, None);
            stream.fire(&wakeups, &mut seen);
            poller.join().unwrap();
            stream.fire(&wakeups, &mut seen);
            assert_eq!(seen, [Ready::Task(0), Ready::Task(1)]);
        });
    }

    /// Announces a stream, as what sends to it does.
    struct Announcer(Arc<Wakeups>);

    impl Scheduler for Announcer {
        fn commit(&self, _: u64) {
            let _ = self.0.wake(Ready::Stream(StreamId::first()));
        }
    }

    #[test]
    fn what_is_sent_to_a_stream_from_off_its_worker_is_told_once_in_a_turn() {
        loom::model(|| {
            let wakeups = Arc::new(Wakeups::new());
            let stream = Stream::new();
            let _ = wakeups.set_carrier(stream.scheduler());
            let mailbox = Mailbox::new(Box::new(Announcer(Arc::clone(&wakeups))));
            let sender = {
                let outbox = mailbox.outbox();
                thread::spawn(move || {
                    outbox.send(1).unwrap();
                    outbox.send(2).unwrap();
                })
            };
            let turn = || {
                let event = stream.event.swap(0, Ordering::SeqCst);
                let (mut ready, mut told) = (Vec::new(), 0);
                if event != 0 && wakeups.begin(event) {
                    wakeups.take(&mut ready);
                    for _ in ready {
                        told += mailbox.take().len();
                    }
                    let _ = wakeups.finish(false, None);
                }
                told
            };
            let early = turn();
            sender.join().unwrap();
            let late = turn() + turn();
            assert_eq!(early + late, 2, "{early} and {late}");
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
        let (wakeups, first, second) = (Wakeups::new(), Commits::default(), Commits::default());
        let _ = wakeups.set_carrier(first.boxed());
        assert_eq!(wakeups.wake(Ready::Task(1)), Woken::Worker);
        assert_eq!(wakeups.wake(Ready::Task(2)), Woken::Worker);
        let _ = wakeups.set_carrier(second.boxed());
        let (old, new) = (first.all(), second.all());
        assert_eq!((old.len(), new.len()), (1, 1));
        assert!(Wakeups::is_turn(new[0]) && !wakeups.begin(old[0]) && wakeups.begin(new[0]));
        assert!(!wakeups.begin(new[0]));
    }

    #[test]
    fn an_alarm_wakes_once_and_only_an_earlier_one_is_news() {
        let (wakeups, commits) = (Wakeups::new(), Commits::default());
        let _ = wakeups.set_carrier(commits.boxed());
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        assert!(wakeups.finish(false, Some(later)).0);
        assert!(!wakeups.finish(false, Some(later)).0);
        assert!(wakeups.finish(false, Some(now)).0);
        assert_eq!(wakeups.tick(now), None);
        assert_eq!(wakeups.tick(later), None);
        assert_eq!(commits.all().len(), 1);
    }

    #[test]
    fn without_a_carrier_nobody_is_woken_and_the_next_one_has_its_commit_at_once() {
        let (wakeups, commits) = (Wakeups::new(), Commits::default());
        assert_eq!(wakeups.wake(Ready::Connection(7)), Woken::Nobody);
        assert_eq!(wakeups.idle_connections(), [7]);
        let _ = wakeups.set_carrier(commits.boxed());
        assert_eq!(commits.all().len(), 1);
        assert!(wakeups.idle_connections().is_empty());
    }
}
