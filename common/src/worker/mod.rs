//! One of Envoy's workers: the futures that run on it, the streams that wait for them, and its
//! connections to services.
//!
//! A hook only starts work. It is polled in the worker's *turn*, an event that Envoy fires at the top
//! of its loop on behalf of one waiting stream: so nothing of a connection is touched inside a hook,
//! everything that one round of the loop began goes out in one write, and every answer that is there
//! is collected by one read. Then, with nothing borrowed, the streams are told one after the other.
//!
//! A worker shares nothing with other workers but the poller's thread.

mod wakeups;
mod poller;
mod connection;
mod opening;
mod waiting;
mod sleep;
mod tasks;
mod timers;
mod socket;

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::envoy::host::{Scheduler, WaitingStream};
use crate::tasks::runtime;
pub(crate) use connection::{ConnectionError, Http2Connection, Opened, Transport};
pub(crate) use opening::on_runtime;
use poller::{NoPoller, Poller, Watched};
pub use sleep::{Sleep, sleep};
pub(crate) use sleep::{sleep_until, until};
pub(crate) use socket::{BufferedSocket, Io};
use tasks::{TaskId, Tasks, Work};
use timers::Timers;
use waiting::{StreamId, WaitingStreams};
use wakeups::{Ready, Wakeups, Woken};

/// Streams that one turn tells of their answers. The rest wait for the next: the loop has timers
/// and sockets of others.
const ANSWERS: usize = 64;
/// Rounds of one turn in which tasks and connections wake each other.
const ROUNDS: usize = 8;

/// One worker.
pub(crate) struct Worker {
    wakeups: Arc<Wakeups>,
    poller: Arc<Poller>,
    waiting: RefCell<WaitingStreams>,
    tasks: RefCell<Tasks>,
    timers: RefCell<Timers>,
    connections: RefCell<Vec<Driven>>,
    answered: RefCell<VecDeque<StreamId>>,
    ready: Cell<Vec<Ready>>,
    /// When the current turn began; `None` outside of one.
    now: Cell<Option<Instant>>,
    turns: Cell<u64>,
    /// What belongs to the worker as a whole, by its type.
    kept: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
}

/// A connection, and the turn in which it was driven last.
struct Driven {
    connection: Arc<Http2Connection>,
    turn: u64,
}

thread_local! {
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// When the turn began that this thread's worker takes; `None` outside of one.
fn turn_began() -> Option<Instant> {
    existing().and_then(|worker| worker.now.get())
}

/// This thread's worker, if it has become one.
fn existing() -> Option<Rc<Worker>> {
    WORKER.try_with(|own| own.try_borrow().ok()?.clone()).ok().flatten()
}

/// This thread's worker; `None` when no poller can be had, and while the thread ends.
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

/// Whether `event` of a scheduler is the worker's turn, and no stream's own.
pub(crate) const fn is_turn(event: u64) -> bool {
    Wakeups::is_turn(event)
}

/// The scheduled `event` fired: the worker takes its turn.
pub(crate) fn turn(event: u64) {
    if let Some(worker) = worker() {
        worker.turn(event);
    }
}

/// A stream's place among those that wait. Its work ends with it.
pub(crate) struct Registration {
    worker: Rc<Worker>,
    stream_id: StreamId,
    tasks: Vec<TaskId>,
}

impl Registration {
    /// Registers `stream`; `None` where there is no worker.
    pub(crate) fn new(stream: Rc<dyn WaitingStream>) -> Option<Self> {
        let worker = worker()?;
        let (stream_id, carries) = worker.waiting.borrow_mut().insert(Rc::clone(&stream));
        if carries {
            worker.set_carrier(Some(&stream));
        }
        Some(Self { worker, stream_id, tasks: Vec::new() })
    }

    /// Runs `work` on the worker. When it has ended, the stream is told.
    pub(crate) fn start(&mut self, work: impl Future<Output = ()> + 'static) {
        let work = Work::Bound(Box::pin(work));
        self.tasks.push(self.worker.add(work, Some(self.stream_id)));
    }

    /// What has the stream told of something, from any thread: together with all that the worker is
    /// to be told of then.
    pub(crate) fn announcer(&self) -> Box<dyn Scheduler> {
        let wakeups = Arc::clone(&self.worker.wakeups);
        Box::new(Announcer { wakeups, stream_id: self.stream_id })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for task in self.tasks.drain(..) {
            let work = self.worker.tasks.borrow_mut().cancel(task);
            drop(work);
        }
        let next = self.worker.waiting.borrow_mut().remove(self.stream_id);
        if let Some(next) = next {
            self.worker.set_carrier(next.as_ref());
            if next.is_none() && self.worker.now.get().is_none() {
                self.worker.hand_out();
            }
        }
    }
}

/// Announces what was sent to a stream.
struct Announcer {
    wakeups: Arc<Wakeups>,
    stream_id: StreamId,
}

impl Scheduler for Announcer {
    fn commit(&self, _: u64) {
        // The stream waits itself, so somebody is there.
        let _ = self.wakeups.wake(Ready::Stream(self.stream_id));
    }
}

/// Runs `work` on this worker though no stream waits for its end. When none is left that could have the
/// worker take a turn, or where this is no worker, it goes on on the runtime.
pub(crate) fn detach(work: impl Future<Output = ()> + Send + 'static) {
    match existing().filter(|worker| worker.is_waited_for()) {
        Some(worker) => {
            worker.add(Work::Detached(Box::pin(work)), None);
        }
        // Where no thread runs there is nobody to do it.
        None => _ = runtime::spawn(work),
    }
}

/// What this worker keeps of type `T`.
pub(crate) fn kept<T: Default + 'static>() -> Option<Rc<T>> {
    let worker = worker()?;
    let mut kept = worker.kept.borrow_mut();
    let entry = kept.entry(TypeId::of::<T>()).or_insert_with(|| Rc::new(T::default()));
    Rc::clone(entry).downcast().ok()
}

/// The time; in a turn, that of its beginning.
pub(crate) fn now() -> Instant {
    turn_began().unwrap_or_else(|| tokio::time::Instant::now().into_std())
}

/// Whether this thread is a worker in its turn.
pub(crate) fn in_turn() -> bool {
    turn_began().is_some()
}

/// Makes `opened` a connection of this worker.
///
/// # Errors
/// See [`ConnectionError`].
pub(crate) fn adopt(opened: Opened) -> Result<Arc<Http2Connection>, ConnectionError> {
    let worker = worker().ok_or(ConnectionError::NoWorker)?;
    let connection = Http2Connection::adopt(opened, &worker.wakeups, &worker.poller)?;
    let mut connections = worker.connections.borrow_mut();
    connections.retain(|driven| driven.connection.is_open());
    connections.push(Driven { connection: Arc::clone(&connection), turn: 0 });
    Ok(connection)
}

impl Worker {
    fn new() -> Result<Self, NoPoller> {
        let wakeups = Arc::new(Wakeups::new());
        Ok(Self {
            poller: Poller::join(&wakeups)?,
            wakeups,
            waiting: RefCell::default(),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            connections: RefCell::default(),
            answered: RefCell::default(),
            ready: Cell::default(),
            now: Cell::default(),
            turns: Cell::new(0),
            kept: RefCell::default(),
        })
    }

    fn add(&self, work: Work, stream_id: Option<StreamId>) -> TaskId {
        let (task, waker) = self.tasks.borrow_mut().add(work, stream_id, &self.wakeups);
        waker.wake();
        task
    }

    /// Whether some stream can have it take a turn, or it takes one.
    fn is_waited_for(&self) -> bool {
        self.now.get().is_some() || !self.waiting.borrow().is_empty()
    }

    /// Nobody is left to have this worker take a turn: what may go on elsewhere does.
    fn hand_out(&self) {
        let detached = self.tasks.borrow_mut().take_detached();
        for work in detached {
            // Where no thread runs it ends.
            let _ = runtime::spawn(work);
        }
    }

    /// Events come by the scheduler of `next` from now on.
    fn set_carrier(&self, next: Option<&Rc<dyn WaitingStream>>) {
        let scheduler = next.map(|next| next.scheduler());
        if self.wakeups.set_carrier(scheduler) == Woken::Nobody {
            self.poller.wake();
        }
    }

    fn turn(&self, event: u64) {
        if !self.wakeups.begin(event) {
            return;
        }
        let turning = Turning::begin(self);
        let due = self.timers.borrow_mut().due(turning.now);
        due.into_iter().for_each(Waker::wake);
        self.drive();
        // A stream that is told may end others, and start new work, which is for the next turn.
        for _ in 0..ANSWERS {
            let Some(stream_id) = self.answered.borrow_mut().pop_front() else { break };
            let stream = self.waiting.borrow().get(stream_id);
            if let Some(stream) = stream {
                stream.deliver();
            }
        }
    }

    /// Polls what is ready: tasks first, so that all that they begin goes out in one write.
    fn drive(&self) {
        let (mut ready, mut connections) = (self.ready.take(), Vec::new());
        for _ in 0..ROUNDS {
            self.wakeups.take(&mut ready);
            if ready.is_empty() && connections.is_empty() {
                break;
            }
            let mut tasks = false;
            for what in ready.drain(..) {
                match what {
                    Ready::Connection(number) => connections.push(number),
                    Ready::Task(slot) => {
                        tasks = true;
                        self.poll(slot);
                    }
                    Ready::Stream(stream_id) => self.answered.borrow_mut().push_back(stream_id),
                }
            }
            if !tasks {
                connections.drain(..).for_each(|number| self.drive_connection(number));
            }
        }
        for number in connections {
            // For the next turn.
            let _ = self.wakeups.wake(Ready::Connection(number));
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
                let (stream_id, remains) = self.tasks.borrow_mut().ended(task);
                drop(remains);
                self.answered.borrow_mut().extend(stream_id);
            }
        }
    }

    fn drive_connection(&self, number: usize) {
        let turn = self.turns.get();
        let connection = {
            let mut connections = self.connections.borrow_mut();
            let driven = connections.iter_mut().find(|driven| driven.connection.number() == number);
            driven.map(|driven| {
                let fresh = std::mem::replace(&mut driven.turn, turn) != turn;
                (Arc::clone(&driven.connection), fresh)
            })
        };
        if let Some((connection, fresh)) = connection {
            connection.drive(fresh);
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
        for driven in self.connections.get_mut().drain(..) {
            driven.connection.close("its worker ends");
        }
        self.poller.leave(&self.wakeups);
    }
}

/// A turn; its end asks for another where something is left to do.
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
        if worker.waiting.borrow().is_empty() {
            // What the streams that ended have left is for this turn yet: it goes out with the rest.
            worker.drive();
            worker.now.set(None);
            worker.hand_out();
            worker.answered.borrow_mut().clear();
        }
        worker.now.set(None);
        let more = !worker.answered.borrow().is_empty();
        let deadline = worker.timers.borrow().earliest();
        let (earlier, woken) = worker.wakeups.finish(more, deadline);
        if earlier || woken == Woken::Nobody {
            worker.poller.wake();
        }
    }
}

#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
