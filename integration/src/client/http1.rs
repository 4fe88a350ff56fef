//! One HTTP/1.1 connection, driven by hand where [`Request::send`] is not enough.
//!
//! ```no_run
//! # async fn example(port: u16) -> anyhow::Result<()> {
//! use callout_integration::client::http1::Connection;
//! let mut connection = Connection::open(port).await?;
//! connection.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await?;
//! connection.write("frames before the answer").await?;
//! assert_eq!(connection.response("GET").await?.status, 101);
//! # Ok(())
//! # }
//! ```

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{End, Request, Response};
use crate::http1::{self, Framing};
use crate::{header, text};

/// An open connection.
pub struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Connects to a port of this machine.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader: BufReader::new(reader), writer })
    }

    /// Writes bytes as they are (the text is Latin-1).
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn write(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(&crate::bytes(text)).await
    }

    /// Reads the next response to a request with this method to its end; 1xx responses other than
    /// 101 are noted and passed over.
    ///
    /// # Errors
    /// When the connection breaks or what comes is no HTTP.
    pub async fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = Response::default();
        response.end = read(&mut self.reader, method, &mut response).await?;
        Ok(response)
    }

    /// Reads what has come by now or comes next, as Latin-1 text; empty at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn read(&mut self) -> io::Result<String> {
        let mut buffer = vec![0; 16 * 1024];
        let n = self.reader.read(&mut buffer).await?;
        Ok(text(&buffer[..n]))
    }
}

async fn read(
    reader: &mut BufReader<OwnedReadHalf>,
    method: &str,
    response: &mut Response,
) -> io::Result<End> {
    let head = loop {
        let Some(head) = http1::read_head(reader).await? else { return Ok(End::Closed) };
        let status = head.word(1).parse().map_err(|_| io::ErrorKind::InvalidData)?;
        if (100..200).contains(&status) && status != 101 {
            response.informational.push(status);
            continue;
        }
        response.status = status;
        break head;
    };
    let framing = Framing::of_response(&head, method);
    response.headers = head.headers;
    let body = &mut response.body;
    match http1::read_body(reader, framing, |piece| body.extend_from_slice(piece)).await {
        Ok(trailers) => {
            response.trailers = trailers;
            Ok(End::Complete)
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(End::Closed),
        Err(error) => Err(error),
    }
}

/// Sends a request and reads its response.
pub(super) async fn exchange(
    request: &Request,
    port: u16,
    response: &mut Response,
) -> io::Result<End> {
    let Connection { mut reader, mut writer } = Connection::open(port).await?;
    let write = async {
        let result = write(request, &mut writer).await;
        // A server may answer and close before it has read everything: what it said counts.
        drop(result);
        std::future::pending::<End>().await
    };
    tokio::select! {
        end = read(&mut reader, &request.method, response) => end,
        end = write => Ok(end),
    }
}

async fn write(request: &Request, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut headers = request.headers.clone();
    if header(&headers, "host").is_none() {
        headers.insert(0, ("host".to_owned(), request.authority.clone()));
    }
    let chunked = request.is_chunked();
    let pieces = request.body_pieces();
    if chunked {
        headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
    } else if !pieces.is_empty() && header(&headers, "content-length").is_none() {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        headers.push(("content-length".to_owned(), length.to_string()));
    }
    let start = format!("{} {} HTTP/1.1", request.method, request.path);
    writer.write_all(&http1::head_bytes(&start, &headers)).await?;
    let whole = matches!(request.body, super::Body::Whole(_));
    for piece in pieces {
        if !whole {
            tokio::time::sleep(request.gap).await;
        }
        if !piece.is_empty() {
            let bytes = if chunked { http1::chunk(piece) } else { piece.to_vec() };
            writer.write_all(&bytes).await?;
        }
    }
    if chunked {
        writer.write_all(&http1::last_chunk(&request.trailers)).await?;
    }
    Ok(())
}
