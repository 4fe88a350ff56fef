//! The connections of one worker to its targets. Dialling happens on the runtime; the open socket
//! is posted here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;

use super::answer::Inbound;
use super::endpoint::ConnectionPool;
use super::error::CallError;
use super::http2::{Piece, builder};
use crate::tasks::runtime;
use crate::worker::{self, Http2Connection, Socket};

/// Connections of a worker to one target. There is more than one only where the service's limit of
/// streams, or calls that it left open, ask for more.
const CONNECTIONS: usize = 4;
/// Deadlines in a row without any answer after which a connection counts as dead.
const MUTE_DEADLINES: u32 = 3;
/// A connection that ends sooner, and without an answer, was none.
const FLEETING: Duration = Duration::from_secs(1);
/// Calls that may be given up by a reset without an answer in between. Services end connections whose
/// calls are reset too often, and with them the calls of others.
const RESETS: u32 = 10;
/// Answers that make good for one reset.
const ANSWERS_PER_RESET: u32 = 4;
/// Calls that nobody waits for, after which no new ones start on their connection.
const LEFT_OPEN: u32 = 256;

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
}

/// An attempt to connect, for all who wait.
#[derive(Default)]
pub(super) struct ConnectFuture {
    post: Arc<Post>,
    /// Why it failed.
    failed: OnceLock<CallError>,
}

/// Where the runtime leaves a socket, and whom it wakes.
#[derive(Default)]
struct Post(Mutex<Posted>);

#[derive(Default)]
struct Posted {
    dialled: Option<Result<Socket, CallError>>,
    waiting: Vec<Waker>,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, dialled: Result<Socket, CallError>) {
        let waiting = {
            let mut post = self.lock();
            post.dialled = Some(dialled);
            std::mem::take(&mut post.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Result<Socket, CallError>> {
        let mut post = self.lock();
        if let Some(dialled) = post.dialled.take() {
            return Poll::Ready(dialled);
        }
        if !post.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            post.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Says that nothing comes, if the work that would have delivered is dropped.
struct Promise(Option<Arc<Post>>);

impl Promise {
    fn keep(mut self, dialled: Result<Socket, CallError>) {
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
    /// the service lets it have.
    fn best(&self) -> Option<Arc<Connection>> {
        let mut open = self.open.borrow_mut();
        if open.iter().any(|connection| connection.was_fleeting())
            && let Some(endpoint) = self.endpoint.upgrade()
        {
            endpoint.failed(CallError::Connect("the peer closes connections at once".to_owned()));
        }
        open.retain(|connection| connection.usable());
        let best = Arc::clone(open.iter().min_by_key(|connection| connection.http2.calls())?);
        let more = best.is_full() && open.len() < CONNECTIONS;
        drop(open);
        if more && self.attempt.borrow().is_none() {
            // Whoever asks next takes what comes of it.
            drop(self.attempt());
        }
        let arrived = self.attempt.borrow().clone();
        if let Some(attempt) = arrived {
            let _ = self.poll_attempt(&attempt, &Context::from_waker(Waker::noop()));
        }
        Some(best)
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
            let _ = runtime::spawn(async move { promise.keep(endpoint.socket().await) });
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
        let Poll::Ready(dialled) = attempt.post.poll(cx) else { return Poll::Pending };
        let mut current = self.attempt.borrow_mut();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, attempt)) {
            *current = None;
        }
        drop(current);
        let opened = dialled.and_then(|socket| {
            worker::open(socket, &builder()).map_err(|error| CallError::Internal(error.to_string()))
        });
        Poll::Ready(match opened {
            Ok((http2, send)) => {
                let connection = Arc::new(Connection::new(http2, send));
                self.open.borrow_mut().push(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                let _ = attempt.failed.set(error.clone());
                Err(error)
            }
        })
    }
}

/// One connection.
pub(super) struct Connection {
    http2: Arc<Http2Connection>,
    send: SendRequest<Bytes>,
    mute: AtomicU32,
    opened: Instant,
    /// The service has answered a call here.
    proved: AtomicBool,
    budget: Budget,
    left_open: AtomicU32,
}

impl Connection {
    fn new(http2: Arc<Http2Connection>, send: SendRequest<Bytes>) -> Self {
        Self {
            http2,
            send,
            mute: AtomicU32::new(0),
            opened: worker::now(),
            proved: AtomicBool::new(false),
            budget: Budget::new(),
            left_open: AtomicU32::new(0),
        }
    }

    /// Whether calls may start here.
    fn usable(&self) -> bool {
        // A service that goes away lets calls end that it has, and takes no more.
        let takes = || {
            let ready = self.send.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
            !matches!(ready, Poll::Ready(Err(_)))
        };
        self.http2.is_open()
            && takes()
            && self.mute.load(Relaxed) < MUTE_DEADLINES
            && self.left_open.load(Relaxed) < LEFT_OPEN
    }

    fn is_full(&self) -> bool {
        let left_open = usize::try_from(self.left_open.load(Relaxed)).unwrap_or_default();
        self.http2.calls() + left_open >= self.send.current_max_send_streams()
    }

    pub(super) fn http2(&self) -> &Http2Connection {
        &self.http2
    }

    /// A handle for one call.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.send.clone()
    }

    /// The service has answered. Whether that is news.
    pub(super) fn prove(&self) -> bool {
        !self.proved.swap(true, Relaxed)
    }

    /// Whether it ended so soon that the service can't be said to have been there.
    fn was_fleeting(&self) -> bool {
        !self.http2.is_open() && !self.proved.load(Relaxed) && self.opened.elapsed() < FLEETING
    }

    pub(super) fn begun(&self) {
        self.http2.begun(worker::now());
    }

    pub(super) fn over(&self) {
        self.http2.over(worker::now());
    }

    /// The service has said nothing to a call for as long as it had.
    pub(super) fn was_silent(&self) {
        self.mute.fetch_add(1, Relaxed);
    }

    /// The service has said something to a call.
    pub(super) fn answered(&self) {
        self.mute.store(0, Relaxed);
        self.budget.answered();
    }

    /// Nobody wants the rest of an answer any more: it is reset, or, when there were many resets, read
    /// away.
    pub(super) fn give_up(self: &Arc<Self>, rest: Inbound) {
        if self.budget.spend() {
            // What has not ended is reset when it is dropped.
            return;
        }
        let left = LeftOpen::new(self);
        worker::detach(async move {
            let _left = left;
            drain(rest).await;
        });
    }
}

/// A call that goes on though nobody waits for it.
struct LeftOpen(Arc<Connection>);

impl LeftOpen {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.left_open.fetch_add(1, Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for LeftOpen {
    fn drop(&mut self) {
        self.0.left_open.fetch_sub(1, Relaxed);
    }
}

/// Reads a call to its end, for nobody.
async fn drain(mut rest: Inbound) {
    while let Ok(Piece::Head(..) | Piece::Data(_)) = rest.next().await {}
}

/// How often calls may be reset: in a burst, and in the long run as a part of all that were
/// answered.
struct Budget(Mutex<BudgetState>);

struct BudgetState {
    resets: u32,
    answers: u32,
}

impl Budget {
    const fn new() -> Self {
        Self(Mutex::new(BudgetState { resets: RESETS, answers: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) {
        let mut state = self.lock();
        state.answers += 1;
        if state.answers >= ANSWERS_PER_RESET {
            (state.answers, state.resets) = (0, (state.resets + 1).min(RESETS));
        }
    }

    fn spend(&self) -> bool {
        let mut state = self.lock();
        let left = state.resets;
        state.resets = left.saturating_sub(1);
        left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_few_at_once_and_a_fraction_of_the_answers_in_the_long_run() {
        let budget = Budget::new();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10);
        (0..8).for_each(|_| budget.answered());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 2);
        (0..1000).for_each(|_| budget.answered());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10);
    }
}
