//! One exchange: feeds hooks and answers to the machine.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use callout_common::api::config::since_epoch;
use callout_common::grpc::circuit_breaker::Permit;
use callout_common::grpc::{CallError, Failure};
use callout_common::{Direction, EventAction, HookStatus, HttpStream, StreamContext, Timer};
use callout_protos::envoy::service::ext_proc::v3::ProcessingResponse;

use crate::ExtProc;
use crate::access_log::AccessLogRecord as Record;
use crate::apply::body::Bodies;
use crate::apply::chain::{Member, Share};
use crate::apply::outlet::{Outlet, left_behind};
use crate::apply::{Outcome, headers_of, of_direction, trailers_of};
use crate::call::exchange::Exchange;
use crate::config::{Config, MetadataOptions, Namespaces, Overrides, Route};
use crate::decide::length::Lengths;
use crate::decide::machine::{Action, Data, Machine, OverflowPolicy, PieceStatus};
use crate::decide::skip::has_type;
use crate::request::upgrade::is_upgraded;

/// What comes from off the worker.
#[derive(Debug)]
pub enum Event {
    Answer(Box<ProcessingResponse>),
    Closed(Result<(), Failure>),
    Deadline {
        direction: Direction,
        number: u64,
    },
    Wakeup(Direction),
    /// Small pieces have waited long enough for others.
    Gathered(Direction),
    /// The exchange failed before any answer, and is begun again.
    Retried,
    /// The processor has caught up with what was sent to it.
    Room,
    /// Another filter of the chain has taken its pieces out of Envoy's buffer.
    ChainMoved,
}

pub(crate) type Context<'a> = StreamContext<'a, Event>;

/// One exchange.
#[derive(Debug)]
pub struct Stream {
    pub(crate) filter: Arc<ExtProc>,
    route: Option<Arc<Route>>,
    pub(crate) machine: Machine,
    pub(crate) session: Option<Exchange>,
    /// The breaker's leave for the exchange.
    pub(crate) permit: Option<Permit>,
    /// A message went to the processor.
    pub(crate) opened: bool,
    pub(crate) attributes_sent: [bool; 2],
    /// Bytes of the body in the latest message, of the request and of the response.
    pub(crate) shown: [usize; 2],
    /// Bytes that Envoy keeps for this filter, of the request and of the response.
    pub(crate) kept: [usize; 2],
    /// Bytes that it keeps for others: there is one buffer for all filters.
    pub(crate) shares: [Share; 2],
    pub(crate) lengths: Lengths,
    /// When what was asked has to be answered, of the request and of the response.
    pub(crate) deadlines: [Timer<Event>; 2],
    /// How long pieces and output wait for others.
    pub(crate) gathers: [Timer<Event>; 2],
    pub(crate) outlets: [Outlet; 2],
    /// The place among the filters of this library in the chain.
    pub(crate) member: Option<Member>,
    /// The connection becomes something else, in which a piece may be empty.
    pub(crate) upgraded: bool,
    /// When the request began, since 1970.
    pub(crate) began: Duration,
    pub(crate) outcome: Record,
    /// The first headers were looked at.
    looked_at: bool,
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
            permit: None,
            opened: false,
            attributes_sent: [false; 2],
            shown: [0; 2],
            kept: [0; 2],
            shares: [Share::default(); 2],
            lengths: Lengths::default(),
            deadlines: Default::default(),
            gathers: Default::default(),
            outlets: Default::default(),
            member: None,
            upgraded: false,
            began: since_epoch(SystemTime::now()),
            outcome: Record::default(),
            looked_at: false,
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
        (actions, stance): (Vec<Action>, PieceStatus),
    ) -> HookStatus {
        let Outcome { reply, mut bodies, .. } = self.apply(cx, actions);
        if let Some(reply) = reply {
            return HookStatus::Reply(reply);
        }
        let status = self.status(cx, direction, stance, &mut bodies);
        let share = *of_direction(&mut self.shares, direction);
        self.keep(direction, left_behind(cx, direction, &status, &bodies, share));
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
            self.note_piece(cx, direction, true);
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
        // With trailers that are there already no other piece follows, and their hook may not either.
        self.note_piece(cx, direction, end || trailers);
        let data = Data {
            end,
            trailers,
            total: Bodies::default().our_len(cx, direction, share),
            limit,
            backlog: self.session.as_ref().is_some_and(|session| session.backlog(limit)),
            bytes: || Bodies::default().our_body(cx, direction, share),
        };
        let taken = self.machine.data(direction, data);
        self.hook(cx, direction, taken)
    }

    /// The processor did not answer.
    fn record_timeout(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.failed(Instant::now());
        }
    }

    /// The processor is there.
    fn spoke(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.answered();
        }
    }

    /// What the end of the exchange says of the processor; nothing where this side ended it before.
    fn ended(&mut self, cx: &mut Context<'_>, result: &Result<(), Failure>) {
        if let Err(failure) = result {
            tracing::debug!(cause = failure.cause(), "extproc: the exchange failed");
            cx.count_labelled(self.filter.stats.call_failed, failure.cause());
        }
        match result {
            _ if self.session.is_none() => {}
            Err(Failure::Call(error)) if error.is_silence() => self.record_timeout(),
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
        let Outcome { request, response, reply, parts, bodies } = outcome;
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

    fn request_headers(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.headers(cx, Direction::Request, end)
    }

    fn request_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.data(cx, Direction::Request, end)
    }

    fn request_trailers(&mut self, cx: &mut Context<'_>) -> HookStatus {
        self.look(cx, Direction::Request, false);
        let share = *of_direction(&mut self.shares, Direction::Request);
        let our_body = || Bodies::default().our_body(cx, Direction::Request, share);
        let taken = self.machine.trailers(Direction::Request, our_body);
        self.hook(cx, Direction::Request, taken)
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.headers(cx, Direction::Response, end)
    }

    fn response_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        self.data(cx, Direction::Response, end)
    }

    fn response_trailers(&mut self, cx: &mut Context<'_>) -> HookStatus {
        self.look(cx, Direction::Response, false);
        let share = *of_direction(&mut self.shares, Direction::Response);
        let our_body = || Bodies::default().our_body(cx, Direction::Response, share);
        let taken = self.machine.trailers(Direction::Response, our_body);
        self.hook(cx, Direction::Response, taken)
    }

    fn resumed(&mut self, cx: &mut Context<'_>, direction: Direction) {
        self.look_again(cx, direction);
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
                    self.record_timeout();
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
            Event::ChainMoved => Vec::new(),
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
        if self.session.take().is_some() {
            cx.count(self.filter.stats.streams_closed);
        }
        if self.looked_at {
            self.outcome.record(cx);
        }
    }
}

/// Whether the connection is to become something else.
fn upgrades(cx: &Context<'_>) -> bool {
    cx.request().get("upgrade").is_some() || cx.request().get(":method") == Some(b"CONNECT")
}

#[cfg(test)]
mod tests;
