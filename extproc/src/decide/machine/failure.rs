//! What ends the processing before its time.

use callout_common::grpc::{CallError, Failure, FailureClass};
use callout_common::{Direction, Reply};

use super::{Action, Cause, Machine, Phase, Stat};

/// The details where an answer to the client ends before its end.
const CUT_SHORT: &str = "ext_proc_local_response_cut_short";

impl Machine {
    /// The processor closed the exchange, or it failed.
    pub(crate) fn closed(&mut self, result: Result<(), Failure>) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.finished {
            return actions;
        }
        match result {
            Ok(()) => {
                actions.push(Action::Count(Stat::ServerHalfClosed));
                actions.push(Action::Count(Stat::Closed));
                if self.replies() {
                    let status = self.settings.status_on_error;
                    self.fail(false, status, CUT_SHORT, Cause::InvalidAnswer, &mut actions);
                } else {
                    self.finish(&mut actions);
                }
            }
            Err(failure) => {
                actions.push(Action::Count(Stat::Failed));
                let open = self.settings.failure_mode_allow && failure.may_pass();
                let status = self.settings.status_on_error;
                self.fail(open, status, &details(&failure), cause_of(&failure), &mut actions);
            }
        }
        actions
    }

    /// The deadline `number` of `direction` passed.
    pub(crate) fn deadline(&mut self, direction: Direction, number: u64) -> Vec<Action> {
        if self.finished || !self.side(direction).waits_for(number) {
            return Vec::new();
        }
        let mut actions = vec![Action::Count(Stat::Timeout), Action::Count(Stat::Closed)];
        let details = "ext_proc_error_per-message_timeout_exceeded";
        let open = self.settings.failure_mode_allow;
        self.fail(open, 504, details, Cause::Timeout, &mut actions);
        actions
    }

    /// An edit could not be made, or would have broken the message. The failure mode does not cover
    /// that: the message may have been changed by half.
    pub(crate) fn rejected(&mut self, details: &str) -> Vec<Action> {
        let mut actions = vec![Action::Count(Stat::Closed)];
        let status = self.settings.status_on_error;
        self.fail(false, status, details, Cause::InvalidAnswer, &mut actions);
        actions
    }

    /// The processor can't be told what it should be (`on_unreadable_metadata`). The failure mode does
    /// not cover that.
    pub(crate) fn untold(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::Count(Stat::Closed)];
        let status = self.settings.status_on_error;
        let details = "ext_proc_error_unreadable_metadata";
        self.fail(false, status, details, Cause::Internal, &mut actions);
        actions
    }

    /// An answer makes the body longer than Envoy may buffer. Envoy's own words for that go out.
    pub(crate) fn too_long_an_answer(&mut self, direction: Direction) -> Vec<Action> {
        let (status, body, details) = match direction {
            Direction::Request => (413, "Payload Too Large", "request_payload_too_large"),
            Direction::Response => (500, "Internal Server Error", "response_payload_too_large"),
        };
        self.finished = true;
        let reply = Reply::new(status).body(body).details(details);
        vec![
            Action::Count(Stat::Closed),
            Action::Failed(Cause::InvalidAnswer),
            Action::HalfClose,
            Action::Reply(reply),
        ]
    }

    /// An answer came that nobody waited for.
    pub(super) fn spurious(&mut self, details: &str, actions: &mut Vec<Action>) {
        actions.push(Action::Count(Stat::Spurious));
        actions.push(Action::Count(Stat::Closed));
        let open = self.settings.failure_mode_allow;
        let status = self.settings.status_on_error;
        self.fail(open, status, details, Cause::InvalidAnswer, actions);
    }

    pub(super) fn fail(
        &mut self,
        open: bool,
        status: u16,
        details: &str,
        cause: Cause,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Failed(cause));
        // What went both ways at once has no original any more to let pass.
        let lost = |side: &super::Side| side.duplex.sent && side.phase != Phase::Done;
        let open = open && !self.replies();
        if open && !lost(&self.request) && !lost(&self.response) {
            actions.push(Action::Count(Stat::FailureModeAllowed));
            self.finish(actions);
        } else {
            self.finished = true;
            actions.push(Action::HalfClose);
            let reply = self.settings.on_error.get(&cause).cloned();
            let reply = reply.unwrap_or_else(|| Reply::new(status));
            actions.push(Action::Reply(reply.details(details)));
        }
    }
}

const fn cause_of(failure: &Failure) -> Cause {
    match failure.class() {
        FailureClass::Timeout => Cause::Timeout,
        FailureClass::Unavailable => Cause::Unavailable,
        FailureClass::Status(_) => Cause::Status,
        FailureClass::InvalidReply | FailureClass::ErrorResponse => Cause::InvalidAnswer,
        FailureClass::Overloaded | FailureClass::Internal => Cause::Internal,
    }
}

/// The details as the built-in writes them for its own client, which has no words of its own for a
/// connection that can't be made.
fn details(failure: &Failure) -> String {
    let (code, message) = match failure {
        Failure::Call(CallError::Status { code, message }) => (*code, message.clone()),
        Failure::Call(CallError::Connect(_)) => (13, String::new()),
        Failure::Call(CallError::Unreachable(message)) => (14, message.clone()),
        Failure::Call(CallError::Timeout) => (4, failure.to_string()),
        Failure::Call(CallError::TooLarge | CallError::Overload | CallError::Unread) => {
            (8, failure.to_string())
        }
        Failure::Call(
            CallError::NotSent | CallError::Reset(_) | CallError::BreakerOpen | CallError::TooMany,
        ) => (14, failure.to_string()),
        Failure::Call(CallError::Decode(_) | CallError::Internal(_)) | Failure::Lost => {
            (13, failure.to_string())
        }
    };
    let message: String = message
        .chars()
        .map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c })
        .collect();
    format!("ext_proc_error_gRPC_error_{code}{{{message}}}")
}
