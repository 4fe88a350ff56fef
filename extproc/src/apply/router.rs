//! What the router keeps of a request.
//!
//! On a route with retries, or one that follows redirects, the router keeps what went upstream in Envoy's one
//! buffer, to send it again. What is let go from the buffer would take that along, and send it once more
//! to the attempt that has it already. So it is taken out while something goes past it, and put back.
//!
//! The router gives such a copy up where it would grow over its limit. It looks at what it is given: with its
//! copy out of sight it would not see it. So what comes to more than the limit is gathered until there is
//! enough of it for the router to see that by itself.

use callout_common::envoy::attributes::Attribute;
use callout_common::envoy::types::Body;
use callout_common::envoy::version::EnvoyVersion;
use callout_common::{BodyEdit, Direction};

use super::body::Bodies;
use super::chain::Share;
use crate::apply::state::Stream;
use crate::call::event::Context;

/// A header that the router adds to the request.
const EXPECTED_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";

impl Stream {
    /// The request's headers came here.
    pub(crate) fn note_marks(&mut self, cx: &Context<'_>) {
        self.router.marked = cx.request().get(EXPECTED_TIMEOUT).is_some();
    }

    /// Bytes that the router keeps in Envoy's buffer.
    pub(super) fn router_keeps(&self, cx: &Context<'_>, direction: Direction) -> usize {
        let [request, _] = &self.shares;
        // Before the router has the headers, a filter keeps them, which may look at them as a whole.
        let keeps = direction == Direction::Request && request.foreign > 0 && self.has_router(cx);
        if keeps { request.foreign } else { 0 }
    }

    /// Whether the router has the request's headers.
    fn has_router(&self, cx: &Context<'_>) -> bool {
        if EnvoyVersion::running() >= EnvoyVersion::V1_39 {
            return cx.attribute_int(Attribute::UpstreamRequestAttemptCount).is_some_and(|n| n > 0);
        }
        let added = !self.router.marked && cx.request().get(EXPECTED_TIMEOUT).is_some();
        added || cx.attribute(Attribute::UpstreamAddress).is_some()
    }

    /// Whether `bytes` have to wait for more, so that the router sees that its copy becomes too long.
    pub(super) fn gathers_for_router(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        bytes: usize,
    ) -> bool {
        let kept = self.router_keeps(cx, direction);
        let limit = usize::try_from(cx.buffer_limit()).unwrap_or(usize::MAX);
        kept > 0 && limit > 0 && kept.saturating_add(bytes) > limit && bytes <= limit
    }

    /// The request is let go on with what `bodies` say: takes the router's copy out.
    pub(crate) fn pass_router(&mut self, cx: &Context<'_>, bodies: &mut Bodies) {
        let direction = Direction::Request;
        let kept = self.router_keeps(cx, direction);
        if kept == 0 {
            return;
        }
        let [share, _] = self.shares;
        let going = bodies.kept_len(cx, direction, share);
        self.router.out = Some((bodies.take_first(cx, direction, kept), going));
        self.set_foreign(direction, 0);
    }

    /// It has gone: puts the router's copy back, unless the router gave it up. `None` where there is nothing to
    /// put back.
    pub(crate) fn router_has_it(&mut self, cx: &Context<'_>) -> Option<BodyEdit> {
        let (copy, went) = self.router.out.take()?;
        let [Share { foreign, .. }, _] = self.shares;
        // What goes through another filter of this library need not have come to the router.
        let last = self.member.as_ref().is_none_or(|member| member.is_last(Direction::Request));
        if last && went > 0 && foreign == 0 {
            return None;
        }
        self.set_foreign(Direction::Request, foreign + copy.len());
        let mut copy = copy.to_vec();
        copy.extend(cx.body(Body::BufferedRequest));
        Some(BodyEdit::Keep(Direction::Request, copy.into()))
    }
}
