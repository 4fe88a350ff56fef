//! One HTTP/2 connection of a worker: the crate `h2` over a [`BufferedSocket`], driven in the worker's turns,
//! and by the poller while no stream of the worker waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use h2::client::Connection;
use mio::Token;
use tokio::io::{AsyncRead, AsyncWrite};

use super::poller::{Poller, Watched};
use super::socket::BufferedSocket;
use super::wakeups::{Ready, Wakeups, Woken};

/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(3600);

/// A connection that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the socket can't be watched: {0}")]
    Watch(#[from] std::io::Error),
    #[error("this thread has no worker")]
    NoWorker,
}

/// What HTTP/2 runs on: an [`Io`](super::Io), and what is around it.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// HTTP/2 that was opened, and nobody drives yet.
pub(crate) struct Opened {
    /// What its transport reads and writes in the end.
    pub(crate) socket: Arc<BufferedSocket>,
    pub(crate) http2: Connection<Box<dyn Transport>, Bytes>,
}

/// One connection.
pub(crate) struct Http2Connection {
    number: usize,
    socket: Arc<BufferedSocket>,
    poller: Arc<Poller>,
    waker: Waker,
    wakes: Arc<ConnectionWaker>,
    /// `None` when it has ended.
    connection: Mutex<Option<Connection<Box<dyn Transport>, Bytes>>>,
    closed: AtomicBool,
    /// Calls under way.
    calls: AtomicUsize,
    born: Instant,
    /// Seconds after `born` at which it was used last.
    used: AtomicU64,
}

/// Wakes a connection.
struct ConnectionWaker {
    number: usize,
    wakeups: Arc<Wakeups>,
    poller: Arc<Poller>,
    queued: AtomicBool,
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel)
            && self.wakeups.wake(Ready::Connection(self.number)) == Woken::Nobody
        {
            self.poller.wake();
        }
    }
}

impl Http2Connection {
    /// Drives `opened` from now on, for the worker of `wakeups`.
    ///
    /// # Errors
    /// When the socket can't be watched.
    pub(crate) fn adopt(
        opened: Opened,
        wakeups: &Arc<Wakeups>,
        poller: &Arc<Poller>,
    ) -> Result<Arc<Self>, ConnectionError> {
        let number = poller.number();
        let Opened { socket, http2 } = opened;
        let wakes = Arc::new(ConnectionWaker {
            number,
            wakeups: Arc::clone(wakeups),
            poller: Arc::clone(poller),
            queued: AtomicBool::new(false),
        });
        let connection = Arc::new(Self {
            number,
            socket,
            poller: Arc::clone(poller),
            waker: Waker::from(Arc::clone(&wakes)),
            wakes,
            connection: Mutex::new(Some(http2)),
            closed: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            born: Instant::now(),
            used: AtomicU64::new(0),
        });
        connection.socket.register(poller.registry(), Token(number))?;
        poller.watch(number, Arc::clone(&connection) as Arc<dyn Watched>);
        connection.wake();
        Ok(connection)
    }

    pub(crate) const fn number(&self) -> usize {
        self.number
    }

    /// Whether calls may start here.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Bytes that its socket took so far.
    pub(crate) fn sent(&self) -> u64 {
        self.socket.sent()
    }

    /// Bytes that came so far.
    pub(crate) fn heard(&self) -> u64 {
        self.socket.heard()
    }

    /// Calls under way.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// One more call goes over it.
    pub(crate) fn begun(&self, now: Instant) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    /// A call has ended.
    pub(crate) fn over(&self, now: Instant) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
        self.touch(now);
    }

    /// Has it driven.
    pub(crate) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// Closes it: its calls fail.
    pub(crate) fn close(&self, reason: &str) {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.end(&mut slot, reason);
    }

    fn end(&self, slot: &mut Option<Connection<Box<dyn Transport>, Bytes>>, reason: &str) {
        self.closed.store(true, Ordering::Release);
        let Some(connection) = slot.take() else { return };
        tracing::debug!(reason, "a connection to a service ended");
        // Where it can't be deregistered, closing the socket does.
        let _ = self.socket.deregister(self.poller.registry());
        self.poller.forget(self.number);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(connection))) {
            std::mem::forget(payload);
        }
    }

    /// Notes that it is in use.
    fn touch(&self, now: Instant) {
        let age = now.saturating_duration_since(self.born).as_secs();
        self.used.store(age, Ordering::Relaxed);
    }
}

impl Watched for Http2Connection {
    fn stirred(&self, closing: bool) {
        self.socket.look_again(closing);
        self.wake();
    }

    fn drive(&self, fresh: bool) {
        // Cleared first: what wakes it from now on is seen after this.
        self.wakes.queued.store(false, Ordering::Release);
        if fresh {
            self.socket.begin();
            self.socket.look_again(false);
        }
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = &mut *slot else { return };
        let mut cx = Context::from_waker(&self.waker);
        // A fault of the library ends this connection, and nothing else.
        let polled = catch_unwind(AssertUnwindSafe(|| connection.poll_unpin(&mut cx)));
        let ended = match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(Ok(()))) => Some("closed".to_owned()),
            Ok(Poll::Ready(Err(error))) => Some(error.to_string()),
            Err(payload) => {
                std::mem::forget(payload);
                Some("its library failed".to_owned())
            }
        };
        let sent = self.socket.flush(self.poller.registry(), Token(self.number));
        match (ended, sent) {
            (Some(reason), _) => self.end(&mut slot, &reason),
            // The library sees the error when it is polled again, and tells the calls.
            (None, Err(_)) => self.wake(),
            (None, Ok(())) if self.socket.has_more() => self.wake(),
            (None, Ok(())) => {}
        }
    }

    fn close_if_idle(&self, now: Instant) {
        let used = self.born + Duration::from_secs(self.used.load(Ordering::Relaxed));
        if self.calls() == 0 && now.saturating_duration_since(used) > IDLE {
            self.close("nobody uses it");
        }
    }
}
