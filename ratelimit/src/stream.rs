//! One request: the hooks that Envoy calls and the event that an answer is, in order.

mod check;

use std::sync::Arc;
use std::time::Instant;

use callout_common::filter::unreadable::UnreadableMetadata;
use callout_common::grpc::Failure;
use callout_common::{Body, Direction, EventAction, HookStatus, HttpStream};

use crate::apply::state::{Context, State, Stream};
use crate::call::{CheckCall, CheckResult};
use crate::request::DescriptorEntry;
use crate::request::budget::Budget;

impl HttpStream for Stream {
    type Event = CheckResult;

    fn request_headers(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        if end {
            self.traffic.request_ended(Instant::now());
        }
        let filter = Arc::clone(&self.filter);
        let config = &filter.config;
        // Without a cluster (no route, a redirect, a direct response) nothing is counted.
        if !config.filter_enabled.contains(rand::random())
            || !config.request_type.covers(cx.request().get("x-envoy-internal"))
            || cx.cluster_name().is_none()
        {
            return HookStatus::Continue;
        }
        self.counts_when_done = true;
        self.counts_bytes = self.limits().iter().any(|limit| limit.counts_bytes)
            || config.callout.budget.as_ref().is_some_and(Budget::counts_bytes);
        let DescriptorEntry { descriptors, skipped } = self.descriptors(cx, false);
        cx.count_by(self.filter.stats.descriptor_skipped, skipped);
        if skipped > 0 && config.callout.deny_unevaluable && !config.callout.shadow {
            return self.refuse(cx, "descriptor_skipped");
        }
        let metadata = self.metadata(cx);
        let step = if filter.unreadable.refuses(cx.unread()) && !config.callout.shadow {
            self.refuse(cx, UnreadableMetadata::CAUSE)
        } else {
            let shown = descriptors.iter().map(|one| one.x_ratelimit_headers).collect();
            match self.message(cx, descriptors) {
                Some(mut message) => {
                    self.reserve(cx, &mut message);
                    self.check(cx, message, metadata, shown)
                }
                None => {
                    cx.count(filter.stats.no_descriptors);
                    HookStatus::Continue
                }
            }
        };
        filter.unreadable.count(cx);
        step
    }

    fn request_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.body(cx, Direction::Request, end)
    }

    fn request_trailers(&mut self, _cx: &mut Context<'_>) -> HookStatus {
        self.traffic.request_ended(Instant::now());
        HookStatus::Continue
    }

    fn response_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.body(cx, Direction::Response, end)
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, _end: bool) -> HookStatus {
        let mut headers = cx.response_mut();
        for (name, value) in std::mem::take(&mut self.response) {
            headers.add(&name, &value);
        }
        HookStatus::Continue
    }

    fn event(&mut self, cx: &mut Context<'_>, answer: CheckResult) -> EventAction {
        self.on_result(cx, answer)
    }

    fn lost(&mut self, cx: &mut Context<'_>) -> EventAction {
        self.on_result(cx, Err(Failure::Lost))
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        // A client that left while the call was pending is not charged at the end.
        if let State::Waiting(call, _) = std::mem::replace(&mut self.state, State::Idle) {
            return call.abandon(cx);
        }
        if !self.counts_when_done {
            return;
        }
        let DescriptorEntry { descriptors, .. } = self.descriptors(cx, true);
        let done = self.message(cx, descriptors);
        for message in done.into_iter().chain(self.settlement(cx)) {
            let stats = self.filter.stats;
            let Some(permit) = self.filter.enter_breaker() else {
                cx.count(stats.breaker_open);
                continue;
            };
            let metadata = self.metadata(cx);
            let timeout = self.timeout();
            let question = Arc::new(CheckCall::new(message, metadata, timeout, None));
            cx.count(stats.rpc);
            cx.spawn_detached(question.tell(Arc::clone(&self.filter), permit));
        }
    }
}

impl Stream {
    /// A piece of a body passes; `end` if it is the last.
    fn body(&mut self, cx: &Context<'_>, direction: Direction, end: bool) -> HookStatus {
        if self.counts_bytes {
            self.traffic.passed(direction, cx.body_len(Body::received(direction)));
        }
        if direction == Direction::Request && end {
            self.traffic.request_ended(Instant::now());
        }
        HookStatus::Continue
    }
}

#[cfg(test)]
mod tests;
