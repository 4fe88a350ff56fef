//! `STREAMED` bodies: each piece is a message of its own, and goes on as its answer says.
//!
//! Envoy lets a held direction go on once for each hook that held it, and loses a body whose end is
//! let go early. So what is answered is kept until all that is outstanding is answered, or until
//! the next piece comes; at the end of the body it goes in one.

use std::collections::VecDeque;

use bytes::Bytes;
use callout_common::{Direction, StopMode};
use callout_protos::envoy::service::ext_proc::v3::CommonResponse;

use super::answer::replacement;
use super::{Action, BodyMode, Machine, OutboundMessage, Phase, PieceStatus};

/// The pieces of one body on their way.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Pieces without an answer, the oldest first, with the numbers of their deadlines.
    pub(super) sent: VecDeque<(u64, Bytes)>,
    /// What is answered, and may go.
    pub(super) ready: Vec<u8>,
    /// Taken from Envoy, and not sent: there was nothing left to hold it by.
    pub(super) waiting: Bytes,
    /// A hook holds the direction, so it can be let go on once.
    pub(super) held: bool,
    /// Envoy keeps pieces for us: too much is on its way, or they are too small to go alone.
    pub(super) parked: bool,
    /// It keeps them because they are small.
    gathering: bool,
    pub(super) ended: bool,
    pub(super) trailers: bool,
}

impl Pipe {
    fn in_flight(&self) -> usize {
        self.sent.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + self.ready.len()
    }

    pub(super) const fn over(&self) -> bool {
        self.ended || self.trailers
    }
}

impl Machine {
    fn send_piece(&mut self, direction: Direction, bytes: Bytes, end: bool) -> Action {
        let mut send = self.send(direction, OutboundMessage::Piece { bytes: bytes.clone(), end });
        let side = self.side_mut(direction);
        // Its time begins when it is the oldest; until then the deadline is that of another.
        let waits = side.phase == Phase::Streaming && !side.pipe.sent.is_empty();
        if let Action::Send { within, .. } = &mut send
            && waits
        {
            *within = None;
        }
        side.pipe.sent.push_back((side.number, bytes));
        send
    }

    /// A piece came; there are `total` bytes by now, and `limit` bounds what may be on its way.
    pub(super) fn stream_data(
        &mut self,
        direction: Direction,
        (end, trailers): (bool, bool),
        piece: impl FnOnce() -> Bytes,
        (total, limit): (usize, usize),
    ) -> (Vec<Action>, PieceStatus) {
        let mut actions = Vec::new();
        let chunking = self.settings.chunking.filter(|chunking| total < chunking.min_bytes && !end);
        let side = self.side_mut(direction);
        let pipe = &mut side.pipe;
        // What waits in front of it goes with it.
        let chunking = chunking.filter(|_| pipe.waiting.is_empty());
        pipe.ended = end;
        if chunking.is_none() && std::mem::take(&mut pipe.gathering) {
            pipe.parked = false;
        }
        let flush = pipe.held && !pipe.parked && !pipe.ready.is_empty() && !end && !trailers;
        let ready = if flush { std::mem::take(&mut pipe.ready) } else { Vec::new() };
        side.unchecked_length &= !flush;
        pipe.held = true;
        pipe.parked |= pipe.in_flight() >= limit && !pipe.sent.is_empty();
        if let Some(chunking) = chunking.filter(|_| !pipe.parked) {
            (pipe.parked, pipe.gathering) = (true, true);
            actions.push(Action::Gather(direction, chunking.max_delay));
        }
        if pipe.parked {
            if flush {
                actions.push(Action::AppendBody(direction, ready));
            }
            return (actions, stop(flush, StopMode::Watermark));
        }
        let bytes = join(std::mem::take(&mut pipe.waiting), piece());
        // First out, so that it does not go with what is flushed.
        actions.push(Action::TakeBody(direction));
        if flush {
            actions.push(Action::AppendBody(direction, ready));
        }
        actions.push(self.send_piece(direction, bytes, end));
        (actions, stop(flush, StopMode::NoBuffer))
    }

    /// The trailers came: the body has ended. `piece` is what Envoy still keeps of it.
    pub(super) fn stream_trailers(
        &mut self,
        direction: Direction,
        piece: impl FnOnce() -> Bytes,
    ) -> (Vec<Action>, PieceStatus) {
        let mut actions = Vec::new();
        let pipe = &mut self.side_mut(direction).pipe;
        pipe.trailers = true;
        let kept = if std::mem::take(&mut pipe.parked) {
            actions.push(Action::TakeBody(direction));
            piece()
        } else {
            Bytes::new()
        };
        let bytes = join(std::mem::take(&mut pipe.waiting), kept);
        let idle = pipe.sent.is_empty() && pipe.ready.is_empty() && bytes.is_empty();
        pipe.held = true;
        if !bytes.is_empty() {
            actions.push(self.send_piece(direction, bytes, false));
        }
        if !idle {
            return (actions, PieceStatus::Hold(StopMode::NoBuffer));
        }
        if self.modes.trailers(direction) {
            actions.push(self.send_trailers(direction));
            return (actions, PieceStatus::Hold(StopMode::NoBuffer));
        }
        self.enter(direction, Phase::Done);
        (actions, PieceStatus::Pass)
    }

    /// The answer to the oldest piece.
    pub(super) fn stream_answer(
        &mut self,
        direction: Direction,
        common: CommonResponse,
        actions: &mut Vec<Action>,
    ) {
        let pipe = &mut self.side_mut(direction).pipe;
        let Some((_, original)) = pipe.sent.pop_front() else { return };
        match common.body_mutation.and_then(replacement) {
            Some(bytes) => pipe.ready.extend_from_slice(&bytes),
            None => pipe.ready.extend_from_slice(&original),
        }
        self.restart_deadline(direction, actions);
        self.pump(direction, actions);
    }

    /// Each piece has the whole time from when it is the oldest: the processor takes them in turn.
    fn restart_deadline(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let within = self.settings.message_timeout;
        let side = self.side_mut(direction);
        if let Some((oldest, _)) = side.pipe.sent.front_mut() {
            side.number += 1;
            *oldest = side.number;
            actions.push(Action::MoreTime { direction, number: side.number, within });
        }
    }

    /// Lets go on what may.
    fn pump(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let pipe = &mut self.side_mut(direction).pipe;
        if !pipe.sent.is_empty() {
            return;
        }
        if pipe.parked {
            // The bytes come back through `stream_taken`.
            actions.push(Action::TakeParked(direction));
            return;
        }
        if !pipe.held {
            return;
        }
        if pipe.trailers && self.modes.trailers(direction) {
            actions.push(self.send_trailers(direction));
            return;
        }
        self.let_ready_go(direction, actions);
        if self.side(direction).pipe.over() {
            self.enter(direction, Phase::Done);
        }
    }

    /// Whether Envoy keeps pieces that the processor is yet to see.
    pub(crate) const fn is_parked(&self, direction: Direction) -> bool {
        self.side(direction).pipe.parked
    }

    /// What is answered goes, with the headers if they are still held.
    pub(super) fn let_ready_go(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let side = self.side_mut(direction);
        (side.pipe.held, side.unchecked_length) = (false, false);
        actions.push(Action::AppendBody(direction, std::mem::take(&mut side.pipe.ready)));
        actions.push(Action::Release(direction));
    }

    /// Small pieces, or output, have waited long enough for others, or the body for its end; `bytes` is what
    /// Envoy keeps of it.
    pub(crate) fn gathered(
        &mut self,
        direction: Direction,
        bytes: impl FnOnce() -> Bytes,
    ) -> Vec<Action> {
        if let Some(actions) = self.assume_end(direction, bytes) {
            return actions;
        }
        if self.side(direction).phase == Phase::Duplex {
            let mut actions = Vec::new();
            self.duplex_patience_ends(direction, &mut actions);
            return actions;
        }
        let waits = self.side(direction).phase == Phase::Streaming;
        let pipe = &mut self.side_mut(direction).pipe;
        // What is outstanding by now takes them along.
        if waits && pipe.gathering && pipe.sent.is_empty() {
            vec![Action::TakeParked(direction)]
        } else {
            Vec::new()
        }
    }

    /// The pieces that Envoy kept for us, now taken from it.
    pub(crate) fn stream_taken(&mut self, direction: Direction, bytes: Bytes) -> Vec<Action> {
        let mut actions = Vec::new();
        let duplex = self.modes.body(direction) == BodyMode::Duplex;
        let pipe = &mut self.side_mut(direction).pipe;
        (pipe.parked, pipe.gathering) = (false, false);
        if duplex {
            return self.duplex_taken(direction, bytes);
        }
        let end = pipe.ended;
        if !pipe.over() && pipe.held && !pipe.ready.is_empty() {
            // This spends the hold; the bytes go with the next piece, which has to come.
            pipe.waiting = bytes;
            self.let_ready_go(direction, &mut actions);
        } else {
            actions.push(self.send_piece(direction, bytes, end));
        }
        actions
    }

    /// The headers' answer came: what gathered behind them is the first piece, and the headers go
    /// with its answer; without any they go at once.
    pub(super) fn stream_from_headers(
        &mut self,
        direction: Direction,
        gathered: bool,
        actions: &mut Vec<Action>,
    ) {
        self.enter(direction, Phase::Streaming);
        if self.side(direction).pipe.held {
            // Pieces went without waiting: the headers go with their answers.
            self.restart_deadline(direction, actions);
            self.pump(direction, actions);
        } else if gathered {
            let pipe = &mut self.side_mut(direction).pipe;
            (pipe.held, pipe.parked) = (true, true);
            actions.push(Action::TakeParked(direction));
        } else {
            self.side_mut(direction).unchecked_length = false;
            actions.push(Action::Release(direction));
        }
    }

    /// The trailers' answer came: what is left of the body goes before them.
    pub(super) fn stream_rest(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        let ready = std::mem::take(&mut self.side_mut(direction).pipe.ready);
        if !ready.is_empty() {
            actions.push(Action::AppendBody(direction, ready));
        }
    }

    /// The processing ends before the body does: everything goes on as it came.
    pub(super) fn stream_finish(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        self.restore_length(direction, actions);
        let pipe = std::mem::take(&mut self.side_mut(direction).pipe);
        let mut bytes = pipe.ready;
        for (_, original) in pipe.sent {
            bytes.extend_from_slice(&original);
        }
        bytes.extend_from_slice(&pipe.waiting);
        if pipe.held {
            actions.push(Action::PrependBody(direction, bytes));
            actions.push(Action::Release(direction));
            self.enter(direction, Phase::Done);
        } else if bytes.is_empty() {
            self.enter(direction, Phase::Done);
        } else {
            // Nothing holds the direction: the next piece brings the chance.
            self.side_mut(direction).pipe.waiting = bytes.into();
            self.enter(direction, Phase::Draining);
        }
    }

    /// A piece came while bytes before it wait for their chance: it goes with them, in an event of
    /// its own.
    pub(super) fn drain(&mut self, direction: Direction) -> (Vec<Action>, PieceStatus) {
        let waiting = std::mem::take(&mut self.side_mut(direction).pipe.waiting);
        let actions =
            vec![Action::PrependBody(direction, waiting.into()), Action::Wakeup(direction)];
        (actions, PieceStatus::Hold(StopMode::Watermark))
    }

    /// The event of its own.
    pub(crate) fn woken(&mut self, direction: Direction) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.side(direction).phase {
            Phase::Draining => {
                self.enter(direction, Phase::Done);
                actions.push(Action::Release(direction));
            }
            Phase::Duplex => {
                self.duplex_pump(direction, &mut actions);
                self.be_patient(direction, &mut actions);
            }
            _ => {}
        }
        actions
    }
}

pub(super) const fn stop(flush: bool, hold: StopMode) -> PieceStatus {
    if flush { PieceStatus::Flush(hold) } else { PieceStatus::Hold(hold) }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    [first, second].concat().into()
}
