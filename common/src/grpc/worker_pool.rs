//! The connections of one worker to its targets. They are opened on the runtime, and posted here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;

use super::answer::Inbound;
use super::endpoint::ConnectionPool;
use super::error::CallError;
use super::health::{ASK_AGAIN, Health, MOST_DRAINED};
use super::http2::Piece;
use super::stream_slots::{StreamSlot, StreamSlots};
use crate::tasks::runtime;
use crate::worker::{self, Http2Connection, Opened};

/// Connections of a worker to one target. There is more than one only where the service's limit of
/// streams, or calls that it left open, ask for more.
const CONNECTIONS: usize = 4;
/// The shortest time between two attempts to replace a connection, or to have one more.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// What comes of dialling.
type Dialled = Result<(Opened, SendRequest<Bytes>), CallError>;

/// The pools of a worker, by endpoint.
#[derive(Default)]
pub(super) struct WorkerPools(RefCell<HashMap<usize, Rc<WorkerPool>>>);

impl WorkerPools {
    /// This worker's pool for `endpoint`; `None` where there is no worker.
    pub(super) fn of(endpoint: &Arc<ConnectionPool>) -> Option<Rc<WorkerPool>> {
        let pools = worker::kept::<Self>()?;
        let key = Arc::as_ptr(endpoint).addr();
        let mut pools = pools.0.borrow_mut();
        if let Some(pool) = pools.get(&key)
            && pool.endpoint.strong_count() > 0
        {
            return Some(Rc::clone(pool));
        }
        // What nobody is configured with any more goes, and with it its connections.
        pools.retain(|_, pool| pool.endpoint.strong_count() > 0);
        let pool = Rc::new(WorkerPool {
            endpoint: Arc::downgrade(endpoint),
            open: RefCell::default(),
            attempt: RefCell::default(),
            extra: Cell::new(None),
        });
        pools.insert(key, Rc::clone(&pool));
        Some(pool)
    }
}

/// The connections of this worker to one target.
pub(super) struct WorkerPool {
    endpoint: Weak<ConnectionPool>,
    open: RefCell<Vec<Arc<Connection>>>,
    attempt: RefCell<Option<Arc<ConnectFuture>>>,
    /// When one more connection was tried for last, beside those that are open.
    extra: Cell<Option<Instant>>,
}

/// An attempt to connect, for all who wait.
#[derive(Default)]
pub(super) struct ConnectFuture {
    post: Arc<Post>,
    /// Why it failed.
    failed: OnceLock<CallError>,
}

/// Where the runtime leaves a connection, and whom it wakes.
#[derive(Default)]
struct Post(Mutex<Posted>);

#[derive(Default)]
struct Posted {
    dialled: Option<Dialled>,
    waiting: Vec<Waker>,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, dialled: Dialled) {
        let waiting = {
            let mut post = self.lock();
            post.dialled = Some(dialled);
            std::mem::take(&mut post.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// What came; `None` before.
    fn take(&self) -> Option<Dialled> {
        self.lock().dialled.take()
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Dialled> {
        let mut post = self.lock();
        if let Some(dialled) = post.dialled.take() {
            return Poll::Ready(dialled);
        }
        // Who asks again, such as by a spurious poll, is woken twice.
        post.waiting.push(cx.waker().clone());
        Poll::Pending
    }
}

/// Says that nothing comes, if the work that would have delivered is dropped.
struct Promise(Option<Arc<Post>>);

impl Promise {
    fn keep(mut self, dialled: Dialled) {
        if let Some(post) = self.0.take() {
            post.deliver(dialled);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(post) = self.0.take() {
            post.deliver(Err(CallError::Connect("the attempt was dropped".to_owned())));
        }
    }
}

impl WorkerPool {
    /// A connection for one call: the one with the fewest.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, CallError> {
        let mut waits = None;
        poll_fn(|cx| self.poll_connection(&mut waits, cx)).await
    }

    /// As [`WorkerPool::connection`], for one that has waited for `waits` so far.
    pub(super) fn poll_connection(
        &self,
        waits: &mut Option<Arc<ConnectFuture>>,
        cx: &Context<'_>,
    ) -> Poll<Result<Arc<Connection>, CallError>> {
        if let Some(connection) = self.best() {
            return Poll::Ready(Ok(connection));
        }
        let attempt = Arc::clone(waits.get_or_insert_with(|| self.attempt()));
        self.poll_attempt(&attempt, cx)
    }

    /// The open connection with the fewest calls. Begins to make one more where that has as many as
    /// the service lets it have, and one in the place of another that is too old.
    fn best(&self) -> Option<Arc<Connection>> {
        let now = worker::now();
        let mut open = self.open.borrow_mut();
        if open.iter().any(|connection| connection.was_fleeting(now))
            && let Some(endpoint) = self.endpoint.upgrade()
        {
            endpoint.failed(CallError::Connect("the peer closes connections at once".to_owned()));
        }
        open.retain(|connection| {
            let usable = connection.usable();
            if !usable {
                connection.close_if_done();
            }
            usable
        });
        let best = Arc::clone(open.iter().min_by_key(|connection| connection.http2.calls())?);
        let more = best.is_full() && open.len() < CONNECTIONS;
        let wanted = more || self.aged(&open, now).is_some();
        drop(open);
        let tried = self.extra.get().is_some_and(|at| now < at + BETWEEN_ATTEMPTS);
        if wanted && !tried && self.attempt.borrow().is_none() {
            self.extra.set(Some(now));
            // Whoever asks next takes what comes of it.
            drop(self.attempt());
        }
        let arrived = self.attempt.borrow().clone();
        if let Some(attempt) = arrived
            && let Some(dialled) = attempt.post.take()
        {
            // Those that are open do without it.
            let _ = self.attempted(&attempt, dialled);
        }
        Some(best)
    }

    fn aged(&self, open: &[Arc<Connection>], now: Instant) -> Option<usize> {
        let endpoint = self.endpoint.upgrade()?;
        open.iter().position(|connection| endpoint.is_aged(connection.health.age(now)))
    }

    /// The attempt that is under way, or a new one.
    fn attempt(&self) -> Arc<ConnectFuture> {
        let mut current = self.attempt.borrow_mut();
        if let Some(attempt) = &*current {
            return Arc::clone(attempt);
        }
        let attempt = Arc::new(ConnectFuture::default());
        *current = Some(Arc::clone(&attempt));
        let promise = Promise(Some(Arc::clone(&attempt.post)));
        if let Some(endpoint) = self.endpoint.upgrade() {
            // Where no thread can be had, dropping the work says so.
            let _ = runtime::spawn(async move { promise.keep(endpoint.open_for_worker().await) });
        }
        attempt
    }

    fn poll_attempt(
        &self,
        attempt: &Arc<ConnectFuture>,
        cx: &Context<'_>,
    ) -> Poll<Result<Arc<Connection>, CallError>> {
        if let Some(error) = attempt.failed.get() {
            return Poll::Ready(Err(error.clone()));
        }
        attempt.post.poll(cx).map(|dialled| self.attempted(attempt, dialled))
    }

    /// Takes what came of `attempt`.
    fn attempted(
        &self,
        attempt: &Arc<ConnectFuture>,
        dialled: Dialled,
    ) -> Result<Arc<Connection>, CallError> {
        let mut current = self.attempt.borrow_mut();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, attempt)) {
            *current = None;
        }
        drop(current);
        let adopted = dialled.and_then(|(opened, send)| {
            let http2 = worker::adopt(opened);
            Ok((http2.map_err(|error| CallError::Internal(error.to_string()))?, send))
        });
        match adopted {
            Ok((http2, send)) => {
                let connection = Arc::new(Connection::new(http2, send));
                let mut open = self.open.borrow_mut();
                if let Some(aged) = self.aged(&open, worker::now()) {
                    // Its calls end on it.
                    open.remove(aged);
                }
                open.push(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                let _ = attempt.failed.set(error.clone());
                Err(error)
            }
        }
    }
}

/// One connection.
pub(super) struct Connection {
    http2: Arc<Http2Connection>,
    send: SendRequest<Bytes>,
    health: Health,
    slots: StreamSlots,
}

impl Connection {
    fn new(http2: Arc<Http2Connection>, send: SendRequest<Bytes>) -> Self {
        Self { http2, send, health: Health::new(worker::now()), slots: StreamSlots::new() }
    }

    /// Whether calls may start here.
    fn usable(&self) -> bool {
        // A service that goes away lets calls end that it has, and takes no more.
        let takes = || {
            let ready = self.send.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
            !matches!(ready, Poll::Ready(Err(_)))
        };
        self.http2.is_open() && self.health.takes_calls() && takes()
    }

    fn is_full(&self) -> bool {
        self.slots.is_full(&self.send)
    }

    pub(super) fn http2(&self) -> &Http2Connection {
        &self.http2
    }

    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    /// Waits until the service takes one more call here.
    ///
    /// # Errors
    /// See [`StreamSlots::take`].
    pub(super) async fn slot(&self) -> Result<StreamSlot, CallError> {
        self.slots.take(&self.send).await
    }

    /// A handle for one call.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.send.clone()
    }

    /// Whether it ended so soon that the service can't be said to have been there.
    fn was_fleeting(&self, now: Instant) -> bool {
        !self.http2.is_open() && self.health.was_fleeting(now)
    }

    pub(super) fn begun(&self) {
        self.http2.begun(worker::now());
    }

    pub(super) fn over(&self) {
        self.http2.over(worker::now());
        self.close_if_done();
    }

    /// Closes a connection that takes no calls and has none left; what was given up ends with it.
    fn close_if_done(&self) {
        if !self.health.takes_calls() && self.http2.calls() == 0 {
            self.http2.close("it takes no more calls");
        }
    }

    /// Nobody wants the rest of an answer any more: it is reset, or, when there were many resets, read
    /// away.
    pub(super) fn give_up(self: &Arc<Self>, rest: Inbound) {
        // What has not ended is reset when it is dropped.
        if !self.health.may_reset(worker::now()) {
            self.health.gave_up();
            worker::detach(drain(GivenUp(Arc::clone(self)), rest));
        }
    }
}

/// A call that goes on though nobody waits for it.
struct GivenUp(Arc<Connection>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.health.ran_out();
    }
}

/// Reads a call to its end, for nobody, until it may be reset.
async fn drain(given_up: GivenUp, mut rest: Inbound) {
    let mut drained = 0;
    while drained <= MOST_DRAINED {
        match worker::until(Some(worker::now() + ASK_AGAIN), rest.next()).await {
            Some(Ok(Piece::Head(..))) => {}
            Some(Ok(Piece::Data(bytes))) => drained += bytes.len(),
            Some(Ok(Piece::End(_)) | Err(_)) => break,
            None if given_up.0.health.may_reset(worker::now()) => break,
            None => {}
        }
    }
}
