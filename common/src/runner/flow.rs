//! How far a stream has come.

use crate::envoy::types::Direction;
use crate::filter::decision::StopMode;

/// What a headers hook tells Envoy; the numbers are the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadersStatus {
    Continue = 0,
    StopIteration = 1,
    StopAllIterationAndWatermark = 4,
}

/// What a body hook tells Envoy; the numbers are the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyStatus {
    Continue = 0,
    StopIterationAndBuffer = 1,
    StopIterationAndWatermark = 2,
    StopIterationNoBuffer = 3,
}

/// What a trailers hook tells Envoy; the numbers are the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrailersStatus {
    Continue = 0,
    StopIteration = 1,
}

/// Whether Envoy would listen when a held response is let go on.
///
/// Up to 1.38 Envoy's filter for modules has one mark "goes on" for both directions. It sets the mark
/// when a call that lets a direction go on returns, and lets nothing go on while the mark is set;
/// each hook sets it anew. A response that comes, and is held, inside the call that lets the request
/// go on leaves no hook that could clear it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mark {
    /// It listens.
    #[default]
    Clear,
    /// It does not.
    Set,
    /// The hook that clears the mark is being called.
    Clearing,
}

/// How far the stream has come, as far as holds and ends go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    pub(super) request: Option<StopMode>,
    pub(super) response: Option<StopMode>,
    /// The request ended with its headers.
    pub(super) request_bodiless: bool,
    /// The request was let go, and waits for a filter in front that holds its end.
    pub(super) request_waits: bool,
    /// The request's headers went on to the upstream.
    pub(super) request_left: bool,
    /// There is a response, whoever made it.
    pub(super) response_began: bool,
    /// The response ended with its headers.
    pub(super) bodiless: bool,
    /// The response's headers went on to the client, so it is too late for a reply.
    pub(super) response_left: bool,
    /// The request is let go on: what runs now, runs inside that call.
    pub(super) resuming: bool,
    /// What became of a response that was held inside that call.
    pub(super) mark: Mark,
    /// The filter sends its answer part by part: its hooks run no more, its events do.
    pub(super) replying: bool,
    /// The filter answered, reset or panicked; nothing of it runs any more.
    pub(super) done: bool,
    /// Envoy ended the stream; nothing may be asked of the host any more.
    pub(super) ended: bool,
}

impl Flow {
    pub(super) const fn held(&self, direction: Direction) -> Option<StopMode> {
        match direction {
            Direction::Request => self.request,
            Direction::Response => self.response,
        }
    }

    pub(super) const fn left(&mut self, direction: Direction) {
        match direction {
            Direction::Request => self.request_left = true,
            Direction::Response => self.response_left = true,
        }
    }

    pub(super) const fn hold(&mut self, direction: Direction, hold: Option<StopMode>) {
        match direction {
            Direction::Request => self.request = hold,
            Direction::Response => self.response = hold,
        }
    }
}
