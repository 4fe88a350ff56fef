//! A socket without a reactor: read when its worker takes a turn, written once at the end of it.
//!
//! What goes out is gathered and sent by [`BufferedSocket::flush`]; over a bound the writer has to wait. The
//! poller says when there is something to read again: the socket is registered edge by edge, so
//! reading goes on until nothing is left.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait for the socket. Whoever has more to write waits for it, too.
const OUT_BOUND: usize = 256 << 10;
/// Bytes that one read takes.
const IN_BYTES: usize = 64 << 10;
/// Reads of one turn: a peer that sends without end must not keep its worker.
const IN_READS: u32 = 16;

/// An open connection's socket, in non-blocking mode.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<std::net::TcpStream> for Socket {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::Tcp(TcpStream::from_std(stream))
    }
}

impl From<std::os::unix::net::UnixStream> for Socket {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(UnixStream::from_std(stream))
    }
}

impl Socket {
    /// A second descriptor of it, to wait on.
    fn descriptor(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream) => stream.as_fd().try_clone_to_owned(),
            Self::Unix(stream) => stream.as_fd().try_clone_to_owned(),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket with what was read and what is to be written.
#[derive(Debug)]
pub(crate) struct BufferedSocket {
    state: Mutex<State>,
    /// There may be something to read.
    readable: AtomicBool,
    /// The peer has closed its side: everything up to the end is to be read.
    closing: AtomicBool,
    /// Bytes that the socket took.
    sent: AtomicU64,
    /// Bytes that came.
    heard: AtomicU64,
}

#[derive(Debug)]
struct State {
    socket: Socket,
    inbox: Box<[u8]>,
    read: std::ops::Range<usize>,
    /// Reads that are left in this turn.
    reads: u32,
    out: Vec<u8>,
    /// So much of `out` has been sent.
    gone: usize,
    /// The bound was reached: somebody has more to write.
    refused: bool,
    failed: Option<io::ErrorKind>,
    /// The poller tells of room in the socket, too.
    awaits_room: bool,
}

impl State {
    /// Bytes that wait to be sent.
    const fn waiting(&self) -> usize {
        self.out.len() - self.gone
    }

    fn send(&mut self, sent: &AtomicU64) -> io::Result<bool> {
        let Self { socket, out, gone, .. } = &mut *self;
        let before = *gone;
        let done = loop {
            let rest = out.get(*gone..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match socket.write(rest) {
                Ok(0) => break Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(count) => *gone += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        sent.fetch_add(u64::try_from(*gone - before).unwrap_or_default(), Ordering::Relaxed);
        // The rest is moved only when that is less than what is gone.
        if out.len() - *gone <= *gone {
            out.drain(..std::mem::take(gone));
        }
        match done {
            Ok(()) => Ok(out.len() == *gone),
            Err(error) => {
                self.failed = Some(error.kind());
                Err(error)
            }
        }
    }
}

impl BufferedSocket {
    pub(crate) fn new(socket: Socket) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                socket,
                inbox: vec![0; IN_BYTES].into_boxed_slice(),
                read: 0..0,
                reads: IN_READS,
                out: Vec::new(),
                gone: 0,
                refused: false,
                failed: None,
                awaits_room: false,
            }),
            readable: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.lock().socket.source(), token, Interest::READABLE)
    }

    pub(crate) fn deregister(&self, registry: &Registry) -> io::Result<()> {
        registry.deregister(self.lock().socket.source())
    }

    /// Bytes that the socket took so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes that came so far.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Something may have come, or, if `closing`, the end.
    pub(crate) fn look_again(&self, closing: bool) {
        if closing {
            self.closing.store(true, Ordering::Release);
        }
        self.readable.store(true, Ordering::Release);
    }

    /// A turn begins.
    pub(crate) fn begin(&self) {
        self.lock().reads = IN_READS;
    }

    /// Whether there is more to read than one turn may, or room again for a writer that was refused.
    pub(crate) fn has_more(&self) -> bool {
        let mut state = self.lock();
        let room = state.refused && state.waiting() < OUT_BOUND;
        state.refused &= !room;
        room || state.reads == 0
    }

    /// A second descriptor of the socket, to wait on.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.lock().socket.descriptor()
    }

    /// Sends what was gathered, as far as the socket takes it. Whether all of it is on its way.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn send(&self) -> io::Result<bool> {
        self.lock().send(&self.sent)
    }

    /// [`BufferedSocket::send`], and has the poller tell of room for the rest.
    ///
    /// # Errors
    /// When the connection is broken, or its socket can't be waited for.
    pub(crate) fn flush(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let mut state = self.lock();
        let awaits = !state.send(&self.sent)?;
        if awaits != state.awaits_room {
            state.awaits_room = awaits;
            let room =
                if awaits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(state.socket.source(), token, room)?;
        }
        Ok(())
    }

    /// Reads into `buffer`; `None` when there is nothing now, 0 bytes at the end.
    fn read(&self, buffer: &mut ReadBuf<'_>) -> io::Result<Option<usize>> {
        let mut state = self.lock();
        // What came before a write failed is worth reading.
        let nothing = match state.failed {
            Some(kind) => Err(kind.into()),
            None => Ok(None),
        };
        if state.read.is_empty() {
            // Cleared before the read: what comes after it says so again.
            if !self.readable.swap(false, Ordering::AcqRel) && !self.closing.load(Ordering::Acquire)
            {
                return nothing;
            }
            if state.reads == 0 {
                self.readable.store(true, Ordering::Release);
                return Ok(None);
            }
            state.reads -= 1;
            let State { socket, inbox, read, .. } = &mut *state;
            let count = loop {
                match socket.read(inbox) {
                    Ok(count) => break count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return nothing,
                    Err(error) => return Err(error),
                }
            };
            if count == inbox.len() {
                self.readable.store(true, Ordering::Release);
            }
            *read = 0..count;
            self.heard.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
        }
        let range = state.read.clone();
        let have = state.inbox.get(range.clone()).unwrap_or_default();
        let count = have.len().min(buffer.remaining());
        buffer.put_slice(have.get(..count).unwrap_or_default());
        state.read = range.start + count..range.end;
        Ok(Some(count))
    }

    /// Takes `bytes` to be sent; how many, or `None` while the bound is reached.
    fn gather(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let mut state = self.lock();
        if let Some(kind) = state.failed {
            return Err(kind.into());
        }
        let room = OUT_BOUND.saturating_sub(state.waiting());
        if room == 0 {
            state.refused = true;
            return Ok(None);
        }
        let count = bytes.len().min(room);
        state.out.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(Some(count))
    }
}

/// A [`BufferedSocket`] as tokio's traits want it. Nothing is registered with the context: the connection is
/// polled again when the poller says so.
#[derive(Debug)]
pub(crate) struct Io(pub(crate) Arc<BufferedSocket>);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.read(buffer) {
            Ok(Some(_)) => Poll::Ready(Ok(())),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.0.gather(bytes) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
