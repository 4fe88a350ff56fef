//! What the processor is not to see.

use callout_common::{Direction, Reply};

use super::{Action, BodyMode, Machine, Modes, OverflowPolicy, Phase, Stat};

impl Machine {
    /// The processor is not asked about this exchange. Comes before anything of it.
    pub(crate) fn skip(&mut self) {
        self.finished = true;
    }

    /// The processor is not to see the body of `direction`. Comes before its headers; `true` when it
    /// would have seen it.
    pub(crate) fn skip_body(&mut self, direction: Direction) -> bool {
        let shown = !self.finished && self.modes.body(direction) != BodyMode::None;
        let [request, response] = &mut self.skipped;
        match direction {
            Direction::Request => *request = true,
            Direction::Response => *response = true,
        }
        self.modes = self.without_skipped(self.modes);
        shown
    }

    /// These modes without the bodies that the processor is not to see.
    pub(super) fn without_skipped(&self, modes: Modes) -> Modes {
        let [request, response] = self.skipped;
        let or_none = |skipped: bool, mode| if skipped { BodyMode::None } else { mode };
        Modes {
            request_body: or_none(request, modes.request_body),
            response_body: or_none(response, modes.response_body),
            ..modes
        }
    }

    /// What becomes of a body of so many bytes that the processor would have to see whole, when that
    /// is too long.
    pub(crate) fn is_too_long(
        &self,
        direction: Direction,
        length: usize,
    ) -> Option<OverflowPolicy> {
        let limit = self.settings.body_limit?;
        let whole = matches!(self.modes.body(direction), BodyMode::Buffered | BodyMode::Partial);
        let gathers = matches!(
            self.side(direction).phase,
            Phase::Start | Phase::Headers { .. } | Phase::Gather { .. }
        );
        (whole && gathers && !self.finished && length > limit.bytes).then_some(limit.over)
    }

    /// Refuses a body that is too long.
    pub(crate) fn reject_body(&mut self, direction: Direction) -> Vec<Action> {
        let (status, details) = match direction {
            Direction::Request => (413, "request_payload_too_large"),
            Direction::Response => (500, "response_payload_too_large"),
        };
        self.finished = true;
        vec![
            Action::Count(Stat::BodyRejected),
            Action::HalfClose,
            Action::Reply(Reply::new(status).details(details)),
        ]
    }
}
