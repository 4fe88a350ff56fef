//! `FULL_DUPLEX_STREAMED` bodies: everything goes to the processor at once, and what goes on is what
//! the processor sends, whenever it does.
//!
//! Envoy lets a held direction go on once for each hook that held it. So the chance is spent when every
//! piece has got its output, or when no other comes for a while; while the headers' answer leaves pieces
//! without output, the headers wait for it, and go with it. Output that comes without new input
//! waits for the next piece, and goes inside that hook; after the last piece it waits for the
//! processor's own end.

use bytes::Bytes;
use callout_common::{Direction, StopMode};
use callout_protos::envoy::service::ext_proc::v3::StreamedBodyResponse;

use super::streaming::stop;
use super::{Action, BodyMode, Machine, OutboundMessage, Phase, PieceStatus};

/// Most output that may wait for its chance, in bytes.
const MOST_WAITING: usize = 64 << 20;

/// What a body in both directions at once needs to know beside its pipe.
#[derive(Debug, Default)]
pub(super) struct Duplex {
    /// Some of the body went to the processor: the original is gone.
    pub(super) sent: bool,
    /// The processor's output is complete.
    done: bool,
    /// Something was sent, and nothing came since.
    pub(super) owes: bool,
    /// Pieces that have got no output yet, as far as each gets one.
    unanswered: usize,
    /// A timer runs: until then output waits for that of other pieces.
    patient: bool,
}

impl Machine {
    /// A piece came. With `backlog` the processor is too slow for more.
    pub(super) fn duplex_data(
        &mut self,
        direction: Direction,
        (end, trailers): (bool, bool),
        piece: impl FnOnce() -> Bytes,
        backlog: bool,
    ) -> (Vec<Action>, PieceStatus) {
        let side = self.side_mut(direction);
        let pipe = &mut side.pipe;
        // With what Envoy keeps for the processor, or at the end, the rest would go along.
        let flush = pipe.held && !pipe.parked && !pipe.ready.is_empty() && !end && !trailers;
        let ready = if flush { std::mem::take(&mut pipe.ready) } else { Vec::new() };
        side.unchecked_length &= !flush;
        (pipe.ended, pipe.held) = (end, true);
        pipe.parked |= backlog;
        let parked = pipe.parked;
        let mut actions = Vec::new();
        if !parked {
            // First out, so that it does not go with what is flushed.
            actions.push(Action::TakeBody(direction));
        }
        if flush {
            actions.push(Action::AppendBody(direction, ready));
        }
        if !parked {
            actions.push(self.duplex_piece(direction, piece(), end));
        }
        if self.side(direction).duplex.done {
            actions.push(Action::Wakeup(direction));
        }
        self.be_patient(direction, &mut actions);
        (actions, stop(flush, if parked { StopMode::Watermark } else { StopMode::NoBuffer }))
    }

    fn duplex_piece(&mut self, direction: Direction, bytes: Bytes, end: bool) -> Action {
        let duplex = &mut self.side_mut(direction).duplex;
        duplex.sent = true;
        duplex.unanswered += 1;
        self.send(direction, OutboundMessage::Piece { bytes, end })
    }

    /// Output that could go waits for that of other pieces, which would have no chance of its own; but
    /// not for ever: a processor need not have output for each.
    pub(super) fn be_patient(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let most = self.settings.message_timeout;
        let side = self.side_mut(direction);
        let waits = side.pipe.held && !side.pipe.ready.is_empty() && !side.pipe.over();
        if waits && !std::mem::replace(&mut side.duplex.patient, true) {
            actions.push(Action::Gather(direction, most));
        }
    }

    /// No other output came for a while: what there is goes.
    pub(super) fn duplex_patience_ends(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let duplex = &mut self.side_mut(direction).duplex;
        (duplex.patient, duplex.unanswered) = (false, 0);
        self.duplex_pump(direction, actions);
    }

    /// The trailers came; `piece` is what Envoy still keeps of the body.
    pub(super) fn duplex_trailers(
        &mut self,
        direction: Direction,
        piece: impl FnOnce() -> Bytes,
    ) -> (Vec<Action>, PieceStatus) {
        let side = self.side_mut(direction);
        (side.pipe.trailers, side.pipe.held) = (true, true);
        let mut actions = Vec::new();
        if std::mem::take(&mut side.pipe.parked) {
            actions.push(Action::TakeBody(direction));
            actions.push(self.duplex_piece(direction, piece(), false));
        }
        actions.push(self.send(direction, OutboundMessage::Trailers));
        (actions, PieceStatus::Hold(StopMode::NoBuffer))
    }

    /// The headers' answer came; `gathered` when Envoy keeps what came behind them.
    pub(super) fn duplex_from_headers(
        &mut self,
        direction: Direction,
        gathered: bool,
        actions: &mut Vec<Action>,
    ) {
        self.enter(direction, Phase::Duplex);
        let side = self.side_mut(direction);
        // What went without waiting has no answer yet.
        side.duplex.owes = side.duplex.sent || side.pipe.over();
        let pipe = &mut side.pipe;
        pipe.held = true;
        pipe.parked |= gathered;
        if pipe.parked {
            // The headers must not take along what the processor has not seen.
            actions.push(Action::TakeParked(direction));
        } else if !pipe.over() && !side.ending.due && side.duplex.unanswered == 0 {
            self.let_ready_go(direction, actions);
        }
    }

    /// A piece of the processor's output. `false` when its output was complete already.
    pub(super) fn duplex_answer(
        &mut self,
        direction: Direction,
        output: StreamedBodyResponse,
        actions: &mut Vec<Action>,
    ) -> bool {
        let side = self.side_mut(direction);
        if side.duplex.done || side.pipe.ready.len() > MOST_WAITING {
            return false;
        }
        side.pipe.ready.extend_from_slice(&output.body);
        side.duplex.unanswered = side.duplex.unanswered.saturating_sub(1);
        side.duplex.done = output.end_of_stream || output.end_of_stream_without_message;
        // With all of the input it owes the rest of its output, and the trailers.
        side.duplex.owes = side.pipe.trailers || (side.pipe.ended && !side.duplex.done);
        if side.duplex.owes {
            side.number += 1;
            let number = side.number;
            let stall = self.settings.stall_timeout;
            actions.extend(stall.map(|within| Action::MoreTime { direction, number, within }));
        }
        self.duplex_pump(direction, actions);
        self.be_patient(direction, actions);
        true
    }

    /// What Envoy kept for the processor is taken from it now.
    pub(super) fn duplex_taken(&mut self, direction: Direction, bytes: Bytes) -> Vec<Action> {
        let pipe = &self.side(direction).pipe;
        let (end, trailers) = (pipe.ended, pipe.trailers);
        let mut actions = vec![self.duplex_piece(direction, bytes, end)];
        if trailers {
            actions.push(self.send(direction, OutboundMessage::Trailers));
        }
        self.duplex_pump(direction, &mut actions);
        actions
    }

    /// Lets go on what may.
    pub(super) fn duplex_pump(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let side = self.side_mut(direction);
        let last = side.pipe.ended && side.duplex.done;
        let all = side.duplex.unanswered == 0 || side.duplex.done;
        // With trailers that are there the end would go.
        let open = !side.pipe.over() && !side.ending.due;
        let some = all && open && !side.pipe.ready.is_empty();
        // What Envoy keeps for the processor would go along.
        if side.phase != Phase::Duplex || side.pipe.parked || !side.pipe.held || !(last || some) {
            return;
        }
        self.let_ready_go(direction, actions);
        if last {
            self.enter(direction, Phase::Done);
        }
    }

    /// The processor has caught up: what Envoy kept for it may go.
    pub(crate) fn room(&mut self) -> Vec<Action> {
        let waits = |direction: &Direction| {
            !self.finished
                && self.modes.body(*direction) == BodyMode::Duplex
                && self.side(*direction).pipe.parked
        };
        super::BOTH.into_iter().filter(waits).map(Action::TakeParked).collect()
    }
}
