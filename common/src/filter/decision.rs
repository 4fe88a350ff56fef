//! What a hook decides. A filter only *returns* these; `common` acts on them after the filter's
//! borrow has ended, because Envoy re-enters the filter from inside the calls that carry them out.

use crate::envoy::types::Direction;
use bytes::Bytes;

use crate::envoy::reply::{Reply, ReplyPart};

/// The answer of a request or response hook.
#[derive(Debug)]
pub enum HookStatus {
    /// Go on with the next filter. While the direction is held this means "still held": a hold
    /// opens only by [`HookStatus::Release`] or [`EventAction`].
    Continue,
    /// Hold this direction until [`EventAction`] or [`HookStatus::Release`].
    Pause(StopMode),
    /// Let what the direction was held with go on, and hold the piece at hand. Only from a body hook
    /// that is not the last: the end of the body would go at once.
    Flush(StopMode),
    /// End the hold of this direction from inside a later hook and let everything go on.
    Release,
    /// Change bodies, and then do the rest. The rest is left out when Envoy answers or ends the
    /// stream meanwhile: see [`BodyEdit`].
    Edit(Vec<BodyEdit>, Box<Self>),
    /// Answer the request here. Ends the stream for this filter.
    Reply(Reply),
    /// Reset the stream, with the details for the access log.
    Reset(&'static str),
}

/// How a direction is held. The choice is made at the headers and kept: mixing
/// [`StopMode::AllIteration`] with later body hooks would hang the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// No further hook of this direction runs until it resumes; the peer is back-pressured over the
    /// buffer limit. For filters that never look at the body while they wait.
    AllIteration,
    /// Headers: held, body hooks still run. Body: the piece joins Envoy's buffer and over the limit
    /// the request fails with 413 (the response with 500).
    Buffer,
    /// As [`StopMode::Buffer`], but over the limit the peer is back-pressured instead.
    Watermark,
    /// Body: the filter has taken the piece (copied and drained it); nothing joins the buffer.
    NoBuffer,
}

/// The answer to an event from work off the worker.
#[derive(Debug)]
pub enum EventAction {
    /// Nothing changes; a held direction stays held.
    Stay,
    /// Let the held request go on.
    Request,
    /// Let the held response go on.
    Response,
    /// Let both directions go on.
    Both,
    /// Change bodies, and then do the rest; as [`HookStatus::Edit`].
    Edit(Vec<BodyEdit>, Box<Self>),
    /// Answer the request here. Ends the stream for this filter.
    Reply(Reply),
    /// Answer the held request here, part by part: the first one begins with the headers, the last one
    /// ends the stream for this filter. In between no hook runs, only events do, and all but more
    /// parts resets the stream. No filter behind this one, nor its own hooks, sees the parts.
    Send(Vec<ReplyPart>),
    /// Reset the stream, with the details for the access log.
    Reset(&'static str),
}

/// A change of what Envoy has of a body.
///
/// It is a decision like the others, because Envoy may answer from inside it. Over the buffer limit a
/// request that is held with [`StopMode::Buffer`] gets 413, and a response gets 500 or, once its headers
/// have gone, is reset. The filter sees that as it sees any local reply: the hooks of the response
/// run, or the stream completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyEdit {
    /// Take the running hook's piece out, so that it goes nowhere. Only from a body hook.
    TakePiece(Direction),
    /// What Envoy keeps of the body becomes these bytes.
    Keep(Direction, Bytes),
    /// The stream's buffer limit becomes so many bytes, for both directions; 0 means none.
    Limit(u64),
}

impl HookStatus {
    /// This, after `edits`.
    #[must_use]
    pub fn after(self, edits: Vec<BodyEdit>) -> Self {
        if edits.is_empty() { self } else { Self::Edit(edits, Box::new(self)) }
    }
}

impl EventAction {
    /// The status of a hook that has decided without waiting: the reply, or on it goes.
    #[must_use]
    pub fn in_hook(self) -> HookStatus {
        match self {
            Self::Reply(reply) => HookStatus::Reply(reply),
            _ => HookStatus::Continue,
        }
    }

    /// This, after `edits`.
    #[must_use]
    pub fn after(self, edits: Vec<BodyEdit>) -> Self {
        if edits.is_empty() { self } else { Self::Edit(edits, Box::new(self)) }
    }
}
