//! One HTTP/2 connection to a service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::body::Body;

use super::error::CallError;
use super::target::Target;

/// Longest time that making a connection may take, name resolution and handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadlines in a row without any answer after which a connection counts as dead.
const MUTE_DEADLINES: u32 = 3;
/// Flow-control windows: what a service may send ahead.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    pending: AtomicUsize,
    mute: AtomicU32,
}

impl Connection {
    /// Dials `target`.
    pub(super) async fn open(target: &Target) -> Result<Arc<Self>, CallError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, Self::dial(target)).await {
            Ok(Ok(sender)) => {
                Ok(Arc::new(Self { sender, pending: AtomicUsize::new(0), mute: AtomicU32::new(0) }))
            }
            Ok(Err(error)) => Err(CallError::Connect(error)),
            Err(_) => Err(CallError::Connect("timed out".to_owned())),
        }
    }

    async fn dial(target: &Target) -> Result<SendRequest<Body>, String> {
        match target {
            Target::Tcp { host, port } => {
                let stream =
                    TcpStream::connect((host.as_str(), *port)).await.map_err(|e| e.to_string())?;
                stream.set_nodelay(true).map_err(|e| e.to_string())?;
                Self::handshake(stream).await
            }
            Target::Unix(path) => {
                Self::handshake(UnixStream::connect(path).await.map_err(|e| e.to_string())?).await
            }
        }
    }

    async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a service ended");
            }
        });
        Ok(sender)
    }

    /// Whether calls may still start here.
    pub(super) fn usable(&self) -> bool {
        !self.sender.is_closed() && self.mute.load(Ordering::Relaxed) < MUTE_DEADLINES
    }

    /// Calls that wait for their answer here.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Notes whether a call got anything from the service before its deadline.
    pub(super) fn heard(&self, anything: bool) {
        if anything {
            self.mute.store(0, Ordering::Relaxed);
        } else {
            self.mute.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A handle for one call, counted as pending until it is dropped.
    pub(super) fn enter(self: Arc<Self>) -> Entered {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }
}

/// A connection with one more call pending on it.
pub(super) struct Entered(Arc<Connection>);

impl Entered {
    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }

    pub(super) fn sender(&self) -> SendRequest<Body> {
        self.0.sender.clone()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
