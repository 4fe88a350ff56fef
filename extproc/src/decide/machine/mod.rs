//! The processing of one exchange as a state machine: pure, without clock, thread or host. Hooks,
//! answers and deadlines go in; actions come out, to be carried out in order.
//!
//! Each direction is in one of these phases, and moves so:
//!
//! ```text
//! Start -> Headers, Gather, Streaming, Duplex, UntilTrailers, Observed, Done
//! Headers -> Gather, Body, Streaming, Duplex, UntilTrailers, Trailers, Replaced, Replying, Done
//! Gather -> Body, UntilTrailers, Done
//! Body -> UntilTrailers, Trailers, Done
//! Streaming -> Trailers, Draining, Done
//! Duplex -> Draining, Done
//! UntilTrailers -> Trailers, Done
//! Trailers -> Done
//! Draining -> Done
//! Observed -> Done
//! ```
//!
//! `Replaced`, `Replying` and `Done` are final; what ends the processing leads to one of them from
//! anywhere. A test compares the drawing with what the machine does.

mod answer;
#[cfg(any(test, feature = "fuzzing"))]
mod drive;
mod duplex;
mod endings;
mod failure;
mod modes;
mod observe;
mod replying;
mod skipping;
mod streaming;
#[cfg(test)]
mod tests;
mod types;

use bytes::Bytes;
use callout_common::{Direction, StopMode};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use drive::drive;
use duplex::Duplex;
use endings::Ending;
pub(crate) use modes::{BodyMode, Modes};
use streaming::Pipe;
pub(crate) use types::{
    Action, BodyLimit, Cause, Chunking, Data, LengthRule, OnError, OutboundMessage, OverflowPolicy,
    Part, PieceStatus, RouteCache, Settings, Stat, Target,
};

/// What of a body came in while its headers were held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrived {
    some: bool,
    all: bool,
    trailers: bool,
    /// More than may be kept.
    over: bool,
    /// More than the processor is to see.
    skipped: bool,
}

/// How far one direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing came yet.
    Start,
    /// The headers are held, their answer is outstanding.
    Headers { end: bool, arrived: Arrived },
    /// The whole body has to come in; `held` once there is something to hold.
    Gather { held: bool },
    /// The body is held, its answer is outstanding. More of it may come when it is `partial`.
    Body { trailers: bool, partial: bool },
    /// The body goes piece by piece: see `streaming.rs`.
    Streaming,
    /// The body goes both ways at once: see `duplex.rs`.
    Duplex,
    /// Bytes of a body whose processing ended wait for the next piece.
    Draining,
    /// Headers and body pass; trailers may come that the processor wants to see.
    UntilTrailers,
    /// The trailers are held, their answer is outstanding.
    Trailers,
    /// The processor replaced the body; what the peer sends of it goes.
    Replaced,
    /// The processor answers the client: see `replying.rs`.
    Replying,
    /// Everything passes, and is shown.
    Observed,
    /// Everything passes.
    Done,
}

impl Phase {
    /// Whether an answer is outstanding.
    const fn outstanding(self) -> bool {
        matches!(self, Self::Headers { .. } | Self::Body { .. } | Self::Trailers)
    }

    const fn held(self) -> bool {
        self.outstanding() || matches!(self, Self::Gather { held: true })
    }
}

/// One direction.
#[derive(Debug)]
struct Side {
    phase: Phase,
    /// Number of the latest deadline; earlier ones are void.
    number: u64,
    /// The outstanding message got more time already.
    extended: bool,
    /// The headers went to the processor, so edits in a body answer still reach them.
    headers_sent: bool,
    /// An answer may have set a `content-length` that nobody has compared with the body.
    unchecked_length: bool,
    ending: Ending,
    pipe: Pipe,
    duplex: Duplex,
}

impl Side {
    const fn held(&self) -> bool {
        self.phase.held()
    }

    /// Whether an answer is outstanding.
    fn outstanding(&self) -> bool {
        match self.phase {
            Phase::Streaming => !self.pipe.sent.is_empty(),
            phase => phase.outstanding(),
        }
    }

    /// Whether the deadline `number` is that of something outstanding.
    fn waits_for(&self, number: u64) -> bool {
        match self.phase {
            Phase::Streaming => self.pipe.sent.front().is_some_and(|(oldest, _)| *oldest == number),
            Phase::Duplex => self.duplex.owes && self.number == number,
            Phase::Replying => self.number == number,
            phase => phase.outstanding() && self.number == number,
        }
    }
}

/// The exchange.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    modes: Modes,
    request: Side,
    response: Side,
    /// Bodies that the processor is not to see, of the request and of the response.
    skipped: [bool; 2],
    finished: bool,
}

const BOTH: [Direction; 2] = [Direction::Request, Direction::Response];

impl Machine {
    pub(crate) fn new(settings: Settings) -> Self {
        let side = || Side {
            phase: Phase::Start,
            number: 0,
            extended: false,
            headers_sent: false,
            unchecked_length: false,
            ending: Ending::default(),
            pipe: Pipe::default(),
            duplex: Duplex::default(),
        };
        let modes = settings.modes;
        Self {
            settings,
            modes,
            request: side(),
            response: side(),
            skipped: [false; 2],
            finished: false,
        }
    }

    /// The modes in force.
    pub(crate) const fn modes(&self) -> &Modes {
        &self.modes
    }

    /// Whether a body may come to go on before its end.
    pub(crate) fn may_stream(&self) -> bool {
        let streams = |mode| matches!(mode, BodyMode::Streamed | BodyMode::Duplex);
        self.settings.allow_mode_override
            || BOTH.into_iter().any(|direction| streams(self.modes.body(direction)))
    }

    /// What the processor may do to the `content-length` of `direction`.
    pub(crate) fn length_rule(&self, direction: Direction) -> LengthRule {
        match self.modes.body(direction) {
            BodyMode::None => LengthRule::Fixed,
            BodyMode::Buffered => LengthRule::Free,
            _ if self.settings.allow_content_length_header => LengthRule::Free,
            BodyMode::Partial | BodyMode::Streamed | BodyMode::Duplex => LengthRule::Dropped,
        }
    }

    /// Whether the length goes off the headers, because nobody knows what the body's will be.
    fn drops_length(&self, direction: Direction) -> bool {
        let unknown = match self.modes.body(direction) {
            BodyMode::None => false,
            BodyMode::Buffered => !self.modes.headers(direction),
            BodyMode::Partial | BodyMode::Streamed | BodyMode::Duplex => true,
        };
        unknown && !self.settings.allow_content_length_header
    }

    /// The headers go with the body that they came with, or without any.
    pub(super) fn restore_length(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.side_mut(direction).unchecked_length) {
            actions.push(Action::RestoreLength(direction));
        }
    }

    const fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    const fn side_mut(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    const fn enter(&mut self, direction: Direction, phase: Phase) {
        self.side_mut(direction).phase = phase;
    }

    fn send(&mut self, direction: Direction, what: OutboundMessage) -> Action {
        let within = match self.modes.body(direction) {
            _ if self.settings.observability => None,
            // There is no one answer to wait for, but a processor that falls silent.
            BodyMode::Duplex => self.settings.stall_timeout,
            _ => Some(self.settings.message_timeout),
        };
        let side = self.side_mut(direction);
        side.duplex.owes = true;
        side.number += 1;
        side.extended = false;
        Action::Send { direction, what, number: side.number, within }
    }

    /// How the body is held while the processor looks at something.
    const fn hold(&self, direction: Direction) -> PieceStatus {
        PieceStatus::Hold(match self.modes.body(direction) {
            BodyMode::Buffered => StopMode::Buffer,
            _ => StopMode::Watermark,
        })
    }

    /// The headers of `direction` came; `end` when nothing follows.
    pub(crate) fn headers(
        &mut self,
        direction: Direction,
        end: bool,
    ) -> (Vec<Action>, PieceStatus) {
        if self.finished {
            self.enter(direction, Phase::Done);
            return (Vec::new(), PieceStatus::Pass);
        }
        if self.settings.observability {
            return (self.observe_headers(direction, end), PieceStatus::Pass);
        }
        let mut actions = Vec::new();
        if !self.modes.headers(direction) && self.never_whole(direction) {
            self.refuse_endless(&mut actions);
            return (actions, self.hold(direction));
        }
        if self.modes.headers(direction) {
            let arrived =
                Arrived { some: false, all: false, trailers: false, over: false, skipped: false };
            self.enter(direction, Phase::Headers { end, arrived });
            self.side_mut(direction).headers_sent = true;
            actions.push(self.send(direction, OutboundMessage::Headers { end }));
        } else if end {
            self.enter(direction, Phase::Done);
        } else {
            let phase = match self.modes.body(direction) {
                BodyMode::None => self.after_body(direction),
                BodyMode::Buffered | BodyMode::Partial => Phase::Gather { held: false },
                BodyMode::Streamed => Phase::Streaming,
                BodyMode::Duplex => Phase::Duplex,
            };
            self.enter(direction, phase);
        }
        // The processor has been shown it; the body may change.
        if self.drops_length(direction) {
            actions.push(Action::DropContentLength(direction));
        }
        let held = self.side(direction).held();
        (actions, if held { self.hold(direction) } else { PieceStatus::Pass })
    }

    /// A piece of the body of `direction` came.
    pub(crate) fn data(
        &mut self,
        direction: Direction,
        data: Data<impl FnOnce() -> Bytes>,
    ) -> (Vec<Action>, PieceStatus) {
        let trailers = data.trailers;
        let (mut actions, stance) = self.piece(direction, data);
        if trailers && !self.finished {
            self.trailers_due(direction, &mut actions);
        }
        (actions, stance)
    }

    fn piece(
        &mut self,
        direction: Direction,
        data: Data<impl FnOnce() -> Bytes>,
    ) -> (Vec<Action>, PieceStatus) {
        let Data { end, trailers, total, limit, backlog, bytes } = data;
        let hold = self.hold(direction);
        if total == 0
            && !end
            && let Some(taken) = self.nothing(direction)
        {
            return taken;
        }
        if let Some(taken) = self.after_assumed_end(direction) {
            return taken;
        }
        let too_long = self.is_too_long(direction, total);
        if too_long == Some(OverflowPolicy::Reject) {
            return (self.reject_body(direction), hold);
        }
        let duplex = self.modes.body(direction) == BodyMode::Duplex;
        let early = self.modes.body(direction) == BodyMode::Streamed
            && self.settings.send_body_without_waiting;
        match self.side(direction).phase {
            Phase::Observed => {
                (self.observe_data(direction, end, bytes, backlog), PieceStatus::Pass)
            }
            Phase::Headers { .. } if early => {
                self.stream_data(direction, (end, trailers), bytes, (total, limit))
            }
            Phase::Duplex => self.duplex_data(direction, (end, trailers), bytes, backlog),
            Phase::Headers { .. } if duplex => {
                self.duplex_data(direction, (end, trailers), bytes, backlog)
            }
            Phase::Headers { end: _, arrived } => {
                // Over the limit of a body that is held whole Envoy answers itself.
                let whole = self.modes.body(direction) == BodyMode::Buffered;
                let over = limit > 0 && total > limit && !whole;
                let skipped = too_long.is_some();
                let arrived = Arrived { some: true, all: end, over, skipped, ..arrived };
                self.enter(direction, Phase::Headers { end: false, arrived });
                (Vec::new(), hold)
            }
            Phase::Gather { .. } if too_long.is_some() => {
                let next = if end { Phase::Done } else { self.after_body(direction) };
                self.enter(direction, next);
                let mut actions = vec![Action::Count(Stat::BodySkipped)];
                self.restore_length(direction, &mut actions);
                (actions, PieceStatus::Release)
            }
            Phase::Gather { .. } if end => {
                self.enter(direction, Phase::Body { trailers: false, partial: false });
                (vec![self.send(direction, OutboundMessage::Body { end: true })], hold)
            }
            Phase::Gather { .. } => {
                let partial = self.modes.body(direction) == BodyMode::Partial;
                if partial && limit > 0 && total > limit {
                    self.enter(direction, Phase::Body { trailers: false, partial: true });
                    return (
                        vec![self.send(direction, OutboundMessage::Body { end: false })],
                        hold,
                    );
                }
                self.enter(direction, Phase::Gather { held: true });
                (Vec::new(), hold)
            }
            Phase::Body { trailers, partial } => {
                self.enter(direction, Phase::Body { trailers, partial: partial && !end });
                (Vec::new(), hold)
            }
            Phase::Streaming => self.stream_data(direction, (end, trailers), bytes, (total, limit)),
            Phase::Draining => self.drain(direction),
            Phase::Trailers => (Vec::new(), hold),
            Phase::Replaced => (Vec::new(), PieceStatus::Discard),
            // Nothing of an answered request goes anywhere.
            Phase::Replying => (Vec::new(), hold),
            Phase::Start | Phase::UntilTrailers | Phase::Done => (Vec::new(), PieceStatus::Pass),
        }
    }

    /// A piece without bytes came, and is not the last: nothing to show of it, but a hook that holds.
    /// `None` where it is a chance for bytes that wait.
    fn nothing(&mut self, direction: Direction) -> Option<(Vec<Action>, PieceStatus)> {
        let hold = self.hold(direction);
        let mut actions = Vec::new();
        let side = self.side_mut(direction);
        let stance = match side.phase {
            Phase::Draining | Phase::Replaced | Phase::Replying => return None,
            Phase::Streaming if !side.pipe.waiting.is_empty() => return None,
            Phase::Streaming | Phase::Duplex if side.pipe.held => {
                PieceStatus::Hold(StopMode::NoBuffer)
            }
            Phase::Duplex if !side.pipe.ready.is_empty() => {
                side.pipe.held = true;
                actions.push(Action::Wakeup(direction));
                PieceStatus::Hold(StopMode::NoBuffer)
            }
            phase if phase.held() => hold,
            _ => PieceStatus::Pass,
        };
        Some((actions, stance))
    }

    /// The trailers of `direction` came; `bytes` is what Envoy keeps of the body.
    pub(crate) fn trailers(
        &mut self,
        direction: Direction,
        bytes: impl FnOnce() -> Bytes,
    ) -> (Vec<Action>, PieceStatus) {
        let hold = self.hold(direction);
        let duplex = self.modes.body(direction) == BodyMode::Duplex;
        let early = self.modes.body(direction) == BodyMode::Streamed
            && self.settings.send_body_without_waiting;
        if !self.trailers_are_news(direction) {
            let side = self.side(direction);
            let held = side.held() || (side.phase == Phase::Duplex && side.pipe.held);
            return (Vec::new(), if held { hold } else { PieceStatus::Pass });
        }
        match self.side(direction).phase {
            Phase::Observed => (self.observe_trailers(direction), PieceStatus::Pass),
            Phase::Headers { .. } if early && self.side(direction).pipe.held => {
                self.stream_trailers(direction, bytes)
            }
            Phase::Duplex => self.duplex_trailers(direction, bytes),
            Phase::Headers { .. } if duplex => self.duplex_trailers(direction, bytes),
            Phase::Headers { end, arrived } => {
                let arrived = Arrived { trailers: true, ..arrived };
                self.enter(direction, Phase::Headers { end, arrived });
                (Vec::new(), hold)
            }
            Phase::Gather { .. } => {
                self.enter(direction, Phase::Body { trailers: true, partial: false });
                (vec![self.send(direction, OutboundMessage::Body { end: false })], hold)
            }
            Phase::Body { .. } => {
                self.enter(direction, Phase::Body { trailers: true, partial: false });
                (Vec::new(), hold)
            }
            Phase::UntilTrailers => (vec![self.send_trailers(direction)], hold),
            Phase::Streaming => self.stream_trailers(direction, bytes),
            Phase::Draining => self.drain(direction),
            Phase::Trailers | Phase::Replying => (Vec::new(), hold),
            Phase::Start | Phase::Replaced | Phase::Done => (Vec::new(), PieceStatus::Pass),
        }
    }

    fn send_trailers(&mut self, direction: Direction) -> Action {
        self.enter(direction, Phase::Trailers);
        self.send(direction, OutboundMessage::Trailers)
    }

    /// Where a direction is once its body needs nothing more.
    const fn after_body(&self, direction: Direction) -> Phase {
        if self.modes.trailers(direction) { Phase::UntilTrailers } else { Phase::Done }
    }

    /// Ends the processing: what is held goes on as it is.
    fn finish(&mut self, actions: &mut Vec<Action>) {
        if !self.finished {
            self.finished = true;
            actions.push(Action::HalfClose);
        }
        for direction in BOTH {
            let side = self.side(direction);
            match side.phase {
                Phase::Start | Phase::Replaced | Phase::Draining | Phase::Replying => {}
                Phase::Streaming | Phase::Duplex => self.stream_finish(direction, actions),
                // Pieces went without waiting for the headers' answer.
                Phase::Headers { .. } if side.pipe.held => self.stream_finish(direction, actions),
                _ => {
                    if side.held() {
                        self.restore_length(direction, actions);
                        self.stream_rest(direction, actions);
                        actions.push(Action::Release(direction));
                    }
                    self.enter(direction, Phase::Done);
                }
            }
        }
    }
}
