//! An HTTP/2 server in the test's hands, and a wire between it and the client that can be held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::grpc::{Client, Target};

/// A call that the server has got and not answered yet.
pub(super) type Asked = SendResponse<Bytes>;

/// A server that hands every call to the test.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) asked: mpsc::UnboundedReceiver<Asked>,
    /// Whether what the client sends is kept from the server for now.
    pub(super) held: watch::Sender<bool>,
    /// So many connections, the oldest, carry nothing any more.
    pub(super) cut: watch::Sender<usize>,
    opened: Arc<AtomicUsize>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_on(0).await
    }

    pub(super) async fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wire = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (behind, port) = (listener.local_addr().unwrap(), wire.local_addr().unwrap().port());
        let (asks, asked) = mpsc::unbounded_channel();
        let (held, holds) = watch::channel(false);
        let (cut, cuts) = watch::channel(0);
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, asks.clone()));
            }
        });
        tokio::spawn(async move {
            while let Ok((client, _)) = wire.accept().await {
                let server = TcpStream::connect(behind).await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(relay(client, server, number, holds.clone(), cuts.clone()));
            }
        });
        let target = Target::parse(&format!("127.0.0.1:{port}")).unwrap();
        Self { client: Client::new(target).unwrap(), asked, held, cut, opened }
    }

    /// Connections so far.
    pub(super) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    pub(super) async fn next(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }
}

pub(super) async fn serve<S>(stream: S, asks: mpsc::UnboundedSender<Asked>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(100_000).max_pending_accept_reset_streams(usize::MAX);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        // The body is read away, so that its window opens again.
        let mut body = request.into_body();
        tokio::spawn(async move {
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
            }
        });
        let _ = asks.send(respond);
    }
}

/// Carries bytes both ways, until it is cut; those of the client wait while the wire is held.
async fn relay(
    client: TcpStream,
    server: TcpStream,
    number: usize,
    mut held: watch::Receiver<bool>,
    mut cut: watch::Receiver<usize>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let down = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    });
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let _ = held.wait_for(|held| !held).await;
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let silent = tokio::select! {
        () = up => false,
        cut = cut.wait_for(|cut| number < *cut) => cut.is_ok(),
    };
    down.abort();
    if silent {
        // Neither carried on nor closed.
        std::future::pending::<()>().await;
    }
}

/// Answers with an empty message and status OK.
pub(super) fn answer(mut respond: Asked) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut body) = respond.send_response(head, false) else { return };
    let _ = body.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = body.send_trailers(trailers);
}
