//! The beginning of a connection, before it is a worker's: its socket is driven on the runtime, so that
//! no worker shakes hands.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::socket::BufferedSocket;

/// Runs `work`, which reads and writes `socket`, to its end.
///
/// # Errors
/// Those of the socket.
pub(crate) async fn on_runtime<T>(
    socket: &Arc<BufferedSocket>,
    work: impl Future<Output = T>,
) -> io::Result<T> {
    // Of whatever family it is: it is only waited on.
    let wait = UnixStream::from_std(socket.descriptor()?.into())?;
    let clear = |interest| wait.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    let mut work = pin!(work);
    poll_fn(|cx| {
        loop {
            socket.begin();
            socket.look_again(false);
            let done = work.as_mut().poll(cx);
            let sent = socket.send()?;
            if let Poll::Ready(done) = done {
                return Poll::Ready(Ok(done));
            }
            if socket.has_more() {
                continue;
            }
            // Cleared first: what comes from now on says so again.
            if !sent && wait.poll_write_ready(cx)?.is_ready() {
                let _ = clear(Interest::WRITABLE);
            } else {
                ready!(wait.poll_read_ready(cx))?;
                let _ = clear(Interest::READABLE);
            }
        }
    })
    .await
}
