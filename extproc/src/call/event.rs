//! What comes back to a stream from its exchange, and from its timers.

use callout_common::grpc::Failure;
use callout_common::{Direction, StreamContext};
use callout_protos::envoy::service::ext_proc::v3::ProcessingResponse;

/// What comes from the exchange, and from timers.
#[derive(Debug)]
pub enum Event {
    Answer(Box<ProcessingResponse>),
    Closed(Result<(), Failure>),
    Deadline {
        direction: Direction,
        number: u64,
    },
    Wakeup(Direction),
    /// Small pieces have waited long enough for others.
    Gathered(Direction),
    /// The exchange failed before any answer, and is begun again.
    Retried,
    /// The processor has caught up with what was sent to it.
    Room,
    /// What waited may go by now: another filter of the chain has taken its pieces out of Envoy's buffer, or
    /// the hook in which it could not go is over.
    Settle,
}

/// One stream of this filter, as a hook sees it.
pub(crate) type Context<'a> = StreamContext<'a, Event>;
