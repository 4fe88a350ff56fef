//! One request: the hooks that Envoy calls and the event that an answer is, in order.

mod check;
mod view;

use callout_common::grpc::Failure;
use callout_common::{BodyEdit, Direction, EventAction, HookStatus, HttpStream, StopMode};

use crate::apply::headers;
use crate::apply::state::{State, Stream};
use crate::call::check_call::{CheckResult, Context};
use crate::config::Route;
use crate::decide::verdict::{Verdict, invalid};
use crate::request::{Awaited, awaited};

impl HttpStream for Stream {
    type Event = CheckResult;

    fn request_headers(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        // A request without a route is answered with 404 by the router; there is nothing to allow.
        if matches!(self.route.as_deref(), Some(Route::Disabled)) || !cx.has_route() {
            return HookStatus::Continue;
        }
        if !self.enabled(cx) {
            return self.switched_off(cx);
        }
        if self.authz.unreadable.refuses(cx.unread()) {
            self.authz.unreadable.count(cx);
            return self.refuse_unreadable(cx);
        }
        match (self.body_limits(), awaited(&cx.request(), end)) {
            (Some(limits), Awaited::Whole { length }) => {
                self.authz.unreadable.count(cx);
                self.state = State::Buffering(limits, length);
                if limits.allow_partial_message {
                    return HookStatus::Pause(StopMode::Watermark);
                }
                let limit = u64::try_from(limits.max_request_bytes).unwrap_or(u64::MAX);
                HookStatus::Pause(StopMode::Buffer).after(vec![BodyEdit::Limit(limit)])
            }
            _ => self.check(cx, None),
        }
    }

    fn request_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        let State::Buffering(limits, length) = self.state else { return HookStatus::Continue };
        let received = cx.body_so_far(Direction::Request);
        let full = received >= limits.max_request_bytes;
        let end = end || length.is_some_and(|length| received >= length);
        if (limits.allow_partial_message && full) || (end && received <= limits.max_request_bytes) {
            return self.check_with_body(cx, limits);
        }
        // Over the limit Envoy itself answers 413 to the hold that stands.
        HookStatus::Continue
    }

    fn request_trailers(&mut self, cx: &mut Context<'_>) -> HookStatus {
        match self.state {
            State::Buffering(limits, _) => self.check_with_body(cx, limits),
            _ => HookStatus::Continue,
        }
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, _end: bool) -> HookStatus {
        let allowed = self.allowed.take();
        let Some(Verdict::Allow(edits)) = allowed.as_ref().map(|judged| &judged.verdict) else {
            return HookStatus::Continue;
        };
        let mut response = cx.response_mut();
        for mutation in &edits.response {
            mutation.apply(&mut response);
        }
        let limits = &self.config().callout.header_limits;
        if self.config().enforce_response_header_limits
            && !headers::response_within_limits(cx, limits)
        {
            cx.count(self.authz.stats.response_header_limits_reached);
            cx.count(self.authz.stats.invalid);
            return HookStatus::Reply(invalid());
        }
        HookStatus::Continue
    }

    fn event(&mut self, cx: &mut Context<'_>, answer: CheckResult) -> EventAction {
        self.on_result(cx, &answer)
    }

    fn lost(&mut self, cx: &mut Context<'_>) -> EventAction {
        let answer = CheckResult::failed(&self.authz, Failure::Lost);
        self.on_result(cx, &answer)
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        if let State::Waiting(call, _) = std::mem::replace(&mut self.state, State::Idle) {
            call.abandon(cx);
        }
    }
}

#[cfg(test)]
mod tests;
