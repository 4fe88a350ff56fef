//! The runner of one stream: calls the filter's hooks, catches their panics, keeps the holds, and
//! carries decisions out after the filter's borrow has ended.

mod carry_out;
mod flow;

pub(crate) mod admin;
pub(crate) mod ticks;
pub mod export;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use crate::api::config::ConfigError;
use crate::build::{REVISION, VERSION};
use crate::envoy::host::{Host, HostEnd};
use crate::envoy::reply::Reply;
use crate::envoy::types::Direction;
use crate::filter::context::{StreamContext, Work};
use crate::filter::decision::{HookStatus, StopMode};
use crate::filter::stats::{Counter, Gauge, Info, Setup};
use crate::filter::{Filter, HttpStream};
use crate::tasks::mailbox::{Message, TaskFailure};
pub(crate) use flow::{BodyStatus, HeadersStatus, TrailersStatus};
use flow::{Flow, Mark};

/// A stream of any filter, as the exported hooks call it. Every method may be re-entered from
/// inside itself, through the calls that end or resume the stream.
pub(crate) trait AnyStream {
    fn headers(&self, host: &mut dyn HostEnd, direction: Direction, end: bool) -> HeadersStatus;
    fn body(&self, host: &mut dyn HostEnd, direction: Direction, end: bool) -> BodyStatus;
    fn trailers(&self, host: &mut dyn HostEnd, direction: Direction) -> TrailersStatus;
    /// The scheduled event `generation` fired.
    fn scheduled(&self, host: &mut dyn HostEnd, generation: u64);
    /// Work of the stream on its worker has ended.
    fn answered(&self, host: &mut dyn HostEnd);
    /// Envoy is done with the stream; the last call with a host.
    fn complete(&self, host: &mut dyn HostEnd);
    /// The stream's memory goes; a second, harmless end if `complete` ran.
    fn destroy(&self);
}

/// What `common` itself counts for every filter.
#[derive(Debug, Clone)]
pub(crate) struct RunnerStats {
    pub(crate) live_streams: Gauge,
    pub(crate) panics: Counter,
    pub(crate) lost: Counter,
    build: Info,
}

impl RunnerStats {
    pub(crate) fn define(setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            live_streams: setup.gauge("live_streams")?,
            panics: setup.counter("panics")?,
            lost: setup.counter("lost")?,
            build: setup.info("build_info", &["version", "revision"], &[VERSION, REVISION])?,
        })
    }
}

/// How a hook of the filter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome<T> {
    Decided(T),
    /// It panicked, or the stream could not be made: there is no decision.
    Failed,
}

/// The route has the per-route configuration of another filter or module.
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
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    tracing::error!(
                        "a route's configuration was made by another filter or module than the one that has it: requests on that route are answered with 500"
                    );
                });
                Outcome::Failed
            }
            Err(payload) => {
                forget(payload);
                self.stats.panics.add(host, 1);
                Outcome::Failed
            }
        }
    }

    /// What sends events to the stream, as work off the worker does.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn outbox(
        &self,
        host: &mut dyn Host,
    ) -> crate::Outbox<<F::Stream as HttpStream>::Event> {
        StreamContext::new(host, &mut self.work.borrow_mut()).outbox()
    }

    fn open(&self, host: &mut dyn Host) -> Result<F::Stream, ForeignRoute> {
        if !self.counted.replace(true) {
            self.stats.live_streams.add(host, 1);
            self.stats.build.tell(host);
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

    /// A hook of `direction` leaves it held so.
    fn note_hold(&self, host: &dyn HostEnd, direction: Direction, held: Option<StopMode>) {
        let inside = direction == Direction::Response && self.flow.get().resuming;
        if inside && held.is_some() && host.marks_both_directions() {
            self.update(|flow| flow.mark = Mark::Set);
        }
    }
}

impl<F: Filter> AnyStream for Runner<F> {
    fn headers(&self, host: &mut dyn HostEnd, direction: Direction, end: bool) -> HeadersStatus {
        self.update(|flow| match direction {
            Direction::Request => flow.request_bodiless = end,
            Direction::Response => (flow.response_began, flow.bodiless) = (true, end),
        });
        let held = self.status_when_inert(direction).unwrap_or_else(|| {
            let step = self.step(host, |stream, cx| match direction {
                Direction::Request => stream.request_headers(cx, end),
                Direction::Response => stream.response_headers(cx, end),
            });
            self.act(host, direction, step)
        });
        self.note_hold(host, direction, held);
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
        self.note_hold(host, direction, held);
        match held {
            None => BodyStatus::Continue,
            Some(StopMode::Buffer) => BodyStatus::StopIterationAndBuffer,
            Some(StopMode::NoBuffer) => BodyStatus::StopIterationNoBuffer,
            Some(_) => BodyStatus::StopIterationAndWatermark,
        }
    }

    fn trailers(&self, host: &mut dyn HostEnd, direction: Direction) -> TrailersStatus {
        if self.flow.get().mark == Mark::Clearing {
            // Not the filter's: see `Runner::clear_mark`.
            self.update(|flow| flow.mark = Mark::Clear);
            return TrailersStatus::StopIteration;
        }
        let held = self.status_when_inert(direction).unwrap_or_else(|| {
            let step = self.step(host, |stream, cx| match direction {
                Direction::Request => stream.request_trailers(cx),
                Direction::Response => stream.response_trailers(cx),
            });
            self.act(host, direction, step)
        });
        self.note_hold(host, direction, held);
        if held.is_none() { TrailersStatus::Continue } else { TrailersStatus::StopIteration }
    }

    fn scheduled(&self, host: &mut dyn HostEnd, generation: u64) {
        let mail = self.work.borrow().drain(generation);
        self.tell(host, mail);
    }

    fn answered(&self, host: &mut dyn HostEnd) {
        let mail = self.work.borrow().take();
        self.tell(host, mail);
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

impl<F: Filter> Runner<F> {
    /// Gives the filter its events, and does what it decides.
    fn tell(
        &self,
        host: &mut dyn HostEnd,
        mail: impl IntoIterator<Item = Message<<F::Stream as HttpStream>::Event>>,
    ) {
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
            let outcome = match mail {
                Message::Event(event) => self.run(host, |stream, cx| stream.event(cx, event)),
                Message::Lost(_) => self.run(host, HttpStream::lost),
                Message::TryAgain => {
                    self.try_again(host);
                    continue;
                }
            };
            match outcome {
                Outcome::Decided(resume) => self.resume(host, resume),
                Outcome::Failed => self.reply(host, &failed()),
            }
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
