//! One of Envoy's workers: the futures that run on it, the streams that wait for them, and its
//! connections to services.
//!
//! A hook only starts work. It is polled in the worker's *turn*, an event that Envoy fires at the top
//! of its loop on behalf of one waiting stream: so nothing of a connection is touched inside a hook,
//! everything that one round of the loop began goes out in one write, and every answer that is there
//! is collected by one read. Then, with nothing borrowed, the streams are told one after the other.
//!
//! A worker shares nothing with other workers but the doorbell's thread.

mod bell;
mod doorbell;
mod line;
mod seats;
mod sleep;
mod tasks;
mod timers;
mod wire;

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;

use crate::envoy::host::Seated;
use bell::{Bell, Ready, Told};
use doorbell::{Doorbell, NoDoorbell, Watched};
pub(crate) use line::{Line, LineError};
use seats::{Seats, Ticket};
pub(crate) use sleep::{sleep, until};
use tasks::{TaskId, Tasks, Work};
use timers::Timers;
pub(crate) use wire::Socket;

/// Streams that one turn tells of their answers. The rest wait for the next: the loop has timers
/// and sockets of others.
const ANSWERS: usize = 64;
/// Rounds of one turn in which tasks and connections wake each other.
const ROUNDS: usize = 8;

/// One worker.
pub(crate) struct Worker {
    bell: Arc<Bell>,
    doorbell: Arc<Doorbell>,
    seats: RefCell<Seats>,
    tasks: RefCell<Tasks>,
    timers: RefCell<Timers>,
    lines: RefCell<Vec<Driven>>,
    answered: RefCell<VecDeque<Ticket>>,
    ready: Cell<Vec<Ready>>,
    /// When the current turn began; `None` outside of one.
    now: Cell<Option<Instant>>,
    turns: Cell<u64>,
    /// What belongs to the worker as a whole, by its type.
    kept: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
}

/// A connection, and the turn in which it was driven last.
struct Driven {
    line: Arc<Line>,
    turn: u64,
}

thread_local! {
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// This thread's worker; `None` when no doorbell can be had, and while the thread ends.
fn worker() -> Option<Rc<Worker>> {
    let own = WORKER.try_with(|own| {
        let mut own = own.try_borrow_mut().ok()?;
        if own.is_none() {
            *own = Worker::new().ok().map(Rc::new);
        }
        own.clone()
    });
    own.ok().flatten()
}

/// Starts the thread that waits for the workers' connections, if it does not run yet.
///
/// # Errors
/// [`NoDoorbell`] when this process may start no more threads.
pub(crate) fn start() -> Result<(), NoDoorbell> {
    Doorbell::start()
}

/// Whether `event` of a scheduler is the worker's turn, and no stream's own.
pub(crate) const fn is_turn(event: u64) -> bool {
    Bell::is_turn(event)
}

/// The scheduled `event` fired: the worker takes its turn.
pub(crate) fn turn(event: u64) {
    if let Some(worker) = worker() {
        worker.turn(event);
    }
}

/// A stream's place among those that may be told something. Its work ends with it.
pub(crate) struct Place {
    worker: Rc<Worker>,
    ticket: Ticket,
    tasks: Vec<TaskId>,
}

impl Place {
    /// Seats `stream`; `None` where there is no worker.
    pub(crate) fn take(stream: Rc<dyn Seated>) -> Option<Self> {
        let worker = worker()?;
        let (ticket, carries) = worker.seats.borrow_mut().take(Rc::clone(&stream));
        if carries {
            worker.carry(Some(&stream));
        }
        Some(Self { worker, ticket, tasks: Vec::new() })
    }

    /// Runs `work` on the worker. When it has ended, the stream is told.
    pub(crate) fn start(&mut self, work: impl Future<Output = ()> + 'static) {
        self.tasks.push(self.worker.add(Box::pin(work), Some(self.ticket)));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for task in self.tasks.drain(..) {
            let work = self.worker.tasks.borrow_mut().cancel(task);
            drop(work);
        }
        let next = self.worker.seats.borrow_mut().leave(self.ticket);
        if let Some(next) = next {
            self.worker.carry(next.as_ref());
        }
    }
}

/// Runs `work` on this worker though no stream waits for it: it goes on whenever some stream has the
/// worker take a turn.
pub(crate) fn detach(work: impl Future<Output = ()> + 'static) {
    if let Some(worker) = worker() {
        worker.add(Box::pin(work), None);
    }
}

/// What this worker keeps of type `T`.
pub(crate) fn kept<T: Default + 'static>() -> Option<Rc<T>> {
    let worker = worker()?;
    let mut kept = worker.kept.borrow_mut();
    let entry = kept.entry(TypeId::of::<T>()).or_insert_with(|| Rc::new(T::default()));
    Rc::clone(entry).downcast().ok()
}

/// The time, as of the beginning of the turn.
pub(crate) fn now() -> Instant {
    worker().and_then(|worker| worker.now.get()).unwrap_or_else(Instant::now)
}

/// Opens HTTP/2 on `socket`, as a connection of this worker.
///
/// # Errors
/// See [`LineError`].
pub(crate) fn open(
    socket: Socket,
    builder: &h2::client::Builder,
) -> Result<(Arc<Line>, SendRequest<Bytes>), LineError> {
    let worker = worker().ok_or(LineError::NoWorker)?;
    let (line, send) = Line::open(socket, builder, &worker.bell, &worker.doorbell)?;
    let mut lines = worker.lines.borrow_mut();
    lines.retain(|driven| driven.line.is_open());
    lines.push(Driven { line: Arc::clone(&line), turn: 0 });
    Ok((line, send))
}

impl Worker {
    fn new() -> Result<Self, NoDoorbell> {
        let bell = Arc::new(Bell::new());
        Ok(Self {
            doorbell: Doorbell::join(&bell)?,
            bell,
            seats: RefCell::default(),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            lines: RefCell::default(),
            answered: RefCell::default(),
            ready: Cell::default(),
            now: Cell::default(),
            turns: Cell::new(0),
            kept: RefCell::default(),
        })
    }

    fn add(&self, work: Work, ticket: Option<Ticket>) -> TaskId {
        let (task, waker) = self.tasks.borrow_mut().add(work, ticket, &self.bell);
        waker.wake();
        task
    }

    /// The stream behind `next` carries the bell from now on.
    fn carry(&self, next: Option<&Rc<dyn Seated>>) {
        let scheduler = next.map(|next| next.scheduler());
        if self.bell.carry(scheduler) == Told::Nobody {
            self.doorbell.wake();
        }
    }

    fn turn(&self, event: u64) {
        if !self.bell.begin(event) {
            return;
        }
        let turning = Turning::begin(self);
        let due = self.timers.borrow_mut().due(turning.now);
        due.into_iter().for_each(Waker::wake);
        self.drive();
        // A stream that is told may end others, and start new work, which is for the next turn.
        for _ in 0..ANSWERS {
            let Some(ticket) = self.answered.borrow_mut().pop_front() else { break };
            let stream = self.seats.borrow().get(ticket);
            if let Some(stream) = stream {
                stream.deliver();
            }
        }
    }

    /// Polls what is ready: tasks first, so that all that they begin goes out in one write.
    fn drive(&self) {
        let (mut ready, mut lines) = (self.ready.take(), Vec::new());
        for _ in 0..ROUNDS {
            self.bell.take(&mut ready);
            if ready.is_empty() && lines.is_empty() {
                break;
            }
            let mut tasks = false;
            for what in ready.drain(..) {
                match what {
                    Ready::Line(number) => lines.push(number),
                    Ready::Task(slot) => {
                        tasks = true;
                        self.poll(slot);
                    }
                }
            }
            if !tasks {
                lines.drain(..).for_each(|number| self.drive_line(number));
            }
        }
        for number in lines {
            // For the next turn.
            let _ = self.bell.wake(Ready::Line(number));
        }
        self.ready.set(ready);
    }

    fn poll(&self, slot: usize) {
        let Some(mut task) = self.tasks.borrow_mut().take(slot) else { return };
        // The streams' own work catches its panics; what is left is a fault of ours and ends the task.
        match catch_unwind(AssertUnwindSafe(|| task.poll())) {
            Ok(Poll::Pending) => self.tasks.borrow_mut().put_back(task),
            ended => {
                if let Err(payload) = ended {
                    std::mem::forget(payload);
                }
                let (ticket, remains) = self.tasks.borrow_mut().ended(task);
                drop(remains);
                self.answered.borrow_mut().extend(ticket);
            }
        }
    }

    fn drive_line(&self, number: usize) {
        let turn = self.turns.get();
        let line = {
            let mut lines = self.lines.borrow_mut();
            let driven = lines.iter_mut().find(|driven| driven.line.number() == number);
            driven.map(|driven| {
                let fresh = std::mem::replace(&mut driven.turn, turn) != turn;
                (Arc::clone(&driven.line), fresh)
            })
        };
        if let Some((line, fresh)) = line {
            line.drive(fresh);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The thread ends, and every stream is gone. What is left ends here, in this order, and not
        // among the thread's other locals.
        let tasks = self.tasks.get_mut().clear();
        drop(tasks);
        self.kept.get_mut().clear();
        for driven in self.lines.get_mut().drain(..) {
            driven.line.close("its worker ends");
        }
        self.doorbell.leave(&self.bell);
    }
}

/// A turn; its end rings again where something is left to do.
struct Turning<'a> {
    worker: &'a Worker,
    now: Instant,
}

impl<'a> Turning<'a> {
    fn begin(worker: &'a Worker) -> Self {
        let now = Instant::now();
        worker.now.set(Some(now));
        worker.turns.set(worker.turns.get() + 1);
        Self { worker, now }
    }
}

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        let worker = self.worker;
        worker.now.set(None);
        let more = !worker.answered.borrow().is_empty();
        let deadline = worker.timers.borrow().earliest();
        let (earlier, told) = worker.bell.finish(more, deadline);
        if earlier || told == Told::Nobody {
            worker.doorbell.wake();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
