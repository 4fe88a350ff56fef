//! What an answer of the processor does.

use callout_common::Direction;
use callout_protos::envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
use callout_protos::envoy::service::ext_proc::v3 as proto;
use callout_protos::pbjson_types;
use proto::body_mutation::Mutation;
use proto::common_response::ResponseStatus;
use proto::processing_response::Response;

use super::{
    Action, Arrived, BodyMode, LengthRule, Machine, OutboundMessage, Phase, RouteCache, Stat,
    Target,
};
use callout_common::api::config::duration;

const SPURIOUS: &str = "spurious_message";
const UNHANDLED: &str = "unhandled_message";
const DISABLED: &str = "unhandled_immediate_response_due_to_config_disabled_it";
const NOT_DUPLEX: &str = "spurious_message:_Normal_body_mutation_response_is_received_while_body_mode__is_FULL_DUPLEX_STREAMED";
/// The shortest time that an override may ask for.
const LEAST_TIME: std::time::Duration = std::time::Duration::from_millis(1);

impl Machine {
    /// An answer came.
    pub(crate) fn answer(&mut self, answer: proto::ProcessingResponse) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.finished || self.settings.observability {
            return actions;
        }
        if let Some(time) = &answer.override_message_timeout {
            // It stands alone: whatever else the message holds is passed over.
            self.more_time(time, &mut actions);
            return actions;
        }
        let proto::ProcessingResponse {
            response,
            dynamic_metadata,
            typed_dynamic_metadata,
            mode_override,
            override_message_timeout: _,
            // Of the drain and flow-control extensions, which the built-in does not implement.
            request_drain: _,
            request_drain_requests: _,
            request_drain_responses: _,
            server_window_update: _,
        } = answer;
        let metadata = Action::Metadata { values: dynamic_metadata, typed: typed_dynamic_metadata };
        let part = matches!(response, Some(Response::StreamedImmediateResponse(_)));
        if self.replies() && !part {
            self.spurious(SPURIOUS, &mut actions);
            return actions;
        }
        match response {
            Some(Response::RequestHeaders(headers)) => {
                self.headers_answer(
                    Direction::Request,
                    headers,
                    mode_override,
                    metadata,
                    &mut actions,
                );
            }
            Some(Response::ResponseHeaders(headers)) => {
                self.headers_answer(
                    Direction::Response,
                    headers,
                    mode_override,
                    metadata,
                    &mut actions,
                );
            }
            Some(Response::RequestBody(body)) => {
                self.body_answer(Direction::Request, body, metadata, &mut actions);
            }
            Some(Response::ResponseBody(body)) => {
                self.body_answer(Direction::Response, body, metadata, &mut actions);
            }
            Some(Response::RequestTrailers(trailers)) => {
                self.trailers_answer(Direction::Request, trailers, metadata, &mut actions);
            }
            Some(Response::ResponseTrailers(trailers)) => {
                self.trailers_answer(Direction::Response, trailers, metadata, &mut actions);
            }
            Some(Response::ImmediateResponse(immediate)) => {
                if self.settings.disable_immediate_response {
                    self.spurious(DISABLED, &mut actions);
                } else {
                    self.finished = true;
                    actions.extend([
                        Action::Count(Stat::Received),
                        Action::Count(Stat::Closed),
                        metadata,
                        Action::HalfClose,
                        Action::Immediate(Box::new(immediate)),
                    ]);
                }
            }
            Some(Response::StreamedImmediateResponse(part)) => {
                if self.settings.disable_immediate_response {
                    self.spurious(DISABLED, &mut actions);
                } else {
                    self.reply_part(part, metadata, &mut actions);
                }
            }
            None => match mode_override {
                Some(wanted) => self.override_alone(&wanted, metadata, &mut actions),
                None => self.spurious(UNHANDLED, &mut actions),
            },
        }
        actions
    }

    /// A `mode_override` without an answer beside it: while the request's headers are looked at, a body that
    /// was not to be shown, or piece by piece, goes both ways at once from now on.
    fn override_alone(
        &mut self,
        wanted: &ProcessingMode,
        metadata: Action,
        actions: &mut Vec<Action>,
    ) {
        let direction = Direction::Request;
        let Phase::Headers { end, arrived } = self.side(direction).phase else {
            return self.spurious(UNHANDLED, actions);
        };
        let from = matches!(self.modes.body(direction), BodyMode::None | BodyMode::Streamed);
        let modes = self.modes.overridden(wanted).ok().filter(|modes| {
            from && modes.body(direction) == BodyMode::Duplex && modes.trailers(direction)
        });
        let allowed = |modes: &super::Modes| self.overridable() && self.allows(modes);
        let Some(modes) = modes.filter(allowed) else {
            return self.spurious(UNHANDLED, actions);
        };
        self.modes = self.without_skipped(self.as_far_as_begun(direction, modes));
        actions.push(metadata);
        actions.push(Action::DropContentLength(direction));
        let none = Arrived { some: false, all: false, trailers: false, ..arrived };
        self.enter(direction, Phase::Headers { end, arrived: none });
        let pipe = &mut self.side_mut(direction).pipe;
        (pipe.ended, pipe.trailers) = (arrived.all, arrived.trailers);
        (pipe.held, pipe.parked) = (arrived.some, arrived.some);
        if arrived.some {
            actions.push(Action::TakeParked(direction));
        } else if arrived.trailers {
            actions.push(self.send(direction, OutboundMessage::Trailers));
        }
    }

    /// Whether the configuration lets an answer change the modes.
    fn overridable(&self) -> bool {
        self.settings.allow_mode_override
            && !self.settings.send_body_without_waiting
            && !self.settings.modes.any_duplex()
    }

    /// Whether it lets an answer change them to these.
    fn allows(&self, modes: &super::Modes) -> bool {
        let allowed = &self.settings.allowed_override_modes;
        let fits = |entry: &super::Modes| {
            super::Modes { request_headers: entry.request_headers, ..*modes } == *entry
        };
        allowed.is_empty() || allowed.iter().any(fits)
    }

    /// `override_message_timeout`: once for each outstanding message, within the bounds.
    fn more_time(&mut self, time: &pbjson_types::Duration, actions: &mut Vec<Action>) {
        let most = self.settings.max_message_timeout;
        let within = duration(time, "").ok().filter(|t| (LEAST_TIME..=most).contains(t));
        // What goes both ways at once has no deadline that could be moved.
        let waits = |direction: &Direction| {
            self.side(*direction).outstanding() && self.modes.body(*direction) != BodyMode::Duplex
        };
        let direction = super::BOTH.into_iter().find(waits);
        match (within, direction) {
            (Some(within), Some(direction)) if !self.side(direction).extended => {
                let side = self.side_mut(direction);
                side.extended = true;
                side.number += 1;
                let number = side.number;
                if let Some((oldest, _)) = side.pipe.sent.front_mut() {
                    *oldest = number;
                }
                actions.push(Action::Count(Stat::MoreTime));
                actions.push(Action::MoreTime { direction, number, within });
            }
            _ => actions.push(Action::Count(Stat::MoreTimeIgnored)),
        }
    }

    fn headers_answer(
        &mut self,
        direction: Direction,
        answer: proto::HeadersResponse,
        mode_override: Option<ProcessingMode>,
        metadata: Action,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Headers { end, arrived } = self.side(direction).phase else {
            return self.spurious(SPURIOUS, actions);
        };
        let before = self.modes.body(direction);
        if let Some(wanted) = mode_override
            && self.overridable()
        {
            match self.modes.overridden(&wanted) {
                Ok(modes) if self.allows(&modes) => {
                    self.modes = self.without_skipped(self.as_far_as_begun(direction, modes));
                }
                Ok(_) => {}
                Err(_) => return self.spurious(UNHANDLED, actions),
            }
        }
        actions.extend([Action::Count(Stat::Received), metadata]);
        let common = answer.response.unwrap_or_default();
        let replaces = common.status == i32::from(ResponseStatus::ContinueAndReplace);
        self.route_cache(direction, &common, actions);
        let mutation = common.header_mutation.unwrap_or_default();
        actions.push(Action::Edit { direction, target: Target::Headers { replaces }, mutation });

        if replaces {
            actions.push(Action::DropContentLength(direction));
            self.enter(direction, Phase::Done);
            if let Some(bytes) = common.body_mutation.and_then(replacement) {
                actions.push(Action::PutBody(direction, bytes));
                self.enter(direction, Phase::Replaced);
            }
            actions.push(Action::Release(direction));
            return;
        }
        if self.drops_length(direction) {
            actions.push(Action::DropContentLength(direction));
        }
        self.side_mut(direction).unchecked_length = self.length_rule(direction) == LengthRule::Free;
        // Trailers that came without any body leave nothing to show of it.
        let bodiless = end || (arrived.trailers && !arrived.some);
        let whole = arrived.all || arrived.trailers;
        match self.modes.body(direction) {
            BodyMode::None => {}
            _ if bodiless => {}
            _ if self.never_whole(direction) => {
                actions.push(Action::Count(Stat::Closed));
                return self.refuse_endless(actions);
            }
            BodyMode::Buffered | BodyMode::Partial if arrived.skipped => {
                actions.push(Action::Count(Stat::BodySkipped));
            }
            BodyMode::Duplex => {
                // Pieces that came before this mode was in force are still with Envoy.
                let pipe = &mut self.side_mut(direction).pipe;
                pipe.ended |= arrived.all;
                pipe.trailers |= arrived.trailers;
                return self.duplex_from_headers(direction, arrived.some, actions);
            }
            // A body that is there already is one message in every mode.
            _ if whole => {
                let trailers = arrived.trailers;
                self.enter(direction, Phase::Body { trailers, partial: false });
                return actions
                    .push(self.send(direction, OutboundMessage::Body { end: !trailers }));
            }
            BodyMode::Streamed => {
                return self.stream_from_headers(direction, arrived.some, actions);
            }
            BodyMode::Partial if arrived.over => {
                self.enter(direction, Phase::Body { trailers: false, partial: true });
                return actions.push(self.send(direction, OutboundMessage::Body { end: false }));
            }
            // Over the limit Envoy does not read on where it was to hold the body back: the end would never
            // come. A body that it was to keep whole it refuses itself.
            BodyMode::Buffered if arrived.over && before != BodyMode::Buffered => {
                return actions.extend(self.reject_body(direction));
            }
            BodyMode::Buffered | BodyMode::Partial => {
                return self.enter(direction, Phase::Gather { held: true });
            }
        }
        self.restore_length(direction, actions);
        if arrived.trailers && self.modes.trailers(direction) {
            actions.push(self.send_trailers(direction));
            return;
        }
        let ended = end || arrived.all || arrived.trailers;
        let phase = if ended { Phase::Done } else { self.after_body(direction) };
        self.enter(direction, phase);
        actions.push(Action::Release(direction));
    }

    /// These modes, but for the direction other than `answered` its own, if it has begun: what is under
    /// way goes on as it is.
    fn as_far_as_begun(&self, answered: Direction, modes: super::Modes) -> super::Modes {
        let super::Modes {
            request_body, response_body, request_trailers, response_trailers, ..
        } = self.modes;
        let begun = |direction: Direction| self.side(direction).phase != Phase::Start;
        match answered {
            Direction::Response if begun(Direction::Request) => {
                super::Modes { request_body, request_trailers, ..modes }
            }
            Direction::Request if begun(Direction::Response) => {
                super::Modes { response_body, response_trailers, ..modes }
            }
            _ => modes,
        }
    }

    fn body_answer(
        &mut self,
        direction: Direction,
        answer: proto::BodyResponse,
        metadata: Action,
        actions: &mut Vec<Action>,
    ) {
        let common = answer.response.unwrap_or_default();
        let (trailers, partial) = match self.side(direction).phase {
            Phase::Body { trailers, partial } => (trailers, partial),
            Phase::Streaming if self.side(direction).outstanding() => {
                actions.extend([Action::Count(Stat::Received), metadata]);
                // Header edits come too late here, as in the built-in.
                self.stream_answer(direction, common, actions);
                return;
            }
            Phase::Duplex => {
                let mutation = common.body_mutation.and_then(|mutation| mutation.mutation);
                let Some(Mutation::StreamedResponse(output)) = mutation else {
                    return self.spurious(NOT_DUPLEX, actions);
                };
                let received = actions.len();
                actions.extend([Action::Count(Stat::Received), metadata]);
                if !self.duplex_answer(direction, output, actions) {
                    actions.truncate(received);
                    self.spurious(SPURIOUS, actions);
                }
                return;
            }
            _ => return self.spurious(SPURIOUS, actions),
        };
        actions.extend([Action::Count(Stat::Received), metadata]);
        self.route_cache(direction, &common, actions);
        let headers_held = self.side(direction).headers_sent;
        if headers_held {
            let mutation = common.header_mutation.unwrap_or_default();
            let target = Target::Headers { replaces: false };
            actions.push(Action::Edit { direction, target, mutation });
        }
        if let Some(bytes) = common.body_mutation.and_then(replacement) {
            actions.push(Action::ReplaceBody(direction, bytes));
        }
        if headers_held && self.length_rule(direction) == LengthRule::Free {
            // Of a part of a body nobody knows the rest; the configuration lets it go.
            self.side_mut(direction).unchecked_length = false;
            if !partial {
                actions.push(Action::CheckLength(direction));
            }
        }
        if trailers && self.modes.trailers(direction) {
            actions.push(self.send_trailers(direction));
            return;
        }
        let phase = if partial { self.after_body(direction) } else { Phase::Done };
        self.enter(direction, phase);
        actions.push(Action::Release(direction));
    }

    fn trailers_answer(
        &mut self,
        direction: Direction,
        answer: proto::TrailersResponse,
        metadata: Action,
        actions: &mut Vec<Action>,
    ) {
        let side = self.side(direction);
        let duplex = side.phase == Phase::Duplex && side.pipe.trailers;
        if side.phase != Phase::Trailers && !duplex {
            return self.spurious(SPURIOUS, actions);
        }
        actions.extend([Action::Count(Stat::Received), metadata]);
        let mutation = answer.header_mutation.unwrap_or_default();
        actions.push(Action::Edit { direction, target: Target::Trailers, mutation });
        self.stream_rest(direction, actions);
        // Where pieces go on by themselves, the configuration lets the length go.
        self.side_mut(direction).unchecked_length = false;
        self.enter(direction, Phase::Done);
        actions.push(Action::Release(direction));
    }

    fn route_cache(
        &self,
        direction: Direction,
        common: &proto::CommonResponse,
        actions: &mut Vec<Action>,
    ) {
        if direction == Direction::Response {
            return;
        }
        let edits = common.header_mutation.is_some();
        match self.settings.route_cache {
            RouteCache::Clear if edits => actions.push(Action::ClearRouteCache),
            RouteCache::Default if common.clear_route_cache && edits => {
                actions.push(Action::ClearRouteCache);
            }
            RouteCache::Default if common.clear_route_cache => {
                actions.push(Action::Count(Stat::ClearRouteIgnored));
            }
            RouteCache::Retain if common.clear_route_cache => {
                actions.push(Action::Count(Stat::ClearRouteDisabled));
            }
            RouteCache::Clear | RouteCache::Default | RouteCache::Retain => {}
        }
    }
}

/// The new body, if the mutation makes one. `streamed_response` belongs to a mode that is not in
/// force, and has no effect, as in the built-in.
pub(super) fn replacement(mutation: proto::BodyMutation) -> Option<Vec<u8>> {
    match mutation.mutation? {
        Mutation::Body(bytes) => Some(bytes),
        Mutation::ClearBody(clear) => clear.then(Vec::new),
        Mutation::StreamedResponse(_) => None,
    }
}
