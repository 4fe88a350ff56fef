//! One HTTP/2 connection to a service: driven on the runtime, or opened there for a worker.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::task::noop_waker_ref;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::answer::Inbound;
use super::dial::{Address, Socket, connect};
use super::error::CallError;
use super::health::{ASK_AGAIN, Health, MOST_DRAINED};
use super::http2::{Piece, builder};
use super::stream_slots::{StreamSlot, StreamSlots};
use super::tls::{Secured, Tls};
use crate::worker::{Io, Opened, Transport, on_runtime};

/// When a service that says nothing is asked whether it is there (`grpc.keepalive_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Keepalive {
    /// After how long a silence.
    pub(super) time: Duration,
    /// How long it has for its answer.
    pub(super) timeout: Duration,
    /// Also while no call is under way.
    pub(super) without_calls: bool,
}

/// How connections to a service are made.
#[derive(Clone)]
pub(super) struct Dialling {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) keepalive: Option<Keepalive>,
}

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    address: Address,
    life: Arc<Life>,
    health: Health,
    slots: StreamSlots,
    runtime: Handle,
}

/// What a connection shares with the task that drives it.
#[derive(Default)]
struct Life {
    ended: OnceLock<Instant>,
    stop: Notify,
    /// Bytes that came.
    heard: AtomicU64,
    /// Calls that wait for their answer.
    pending: AtomicUsize,
}

impl Life {
    /// Asks the service whether it is there, as often as it is to be asked. Returns when it is not.
    async fn keep_alive(&self, keepalive: Option<Keepalive>, ping: Option<PingPong>) {
        let (Some(Keepalive { time, timeout, without_calls }), Some(mut ping)) = (keepalive, ping)
        else {
            return std::future::pending().await;
        };
        let mut heard = 0;
        loop {
            tokio::time::sleep(time).await;
            let now = self.heard.load(Ordering::Relaxed);
            let silent = now == std::mem::replace(&mut heard, now);
            if !silent || !(without_calls || self.pending.load(Ordering::Relaxed) > 0) {
                continue;
            }
            if !matches!(tokio::time::timeout(timeout, ping.ping(Ping::opaque())).await, Ok(Ok(_)))
            {
                return;
            }
        }
    }
}

async fn secured(socket: Socket, tls: Option<Arc<Tls>>) -> io::Result<Secured> {
    match tls {
        Some(tls) => tls.secure(socket).await,
        None => Ok(Secured::Plain(socket)),
    }
}

/// Dials `address` for a connection that a worker drives. It is open when the service has spoken
/// HTTP/2.
///
/// # Errors
/// Those of the system, of TLS and of HTTP/2.
pub(super) async fn open_for_worker(
    address: Address,
    tls: Option<Arc<Tls>>,
) -> io::Result<(Opened, SendRequest<Bytes>)> {
    let socket = connect(&address).await?.buffered()?;
    let io = Socket::Buffered(Io(Arc::clone(&socket)));
    let work = async {
        let (spoken, mut speaks) = oneshot::channel();
        let transport: Box<dyn Transport> = Box::new(Watched {
            socket: secured(io, tls).await?,
            life: Arc::default(),
            start: Some((Start::default(), spoken)),
        });
        let (sender, mut http2) = builder().handshake(transport).await.map_err(io::Error::other)?;
        let ended = poll_fn(|cx| match Pin::new(&mut http2).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(not_http2())),
            Poll::Pending => {
                Pin::new(&mut speaks).poll(cx).map(|spoken| spoken.map_err(|_| not_http2()))
            }
        });
        ended.await?;
        Ok::<_, io::Error>((sender, http2))
    };
    let (sender, http2) = on_runtime(&socket, work).await??;
    Ok((Opened { socket, http2 }, sender))
}

fn not_http2() -> io::Error {
    io::Error::other("the peer does not speak HTTP/2, or closed")
}

impl Connection {
    /// Dials `address`. The connection is open when the service has spoken HTTP/2.
    pub(super) async fn open(address: Address, dialling: Dialling) -> io::Result<Arc<Self>> {
        let Dialling { tls, keepalive } = dialling;
        let socket = secured(connect(&address).await?, tls).await?;
        let life = Arc::<Life>::default();
        let (spoken, speaks) = oneshot::channel();
        let socket =
            Watched { socket, life: Arc::clone(&life), start: Some((Start::default(), spoken)) };
        let (sender, mut connection) =
            builder().handshake(socket).await.map_err(io::Error::other)?;
        let ended = Ended(Arc::clone(&life));
        let ping = connection.ping_pong();
        tokio::spawn(async move {
            let Ended(life) = &ended;
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "a connection to a service ended");
                },
                () = life.stop.notified() => {}
                () = life.keep_alive(keepalive, ping) => {
                    tracing::debug!("a service does not answer a ping");
                }
            }
        });
        speaks.await.map_err(|_| not_http2())?;
        Ok(Arc::new(Self {
            sender,
            address,
            life,
            health: Health::new(Instant::now()),
            slots: StreamSlots::new(),
            runtime: Handle::current(),
        }))
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether calls may still start here.
    pub(super) fn usable(&self) -> bool {
        // A service that goes away lets calls end that it has, and takes no more.
        let takes = || {
            let ready = self.sender.clone().poll_ready(&mut Context::from_waker(noop_waker_ref()));
            !matches!(ready, Poll::Ready(Err(_)))
        };
        self.life.ended.get().is_none() && self.health.takes_calls() && takes()
    }

    /// Whether its peer ended it so soon that the service can't be said to have been there.
    pub(super) fn was_fleeting(&self) -> bool {
        self.life.ended.get().is_some_and(|ended| self.health.was_fleeting(*ended))
    }

    /// Whether the service has answered a call here.
    pub(super) fn proved(&self) -> bool {
        self.health.proved()
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        self.health.age(now)
    }

    /// Calls that wait for their answer here.
    pub(super) fn pending(&self) -> usize {
        self.life.pending.load(Ordering::Relaxed)
    }

    /// The service has said something to a call.
    pub(super) fn answered(&self) {
        self.health.answered();
    }

    /// The service has said nothing to a call for as long as it had.
    pub(super) fn was_silent(&self) {
        self.health.was_silent(Instant::now());
    }

    /// Bytes that came so far.
    pub(super) fn heard(&self) -> u64 {
        self.life.heard.load(Ordering::Relaxed)
    }

    /// Nobody wants the rest of an answer any more: it is reset, or, when there were many resets,
    /// read away.
    pub(super) fn give_up(self: &Arc<Self>, mut rest: Inbound) {
        if self.health.may_reset(Instant::now()) {
            return;
        }
        self.health.gave_up();
        self.close_if_done();
        let connection = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut drained = 0;
            loop {
                tokio::select! {
                    piece = rest.next() => match piece {
                        Ok(Piece::End(_)) | Err(_) => break,
                        Ok(Piece::Head(..)) => {}
                        Ok(Piece::Data(bytes)) => {
                            drained += bytes.len();
                            if drained > MOST_DRAINED {
                                break;
                            }
                        }
                    },
                    () = tokio::time::sleep(ASK_AGAIN) => {
                        if connection.health.may_reset(Instant::now()) {
                            break;
                        }
                    }
                }
            }
            connection.health.ran_out();
        });
    }

    /// Closes a connection that takes no calls and has none left; what was given up ends with it.
    fn close_if_done(&self) {
        if !self.health.takes_calls() && self.pending() == 0 {
            self.life.stop.notify_one();
        }
    }

    /// A handle for one call, counted as pending until it is dropped.
    pub(super) fn enter(self: Arc<Self>) -> Entered {
        self.life.pending.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }
}

/// A connection with one more call pending on it.
pub(super) struct Entered(Arc<Connection>);

impl Entered {
    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.0
    }

    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }

    /// Waits until the service takes one more call here.
    ///
    /// # Errors
    /// See [`StreamSlots::take`].
    pub(super) async fn slot(&self) -> Result<StreamSlot, CallError> {
        self.0.slots.take(&self.0.sender).await
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.life.pending.fetch_sub(1, Ordering::Relaxed);
        self.0.close_if_done();
    }
}

/// Notes the end of a connection, also when its task panics.
struct Ended(Arc<Life>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.ended.set(Instant::now());
    }
}

/// A socket that says when its peer has spoken HTTP/2, and counts what came.
struct Watched {
    socket: Secured,
    life: Arc<Life>,
    start: Option<(Start, oneshot::Sender<()>)>,
}

/// The beginning of what a peer sends: the head of a frame.
#[derive(Default)]
struct Start(Vec<u8>);

impl Start {
    /// The bytes of a frame's head, and where its type stands.
    const HEAD: usize = 9;
    const TYPE: usize = 3;
    const SETTINGS: u8 = 4;

    /// Takes what came. Whether the peer speaks HTTP/2, as soon as that is known.
    fn push(&mut self, bytes: &[u8]) -> Option<bool> {
        let wanted = Self::HEAD - self.0.len();
        self.0.extend(bytes.iter().take(wanted));
        (self.0.len() == Self::HEAD).then(|| self.0.get(Self::TYPE) == Some(&Self::SETTINGS))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let watched = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut watched.socket).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            watched.life.heard.fetch_add(came.len() as u64, Ordering::Relaxed);
            if let Some((start, _)) = &mut watched.start
                && let Some(speaks) = start.push(came)
                && let Some((_, spoken)) = watched.start.take()
                && speaks
            {
                let _ = spoken.send(());
            }
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_speaks_http2_is_known_by_its_first_frame_however_it_comes() {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        assert_eq!(Start::default().push(&settings), Some(true));
        let mut start = Start::default();
        for byte in &settings[..8] {
            assert_eq!(start.push(&[*byte]), None);
        }
        assert_eq!(start.push(&settings[8..]), Some(true));
        assert_eq!(Start::default().push(b"HTTP/1.1 400 Bad Request"), Some(false));
    }
}
