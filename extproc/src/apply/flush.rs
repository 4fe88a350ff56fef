//! When what the machine lets go may go on: see [`super::chain`].
//!
//! A hook with a piece that is not the last says that Envoy has not seen the end, or sees it only once
//! more comes; so inside such a hook everything may go on. From an event it may when the end has come
//! here, or when nobody in front can hold it back. What may not waits in the outlet.

use callout_common::envoy::types::Body;
use callout_common::{Direction, HookStatus, StopMode};

use super::body::Bodies;
use super::chain::{Member, Share};
use super::direction::of_direction;
use super::outlet::{Outlet, Owed};
use crate::apply::state::Stream;
use crate::call::event::{Context, Event};
use crate::decide::machine::PieceStatus;

impl Stream {
    pub(crate) const fn outlet(&mut self, direction: Direction) -> &mut Outlet {
        of_direction(&mut self.outlets, direction)
    }

    /// Joins the other filters of this library in the stream's chain, if there is something to agree
    /// on.
    pub(crate) fn join_chain(&mut self, cx: &mut Context<'_>, direction: Direction) {
        if self.member.is_none() {
            self.member = Member::join(cx, self.machine.may_stream());
        }
        if let Some(member) = &self.member {
            member.reached(direction);
        }
    }

    /// Looks at whose bytes lie in Envoy's buffer. Comes first in each hook and event; with `comes`
    /// something that is new may lie there already: what comes behind these headers, or the last
    /// piece, which Envoy puts there.
    pub(crate) fn look(&mut self, cx: &Context<'_>, direction: Direction, comes: bool) {
        self.restate(direction);
        // So it may when the buffer itself is what the hook is shown. The rest is as it was.
        let comes = comes || (cx.received_is_buffered(direction) && cx.body_so_far(direction) > 0);
        self.share(direction, (!comes).then(|| cx.body_len(Body::buffered(direction))));
    }

    /// As [`Stream::look`], when the direction was just let go: nothing of this filter's lies there, and
    /// what it kept of the running hook's piece comes there yet.
    pub(crate) fn look_again(&mut self, cx: &Context<'_>, direction: Direction) {
        self.restate(direction);
        let kept = *of_direction(&mut self.kept, direction);
        let buffered = cx.body_len(Body::buffered(direction));
        self.share(direction, Some(buffered.saturating_add(kept)));
    }

    /// Tells the chain what is kept for this filter.
    fn restate(&mut self, direction: Direction) {
        let kept = *of_direction(&mut self.kept, direction);
        if let Some(member) = &self.member {
            member.keeps(direction, kept);
        }
    }

    fn share(&mut self, direction: Direction, buffered: Option<usize>) {
        let kept = *of_direction(&mut self.kept, direction);
        let share = of_direction(&mut self.shares, direction);
        match (&self.member, buffered) {
            (Some(member), buffered) => *share = member.share(direction, buffered),
            (None, Some(buffered)) => {
                share.behind = buffered.saturating_sub(kept);
                share.foreign = share.behind;
            }
            (None, None) => {}
        }
    }

    /// So many bytes in Envoy's buffer are nobody's of this library's filters.
    pub(super) fn set_foreign(&mut self, direction: Direction, bytes: usize) {
        if let Some(member) = &self.member {
            member.set_foreign(direction, bytes);
        }
        let share = of_direction(&mut self.shares, direction);
        share.behind = share.behind - share.foreign + bytes;
        share.foreign = bytes;
    }

    /// So many bytes lie in Envoy's buffer for this filter, once what was decided is done.
    pub(crate) fn keep(&mut self, direction: Direction, bytes: usize) {
        *of_direction(&mut self.kept, direction) = bytes;
        self.restate(direction);
    }

    /// As [`Stream::keep`], behind a hook that answers `status`.
    pub(crate) fn keep_behind(&mut self, direction: Direction, bytes: usize, status: &HookStatus) {
        self.keep(direction, if matches!(status, HookStatus::Flush(_)) { 0 } else { bytes });
        // While a flush runs through the filters behind, the piece at hand is not there yet.
        *of_direction(&mut self.kept, direction) = bytes;
    }

    /// A piece came, or the trailers: `end` when nothing follows, `trailers` when they are there already and
    /// their hook has not come.
    pub(crate) fn note_piece(
        &mut self,
        cx: &Context<'_>,
        direction: Direction,
        end: bool,
        trailers: bool,
    ) {
        if !(end || trailers || self.upgraded) && cx.has_empty_piece(direction) {
            self.outlet(direction).company = true;
        }
        let outlet = self.outlet(direction);
        outlet.trailers_due = trailers;
        // Unless a filter in front hands on what it took out, no other piece follows, and behind a filter
        // that made the trailers their hook does not, either.
        if !(end || trailers && !outlet.company) {
            return;
        }
        if !outlet.ended {
            outlet.end();
        }
        if let Some(member) = &self.member {
            member.ended(direction);
        }
    }

    /// Tells filters of other modules behind this one whether the end of the request is held here.
    pub(crate) fn note_held_end(&mut self, cx: &mut Context<'_>, direction: Direction, held: bool) {
        let held = held && self.outlet(direction).ended;
        if direction == Direction::Request
            && let Some(member) = &mut self.member
            && let Some(any) = member.holds_end(held)
        {
            cx.hold_request_end(any);
        }
    }

    fn may_go(&mut self, cx: &Context<'_>, direction: Direction, inside_its_hook: bool) -> bool {
        // What lies there for a filter in front would go along, past it.
        if of_direction(&mut self.shares, direction).front > 0 {
            return false;
        }
        let ready = self.outlet(direction).ready.len();
        if !self.outlet(direction).ended && self.gathers_for_router(cx, direction, ready) {
            return false;
        }
        let held_back = self.member.as_ref().is_some_and(|member| member.has_ended(direction));
        let outlet = self.outlet(direction);
        // Trailers that are there would go along.
        let inside = inside_its_hook && !outlet.trailers_due;
        outlet.ended || inside || !(outlet.company || held_back)
    }

    /// The machine lets `direction` go, from an event; whether Envoy is to be told now.
    pub(super) fn let_go(
        &mut self,
        cx: &Context<'_>,
        direction: Direction,
        bodies: &mut Bodies,
    ) -> bool {
        if !self.may_go(cx, direction, false) {
            self.outlet(direction).owed = Owed::Release;
            return false;
        }
        self.empty(cx, direction, bodies);
        true
    }

    /// Whether Envoy's buffer has pieces that the processor is yet to see: they would go along.
    fn keeps_unseen(&self, cx: &Context<'_>, direction: Direction, bodies: &Bodies) -> bool {
        let [request, response] = self.shares;
        let share = if direction == Direction::Request { request } else { response };
        self.machine.is_parked(direction) && bodies.kept_len(cx, direction, share) > 0
    }

    /// Whether something that had to wait may go by now, from an event.
    pub(crate) fn settle(
        &mut self,
        cx: &Context<'_>,
        direction: Direction,
        bodies: &mut Bodies,
    ) -> bool {
        self.outlet(direction).owed == Owed::Release
            && !self.keeps_unseen(cx, direction, bodies)
            && self.let_go(cx, direction, bodies)
    }

    /// Hands over what waits.
    fn empty(&mut self, cx: &Context<'_>, direction: Direction, bodies: &mut Bodies) {
        let share = *of_direction(&mut self.shares, direction);
        let outlet = self.outlet(direction);
        outlet.owed = Owed::Nothing;
        let ready = std::mem::take(&mut outlet.ready);
        if !ready.is_empty() {
            bodies.append(cx, direction, &ready, share);
        }
    }

    /// What a hook of `direction` tells Envoy, when the machine says `stance`.
    pub(crate) fn status(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        stance: PieceStatus,
        bodies: &mut Bodies,
    ) -> HookStatus {
        let share = *of_direction(&mut self.shares, direction);
        let outlet = self.outlet(direction);
        let (owed, ended) = (outlet.owed != Owed::Nothing, outlet.ended);
        let flows = !self.keeps_unseen(cx, direction, bodies) && self.may_go(cx, direction, true);
        match stance {
            PieceStatus::Hold(hold) if owed && !ended && flows => {
                self.empty(cx, direction, bodies);
                HookStatus::Flush(hold)
            }
            PieceStatus::Hold(hold) => HookStatus::Pause(hold),
            PieceStatus::Flush(hold) if flows => {
                self.empty(cx, direction, bodies);
                HookStatus::Flush(hold)
            }
            PieceStatus::Flush(hold) => {
                self.outlet(direction).owed = Owed::Release;
                HookStatus::Pause(hold)
            }
            PieceStatus::Discard => {
                bodies.take(cx, direction, share);
                self.pass(cx, direction, bodies)
            }
            PieceStatus::Pass => self.pass(cx, direction, bodies),
            PieceStatus::Release => {
                self.outlet(direction).owed = Owed::Release;
                self.pass(cx, direction, bodies)
            }
        }
    }

    /// The piece at hand passes, behind what waits.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        bodies: &mut Bodies,
    ) -> HookStatus {
        let share = *of_direction(&mut self.shares, direction);
        let keeps = self.router_keeps(cx, direction) > 0;
        let outlet = self.outlet(direction);
        if outlet.owed == Owed::Nothing {
            return HookStatus::Continue;
        }
        if outlet.trailers_due || keeps {
            // What the router keeps would go, too. Or Envoy would send the trailers along, and again when their hook has come. That follows this
            // one, or, behind a filter that made them, never: then it is done in an event.
            outlet.owed = Owed::Release;
            let piece = bodies.take(cx, direction, share);
            self.outlet(direction).push(&piece);
            let _ = cx.outbox().send(Event::Settle);
            return HookStatus::Pause(StopMode::NoBuffer);
        }
        outlet.owed = Owed::Nothing;
        let ready = std::mem::take(&mut outlet.ready);
        if !ready.is_empty() {
            bodies.prepend(cx, direction, &ready, share);
        }
        HookStatus::Release
    }
}

/// How much of a body lies in Envoy's buffer for this filter after a hook that answers `status`.
pub(crate) fn left_behind(
    cx: &Context<'_>,
    direction: Direction,
    status: &HookStatus,
    bodies: &Bodies,
    share: Share,
) -> usize {
    let kept = bodies.kept_len(cx, direction, share);
    let piece = bodies.piece_len(cx, direction);
    match status {
        HookStatus::Pause(StopMode::NoBuffer) => kept,
        HookStatus::Pause(_) => kept.saturating_add(piece),
        HookStatus::Flush(StopMode::Buffer | StopMode::Watermark) => piece,
        _ => 0,
    }
}
