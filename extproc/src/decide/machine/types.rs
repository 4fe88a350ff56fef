//! What goes into the machine, and what comes out of it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use callout_common::{Direction, Reply, StopMode};
use callout_protos::envoy::service::ext_proc::v3::{
    HeaderMutation, ImmediateResponse, streamed_immediate_response,
};
use callout_protos::pbjson_types::{Any, Struct};

use super::Modes;

/// What the configuration says about the exchange.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) modes: Modes,
    pub(crate) failure_mode_allow: bool,
    pub(crate) status_on_error: u16,
    pub(crate) message_timeout: Duration,
    /// `max_message_timeout`; zero allows no override.
    pub(crate) max_message_timeout: Duration,
    pub(crate) allow_mode_override: bool,
    pub(crate) allowed_override_modes: Vec<Modes>,
    pub(crate) disable_immediate_response: bool,
    pub(crate) route_cache: RouteCache,
    pub(crate) allow_content_length_header: bool,
    /// `observability_mode`: everything is shown, nothing held, and answers are passed over.
    pub(crate) observability: bool,
    /// `send_body_without_waiting_for_header_response`, for `STREAMED` bodies.
    pub(crate) send_body_without_waiting: bool,
    pub(crate) body_limit: Option<BodyLimit>,
    /// The longest silence of a processor that answers as it likes.
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) on_error: OnError,
    pub(crate) chunking: Option<Chunking>,
}

/// The most that is gathered of a `BUFFERED` or `BUFFERED_PARTIAL` body.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BodyLimit {
    /// Bytes that are gathered.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    pub(crate) bytes: usize,
    /// What becomes of a longer body.
    pub(crate) over: OverflowPolicy,
}

/// What becomes of a body that is over its limit.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverflowPolicy {
    /// It passes, and the processor does not see it.
    Skip,
    /// The request is answered with 413, a response is replaced by 500.
    Reject,
}

/// How small pieces of a `STREAMED` body are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunking {
    pub(crate) min_bytes: usize,
    pub(crate) max_delay: Duration,
}

/// Replies to failures by their cause; what is not there is answered as the built-in does.
pub(crate) type OnError = BTreeMap<Cause, Reply>;

/// Why the processing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// No answer in time.
    Timeout,
    /// No connection, or it broke; or nobody was asked, because of the breaker or `max_streams`.
    Unavailable,
    /// A gRPC status other than OK.
    Status,
    /// An answer that can't be decoded, was not expected, or asks for what may not be.
    InvalidAnswer,
    /// A failure of this module.
    Internal,
}

impl Cause {
    /// Its name in configurations and outcomes.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Status => "status",
            Self::InvalidAnswer => "invalid_answer",
            Self::Internal => "internal",
        }
    }

    /// The gRPC status that stands for it.
    pub(crate) const fn grpc_status(self) -> u32 {
        match self {
            Self::Timeout => 4,
            Self::Unavailable => 14,
            Self::Status => 2,
            Self::InvalidAnswer | Self::Internal => 13,
        }
    }
}

/// `route_cache_action`, and `disable_clear_route_cache`, which means to retain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteCache {
    Default,
    Clear,
    Retain,
}

/// A message to the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutboundMessage {
    Headers {
        end: bool,
    },
    /// All of the body that is there.
    Body {
        end: bool,
    },
    /// One piece of a streamed body.
    Piece {
        bytes: Bytes,
        end: bool,
    },
    Trailers,
}

/// A piece of a body, as a hook has it.
#[derive(Debug)]
pub(crate) struct Data<F> {
    /// It is the last, and no trailers follow.
    pub(crate) end: bool,
    /// It is not the last, and there are trailers already.
    pub(crate) trailers: bool,
    /// Bytes that are there by now, this piece included.
    pub(crate) total: usize,
    /// Bytes that may be kept.
    pub(crate) limit: usize,
    /// The processor is too slow for what was sent already.
    pub(crate) backlog: bool,
    /// The bytes that are there by now.
    pub(crate) bytes: F,
}

/// What a processor may do to `content-length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LengthRule {
    /// Set it: it is compared with the body or put back, or the configuration allows it.
    Free,
    /// Leave it.
    Fixed,
    /// It is taken off.
    Dropped,
}

/// Which map an edit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `replaces` when the answer replaces the whole message, and so may change the method.
    Headers {
        replaces: bool,
    },
    Trailers,
}

/// A statistic of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stat {
    Received,
    Spurious,
    Closed,
    Failed,
    FailureModeAllowed,
    Timeout,
    MoreTime,
    MoreTimeIgnored,
    ClearRouteIgnored,
    ClearRouteDisabled,
    ServerHalfClosed,
    ObservationDropped,
    BodySkipped,
    BodyRejected,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Send a message; its answer is due after `within`, if at all, and the deadline carries
    /// `number`.
    Send {
        direction: Direction,
        what: OutboundMessage,
        number: u64,
        within: Option<Duration>,
    },
    /// The outstanding message has `within` more from now; the deadline carries `number`.
    MoreTime {
        direction: Direction,
        number: u64,
        within: Duration,
    },
    /// Change headers or trailers. May fail: see [`super::Machine::rejected`].
    Edit {
        direction: Direction,
        target: Target,
        mutation: HeaderMutation,
    },
    /// Take the length off the headers: the body may change.
    DropContentLength(Direction),
    /// Replace what of the held body was sent.
    ReplaceBody(Direction, Vec<u8>),
    /// The whole body is these bytes. May fail: see [`super::Machine::too_long_an_answer`].
    PutBody(Direction, Vec<u8>),
    /// Take the hook's piece, and what Envoy keeps of the body, out of it.
    TakeBody(Direction),
    /// Take what Envoy keeps of the body out of it: see [`super::Machine::stream_taken`].
    TakeParked(Direction),
    /// Put bytes after what Envoy keeps of the body.
    AppendBody(Direction, Vec<u8>),
    /// Put bytes before what Envoy keeps of the body.
    PrependBody(Direction, Vec<u8>),
    /// Come back in an event: see [`super::Machine::woken`].
    Wakeup(Direction),
    /// Make sure that `content-length` is what the held body has. May fail.
    CheckLength(Direction),
    /// Put back the `content-length` that the message came with, where it is another by now.
    RestoreLength(Direction),
    /// Make Envoy choose the route again.
    ClearRouteCache,
    /// Keep the metadata of an answer.
    Metadata {
        values: Option<Struct>,
        typed: HashMap<String, Any>,
    },
    Count(Stat),
    /// The processing failed.
    Failed(Cause),
    /// Come back after so long: see [`super::Machine::gathered`].
    Gather(Direction, Duration),
    /// Let a held direction go on.
    Release(Direction),
    /// Answer the request.
    Reply(Reply),
    /// Answer the request as the processor says.
    Immediate(Box<ImmediateResponse>),
    /// Answer the request part by part. May fail: see [`super::Machine::rejected`].
    Part(Box<Part>),
    /// Nothing more goes to the processor.
    HalfClose,
}

/// A part of a `StreamedImmediateResponse`.
pub(crate) type Part = streamed_immediate_response::Response;

/// What a hook tells Envoy about the piece at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PieceStatus {
    Pass,
    Hold(StopMode),
    /// What is appended goes, and the piece at hand is held.
    Flush(StopMode),
    /// What was held goes, and the piece at hand with it.
    Release,
    /// The piece was replaced by something else, and goes.
    Discard,
}
