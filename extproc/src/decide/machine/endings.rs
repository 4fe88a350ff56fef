//! Bodies whose end does not come as it should.
//!
//! A filter that adds trailers while it hands on the last piece (a decompressor does) keeps the end to
//! itself: the piece is not the last, and when it is held, no hook tells of the trailers. They are
//! there to be seen, though. When nothing more comes for a while, the body counts as whole.
//!
//! What is upgraded has no end, so that a body that is to be shown whole is never shown.

use bytes::Bytes;
use callout_common::Direction;

use super::{Action, BodyMode, Cause, Machine, Phase, PieceStatus, Stat};

const ENDLESS: &str = "ext_proc_buffered_body_of_an_upgrade";
const MORE: &str = "ext_proc_body_after_its_end";

/// What is known of the end of one body.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// There are trailers, and their hook has not come.
    pub(super) due: bool,
    /// The body counts as whole, though its end has not been told.
    assumed: bool,
    /// It has no end.
    pub(super) endless: bool,
}

impl Machine {
    /// The message of `direction` is upgraded to what has no end. Comes before its headers.
    pub(crate) const fn upgraded(&mut self, direction: Direction) {
        self.side_mut(direction).ending.endless = true;
    }

    /// Whether the body would have to be shown whole, and has no end.
    pub(super) fn never_whole(&self, direction: Direction) -> bool {
        let whole = matches!(self.modes.body(direction), BodyMode::Buffered | BodyMode::Partial);
        self.side(direction).ending.endless && whole
    }

    /// Refuses what can't be shown. To let it pass would let a client choose not to be looked at.
    pub(super) fn refuse_endless(&mut self, actions: &mut Vec<Action>) {
        let status = self.settings.status_on_error;
        self.fail(false, status, ENDLESS, Cause::Internal, actions);
    }

    /// A piece came that is not the last, and there are trailers already.
    pub(super) fn trailers_due(&mut self, direction: Direction, actions: &mut Vec<Action>) {
        if self.waits_for_end(direction) {
            self.side_mut(direction).ending.due = true;
            // Again with each piece: what else comes has its time.
            actions.push(Action::Gather(direction, self.settings.message_timeout));
        }
    }

    /// Whether the processor is shown the end of the body, and it is held until then.
    fn waits_for_end(&self, direction: Direction) -> bool {
        let side = self.side(direction);
        match self.modes.body(direction) {
            BodyMode::Buffered | BodyMode::Partial => {
                matches!(side.phase, Phase::Headers { .. } | Phase::Gather { held: true })
            }
            BodyMode::Duplex => {
                matches!(side.phase, Phase::Headers { .. } | Phase::Duplex) && side.pipe.held
            }
            BodyMode::None | BodyMode::Streamed => false,
        }
    }

    /// The hook of the trailers came: `false` when they are known already.
    pub(super) const fn trailers_are_news(&mut self, direction: Direction) -> bool {
        let ending = &mut self.side_mut(direction).ending;
        ending.due = false;
        !ending.assumed
    }

    /// Nothing came for a while. `None` when no trailers are due.
    pub(super) fn assume_end(
        &mut self,
        direction: Direction,
        bytes: impl FnOnce() -> Bytes,
    ) -> Option<Vec<Action>> {
        let due = std::mem::take(&mut self.side_mut(direction).ending.due);
        if !due || self.finished || !self.waits_for_end(direction) {
            return None;
        }
        let (actions, _) = self.trailers(direction, bytes);
        self.side_mut(direction).ending.assumed = true;
        Some(actions)
    }

    /// A piece came. What comes after an end that was assumed has not been shown, and must not pass.
    pub(super) fn after_assumed_end(
        &mut self,
        direction: Direction,
    ) -> Option<(Vec<Action>, PieceStatus)> {
        if !self.side(direction).ending.assumed || self.finished {
            return None;
        }
        let mut actions = vec![Action::Count(Stat::Closed)];
        let status = self.settings.status_on_error;
        self.fail(false, status, MORE, Cause::Internal, &mut actions);
        Some((actions, self.hold(direction)))
    }
}
