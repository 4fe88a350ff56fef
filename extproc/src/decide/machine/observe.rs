//! `observability_mode`: the processor is shown what passes; nothing waits for it.

use bytes::Bytes;
use callout_common::Direction;

use super::{Action, BodyMode, Machine, OutboundMessage, Phase, Stat};

impl Machine {
    pub(super) fn observe_headers(&mut self, direction: Direction, end: bool) -> Vec<Action> {
        self.enter(direction, Phase::Observed);
        if self.modes.headers(direction) {
            vec![self.send(direction, OutboundMessage::Headers { end })]
        } else {
            Vec::new()
        }
    }

    /// Bodies are shown in `STREAMED` mode alone, as by the built-in. What a slow processor can't
    /// take is left out, and counted.
    pub(super) fn observe_data(
        &mut self,
        direction: Direction,
        end: bool,
        piece: impl FnOnce() -> Bytes,
        backlog: bool,
    ) -> Vec<Action> {
        if self.finished || self.modes.body(direction) != BodyMode::Streamed {
            return Vec::new();
        }
        if backlog {
            return vec![Action::Count(Stat::ObservationDropped)];
        }
        vec![self.send(direction, OutboundMessage::Piece { bytes: piece(), end })]
    }

    pub(super) fn observe_trailers(&mut self, direction: Direction) -> Vec<Action> {
        if self.finished || !self.modes.trailers(direction) {
            return Vec::new();
        }
        vec![self.send(direction, OutboundMessage::Trailers)]
    }
}
