//! The poller: a thread that only waits, for the sockets of up to eight workers and for their
//! earliest deadline, and wakes the worker that has something to do. Connections of a worker on
//! which no stream waits it serves by itself: pings, GOAWAY and the end.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token, Waker};

use super::wakeups::Wakeups;
use crate::tasks::runtime::mask_signals;

/// A connection, as the poller sees it.
pub(crate) trait Watched: Send + Sync {
    /// Its socket has something to say.
    fn stirred(&self, closing: bool);
    /// Reads what has come, and writes what is to go. On its worker, in a turn, and on the poller's
    /// thread while no stream of the worker waits. `fresh` when it is the first time in a turn: then
    /// the socket is read without being told of anything.
    fn drive(&self, fresh: bool);
    /// Closes it when nobody has used it for long.
    fn close_if_idle(&self, now: Instant);
}

/// Workers that share a thread.
const WORKERS: usize = 8;
/// The waker's own token; connections count from 0.
const WAKE: Token = Token(usize::MAX);
/// How often it looks for connections that nobody uses.
const SWEEP: Duration = Duration::from_secs(60);

/// The thread that waits could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread that waits for the workers' connections could not be started")]
pub(crate) struct NoPoller;

/// One such thread.
pub(crate) struct Poller {
    registry: Registry,
    waker: Waker,
    next: AtomicUsize,
    watching: Mutex<Watching>,
}

#[derive(Default)]
struct Watching {
    workers: Vec<Arc<Wakeups>>,
    connections: HashMap<usize, Arc<dyn Watched>>,
}

static POLLERS: Mutex<Vec<Arc<Poller>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Poller {
    /// The poller of one more worker, that is woken by `wakeups`. Where no more threads can be started,
    /// more than eight workers share one.
    pub(crate) fn join(wakeups: &Arc<Wakeups>) -> Result<Arc<Self>, NoPoller> {
        let mut pollers = lock(&POLLERS);
        let free = pollers.iter().find(|one| lock(&one.watching).workers.len() < WORKERS).cloned();
        let poller = match free {
            Some(poller) => poller,
            None => match Self::spawn() {
                Ok(poller) => {
                    pollers.push(Arc::clone(&poller));
                    poller
                }
                Err(_) => pollers.first().cloned().ok_or(NoPoller)?,
            },
        };
        drop(pollers);
        lock(&poller.watching).workers.push(Arc::clone(wakeups));
        Ok(poller)
    }

    /// The worker of `wakeups` is gone.
    pub(crate) fn leave(&self, wakeups: &Arc<Wakeups>) {
        lock(&self.watching).workers.retain(|other| !Arc::ptr_eq(other, wakeups));
    }

    fn spawn() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let poller = Arc::new(Self {
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), WAKE)?,
            next: AtomicUsize::new(0),
            watching: Mutex::default(),
        });
        let own = Arc::clone(&poller);
        std::thread::Builder::new().name("callout-poll".to_owned()).spawn(move || {
            mask_signals();
            own.wait(poll);
        })?;
        Ok(poller)
    }

    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A number for a new connection.
    pub(crate) fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn watch(&self, number: usize, connection: Arc<dyn Watched>) {
        lock(&self.watching).connections.insert(number, connection);
    }

    pub(crate) fn forget(&self, number: usize) {
        let connection = lock(&self.watching).connections.remove(&number);
        drop(connection);
    }

    /// Has the thread look at what changed.
    pub(crate) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::warn!(%error, "the thread that waits for connections could not be woken");
        }
    }

    fn wait(&self, mut poll: Poll) {
        let mut events = Events::with_capacity(256);
        let mut swept = Instant::now();
        loop {
            // A panic in here is a fault of ours; every worker relies on this thread.
            let round = catch_unwind(AssertUnwindSafe(|| {
                self.round(&mut poll, &mut events, &mut swept);
            }));
            if let Err(payload) = round {
                std::mem::forget(payload);
                tracing::error!("the thread that waits for connections failed, and goes on");
            }
        }
    }

    fn round(&self, poll: &mut Poll, events: &mut Events, swept: &mut Instant) {
        let now = Instant::now();
        let workers = lock(&self.watching).workers.clone();
        let alarm = workers.iter().filter_map(|wakeups| wakeups.tick(now)).min();
        let connections = !lock(&self.watching).connections.is_empty();
        let sweep = connections.then(|| *swept + SWEEP);
        let until = alarm.into_iter().chain(sweep).min();
        let timeout = until.map(|until| until.saturating_duration_since(now));
        if poll.poll(events, timeout).is_err() {
            // Interrupted, or short of memory: it must not become a busy loop.
            std::thread::yield_now();
        }
        for event in &*events {
            let connection = lock(&self.watching).connections.get(&event.token().0).cloned();
            if let Some(connection) = connection {
                connection.stirred(event.is_read_closed() || event.is_error());
            }
        }
        events.clear();
        for wakeups in &workers {
            self.serve(wakeups);
        }
        let now = Instant::now();
        if connections && now.saturating_duration_since(*swept) >= SWEEP {
            *swept = now;
            let all: Vec<_> = lock(&self.watching).connections.values().cloned().collect();
            all.iter().for_each(|connection| connection.close_if_idle(now));
        }
    }

    /// Drives the connections of a worker on which no stream waits.
    fn serve(&self, wakeups: &Wakeups) {
        // What a connection wakes of itself is served in the next round at the latest.
        for number in wakeups.idle_connections() {
            let connection = lock(&self.watching).connections.get(&number).cloned();
            if let Some(connection) = connection {
                connection.drive(true);
            }
        }
    }
}
