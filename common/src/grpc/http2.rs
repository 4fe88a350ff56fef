//! HTTP/2 by the crate `h2`: one call on a connection. Needs neither a runtime nor a timer, so that it
//! runs wherever its connection is driven.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};

use super::stream_slots::StreamSlot;

/// Flow-control windows: what a service may send ahead.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Largest head or trailers of an answer, in bytes.
const MAX_HEADERS: u32 = 64 << 10;
/// Calls that were given up and are remembered, and for how long: what still comes for them is
/// dropped. What comes for others is answered by a reset each.
const REMEMBERED_RESETS: usize = 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// How every connection to a service is set up.
///
/// The library counts what it has to answer by a reset, such as an answer to a call that was given up
/// long ago, and takes many of these for an attack: it would end the connection, with every call on
/// it, to a service that did nothing wrong. Our clients leave as often as they like, so it does not
/// count.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        .max_local_error_reset_streams(None);
    builder
}

/// A part of an answer, in the order of arrival.
#[derive(Debug)]
pub(super) enum Piece {
    /// The status and the headers; `true` when nothing follows.
    Head(StatusCode, HeaderMap, bool),
    /// Bytes of the body.
    Data(Bytes),
    /// The end, with the trailers if there are any.
    End(Option<HeaderMap>),
}

/// The answer to a call. Dropping it before its end resets the call.
#[derive(Debug)]
pub(super) struct Receiving {
    // Dropped first: with it the call's place at the service is free.
    state: State,
    _slot: StreamSlot,
}

#[derive(Debug)]
enum State {
    Head(ResponseFuture),
    Body(RecvStream),
    Over,
}

/// The request side of a call that is not complete yet.
#[derive(Debug)]
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    /// What the service has not taken yet.
    rest: Bytes,
}

/// Sends a request whose body is `body`, all at once.
///
/// # Errors
/// Those of the connection.
pub(super) async fn ask(
    sender: SendRequest<Bytes>,
    slot: StreamSlot,
    head: Request<()>,
    body: Bytes,
) -> Result<Receiving, h2::Error> {
    let (answer, mut sending) = open(sender, slot, head).await?;
    // One frame with the end in it: servers count small frames that don't end their stream, and end a
    // connection on which they see too many.
    sending.stream.send_data(body, true)?;
    Ok(answer)
}

/// Begins a request whose body is still to come.
///
/// # Errors
/// Those of the connection.
pub(super) async fn open(
    sender: SendRequest<Bytes>,
    slot: StreamSlot,
    head: Request<()>,
) -> Result<(Receiving, Sending), h2::Error> {
    let (answer, sending) = sender.ready().await?.send_request(head, false)?;
    let sending = Sending { stream: sending, rest: Bytes::new() };
    Ok((Receiving { state: State::Head(answer), _slot: slot }, sending))
}

impl Sending {
    /// Puts bytes behind those that wait to be sent, of which there are none.
    pub(super) fn put(&mut self, bytes: Bytes) {
        self.rest = bytes;
    }

    /// Sends what waits as the service takes it; ready when all of it is on its way.
    ///
    /// # Errors
    /// Those of the connection; `None` when the service wants no more.
    pub(super) fn poll_sent(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Option<h2::Error>>> {
        while !self.rest.is_empty() {
            self.stream.reserve_capacity(self.rest.len());
            let mut room = self.stream.capacity();
            while room == 0 {
                room = ready!(self.stream.poll_capacity(cx)).ok_or(None)??;
            }
            let piece = self.rest.split_to(room.min(self.rest.len()));
            self.stream.send_data(piece, false)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the request. A call that is over needs no end.
    pub(super) fn finish(mut self) {
        let _ = self.stream.send_data(Bytes::new(), true);
    }
}

impl Receiving {
    /// The next part. Nothing is lost when this is dropped before it is ready.
    ///
    /// # Errors
    /// Those of the connection, and the service's reset.
    pub(super) async fn next(&mut self) -> Result<Piece, h2::Error> {
        match &mut self.state {
            State::Head(answer) => {
                let (head, body) = answer.await?.into_parts();
                let ended = body.is_end_stream();
                self.state = State::Body(body);
                Ok(Piece::Head(head.status, head.headers, ended))
            }
            State::Body(body) => match body.data().await {
                Some(piece) => {
                    let piece = piece?;
                    body.flow_control().release_capacity(piece.len())?;
                    Ok(Piece::Data(piece))
                }
                None => {
                    let trailers = body.trailers().await?;
                    self.state = State::Over;
                    Ok(Piece::End(trailers))
                }
            },
            State::Over => Ok(Piece::End(None)),
        }
    }
}
