//! One connected socket: to a TCP address or to a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::target::Target;
use crate::worker::{BufferedSocket, Io};

/// Milliseconds after which the kernel gives up a connection whose peer acknowledges nothing.
const UNACKNOWLEDGED: u32 = 10_000;

/// Where a socket leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Abstract(String),
}

impl Address {
    /// The TCP address, if it is one.
    pub(crate) const fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Abstract(_) => None,
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// One that a worker is to drive.
    Buffered(Io),
}

impl Socket {
    /// The socket, without the runtime's reactor.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn buffered(self) -> io::Result<Arc<BufferedSocket>> {
        Ok(match self {
            Self::Tcp(stream) => BufferedSocket::new(stream.into_std()?.into()),
            Self::Unix(stream) => BufferedSocket::new(stream.into_std()?.into()),
            Self::Buffered(Io(socket)) => socket,
        })
    }
}

/// The addresses of `target`, as the system's resolver has them now.
///
/// # Errors
/// When a name can't be resolved.
pub(crate) async fn resolve(target: &Target) -> io::Result<Vec<Address>> {
    Ok(match target {
        Target::Name { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
            found.map(Address::Tcp).collect()
        }
        Target::Addresses(addresses) => addresses.iter().copied().map(Address::Tcp).collect(),
        Target::Unix(path) => vec![Address::Unix(path.clone())],
        Target::Abstract(name) => vec![Address::Abstract(name.clone())],
    })
}

/// Connects.
///
/// # Errors
/// Those of the system.
pub(crate) async fn connect(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            setsockopt(&stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED)?;
            Ok(Socket::Tcp(stream))
        }
        Address::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
        Address::Abstract(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream).map(Socket::Unix)
        }
    }
}

/// Whether `error` tells of something that this process or machine has used up. That is no failure
/// of the service: whoever opens enough connections to Envoy brings it about.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EADDRNOTAVAIL)
    )
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Buffered(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Buffered(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Buffered(io) => Pin::new(io).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self, Self::Buffered(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Buffered(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Buffered(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_has_used_up_is_told_from_what_the_service_refuses() {
        let error = |errno: nix::errno::Errno| io::Error::from_raw_os_error(errno as i32);
        assert!(is_exhaustion(&error(nix::errno::Errno::EMFILE)));
        assert!(is_exhaustion(&error(nix::errno::Errno::EADDRNOTAVAIL)));
        assert!(!is_exhaustion(&error(nix::errno::Errno::ECONNREFUSED)));
        assert!(!is_exhaustion(&io::Error::other("x")));
    }

    #[tokio::test]
    async fn sockets_without_a_path_are_reached() {
        let name = format!("callout-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        let target = Target::parse(&format!("unix-abstract:{name}")).unwrap();
        let addresses = resolve(&target).await.unwrap();
        assert!(connect(&addresses[0]).await.is_ok() && listener.accept().is_ok());
    }
}
