//! One exchange: feeds hooks and answers to the machine.

use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};

use callout_common::config::since_epoch;
use callout_common::grpc::Failure;
use callout_common::host::Body;
use callout_common::{Cx, Direction, HttpStream, Resume, Step};
use callout_protos::envoy::service::ext_proc::v3::ProcessingResponse;

use crate::ExtProc;
use crate::carry_out::{Outcome, ours, slot};
use crate::config::{Config, MetadataOptions, Namespaces, Overrides, Route};
use crate::machine::{Action, Data, Machine, Stance};
use crate::session::Session;

/// What comes from off the worker.
#[derive(Debug)]
pub enum Event {
    Answer(Box<ProcessingResponse>),
    Closed(Result<(), Failure>),
    Deadline {
        direction: Direction,
        number: u64,
    },
    Nudge(Direction),
    /// The processor has caught up with what was sent to it.
    Room,
}

pub(crate) type Context<'a> = Cx<'a, Event>;

/// One exchange.
#[derive(Debug)]
pub struct Stream {
    pub(crate) filter: Arc<ExtProc>,
    route: Option<Arc<Route>>,
    pub(crate) machine: Machine,
    pub(crate) session: Option<Session>,
    /// A message went to the processor.
    pub(crate) opened: bool,
    pub(crate) attributes_sent: [bool; 2],
    /// Bytes of the body in the latest message, of the request and of the response.
    pub(crate) shown: [usize; 2],
    /// Bytes that filters behind this one keep, of the request and of the response: Envoy has one
    /// buffer for all of them, and ours come after theirs.
    pub(crate) behind: [usize; 2],
    /// When the request began, since 1970.
    pub(crate) began: Duration,
}

impl Stream {
    pub(crate) fn new(filter: Arc<ExtProc>, route: Option<Arc<Route>>) -> Self {
        let mut settings = filter.config.settings.clone();
        if let Some(Route::Overrides(overrides)) = route.as_deref() {
            settings.modes = overrides.modes.unwrap_or(settings.modes);
            settings.failure_mode_allow =
                overrides.failure_mode_allow.unwrap_or(settings.failure_mode_allow);
        }
        Self {
            machine: Machine::new(settings),
            filter,
            route,
            session: None,
            opened: false,
            attributes_sent: [false; 2],
            shown: [0; 2],
            behind: [0; 2],
            began: since_epoch(SystemTime::now()),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.filter.config
    }

    fn disabled(&self) -> bool {
        matches!(self.route.as_deref(), Some(Route::Disabled))
    }

    pub(crate) fn overrides(&self) -> Option<&Overrides> {
        match self.route.as_deref() {
            Some(Route::Overrides(overrides)) => Some(overrides),
            _ => None,
        }
    }

    /// One list of namespaces: the route's if it has one, else the filter's.
    pub(crate) fn namespaces(
        &self,
        of: impl Fn(&MetadataOptions) -> Option<&Namespaces>,
    ) -> Option<&Namespaces> {
        self.overrides()
            .and_then(|overrides| of(&overrides.metadata))
            .or_else(|| of(&self.config().metadata))
    }

    fn hook(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        (actions, stance): (Vec<Action>, Stance),
    ) -> Step {
        if let Some(reply) = self.carry_out(cx, actions).reply {
            return Step::Reply(reply);
        }
        match stance {
            Stance::Hold(hold) => Step::Pause(hold),
            Stance::Flush(hold) => Step::Flush(hold),
            Stance::Pass => Step::Continue,
            Stance::Swallow => {
                self.take_ours(cx, direction);
                Step::Continue
            }
        }
    }

    fn data(&mut self, cx: &mut Context<'_>, direction: Direction, end: bool) -> Step {
        let limit = usize::try_from(cx.buffer_limit()).unwrap_or(usize::MAX);
        let behind = *slot(&mut self.behind, direction);
        let data = Data {
            end,
            total: cx.body_so_far(direction).saturating_sub(behind),
            limit,
            backlog: self.session.as_ref().is_some_and(|session| session.backlog(limit)),
            bytes: || ours(cx, direction, behind),
        };
        let taken = self.machine.data(direction, data);
        self.hook(cx, direction, taken)
    }

    fn resume(&mut self, cx: &mut Context<'_>, actions: Vec<Action>) -> Resume {
        let outcome = self.carry_out(cx, actions);
        match outcome {
            Outcome { reply: Some(reply), .. } => Resume::Reply(reply),
            Outcome { parts, .. } if !parts.is_empty() => Resume::Send(parts),
            Outcome { request: true, response: true, .. } => Resume::Both,
            Outcome { request: true, .. } => Resume::Request,
            Outcome { response: true, .. } => Resume::Response,
            Outcome { .. } => Resume::Stay,
        }
    }
}

impl HttpStream for Stream {
    type Event = Event;

    fn request_headers(&mut self, cx: &mut Context<'_>, end: bool) -> Step {
        if self.disabled() {
            return Step::Continue;
        }
        let taken = self.machine.headers(Direction::Request, end);
        self.hook(cx, Direction::Request, taken)
    }

    fn request_body(&mut self, cx: &mut Context<'_>, end: bool) -> Step {
        self.data(cx, Direction::Request, end)
    }

    fn request_trailers(&mut self, cx: &mut Context<'_>) -> Step {
        let behind = *slot(&mut self.behind, Direction::Request);
        let taken =
            self.machine.trailers(Direction::Request, || ours(cx, Direction::Request, behind));
        self.hook(cx, Direction::Request, taken)
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, end: bool) -> Step {
        if self.disabled() {
            return Step::Continue;
        }
        let taken = self.machine.headers(Direction::Response, end);
        self.hook(cx, Direction::Response, taken)
    }

    fn response_body(&mut self, cx: &mut Context<'_>, end: bool) -> Step {
        self.data(cx, Direction::Response, end)
    }

    fn response_trailers(&mut self, cx: &mut Context<'_>) -> Step {
        let behind = *slot(&mut self.behind, Direction::Response);
        let taken =
            self.machine.trailers(Direction::Response, || ours(cx, Direction::Response, behind));
        self.hook(cx, Direction::Response, taken)
    }

    fn resumed(&mut self, cx: &mut Context<'_>, direction: Direction) {
        static WARN: Once = Once::new();
        let kept = cx.body_len(Body::buffered(direction));
        *slot(&mut self.behind, direction) = kept;
        if kept > 0 && self.machine.streams(direction) {
            WARN.call_once(|| {
                tracing::warn!(
                    "extproc: a filter behind keeps pieces of a streamed body, and is shown them again: put it before"
                );
            });
        }
    }

    fn event(&mut self, cx: &mut Context<'_>, event: Event) -> Resume {
        let actions = match event {
            Event::Answer(answer) => self.machine.answer(*answer),
            Event::Deadline { direction, number } => self.machine.deadline(direction, number),
            Event::Nudge(direction) => self.machine.nudged(direction),
            Event::Room => self.machine.room(),
            Event::Closed(result) => {
                if let Err(failure) = &result {
                    tracing::debug!(cause = failure.cause(), "extproc: the exchange failed");
                    cx.count_labelled(self.filter.stats.call_failed, failure.cause());
                }
                self.machine.closed(result)
            }
        };
        self.resume(cx, actions)
    }

    fn lost(&mut self, cx: &mut Context<'_>) -> Resume {
        let actions = self.machine.closed(Err(Failure::Lost));
        self.resume(cx, actions)
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        if self.session.take().is_some() {
            cx.count(self.filter.stats.streams_closed);
        }
    }
}
