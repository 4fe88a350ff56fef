//! A gRPC service that misbehaves as it is told to, on connections that it may keep.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::http2::send;

/// What a service does to each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It allows everything, and changes nothing.
    None,
    /// Nobody listens.
    Refused,
    /// Its host drops what opens a connection.
    BlackHole,
    /// Takes connections and closes them at once.
    AcceptsAndCloses,
    /// Takes connections and resets them at once.
    AcceptsAndResets,
    /// Takes connections and is mute.
    Mute,
    /// Talks HTTP/1.
    Http1,
    /// Sends bytes that are no protocol.
    Garbage,
    /// Takes calls, and never answers.
    Silent,
    /// Answers after so many milliseconds.
    Slow(u64),
    /// Resets the stream.
    Resets(Reason),
    /// Says GOAWAY to each call, and closes.
    GoesAway,
    /// Begins an answer and closes the connection.
    DiesMidway,
    /// A gRPC status alone.
    Status(u16),
    /// A gRPC status that is not a number.
    StatusText,
    /// An HTTP status with a page.
    Page(u16),
    /// A valid message under an HTTP status that is not 200.
    MessageUnder(u16),
    /// A valid message and no status after it.
    NoStatus,
    /// A message that is not protobuf.
    Malformed,
    /// A message shorter than it says.
    Cut,
    /// A message that says it is compressed.
    Compressed,
    /// A message that says it is a gibibyte.
    TooLong,
    /// No message and status 0.
    NoMessage,
    /// Two thousand header lines.
    ManyHeaders,
    /// Trailers of 100 KiB.
    LongTrailers,
}

/// The running service. Dropping it ends it.
pub struct FaultyService {
    port: u16,
    fault: watch::Sender<Fault>,
    calls: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Drop for FaultyService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultyService {
    /// Starts it, without a fault, on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (fault, now) = watch::channel(Fault::None);
        let calls = Arc::<Mutex<usize>>::default();
        let counted = Arc::clone(&calls);
        let task = tokio::spawn(async move {
            if let Err(error) = listen(listener, port, now, counted).await {
                eprintln!("the faulty service on port {port}: {error}");
            }
        });
        Ok(Self { port, fault, calls, task })
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Does this from now on. Connections on which the fault does not happen are closed.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Calls that arrived so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// Whether it is a matter of connections, and not of calls.
    #[must_use]
    pub const fn is_of_connections(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::BlackHole
                | Self::AcceptsAndCloses
                | Self::AcceptsAndResets
                | Self::Mute
                | Self::Http1
                | Self::Garbage
        )
    }
}

/// Accepts connections, unless the fault is that it does not.
async fn listen(
    mut listener: TcpListener,
    port: u16,
    mut now: watch::Receiver<Fault>,
    calls: Arc<Mutex<usize>>,
) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    loop {
        let fault = *now.borrow_and_update();
        match fault {
            Fault::Refused => {
                drop(listener);
                // Bound, but nobody listens: nobody else gets the port.
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                now.wait_for(|now| *now != fault).await?;
            }
            Fault::BlackHole => {
                drop(listener);
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                let full = socket.listen(0)?;
                // Nobody accepts these, and there is no room for more.
                let connect = || timeout(Duration::from_millis(50), TcpStream::connect(address));
                let crowd = [connect().await, connect().await, connect().await];
                now.wait_for(|now| *now != fault).await?;
                drop((full, crowd));
            }
            _ => {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted?;
                        // A broken connection is what this service is for.
                        tokio::spawn(serve(stream, now.clone(), Arc::clone(&calls)));
                    }
                    changed = now.changed() => changed?,
                }
                continue;
            }
        }
        now.wait_for(|now| *now != fault).await?;
        listener = TcpListener::bind(address).await?;
    }
}

async fn serve(
    mut stream: TcpStream,
    mut now: watch::Receiver<Fault>,
    calls: Arc<Mutex<usize>>,
) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    stream.set_nodelay(true)?;
    let fault = *now.borrow_and_update();
    match fault {
        Fault::AcceptsAndCloses => return Ok(()),
        Fault::AcceptsAndResets => {
            stream.set_zero_linger()?;
            return Ok(());
        }
        Fault::Mute => {
            now.wait_for(|now| *now != fault).await?;
            return Ok(());
        }
        Fault::Http1 | Fault::Garbage => {
            let _ = stream.read(&mut [0; 1024]).await?;
            let page = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let said = if fault == Fault::Http1 { page.to_vec() } else { vec![0xff; 4096] };
            stream.write_all(&said).await?;
            now.wait_for(|now| *now != fault).await?;
            return Ok(());
        }
        _ => {}
    }
    let mut connection = h2::server::Builder::new()
        .max_send_buffer_size(4 << 20)
        .handshake::<_, Bytes>(stream)
        .await?;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            changed = now.wait_for(|now| now.is_of_connections()) => {
                changed?;
                return Ok(());
            }
        };
        let Some(call) = accepted else { return Ok(()) };
        let (request, respond) = call?;
        *calls.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let fault = *now.borrow();
        if fault == Fault::GoesAway {
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        if fault == Fault::DiesMidway {
            let mut respond = respond;
            respond.send_response(head(200), false)?;
            // The headers go out with the connection's next turn.
            let _ = timeout(Duration::from_millis(50), connection.accept()).await;
            return Ok(());
        }
        tokio::spawn(answer(request, respond, fault));
    }
}

fn head(status: u16) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    head
}

fn trailers(status: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(status) {
        trailers.insert("grpc-status", value);
    }
    trailers
}

/// A message in its frame.
fn framed(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(message);
    frame.freeze()
}

/// What allows, of the service that is called: a check with an OK status, a rate limit that is not
/// reached, or request headers that stay as they are.
fn allowing(path: &str) -> &'static [u8] {
    if path.contains("RateLimitService") { &[8, 1] } else { &[10, 0] }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    fault: Fault,
) -> Result<()> {
    let message = allowing(request.uri().path());
    // Read away, so that its window is not what fails.
    let mut body = request.into_body();
    if fault != Fault::GoesAway {
        let first = body.data().await.context("no message")??;
        let _ = body.flow_control().release_capacity(first.len());
    }
    let length = u32::try_from(message.len())?;
    let whole = framed(0, length, message);
    match fault {
        Fault::Silent | Fault::GoesAway => std::future::pending().await,
        Fault::Slow(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Fault::Resets(reason) => {
            respond.send_reset(reason);
            return Ok(());
        }
        Fault::Status(_) | Fault::StatusText | Fault::NoMessage => {
            let status = match fault {
                Fault::Status(status) => status.to_string(),
                Fault::NoMessage => "0".to_owned(),
                _ => "unwell".to_owned(),
            };
            let mut head = head(200);
            head.headers_mut().extend(trailers(&status));
            respond.send_response(head, true)?;
            return Ok(());
        }
        _ => {}
    }
    let (status, said) = match fault {
        Fault::Page(status) => (status, Bytes::from_static(b"<html>out of order</html>")),
        Fault::MessageUnder(status) => (status, whole),
        Fault::Malformed => (200, framed(0, 4, &[0xff; 4])),
        Fault::Cut => (200, framed(0, 100, message)),
        Fault::Compressed => (200, framed(1, length, message)),
        Fault::TooLong => (200, framed(0, 1 << 30, message)),
        _ => (200, whole),
    };
    let mut head = head(status);
    if let Fault::Page(_) = fault {
        head.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
    }
    if fault == Fault::ManyHeaders {
        for n in 0..2000 {
            let name = http::HeaderName::from_bytes(format!("x-{n}").as_bytes())?;
            head.headers_mut().insert(name, HeaderValue::from_static("v"));
        }
    }
    let mut out = respond.send_response(head, false)?;
    send(&mut out, said, matches!(fault, Fault::Page(_) | Fault::NoStatus)).await?;
    let mut last = trailers("0");
    match fault {
        Fault::Page(_) | Fault::NoStatus => return Ok(()),
        Fault::LongTrailers => {
            last.insert("x-long", HeaderValue::from_str(&"v".repeat(100 << 10))?);
        }
        _ => {}
    }
    out.send_trailers(last)?;
    Ok(())
}
