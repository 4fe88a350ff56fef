//! The processing of one exchange as a state machine: pure, without clock, thread or host. Hooks,
//! answers and deadlines go in; actions come out, to be carried out in order.

mod answer;
mod failure;
mod modes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use callout_common::{Direction, Hold, Reply};
use callout_protos::envoy::service::ext_proc::v3::HeaderMutation;
use callout_protos::pbjson_types::{Any, Struct};

pub(crate) use modes::{BodyMode, Modes};

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
}

/// `route_cache_action`, and `disable_clear_route_cache`, which means to retain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteCache {
    Default,
    Clear,
    Retain,
}

/// A message to the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Headers { end: bool },
    Body { end: bool },
    Trailers,
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
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Send a message; its answer is due after `within`, and the deadline carries `number`.
    Send {
        direction: Direction,
        what: What,
        number: u64,
        within: Duration,
    },
    /// The outstanding message has `within` more from now; the deadline carries `number`.
    MoreTime {
        direction: Direction,
        number: u64,
        within: Duration,
    },
    /// Change headers or trailers. May fail: see [`Machine::rejected`].
    Edit {
        direction: Direction,
        target: Target,
        mutation: HeaderMutation,
    },
    /// Take the length off the headers: the body may change.
    DropContentLength(Direction),
    /// Replace the body that is held.
    ReplaceBody(Direction, Vec<u8>),
    /// Make sure that `content-length` is what the held body has. May fail.
    CheckLength(Direction),
    /// Make Envoy choose the route again.
    ClearRouteCache,
    /// Keep the metadata of an answer.
    Metadata {
        values: Option<Struct>,
        typed: HashMap<String, Any>,
    },
    Count(Stat),
    /// Let a held direction go on.
    Release(Direction),
    /// Answer the request.
    Reply(Reply),
    /// Answer the request as the processor says.
    Immediate(Box<callout_protos::envoy::service::ext_proc::v3::ImmediateResponse>),
    /// Nothing more goes to the processor.
    HalfClose,
}

/// What a hook tells Envoy about the piece at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    Pass,
    Hold(Hold),
    /// The piece was replaced by something else, and goes.
    Swallow,
}

/// What of a body came in while its headers were held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrived {
    some: bool,
    all: bool,
    trailers: bool,
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
    /// The body is held, its answer is outstanding.
    Body { trailers: bool },
    /// Headers and body pass; trailers may come that the processor wants to see.
    UntilTrailers,
    /// The trailers are held, their answer is outstanding.
    Trailers,
    /// The processor replaced the body; what the peer sends of it goes.
    Replaced,
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
#[derive(Debug, Clone, Copy)]
struct Side {
    phase: Phase,
    /// Number of the latest deadline; earlier ones are void.
    number: u64,
    /// The outstanding message got more time already.
    extended: bool,
    /// The headers went to the processor, so edits in a body answer still reach them.
    headers_sent: bool,
}

/// The exchange.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    modes: Modes,
    request: Side,
    response: Side,
    finished: bool,
}

const BOTH: [Direction; 2] = [Direction::Request, Direction::Response];

impl Machine {
    pub(crate) fn new(settings: Settings) -> Self {
        let side = Side { phase: Phase::Start, number: 0, extended: false, headers_sent: false };
        let modes = settings.modes;
        Self { settings, modes, request: side, response: side, finished: false }
    }

    /// The modes in force.
    pub(crate) const fn modes(&self) -> &Modes {
        &self.modes
    }

    /// Whether `content-length` is compared with the body before the headers of `direction` go.
    pub(crate) fn checks_length(&self, direction: Direction) -> bool {
        self.modes.body(direction) == BodyMode::Buffered && self.side(direction).headers_sent
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

    fn send(&mut self, direction: Direction, what: What) -> Action {
        let within = self.settings.message_timeout;
        let side = self.side_mut(direction);
        side.number += 1;
        side.extended = false;
        Action::Send { direction, what, number: side.number, within }
    }

    /// How the body is held while the processor looks at something.
    const fn hold(&self, direction: Direction) -> Stance {
        Stance::Hold(match self.modes.body(direction) {
            BodyMode::Buffered => Hold::Buffer,
            BodyMode::None => Hold::Watermark,
        })
    }

    /// The headers of `direction` came; `end` when nothing follows.
    pub(crate) fn headers(&mut self, direction: Direction, end: bool) -> (Vec<Action>, Stance) {
        if self.finished {
            self.enter(direction, Phase::Done);
            return (Vec::new(), Stance::Pass);
        }
        let buffered = self.modes.body(direction) == BodyMode::Buffered;
        if self.modes.headers(direction) {
            let arrived = Arrived { some: false, all: false, trailers: false };
            self.enter(direction, Phase::Headers { end, arrived });
            self.side_mut(direction).headers_sent = true;
            let send = self.send(direction, What::Headers { end });
            return (vec![send], self.hold(direction));
        }
        let mut actions = Vec::new();
        let phase = if end {
            Phase::Done
        } else if buffered {
            if !self.settings.allow_content_length_header {
                actions.push(Action::DropContentLength(direction));
            }
            Phase::Gather { held: false }
        } else {
            self.after_body(direction)
        };
        self.enter(direction, phase);
        (actions, Stance::Pass)
    }

    /// A piece of the body of `direction` came.
    pub(crate) fn data(&mut self, direction: Direction, end: bool) -> (Vec<Action>, Stance) {
        match self.side(direction).phase {
            Phase::Headers { end: _, arrived } => {
                let arrived = Arrived { some: true, all: end, ..arrived };
                self.enter(direction, Phase::Headers { end: false, arrived });
                (Vec::new(), self.hold(direction))
            }
            Phase::Gather { .. } if end => {
                self.enter(direction, Phase::Body { trailers: false });
                let send = self.send(direction, What::Body { end: true });
                (vec![send], Stance::Hold(Hold::Buffer))
            }
            Phase::Gather { .. } => {
                self.enter(direction, Phase::Gather { held: true });
                (Vec::new(), Stance::Hold(Hold::Buffer))
            }
            Phase::Body { .. } | Phase::Trailers => (Vec::new(), Stance::Hold(Hold::Buffer)),
            Phase::Replaced => (Vec::new(), Stance::Swallow),
            Phase::Start | Phase::UntilTrailers | Phase::Done => (Vec::new(), Stance::Pass),
        }
    }

    /// The trailers of `direction` came.
    pub(crate) fn trailers(&mut self, direction: Direction) -> (Vec<Action>, Stance) {
        match self.side(direction).phase {
            Phase::Headers { end, arrived } => {
                let arrived = Arrived { trailers: true, ..arrived };
                self.enter(direction, Phase::Headers { end, arrived });
                (Vec::new(), self.hold(direction))
            }
            Phase::Gather { .. } => {
                self.enter(direction, Phase::Body { trailers: true });
                let send = self.send(direction, What::Body { end: false });
                (vec![send], Stance::Hold(Hold::Buffer))
            }
            Phase::UntilTrailers => {
                let send = self.send_trailers(direction);
                (vec![send], Stance::Hold(Hold::Watermark))
            }
            Phase::Body { .. } | Phase::Trailers => (Vec::new(), Stance::Hold(Hold::Buffer)),
            Phase::Start | Phase::Replaced | Phase::Done => (Vec::new(), Stance::Pass),
        }
    }

    fn send_trailers(&mut self, direction: Direction) -> Action {
        self.enter(direction, Phase::Trailers);
        self.send(direction, What::Trailers)
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
            let phase = self.side(direction).phase;
            if phase.held() {
                actions.push(Action::Release(direction));
            }
            if !matches!(phase, Phase::Start | Phase::Replaced) {
                self.enter(direction, Phase::Done);
            }
        }
    }
}
