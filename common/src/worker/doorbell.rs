//! The doorbell: a thread that only waits, for the sockets of up to eight workers and for their
//! earliest deadline, and rings the worker that has something to do. Connections of a worker on
//! which no stream waits it serves by itself: pings, GOAWAY and the end.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token, Waker};

use super::bell::Bell;
use crate::tasks::runtime::mask_signals;

/// A connection, as the doorbell sees it.
pub(crate) trait Watched: Send + Sync {
    /// Its socket has something to say.
    fn stirred(&self, closing: bool);
    /// Reads what has come, and writes what is to go. On its worker, in a turn, and on the doorbell's
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
pub(crate) struct NoDoorbell;

/// One such thread.
pub(crate) struct Doorbell {
    registry: Registry,
    waker: Waker,
    next: AtomicUsize,
    rooms: Mutex<Rooms>,
}

#[derive(Default)]
struct Rooms {
    bells: Vec<Arc<Bell>>,
    lines: HashMap<usize, Arc<dyn Watched>>,
}

static DOORBELLS: Mutex<Vec<Arc<Doorbell>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Doorbell {
    /// Starts the first one, if it does not run yet.
    ///
    /// # Errors
    /// [`NoDoorbell`].
    pub(crate) fn start() -> Result<(), NoDoorbell> {
        let mut doorbells = lock(&DOORBELLS);
        if doorbells.is_empty() {
            doorbells.push(Self::spawn().map_err(|_| NoDoorbell)?);
        }
        Ok(())
    }

    /// The doorbell of one more worker, whose bell is `bell`. Where no more threads can be started,
    /// more than eight workers share one.
    pub(crate) fn join(bell: &Arc<Bell>) -> Result<Arc<Self>, NoDoorbell> {
        let mut doorbells = lock(&DOORBELLS);
        let free = doorbells.iter().find(|one| lock(&one.rooms).bells.len() < WORKERS).cloned();
        let doorbell = match free {
            Some(doorbell) => doorbell,
            None => match Self::spawn() {
                Ok(doorbell) => {
                    doorbells.push(Arc::clone(&doorbell));
                    doorbell
                }
                Err(_) => doorbells.first().cloned().ok_or(NoDoorbell)?,
            },
        };
        drop(doorbells);
        lock(&doorbell.rooms).bells.push(Arc::clone(bell));
        Ok(doorbell)
    }

    /// The worker behind `bell` is gone.
    pub(crate) fn leave(&self, bell: &Arc<Bell>) {
        lock(&self.rooms).bells.retain(|other| !Arc::ptr_eq(other, bell));
    }

    fn spawn() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let doorbell = Arc::new(Self {
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), WAKE)?,
            next: AtomicUsize::new(0),
            rooms: Mutex::default(),
        });
        let own = Arc::clone(&doorbell);
        std::thread::Builder::new().name("callout-bell".to_owned()).spawn(move || {
            mask_signals();
            own.wait(poll);
        })?;
        Ok(doorbell)
    }

    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A number for a new connection.
    pub(crate) fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn watch(&self, number: usize, line: Arc<dyn Watched>) {
        lock(&self.rooms).lines.insert(number, line);
    }

    pub(crate) fn forget(&self, number: usize) {
        let line = lock(&self.rooms).lines.remove(&number);
        drop(line);
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
        let bells = lock(&self.rooms).bells.clone();
        let alarm = bells.iter().filter_map(|bell| bell.tick(now)).min();
        let lines = !lock(&self.rooms).lines.is_empty();
        let sweep = lines.then(|| *swept + SWEEP);
        let until = alarm.into_iter().chain(sweep).min();
        let timeout = until.map(|until| until.saturating_duration_since(now));
        if poll.poll(events, timeout).is_err() {
            // Interrupted, or short of memory: it must not become a busy loop.
            std::thread::yield_now();
        }
        for event in &*events {
            let line = lock(&self.rooms).lines.get(&event.token().0).cloned();
            if let Some(line) = line {
                line.stirred(event.is_read_closed() || event.is_error());
            }
        }
        events.clear();
        for bell in &bells {
            self.serve(bell);
        }
        let now = Instant::now();
        if lines && now.saturating_duration_since(*swept) >= SWEEP {
            *swept = now;
            let all: Vec<_> = lock(&self.rooms).lines.values().cloned().collect();
            all.iter().for_each(|line| line.close_if_idle(now));
        }
    }

    /// Drives the connections of a worker on which no stream waits.
    fn serve(&self, bell: &Bell) {
        // What a connection wakes of itself is served in the next round at the latest.
        for number in bell.idle_lines() {
            let line = lock(&self.rooms).lines.get(&number).cloned();
            if let Some(line) = line {
                line.drive(true);
            }
        }
    }
}
