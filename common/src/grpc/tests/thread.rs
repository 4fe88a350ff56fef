//! A service on a thread of its own, each of whose connections is in the test's hands.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use tokio::net::{TcpListener, TcpStream};

use crate::grpc::{Client, Target};

/// HTTP/2's default window.
pub(in crate::grpc) const USUAL: u32 = 65_535;

/// One connection, on the service's side.
pub(in crate::grpc) type Serving = Connection<TcpStream, Bytes>;

/// A client of the service at `address`.
pub(in crate::grpc) fn client(address: SocketAddr) -> Client {
    Client::new(Target::parse(&address.to_string()).unwrap()).unwrap()
}

/// Starts a service with these windows that does with each connection, by its number, what `serve` says.
pub(in crate::grpc) fn service<F: Future<Output = ()> + 'static>(
    windows: u32,
    serve: impl Fn(Serving, usize) -> F + Send + 'static,
) -> SocketAddr {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let serve = Rc::new(serve);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            for number in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                let mut builder = Builder::new();
                builder.initial_window_size(windows).initial_connection_window_size(windows);
                builder.max_pending_accept_reset_streams(1000);
                let serve = Rc::clone(&serve);
                tokio::task::spawn_local(async move {
                    // One that was dialled and is not used says nothing.
                    if let Ok(serving) = builder.handshake(socket).await {
                        serve(serving, number).await;
                    }
                });
            }
        });
    });
    receive.recv().unwrap()
}
