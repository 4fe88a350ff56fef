//! The messages of an answer, whatever carries it.

use bytes::Bytes;

use super::cluster::ClusterCall;
use super::error::{Broken, CallError};
use super::framing::Messages;
use super::http2::{Piece, Receiving};
use super::reply::{self, After};

/// What an answer comes by.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A connection of our own.
    Dialled(Receiving),
    /// A cluster of Envoy's.
    Cluster(ClusterCall),
}

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    /// `None` when what is left of it was taken.
    inbound: Option<Inbound>,
    messages: Messages,
    over: bool,
}

impl Inbound {
    pub(super) async fn next(&mut self) -> Result<Piece, Broken> {
        match self {
            Self::Dialled(answer) => Ok(answer.next().await?),
            Self::Cluster(call) => Ok(call.next().await?),
        }
    }
}

impl Answer {
    /// An answer with messages of up to `largest` bytes.
    pub(super) fn new(inbound: Inbound, largest: usize) -> Self {
        Self { inbound: Some(inbound), messages: Messages::new(largest), over: false }
    }

    /// The next message; `None` at the end, when the service ended the call with status OK. Nothing
    /// is lost when this is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(message) = self.messages.next()? {
                return Ok(Some(message));
            }
            if self.over {
                return Ok(None);
            }
            match self.piece().await? {
                Piece::Head(status, headers, ended) => {
                    self.over = reply::head(status, &headers, ended)? == After::Nothing;
                }
                Piece::Data(bytes) => self.messages.push(bytes),
                Piece::End(trailers) => {
                    reply::end(trailers.as_ref())?;
                    if self.messages.is_cut() {
                        return Err(CallError::Decode("the last message is cut".to_owned()).into());
                    }
                }
            }
        }
    }

    /// The one message of a unary call.
    pub(super) async fn only(&mut self) -> Result<Bytes, Broken> {
        let none = || CallError::Decode("there is no message".to_owned());
        let message = self.next().await?.ok_or_else(none)?;
        if self.next().await?.is_some() {
            return Err(CallError::Decode("there is more than one message".to_owned()).into());
        }
        Ok(message)
    }

    /// Takes what is left of it, if anything can still come.
    pub(super) fn rest(&mut self) -> Option<Inbound> {
        if std::mem::replace(&mut self.over, true) { None } else { self.inbound.take() }
    }

    async fn piece(&mut self) -> Result<Piece, Broken> {
        let Some(inbound) = &mut self.inbound else { return Ok(Piece::End(None)) };
        let piece = inbound.next().await;
        // Whatever failed, or ended, sends nothing more.
        self.over |= matches!(piece, Err(_) | Ok(Piece::End(_)));
        piece
    }
}
