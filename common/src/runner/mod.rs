//! The runner of one stream: calls the filter's hooks, catches their panics, keeps the holds, and
//! carries decisions out after the filter's borrow has ended.

pub mod export;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::api::config::ConfigError;
use crate::envoy::host::{Host, HostEnd};
use crate::envoy::reply::{Reply, ReplyPart};
use crate::envoy::types::Body;
use crate::envoy::types::Direction;
use crate::filter::context::{StreamContext, Work};
use crate::filter::decision::{BodyEdit, EventAction, HookStatus, StopMode};
use crate::filter::stats::{Counter, Gauge, Setup};
use crate::filter::{Filter, HttpStream};
use crate::tasks::mailbox::{Message, TaskFailure};

/// What a headers hook tells Envoy; the numbers are the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadersStatus {
    Continue = 0,
    StopIteration = 1,
    StopAllIterationAndWatermark = 4,
}

/// What a body hook tells Envoy; the numbers are the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyStatus {
    Continue = 0,
    StopIterationAndBuffer = 1,
    StopIterationAndWatermark = 2,
    StopIterationNoBuffer = 3,
}

/// What a trailers hook tells Envoy; the numbers are the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrailersStatus {
    Continue = 0,
    StopIteration = 1,
}

/// A stream of any filter, as the exported hooks call it. Every method may be re-entered from
/// inside itself, through the calls that end or resume the stream.
pub(crate) trait AnyStream {
    fn headers(&self, host: &mut dyn HostEnd, direction: Direction, end: bool) -> HeadersStatus;
    fn body(&self, host: &mut dyn HostEnd, direction: Direction, end: bool) -> BodyStatus;
    fn trailers(&self, host: &mut dyn HostEnd, direction: Direction) -> TrailersStatus;
    /// The scheduled event `generation` fired.
    fn scheduled(&self, host: &mut dyn HostEnd, generation: u64);
    /// Envoy is done with the stream; the last call with a host.
    fn complete(&self, host: &mut dyn HostEnd);
    /// The stream's memory goes; a second, harmless end if `complete` ran.
    fn destroy(&self);
}

/// What `common` itself counts for every filter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunnerStats {
    pub(crate) live_streams: Gauge,
    pub(crate) panics: Counter,
    pub(crate) lost: Counter,
}

impl RunnerStats {
    pub(crate) fn define(setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            live_streams: setup.gauge("live_streams")?,
            panics: setup.counter("panics")?,
            lost: setup.counter("lost")?,
        })
    }
}

/// How far the stream has come, as far as holds and ends go.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    request: Option<StopMode>,
    response: Option<StopMode>,
    /// The request's headers went on to the upstream.
    request_left: bool,
    /// There is a response, whoever made it.
    response_began: bool,
    /// The response's headers went on to the client, so it is too late for a reply.
    response_left: bool,
    /// The filter sends its answer part by part: its hooks run no more, its events do.
    replying: bool,
    /// The filter answered, reset or panicked; nothing of it runs any more.
    done: bool,
    /// Envoy ended the stream; nothing may be asked of the host any more.
    ended: bool,
}

impl Flow {
    const fn held(&self, direction: Direction) -> Option<StopMode> {
        match direction {
            Direction::Request => self.request,
            Direction::Response => self.response,
        }
    }

    const fn left(&mut self, direction: Direction) {
        match direction {
            Direction::Request => self.request_left = true,
            Direction::Response => self.response_left = true,
        }
    }

    const fn hold(&mut self, direction: Direction, hold: Option<StopMode>) {
        match direction {
            Direction::Request => self.request = hold,
            Direction::Response => self.response = hold,
        }
    }
}

/// How a hook of the filter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome<T> {
    Decided(T),
    /// It panicked, or the stream could not be made: there is no decision.
    Failed,
}

/// The route has the per-route configuration of another filter.
struct ForeignRoute;

pub(crate) struct Runner<F: Filter> {
    filter: Arc<F>,
    stats: RunnerStats,
    /// Made in the first hook: only then the route is known.
    stream: RefCell<Option<F::Stream>>,
    work: RefCell<Work<<F::Stream as HttpStream>::Event>>,
    flow: Cell<Flow>,
    counted: Cell<bool>,
}

impl<F: Filter> Runner<F> {
    pub(crate) fn new(filter: Arc<F>, stats: RunnerStats) -> Self {
        Self {
            filter,
            stats,
            stream: RefCell::new(None),
            work: RefCell::new(Work::new()),
            flow: Cell::default(),
            counted: Cell::new(false),
        }
    }

    fn update(&self, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.flow.get();
        change(&mut flow);
        self.flow.set(flow);
    }

    /// Runs `hook` with the stream borrowed. The borrow ends before this returns.
    fn run<T>(
        &self,
        host: &mut dyn Host,
        hook: impl FnOnce(&mut F::Stream, &mut StreamContext<'_, <F::Stream as HttpStream>::Event>) -> T,
    ) -> Outcome<T> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut slot = self.stream.borrow_mut();
            let stream = match &mut *slot {
                Some(stream) => stream,
                None => slot.insert(self.open(host)?),
            };
            let mut work = self.work.borrow_mut();
            Ok::<T, ForeignRoute>(hook(stream, &mut StreamContext::new(host, &mut work)))
        }));
        let flow = self.flow.get();
        if flow.done || flow.ended {
            self.close_work();
        }
        match outcome {
            Ok(Ok(decision)) => Outcome::Decided(decision),
            Ok(Err(ForeignRoute)) => {
                tracing::error!(
                    "the route's configuration belongs to another filter of this library"
                );
                Outcome::Failed
            }
            Err(payload) => {
                forget(payload);
                self.stats.panics.add(host, 1);
                Outcome::Failed
            }
        }
    }

    fn open(&self, host: &mut dyn Host) -> Result<F::Stream, ForeignRoute> {
        if !self.counted.replace(true) {
            self.stats.live_streams.add(host, 1);
        }
        let route = match host.route_config() {
            Some(route) => Some(route.downcast::<F::Route>().ok_or(ForeignRoute)?),
            None => None,
        };
        Ok(self.filter.stream(route))
    }

    fn step(
        &self,
        host: &mut dyn Host,
        hook: impl FnOnce(
            &mut F::Stream,
            &mut StreamContext<'_, <F::Stream as HttpStream>::Event>,
        ) -> HookStatus,
    ) -> HookStatus {
        match self.run(host, hook) {
            Outcome::Decided(step) => step,
            Outcome::Failed => HookStatus::Reply(failed()),
        }
    }

    /// Ends the stream for this filter: no more hooks, no more work. Comes before the call to Envoy,
    /// which may destroy the stream.
    fn finish(&self) {
        self.update(|flow| {
            flow.done = true;
            flow.request = None;
            flow.response = None;
        });
        self.close_work();
    }

    /// Nothing that Envoy calls while a hook of the filter runs may panic; what is borrowed then is
    /// closed when the hook has ended.
    fn close_work(&self) {
        if let Ok(mut work) = self.work.try_borrow_mut() {
            work.close();
        }
    }

    /// Answers the request. When a response is on its way already, it is too late: if the request
    /// has not even left and nothing of the response is held here, the response is somebody's local
    /// reply and stands; else the exchange can't go on and is reset.
    fn reply(&self, host: &mut dyn HostEnd, reply: &Reply) {
        let flow = self.flow.get();
        self.finish();
        if flow.replying {
            host.reset(reply.details_str());
        } else if !flow.response_left {
            host.send_reply(reply);
        } else if flow.request_left || flow.response.is_some() {
            host.reset(reply.details_str());
        }
    }

    fn reset(&self, host: &mut dyn HostEnd, details: &str) {
        self.finish();
        host.reset(details);
    }

    /// Changes bodies, in order. `false` when Envoy answered or ended the stream meanwhile: what was
    /// to follow must not.
    fn edit(&self, host: &mut dyn HostEnd, edits: Vec<BodyEdit>) -> bool {
        let began = self.flow.get().response_began;
        for edit in edits {
            match edit {
                BodyEdit::TakePiece(direction) => host.drain_body(Body::received(direction)),
                BodyEdit::Keep(direction, bytes) => {
                    host.drain_body(Body::buffered(direction));
                    host.append_body(direction, &bytes);
                }
                BodyEdit::Limit(bytes) => host.set_buffer_limit(bytes),
            }
            let flow = self.flow.get();
            if flow.ended || flow.done || flow.response_began != began {
                // The request is answered; it never goes on.
                self.update(|flow| flow.request = None);
                return false;
            }
        }
        true
    }

    /// Carries `step` out; says how the direction is held afterwards, or `None` to go on.
    fn act(
        &self,
        host: &mut dyn HostEnd,
        direction: Direction,
        step: HookStatus,
    ) -> Option<StopMode> {
        match step {
            // Only a filter that says so in this very hook has taken this very piece.
            HookStatus::Continue if self.flow.get().held(direction) == Some(StopMode::NoBuffer) => {
                return Some(StopMode::Watermark);
            }
            HookStatus::Continue => {}
            HookStatus::Edit(edits, then) => {
                if !self.edit(host, edits) {
                    return Some(StopMode::NoBuffer);
                }
                return self.act(host, direction, *then);
            }
            HookStatus::Pause(hold) => self.update(|flow| flow.hold(direction, Some(hold))),
            HookStatus::Flush(hold) => {
                if self.flow.get().held(direction).is_some() {
                    self.update(|flow| flow.left(direction));
                    self.continue_direction(host, direction);
                    // Letting data go on may have ended the stream.
                    if self.flow.get().ended {
                        return Some(hold);
                    }
                }
                self.update(|flow| flow.hold(direction, Some(hold)));
            }
            HookStatus::Release => self.update(|flow| flow.hold(direction, None)),
            HookStatus::Reply(reply) => {
                if direction == Direction::Response {
                    // The piece at hand is held by this very hook.
                    self.update(|flow| flow.response = Some(StopMode::NoBuffer));
                }
                self.reply(host, &reply);
                return Some(StopMode::NoBuffer);
            }
            HookStatus::Reset(details) => {
                self.reset(host, details);
                return Some(StopMode::NoBuffer);
            }
        }
        let held = self.flow.get().held(direction);
        if held.is_none() {
            self.update(|flow| flow.left(direction));
        }
        held
    }

    /// What a hook answers without asking the filter, if that is the case: after the filter's own
    /// end, and while everything is held. Nothing of a request passes in either; the response that
    /// runs after our end is our own reply.
    fn status_when_inert(&self, direction: Direction) -> Option<Option<StopMode>> {
        let flow = self.flow.get();
        if flow.done || flow.ended || flow.replying {
            return Some(match direction {
                Direction::Request => Some(StopMode::Watermark),
                Direction::Response => None,
            });
        }
        (flow.held(direction) == Some(StopMode::AllIteration))
            .then_some(Some(StopMode::AllIteration))
    }

    fn resume(&self, host: &mut dyn HostEnd, resume: EventAction) {
        match resume {
            EventAction::Stay => {}
            EventAction::Edit(edits, then) => {
                if self.edit(host, edits) {
                    self.resume(host, *then);
                }
            }
            EventAction::Request => self.resume_if_held(host, Direction::Request),
            EventAction::Response => self.resume_if_held(host, Direction::Response),
            EventAction::Both => {
                self.resume_if_held(host, Direction::Request);
                self.resume_if_held(host, Direction::Response);
            }
            EventAction::Reply(reply) => self.reply(host, &reply),
            EventAction::Send(parts) => self.send(host, &parts),
            EventAction::Reset(details) => self.reset(host, details),
        }
    }

    /// Sends parts of a reply, which has to begin with its headers, while the request is held.
    fn send(&self, host: &mut dyn HostEnd, parts: &[ReplyPart]) {
        for part in parts {
            let flow = self.flow.get();
            if flow.done || flow.ended {
                return;
            }
            let begins = matches!(part, ReplyPart::Headers { .. });
            let fits = if begins { flow.request.is_some() && !flow.response_left } else { true };
            if begins == flow.replying || !fits {
                return self.reset(host, "callout_reply_out_of_order");
            }
            self.update(|flow| flow.replying = true);
            if part.ends() {
                self.finish();
            }
            host.send_part(part);
        }
    }

    /// Lets a held direction go on. A direction that is not held has nothing to resume; asking
    /// Envoy all the same would crash it. A request that was answered before it left never leaves.
    fn resume_if_held(&self, host: &mut dyn HostEnd, direction: Direction) {
        let flow = self.flow.get();
        if flow.ended || flow.done || flow.replying || flow.held(direction).is_none() {
            return;
        }
        if direction == Direction::Request && flow.response_began && !flow.request_left {
            return;
        }
        self.update(|flow| {
            flow.hold(direction, None);
            flow.left(direction);
        });
        self.continue_direction(host, direction);
    }

    fn continue_direction(&self, host: &mut dyn HostEnd, direction: Direction) {
        host.resume(direction);
        let flow = self.flow.get();
        if !flow.ended && !flow.done {
            // A panic here is counted; what was let go has gone.
            let _ = self.run(host, |stream, cx| stream.resumed(cx, direction));
        }
    }

    fn end(&self) {
        self.update(|flow| flow.ended = true);
        self.close_work();
    }
}

impl<F: Filter> AnyStream for Runner<F> {
    fn headers(&self, host: &mut dyn HostEnd, direction: Direction, end: bool) -> HeadersStatus {
        if direction == Direction::Response {
            self.update(|flow| flow.response_began = true);
        }
        let held = self.status_when_inert(direction).unwrap_or_else(|| {
            let step = self.step(host, |stream, cx| match direction {
                Direction::Request => stream.request_headers(cx, end),
                Direction::Response => stream.response_headers(cx, end),
            });
            self.act(host, direction, step)
        });
        match held {
            None => HeadersStatus::Continue,
            Some(StopMode::AllIteration) => HeadersStatus::StopAllIterationAndWatermark,
            Some(_) => HeadersStatus::StopIteration,
        }
    }

    fn body(&self, host: &mut dyn HostEnd, direction: Direction, end: bool) -> BodyStatus {
        let held = self.status_when_inert(direction).unwrap_or_else(|| {
            let step = self.step(host, |stream, cx| match direction {
                Direction::Request => stream.request_body(cx, end),
                Direction::Response => stream.response_body(cx, end),
            });
            self.act(host, direction, step)
        });
        match held {
            None => BodyStatus::Continue,
            Some(StopMode::Buffer) => BodyStatus::StopIterationAndBuffer,
            Some(StopMode::NoBuffer) => BodyStatus::StopIterationNoBuffer,
            Some(_) => BodyStatus::StopIterationAndWatermark,
        }
    }

    fn trailers(&self, host: &mut dyn HostEnd, direction: Direction) -> TrailersStatus {
        let held = self.status_when_inert(direction).unwrap_or_else(|| {
            let step = self.step(host, |stream, cx| match direction {
                Direction::Request => stream.request_trailers(cx),
                Direction::Response => stream.response_trailers(cx),
            });
            self.act(host, direction, step)
        });
        if held.is_none() { TrailersStatus::Continue } else { TrailersStatus::StopIteration }
    }

    fn scheduled(&self, host: &mut dyn HostEnd, generation: u64) {
        let mail = self.work.borrow().drain(generation);
        for mail in mail {
            let flow = self.flow.get();
            if flow.done || flow.ended {
                return;
            }
            if let Message::Lost(lost) = &mail {
                self.stats.lost.add(host, 1);
                if *lost == TaskFailure::Panicked {
                    self.stats.panics.add(host, 1);
                }
            }
            let outcome = self.run(host, |stream, cx| match mail {
                Message::Event(event) => stream.event(cx, event),
                Message::Lost(_) => stream.lost(cx),
            });
            match outcome {
                Outcome::Decided(resume) => self.resume(host, resume),
                Outcome::Failed => self.reply(host, &failed()),
            }
        }
    }

    fn complete(&self, host: &mut dyn HostEnd) {
        self.end();
        if self.stream.try_borrow().is_ok_and(|stream| stream.is_some()) {
            // A panic here has no verdict to spoil; `run` counted it.
            let _ = self.run(host, HttpStream::complete);
        }
        self.close_work();
        if self.counted.replace(false) {
            self.stats.live_streams.sub(host, 1);
        }
    }

    fn destroy(&self) {
        self.end();
        // What is borrowed now goes with the runner.
        let Ok(stream) = self.stream.try_borrow_mut().map(|mut stream| stream.take()) else {
            return;
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(stream))) {
            forget(payload);
        }
    }
}

/// The reply where a fault of the filter left no decision.
fn failed() -> Reply {
    Reply::new(500).details("callout_failed")
}

/// Drops a panic's payload, whose own drop may panic again. The panic hook has logged it.
fn forget(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests;
