//! The loop of a worker, for tests: this thread.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::{Registration, turn};
use crate::envoy::host::{Scheduler, WaitingStream};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// The loop of an Envoy worker, for tests: the thread that makes it.
#[derive(Debug)]
pub struct Loop {
    commits: Sender<u64>,
    pub(super) events: Receiver<u64>,
}

#[derive(Clone)]
struct Commits(Sender<u64>);

impl Scheduler for Commits {
    fn commit(&self, event: u64) {
        // A test that is over takes no events.
        let _ = self.0.send(event);
    }
}

/// A stream that counts how often it was told.
pub(crate) struct Waiter {
    commits: Sender<u64>,
    pub(crate) told: Cell<usize>,
}

impl WaitingStream for Waiter {
    fn scheduler(&self) -> Box<dyn Scheduler> {
        Box::new(Commits(self.commits.clone()))
    }

    fn deliver(&self) {
        self.told.set(self.told.get() + 1);
    }
}

impl Default for Loop {
    fn default() -> Self {
        let (commits, events) = channel();
        Self { commits, events }
    }
}

impl Loop {
    /// A loop that takes no turn by itself.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn register(&self) -> (Registration, Rc<Waiter>) {
        let waiter = Rc::new(Waiter { commits: self.commits.clone(), told: Cell::new(0) });
        let stream: Rc<dyn WaitingStream> = Rc::<Waiter>::clone(&waiter);
        (Registration::new(stream).unwrap(), waiter)
    }

    /// Fires one event; `false` when none is committed for so long.
    pub(crate) fn fire(&self, patience: Duration) -> bool {
        let event = self.events.recv_timeout(patience);
        event.map(turn).is_ok()
    }

    /// Fires events until `done`.
    pub(crate) fn until(&self, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.fire(left), "no event, and it is not done");
        }
    }

    /// Runs `work` for one stream to its end.
    ///
    /// # Panics
    /// When it takes far too long.
    pub fn run<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> T {
        let (mut place, waiter) = self.register();
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        place.start(async move {
            *slot.borrow_mut() = Some(work.await);
        });
        self.until(|| waiter.told.get() > 0);
        result.take().unwrap()
    }
}
