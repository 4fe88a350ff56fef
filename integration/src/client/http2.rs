//! One request on an HTTP/2 connection of its own.

use std::future::poll_fn;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpStream;

use super::{End, Request, Response};
use crate::{Headers, bytes, text};

/// Sends a request and reads its response.
pub(super) async fn exchange(request: &Request, port: u16, response: &mut Response) -> Result<End> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let mut sender = sender.ready().await?;
    let uri = format!("http://{}{}", request.authority, request.path);
    let mut head = http::Request::builder()
        .method(request.method.as_str())
        .uri(uri)
        .version(http::Version::HTTP_2)
        .body(())?;
    *head.headers_mut() = header_map(&request.headers)?;
    let pieces = request.body_pieces();
    let bare = pieces.is_empty() && request.trailers.is_empty();
    let (answer, body) = sender.send_request(head, bare)?;
    let run = async move {
        let result = async {
            let writing = async {
                if !bare {
                    // The peer may reset the stream while it is written: its answer tells.
                    drop(write(request, &pieces, body).await);
                }
            };
            let reading = async { read(answer.await?, response).await };
            let (end, ()) = tokio::join!(reading, writing);
            end
        };
        match result.await {
            Ok(end) => Ok(end),
            Err(error) => match error.reason() {
                Some(reason) if error.is_reset() => Ok(End::Reset(reason.to_string())),
                _ if error.is_io() || error.is_go_away() => Ok(End::Closed),
                _ => Err(anyhow::Error::new(error)),
            },
        }
    };
    // The connection is driven here, so that nothing outlives an aborted request.
    tokio::pin!(connection);
    tokio::pin!(run);
    tokio::select! {
        biased;
        end = &mut run => end,
        _ = &mut connection => run.await,
    }
}

async fn read(head: http::Response<RecvStream>, response: &mut Response) -> Result<End, h2::Error> {
    response.status = head.status().as_u16();
    response.headers = lines(head.headers());
    let mut body = head.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let _ = body.flow_control().release_capacity(piece.len());
        response.body.extend_from_slice(&piece);
    }
    response.trailers = body.trailers().await?.as_ref().map(lines).unwrap_or_default();
    Ok(End::Complete)
}

async fn write(request: &Request, pieces: &[&[u8]], mut to: SendStream<Bytes>) -> Result<()> {
    for (i, piece) in pieces.iter().enumerate() {
        if matches!(request.body, super::Body::Pieces(_)) {
            tokio::time::sleep(request.gap).await;
        }
        let last = i + 1 == pieces.len() && request.trailers.is_empty();
        send(&mut to, Bytes::copy_from_slice(piece), last).await?;
    }
    if !request.trailers.is_empty() {
        to.send_trailers(header_map(&request.trailers)?)?;
    }
    Ok(())
}

/// Sends bytes as far as the peer's window allows, waiting for more of it.
pub(crate) async fn send(to: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) -> Result<()> {
    while !bytes.is_empty() {
        to.reserve_capacity(bytes.len());
        let room = poll_fn(|cx| to.poll_capacity(cx)).await.context("the stream is closed")??;
        let piece = bytes.split_to(room.min(bytes.len()));
        to.send_data(piece, end && bytes.is_empty())?;
        if end && bytes.is_empty() {
            return Ok(());
        }
    }
    if end {
        to.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Header lines as a map.
pub(crate) fn header_map(lines: &[(String, String)]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes())
            .with_context(|| format!("no header name: {name}"))?;
        map.append(name, HeaderValue::from_bytes(&bytes(value))?);
    }
    Ok(map)
}

/// A map as header lines: names in the order in which each first came.
pub(crate) fn lines(map: &HeaderMap) -> Headers {
    map.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}
