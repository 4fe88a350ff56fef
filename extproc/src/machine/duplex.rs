//! `FULL_DUPLEX_STREAMED` bodies: everything goes to the processor at once, and what goes on is what
//! the processor sends, whenever it does.
//!
//! Envoy lets a held direction go on once for each hook that held it, so output that comes without
//! new input waits for the next piece; after the last piece it waits for the processor's own end.

use bytes::Bytes;
use callout_common::{Direction, Hold};
use callout_protos::envoy::service::ext_proc::v3::StreamedBodyResponse;

use super::{Action, BodyMode, Machine, Phase, Stance, What};

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
}

impl Machine {
    /// A piece came. With `backlog` the processor is too slow for more.
    pub(super) fn duplex_data(
        &mut self,
        direction: Direction,
        end: bool,
        piece: impl FnOnce() -> Bytes,
        backlog: bool,
    ) -> (Vec<Action>, Stance) {
        let side = self.side_mut(direction);
        side.pipe.ended = end;
        side.pipe.held = true;
        side.pipe.parked |= backlog;
        let nudge = !side.pipe.ready.is_empty() || side.duplex.done;
        let mut actions = Vec::new();
        let hold = if side.pipe.parked {
            Hold::Watermark
        } else {
            side.duplex.sent = true;
            actions.push(Action::TakeBody(direction));
            actions.push(self.send(direction, What::Piece { bytes: piece(), end }));
            Hold::Taken
        };
        if nudge {
            actions.push(Action::Nudge(direction));
        }
        (actions, Stance::Hold(hold))
    }

    /// The trailers came; `piece` is what Envoy still keeps of the body.
    pub(super) fn duplex_trailers(
        &mut self,
        direction: Direction,
        piece: impl FnOnce() -> Bytes,
    ) -> (Vec<Action>, Stance) {
        let side = self.side_mut(direction);
        (side.pipe.trailers, side.pipe.held) = (true, true);
        let mut actions = Vec::new();
        if std::mem::take(&mut side.pipe.parked) {
            actions.push(Action::TakeBody(direction));
            actions.push(self.send(direction, What::Piece { bytes: piece(), end: false }));
        }
        actions.push(self.send(direction, What::Trailers));
        (actions, Stance::Hold(Hold::Taken))
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
        }
        if !self.side(direction).pipe.over() {
            actions.push(Action::Release(direction));
            self.side_mut(direction).pipe.held = false;
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
        true
    }

    /// Lets go on what may.
    pub(super) fn duplex_pump(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let side = self.side_mut(direction);
        let last = side.pipe.ended && side.duplex.done;
        let some = !side.pipe.over() && !side.pipe.ready.is_empty();
        // What Envoy keeps for the processor would go along.
        if side.phase != Phase::Duplex || side.pipe.parked || !side.pipe.held || !(last || some) {
            return;
        }
        let ready = std::mem::take(&mut side.pipe.ready);
        side.pipe.held = false;
        actions.push(Action::AppendBody(direction, ready));
        actions.push(Action::Release(direction));
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
