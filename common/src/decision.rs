//! What a hook decides. A filter only *returns* these; `common` acts on them after the filter's
//! borrow has ended, because Envoy re-enters the filter from inside the calls that carry them out.

use crate::reply::{Reply, ReplyPart};

/// The answer of a request or response hook.
#[derive(Debug)]
pub enum Step {
    /// Go on with the next filter. While the direction is held this means "still held": a hold
    /// opens only by [`Step::Release`] or [`Resume`].
    Continue,
    /// Hold this direction until [`Resume`] or [`Step::Release`].
    Pause(Hold),
    /// Let what the direction was held with go on, and hold the piece at hand. Only from a body hook
    /// that is not the last: the end of the body would go at once.
    Flush(Hold),
    /// End the hold of this direction from inside a later hook and let everything go on.
    Release,
    /// Answer the request here. Ends the stream for this filter.
    Reply(Reply),
    /// Reset the stream, with the details for the access log.
    Reset(&'static str),
}

/// How a direction is held. The choice is made at the headers and kept: mixing
/// [`Hold::Everything`] with later body hooks would hang the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// No further hook of this direction runs until it resumes; the peer is back-pressured over the
    /// buffer limit. For filters that never look at the body while they wait.
    Everything,
    /// Headers: held, body hooks still run. Body: the piece joins Envoy's buffer and over the limit
    /// the request fails with 413 (the response with 500).
    Buffer,
    /// As [`Hold::Buffer`], but over the limit the peer is back-pressured instead.
    Watermark,
    /// Body: the filter has taken the piece (copied and drained it); nothing joins the buffer.
    Taken,
}

/// The answer to an event from work off the worker.
#[derive(Debug)]
pub enum Resume {
    /// Nothing changes; a held direction stays held.
    Stay,
    /// Let the held request go on.
    Request,
    /// Let the held response go on.
    Response,
    /// Let both directions go on.
    Both,
    /// Answer the request here. Ends the stream for this filter.
    Reply(Reply),
    /// Answer the held request here, part by part: the first one begins with the headers, the last one
    /// ends the stream for this filter. In between no hook runs, only events do, and all but more
    /// parts resets the stream. No filter behind this one, nor its own hooks, sees the parts.
    Send(Vec<ReplyPart>),
    /// Reset the stream, with the details for the access log.
    Reset(&'static str),
}

/// One of the two directions of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the upstream.
    Request,
    /// From the upstream to the client.
    Response,
}
