//! Carries out what the machine wants done.

pub(crate) mod body;
pub(crate) mod direction;
pub(crate) mod length;
pub(crate) mod state;
pub(crate) mod chain;
pub(crate) mod flush;
pub(crate) mod outlet;
pub(crate) mod router;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Buf;
use callout_common::envoy::types::{Body, MetadataSource};
use callout_common::filter::trace::CallSpan;
use callout_common::grpc::circuit_breaker::Permit;
use callout_common::grpc::{CallError, Calls, Failure, Service};
use callout_common::{Direction, Map, Reply, ReplyPart};
use callout_protos::envoy::config::core::v3::Metadata;
use callout_protos::envoy::service::ext_proc::v3::HeaderMutation;
use callout_protos::pbjson_types::{Any, Struct, value::Kind};
use prost::Message;

use self::direction::{headers_of, of_direction, trailers_of};
use crate::apply::body::Bodies;
use crate::apply::state::Stream;
use crate::call::event::{Context, Event};
use crate::call::exchange::{Exchange, Place};
use crate::decide::endpoint::Picked;
use crate::decide::immediate;
use crate::decide::machine::{Action, LengthRule, OutboundMessage, Target};
use crate::decide::mutate;
use crate::decide::mutate::{Kind as MessageKind, Length};
use crate::request::attributes::Attributes;
use crate::request::message;
use crate::request::message::MessageContext;

/// What is called.
const METHOD: &str = "envoy.service.ext_proc.v3.ExternalProcessor.Process";

/// What actions came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) request: bool,
    pub(crate) response: bool,
    pub(crate) reply: Option<Reply>,
    /// Parts of a reply, in order.
    pub(crate) parts: Vec<ReplyPart>,
    /// What becomes of the bodies, before anything else.
    pub(crate) bodies: Bodies,
}

impl Outcome {
    pub(crate) const fn goes(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.request,
            Direction::Response => self.response,
        }
    }

    /// Whether Envoy is told that `direction` goes on.
    pub(crate) const fn released(&mut self, direction: Direction, goes: bool) {
        match direction {
            Direction::Request => self.request |= goes,
            Direction::Response => self.response |= goes,
        }
    }
}

/// Why an action can't be carried out.
enum Rejected {
    /// The answer asks for what may not be, in the words of the details.
    Answer(&'static str),
    /// The body of this direction is longer than Envoy may buffer.
    TooLong(Direction),
    /// The processor can't be told what it should be, because that can't be read.
    Untold,
}

impl Stream {
    /// Carries actions out in order. One that can't be ends the exchange.
    pub(crate) fn apply(&mut self, cx: &mut Context<'_>, actions: Vec<Action>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            if let Action::TakeParked(direction) = action {
                let share = *of_direction(&mut self.shares, direction);
                let bytes = outcome.bodies.take(cx, direction, share);
                // What comes of it comes before the rest.
                for action in self.machine.stream_taken(direction, bytes).into_iter().rev() {
                    queue.push_front(action);
                }
            } else if let Err(rejected) = self.act(cx, action, &mut outcome) {
                outcome = Outcome::default();
                queue = match rejected {
                    Rejected::Answer(details) => self.machine.rejected(details),
                    Rejected::TooLong(direction) => self.machine.too_long_an_answer(direction),
                    Rejected::Untold => self.machine.untold(),
                }
                .into();
            }
        }
        outcome
    }

    fn act(
        &mut self,
        cx: &mut Context<'_>,
        action: Action,
        outcome: &mut Outcome,
    ) -> Result<(), Rejected> {
        let stats = self.filter.stats;
        match action {
            Action::Send { direction, what, number, within } => {
                self.send(cx, direction, what, &outcome.bodies)?;
                if let Some(within) = within {
                    self.set_deadline(cx, direction, number, within);
                }
            }
            Action::MoreTime { direction, number, within } => {
                self.set_deadline(cx, direction, number, within);
            }
            Action::Edit { direction, target, mutation } => {
                self.edit(cx, direction, target, mutation).map_err(Rejected::Answer)?;
            }
            Action::DropContentLength(direction) => {
                cx.headers_mut(headers_of(direction)).remove("content-length");
            }
            Action::ReplaceBody(direction, bytes) => {
                let share = *of_direction(&mut self.shares, direction);
                let shown = *of_direction(&mut self.shown, direction);
                let mut rest = outcome.bodies.take(cx, direction, share);
                rest.advance(shown.min(rest.len()));
                outcome.bodies.append(cx, direction, &bytes, share);
                outcome.bodies.append(cx, direction, &rest, share);
            }
            Action::PutBody(direction, bytes) => {
                // With something in its buffer Envoy itself looks at the limit, if it is to be kept.
                let limit = usize::try_from(cx.buffer_limit()).unwrap_or(usize::MAX);
                let first = cx.body_len(Body::buffered(direction)) == 0;
                if first && limit > 0 && bytes.len() > limit {
                    return Err(Rejected::TooLong(direction));
                }
                let share = *of_direction(&mut self.shares, direction);
                outcome.bodies.take(cx, direction, share);
                outcome.bodies.append(cx, direction, &bytes, share);
            }
            Action::TakeBody(direction) => {
                let share = *of_direction(&mut self.shares, direction);
                outcome.bodies.take(cx, direction, share);
            }
            Action::AppendBody(direction, bytes) => self.outlet(direction).push(&bytes),
            Action::PrependBody(direction, bytes) => {
                let share = *of_direction(&mut self.shares, direction);
                let rest = outcome.bodies.take(cx, direction, share);
                self.outlet(direction).push(&bytes);
                self.outlet(direction).push(&rest);
            }
            Action::Failed(cause) => self.outcome.failed(cause),
            Action::Gather(direction, delay) => {
                let timer = of_direction(&mut self.gathers, direction);
                cx.set_timer(timer, delay, Event::Gathered(direction));
            }
            Action::Wakeup(direction) => {
                // A stream that has ended needs none.
                let _ = cx.outbox().send(Event::Wakeup(direction));
            }
            // Carried out by the caller, because of what follows from it.
            Action::TakeParked(_) => {}
            Action::CheckLength(direction) => {
                let body = outcome.bodies.len(cx, direction);
                if !length::fits(cx.headers(headers_of(direction)), body) {
                    return Err(Rejected::Answer(
                        "mismatch_between_content_length_and_the_length_of_the_mutated_body",
                    ));
                }
            }
            Action::RestoreLength(direction) => self.lengths.restore(cx, direction),
            Action::ClearRouteCache => cx.clear_route_cache(),
            Action::Metadata { values, typed } => {
                let choice = self.config().callout.override_host.as_ref();
                let picked = choice.map(|choice| choice.by_metadata(values.as_ref()));
                self.pick(cx, picked).map_err(Rejected::Answer)?;
                self.keep_metadata(cx, values, &typed);
            }
            Action::Count(stat) => cx.count(stats.of(stat)),
            Action::Release(direction) => {
                let goes = self.let_go(cx, direction, &mut outcome.bodies);
                outcome.released(direction, goes);
            }
            Action::Reply(reply) => {
                self.outcome.refused();
                cx.count(stats.immediate_responses_sent);
                outcome.reply = Some(reply);
            }
            Action::Immediate(answer) => {
                let (reply, rejected) = immediate::reply(
                    *answer,
                    &self.config().mutation_rules,
                    self.config().callout.append_action,
                )
                .map_err(Rejected::Answer)?;
                cx.count_by(stats.rejected_header_mutations, rejected);
                cx.count(stats.immediate_responses_sent);
                outcome.reply = Some(reply);
            }
            Action::Part(part) => {
                let part = immediate::part(*part).map_err(Rejected::Answer)?;
                if matches!(part, ReplyPart::Headers { .. }) {
                    cx.count(stats.immediate_responses_sent);
                }
                outcome.parts.push(part);
            }
            Action::HalfClose => {
                self.session = None;
                // Nothing is outstanding any more.
                for timer in self.deadlines.iter_mut().chain(&mut self.gathers) {
                    timer.cancel();
                }
            }
        }
        Ok(())
    }

    fn set_deadline(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        number: u64,
        within: Duration,
    ) {
        let timer = of_direction(&mut self.deadlines, direction);
        cx.set_timer(timer, within, Event::Deadline { direction, number });
    }

    /// Shows a piece to the processor, which the metadata goes with.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        what: OutboundMessage,
        bodies: &Bodies,
    ) -> Result<(), Rejected> {
        let forward = &self.config().forward;
        let sent = what.clone();
        let request = match what {
            OutboundMessage::Headers { end } => {
                let lines = cx.headers(headers_of(direction)).all();
                message::of_headers(direction, message::headers(&lines, forward), end)
            }
            OutboundMessage::Trailers => {
                let lines = cx.headers(trailers_of(direction)).all();
                message::of_trailers(direction, message::headers(&lines, forward))
            }
            OutboundMessage::Body { end } => {
                let body =
                    bodies.our_body(cx, direction, *of_direction(&mut self.shares, direction));
                *of_direction(&mut self.shown, direction) = body.len();
                message::of_body(direction, body, end)
            }
            OutboundMessage::Piece { bytes, end } => message::of_body(direction, bytes, end),
        };
        let attributes = self.attributes(cx, direction);
        let settings = &self.config().settings;
        let exchange = if settings.observability {
            MessageContext::Observed
        } else if self.opened {
            MessageContext::Later
        } else {
            MessageContext::First(self.machine.modes(), settings.send_body_without_waiting)
        };
        self.outcome.sent(direction, &sent);
        let message = message::message(request, self.metadata(cx), attributes, exchange);
        self.told(cx)?;
        if self.session.is_none() && !self.opened {
            self.open(cx);
            self.told(cx)?;
        }
        self.opened = true;
        if let Some(session) = &self.session {
            session.send(&message);
            cx.count(self.filter.stats.stream_msgs_sent);
        }
        Ok(())
    }

    /// Whether the processor can be told all that it should be, so far; what can't be read is counted.
    fn told(&self, cx: &mut Context<'_>) -> Result<(), Rejected> {
        let unreadable = &self.filter.unreadable;
        let refused = unreadable.refuses(cx.unread()) && !self.config().settings.observability;
        unreadable.count(cx);
        if refused { Err(Rejected::Untold) } else { Ok(()) }
    }

    fn open(&mut self, cx: &mut Context<'_>) {
        let overrides = self.overrides();
        let service: &Service = overrides
            .and_then(|overrides| overrides.service.as_ref())
            .unwrap_or_else(|| &self.config().service);
        let mut metadata = service.metadata.fill(|operator| cx.operator(operator));
        if let Some(overrides) = overrides {
            overrides.initial_metadata.fill_over(&mut metadata, |operator| cx.operator(operator));
        }
        let client = service.client.clone().with_cluster_streams(&self.filter.clusters);
        let (place, permit) = match self.admitted(cx) {
            Ok(admitted) => admitted,
            Err(error) => {
                // As an event: a hook can't let go what it is about to hold.
                let _ = cx.outbox().send(Event::Closed(Err(Failure::Call(error))));
                return;
            }
        };
        let emitted = overrides
            .and_then(|overrides| overrides.emit_client_span)
            .unwrap_or_else(|| self.config().emit_client_span);
        let span = CallSpan::begin(cx, emitted, (METHOD, &service.name));
        span.lines(cx).add_to(&mut metadata);
        self.span = Some(span);
        self.permit = Some(permit);
        let on_worker = self.config().callout.calls == Calls::Worker && client.runs_on_workers();
        let (session, work) =
            Exchange::new(client, metadata, self.config().linger, place, cx.outbox());
        if on_worker {
            cx.spawn_detached_on_worker(work);
        } else {
            cx.spawn_detached(work);
        }
        cx.count(self.filter.stats.streams_started);
        self.session = Some(session);
    }

    /// A place for the exchange, and the breaker's leave: that comes last, since a trial is to be made.
    fn admitted(&self, cx: &mut Context<'_>) -> Result<(Place, Permit), CallError> {
        let Some(place) = self.filter.places.take() else {
            cx.count(self.filter.stats.too_many_streams);
            return Err(CallError::TooMany);
        };
        let Some(breaker) = &self.filter.breaker else { return Ok((place, Permit::free())) };
        let Some(permit) = breaker.enter(Instant::now()) else {
            cx.count(self.filter.stats.breaker_open);
            return Err(CallError::BreakerOpen);
        };
        Ok((place, permit))
    }

    /// The attributes of `direction`, with its first message.
    fn attributes(&mut self, cx: &Context<'_>, direction: Direction) -> Option<Struct> {
        let [request, response] = &mut self.attributes_sent;
        let sent = match direction {
            Direction::Request => request,
            Direction::Response => response,
        };
        if std::mem::replace(sent, true) {
            return None;
        }
        let chosen = |own: Option<&Attributes>, filter: &Attributes| {
            own.unwrap_or(filter).values(cx, self.began)
        };
        let overrides = self.overrides();
        match direction {
            Direction::Request => chosen(
                overrides.and_then(|overrides| overrides.request_attributes.as_ref()),
                &self.config().request_attributes,
            ),
            Direction::Response => chosen(
                overrides.and_then(|overrides| overrides.response_attributes.as_ref()),
                &self.config().response_attributes,
            ),
        }
    }

    /// `metadata_context`: the cluster's metadata, under the stream's own.
    fn metadata(&self, cx: &Context<'_>) -> Metadata {
        let mut context = Metadata::default();
        for (source, namespaces) in [
            (MetadataSource::Cluster, self.namespaces(|options| options.cluster.as_ref())),
            (MetadataSource::Dynamic, self.namespaces(|options| options.forwarding.as_ref())),
        ] {
            if let Some(namespaces) = namespaces {
                cx.metadata(source).collect(&namespaces.untyped, &namespaces.typed, &mut context);
            }
        }
        context
    }

    /// Keeps what the configuration wants of an answer's metadata: each top-level key is a
    /// namespace.
    fn keep_metadata(
        &self,
        cx: &mut Context<'_>,
        values: Option<Struct>,
        typed: &HashMap<String, Any>,
    ) {
        let Some(wanted) = self.namespaces(|options| options.receiving.as_ref()) else { return };
        let mut metadata = cx.metadata_mut();
        for (namespace, value) in values.into_iter().flat_map(|values| values.fields) {
            if wanted.untyped.contains(&namespace) {
                let values = match value.kind {
                    Some(Kind::StructValue(values)) => values,
                    _ => Struct::default(),
                };
                metadata.merge_struct(&namespace, &values);
            }
        }
        for (namespace, value) in typed {
            if wanted.typed.contains(namespace) {
                metadata.set_typed(namespace, &value.encode_to_vec());
            }
        }
    }

    /// Has the request sent to the endpoint that an answer picked.
    fn pick(&self, cx: &mut Context<'_>, picked: Option<Picked>) -> Result<(), &'static str> {
        let stats = self.filter.stats;
        let strict = self.config().callout.override_host.as_ref().is_some_and(|one| one.strict);
        match picked {
            None | Some(Picked::Nothing) => return Ok(()),
            Some(Picked::Endpoint(host)) if cx.set_override_host(host, strict) => {
                cx.count(stats.endpoint_picked);
                return Ok(());
            }
            Some(Picked::Endpoint(_) | Picked::Invalid) => cx.count(stats.endpoint_invalid),
        }
        if strict { Err("ext_proc_endpoint_is_not_an_address") } else { Ok(()) }
    }

    fn edit(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        target: Target,
        mutation: HeaderMutation,
    ) -> Result<(), &'static str> {
        let (map, kind) = match (target, direction) {
            (Target::Headers { replaces }, Direction::Request) => {
                (Map::Request, MessageKind::Request { method: replaces })
            }
            (Target::Headers { .. }, Direction::Response) => (Map::Response, MessageKind::Response),
            (Target::Trailers, _) => (trailers_of(direction), MessageKind::Trailers),
        };
        if matches!(target, Target::Headers { .. }) {
            self.lengths.remember(direction, cx.headers(map));
        }
        let held = cx.headers(map).get("content-length").map(<[u8]>::to_vec);
        let length = match target {
            Target::Headers { replaces: true } | Target::Trailers => Length::Dropped,
            Target::Headers { .. } => match self.machine.length_rule(direction) {
                LengthRule::Free => Length::Checked,
                LengthRule::Fixed => Length::Fixed(held.as_deref()),
                LengthRule::Dropped => Length::Dropped,
            },
        };
        let plan = mutate::plan(
            mutation,
            &self.config().mutation_rules,
            kind,
            length,
            self.config().callout.append_action,
        )?;
        cx.count_by(self.filter.stats.rejected_header_mutations, plan.rejected);
        if map == Map::Request
            && let Some(choice) = &self.config().callout.override_host
        {
            self.pick(cx, Some(choice.by_headers(&plan.ops)))?;
        }
        if plan.ops.is_empty() {
            return Ok(());
        }
        let before = cx.headers(map).size();
        let mut headers = cx.headers_mut(map);
        for mutation in &plan.ops {
            mutation.apply(&mut headers);
        }
        let limits = &self.config().callout.header_limits;
        let limits = match direction {
            Direction::Request => limits.request(),
            Direction::Response => limits.response(cx.cluster_name()),
        };
        if cx.headers(map).size().is_within(limits, before) {
            Ok(())
        } else {
            Err("header_mutation_result_exceeds_limit")
        }
    }
}
