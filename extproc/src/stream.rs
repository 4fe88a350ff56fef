//! One exchange: feeds hooks and answers to the machine.

use std::time::Instant;

use callout_common::grpc::{CallError, Failure};
use callout_common::{BodyEdit, Direction, EventAction, HookStatus, HttpStream};

use crate::apply::Outcome;
use crate::apply::body::Bodies;
use crate::apply::direction::{headers_of, of_direction, trailers_of};
use crate::apply::flush::left_behind;
use crate::apply::state::Stream;
use crate::call::event::{Context, Event};
use crate::decide::machine::{Action, Data, OverflowPolicy, PieceStatus};
use crate::decide::skip::has_type;
use crate::request::upgrade::is_upgraded;

impl Stream {
    fn hook(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        (actions, stance): (Vec<Action>, PieceStatus),
    ) -> HookStatus {
        let Outcome { reply, mut bodies, .. } = self.apply(cx, actions);
        if let Some(reply) = reply {
            return HookStatus::Reply(reply);
        }
        let status = self.status(cx, direction, stance, &mut bodies);
        let share = *of_direction(&mut self.shares, direction);
        let left = left_behind(cx, direction, &status, &bodies, share);
        self.keep_behind(direction, left, &status);
        if direction == Direction::Request && matches!(status, HookStatus::Flush(_)) {
            self.pass_router(cx, &mut bodies);
        }
        status.after(bodies.into_edits())
    }

    /// The headers of `direction` came.
    fn headers(&mut self, cx: &mut Context<'_>, direction: Direction, end: bool) -> HookStatus {
        if self.disabled() {
            return HookStatus::Continue;
        }
        if !std::mem::replace(&mut self.looked_at, true) {
            if cx.request().all().is_empty() {
                // Envoy could not read the request, and closes once the answer to that is out.
                self.machine.skip();
            } else if self.is_skipped(cx) {
                cx.count(self.filter.stats.skipped);
                self.outcome.skipped();
                self.machine.skip();
            }
        }
        if is_upgraded(cx, direction) {
            self.machine.upgraded(direction);
        }
        self.join_chain(cx, direction);
        self.look(cx, direction, true);
        self.upgraded |= upgrades(cx);
        if end {
            self.note_piece(cx, direction, true, false);
        }
        let headers = cx.headers(headers_of(direction));
        let length = headers.get_str("content-length").and_then(|length| length.parse().ok());
        let too_long = length.and_then(|length| self.machine.is_too_long(direction, length));
        if too_long == Some(OverflowPolicy::Reject) {
            let rejected = self.machine.reject_body(direction);
            return self.hook(cx, direction, (rejected, PieceStatus::Pass));
        }
        let unseen =
            !end && (too_long.is_some() || has_type(headers, &self.config().callout.skipped_types));
        if unseen && self.machine.skip_body(direction) {
            cx.count(self.filter.stats.body_skipped);
        }
        let taken = self.machine.headers(direction, end);
        self.hook(cx, direction, taken)
    }

    /// Whether the processor is not asked about the request.
    fn is_skipped(&self, cx: &Context<'_>) -> bool {
        let request = cx.request();
        let of = |name| request.get(name).unwrap_or_default();
        self.config().callout.skip.covers(of(":method"), of(":path"))
    }

    fn data(&mut self, cx: &mut Context<'_>, direction: Direction, end: bool) -> HookStatus {
        self.look(cx, direction, end);
        let limit = usize::try_from(cx.buffer_limit()).unwrap_or(usize::MAX);
        let share = *of_direction(&mut self.shares, direction);
        let trailers = !end && !cx.headers(trailers_of(direction)).all().is_empty();
        self.note_piece(cx, direction, end, trailers);
        let data = Data {
            end,
            trailers,
            total: Bodies::default().our_len(cx, direction, share),
            limit,
            backlog: self.session.as_ref().is_some_and(|session| session.backlog(limit)),
            bytes: || Bodies::default().our_body(cx, direction, share),
        };
        let taken = self.machine.data(direction, data);
        let status = self.hook(cx, direction, taken);
        self.note_held_end(cx, direction, holds(&status));
        status
    }

    fn trailers(&mut self, cx: &mut Context<'_>, direction: Direction) -> HookStatus {
        self.look(cx, direction, false);
        self.note_piece(cx, direction, true, false);
        let share = *of_direction(&mut self.shares, direction);
        let our_body = || Bodies::default().our_body(cx, direction, share);
        let taken = self.machine.trailers(direction, our_body);
        let status = self.hook(cx, direction, taken);
        self.note_held_end(cx, direction, holds(&status));
        status
    }

    /// The processor did not answer.
    fn record_timeout(&mut self, failure: &Failure) {
        self.filter.stats.service.ended(Some(failure));
        if let Some(permit) = &mut self.permit {
            permit.failed(Instant::now());
        }
    }

    /// The processor is there.
    fn spoke(&mut self) {
        self.filter.stats.service.ended(None);
        if let Some(permit) = &mut self.permit {
            permit.answered();
        }
    }

    /// What the end of the exchange says of the processor; nothing where this side ended it before.
    fn ended(&mut self, cx: &mut Context<'_>, result: &Result<(), Failure>) {
        if let Some(span) = self.span.take() {
            span.end(result.as_ref().err());
        }
        if let Err(failure) = result {
            tracing::debug!(cause = failure.cause(), "extproc: the exchange failed");
            cx.count_labelled(self.filter.stats.call_failed, failure.cause());
        }
        match result {
            _ if self.session.is_none() => {}
            Err(failure @ Failure::Call(error)) if error.is_silence() => {
                self.record_timeout(failure)
            }
            Ok(())
            | Err(Failure::Call(
                CallError::Status { .. } | CallError::Decode(_) | CallError::TooLarge,
            )) => self.spoke(),
            // Our own.
            Err(Failure::Call(_) | Failure::Lost) => {}
        }
    }

    fn resume(&mut self, cx: &mut Context<'_>, actions: Vec<Action>) -> EventAction {
        let mut outcome = self.apply(cx, actions);
        for direction in [Direction::Request, Direction::Response] {
            let goes = self.settle(cx, direction, &mut outcome.bodies);
            outcome.released(direction, goes);
            let share = *of_direction(&mut self.shares, direction);
            let stays = !outcome.goes(direction);
            let left = if stays { outcome.bodies.kept_len(cx, direction, share) } else { 0 };
            self.keep(direction, left);
        }
        let Outcome { request, response, reply, parts, mut bodies } = outcome;
        if request {
            self.note_held_end(cx, Direction::Request, false);
            self.pass_router(cx, &mut bodies);
        }
        if let Some(reply) = reply {
            return EventAction::Reply(reply);
        }
        let resume = match (request, response) {
            _ if !parts.is_empty() => EventAction::Send(parts),
            (true, true) => EventAction::Both,
            (true, false) => EventAction::Request,
            (false, true) => EventAction::Response,
            (false, false) => EventAction::Stay,
        };
        resume.after(bodies.into_edits())
    }
}

impl HttpStream for Stream {
    type Event = Event;

    const HOLDS_ENDS: bool = true;

    fn request_headers(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.note_marks(cx);
        self.headers(cx, Direction::Request, end)
    }

    fn request_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.data(cx, Direction::Request, end)
    }

    fn request_trailers(&mut self, cx: &mut Context<'_>) -> HookStatus {
        self.trailers(cx, Direction::Request)
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.headers(cx, Direction::Response, end)
    }

    fn response_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.data(cx, Direction::Response, end)
    }

    fn response_trailers(&mut self, cx: &mut Context<'_>) -> HookStatus {
        self.trailers(cx, Direction::Response)
    }

    fn resumed(&mut self, cx: &mut Context<'_>, direction: Direction) -> Option<BodyEdit> {
        self.look_again(cx, direction);
        if direction == Direction::Request { self.router_has_it(cx) } else { None }
    }

    fn event(&mut self, cx: &mut Context<'_>, event: Event) -> EventAction {
        self.look(cx, Direction::Request, false);
        self.look(cx, Direction::Response, false);
        let actions = match event {
            Event::Answer(answer) => {
                self.spoke();
                self.outcome.answered(cx, &self.filter.latencies, &answer);
                self.machine.answer(*answer)
            }
            Event::Deadline { direction, number } => {
                let actions = self.machine.deadline(direction, number);
                if !actions.is_empty() {
                    self.record_timeout(&Failure::Call(CallError::Timeout));
                }
                actions
            }
            Event::Wakeup(direction) => self.machine.woken(direction),
            Event::Gathered(direction) => {
                let share = *of_direction(&mut self.shares, direction);
                self.machine
                    .gathered(direction, || Bodies::default().our_body(cx, direction, share))
            }
            Event::Retried => {
                cx.count(self.filter.stats.retried);
                Vec::new()
            }
            Event::Room => self.machine.room(),
            Event::Settle => Vec::new(),
            Event::Closed(result) => {
                self.ended(cx, &result);
                self.machine.closed(result)
            }
        };
        self.resume(cx, actions)
    }

    fn lost(&mut self, cx: &mut Context<'_>) -> EventAction {
        self.look(cx, Direction::Request, false);
        self.look(cx, Direction::Response, false);
        let actions = self.machine.closed(Err(Failure::Lost));
        self.resume(cx, actions)
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        self.permit = None;
        self.member = None;
        // This side ended it, with nothing to complain about.
        if let Some(span) = self.span.take() {
            span.end(None);
        }
        if self.session.take().is_some() {
            cx.count(self.filter.stats.streams_closed);
        }
        if self.looked_at {
            self.outcome.record(cx);
        }
    }
}

/// Whether a hook that answers this keeps something back.
fn holds(status: &HookStatus) -> bool {
    match status {
        HookStatus::Pause(_) | HookStatus::Flush(_) => true,
        HookStatus::Edit(_, then) => holds(then),
        _ => false,
    }
}

/// Whether the connection is to become something else.
fn upgrades(cx: &Context<'_>) -> bool {
    cx.request().get("upgrade").is_some() || cx.request().get(":method") == Some(b"CONNECT")
}

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;
