//! One request: decides about its descriptors by what is known, or asks the service, and does what
//! the answer says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use callout_common::api::format::CommandOperator;
use callout_common::filter::call_stats::Waiting;
use callout_common::grpc::circuit_breaker::Permit;
use callout_common::grpc::{CallError, Calls, Failure, MetadataMap};
use callout_common::{
    Body, Direction, EventAction, HookStatus, HttpStream, StopMode, StreamContext,
};
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tokio::sync::oneshot;

use crate::RateLimit;
use crate::access_log;
use crate::access_log::Source;
use crate::call;
use crate::call::{CheckCall, CheckResult};
use crate::config::rules::Policy;
use crate::config::{Config, Route};
use crate::decide::verdict::{
    Decision, LIMITED_DETAILS, Sampling, Verdict, decide, limited, refusal,
};
use crate::memory::key::Key;
use crate::memory::ledger::{
    Admission, BackgroundCall, Batch, LeaseConfig, Mode, Next, Quota, Unknown,
};
use crate::memory::local::Size;
use crate::memory::replay::{own, replayed};
use crate::request::traffic::Traffic;
use crate::request::view::View;
use crate::request::{Descriptor, DescriptorEntry, Limit, descriptors};
use callout_common::http::mutation::Lines;

/// Filter-state key by which another filter sets the hits of the whole request.
const HITS_ADDEND: &str = "envoy.ratelimit.hits_addend";

pub(crate) type Context<'a> = StreamContext<'a, CheckResult>;

/// One request.
#[derive(Debug)]
pub struct Stream {
    filter: Arc<RateLimit>,
    route: Option<Arc<Route>>,
    state: State,
    /// Lines to add to the response, once the request is allowed.
    response: Lines,
    /// The request was looked at, so that it may count at its end, too.
    counts_when_done: bool,
    /// The bytes of its bodies matter.
    counts_bytes: bool,
    traffic: Traffic,
}

#[derive(Debug)]
enum State {
    Idle,
    /// The call is under way.
    Waiting(Waiting, Asked),
}

/// What was asked, as far as it matters when the answer comes.
#[derive(Debug)]
struct Asked {
    question: Arc<CheckCall>,
    handling: Policy,
    /// `x_ratelimit_option` of each descriptor.
    shown: Vec<Option<bool>>,
    /// The name of the set of descriptors, and the limit that the service told of last.
    key: Option<Key>,
    quota: Option<Quota>,
}

impl Stream {
    pub(crate) fn new(filter: Arc<RateLimit>, route: Option<Arc<Route>>) -> Self {
        let (state, response) = (State::Idle, Lines::new());
        let traffic = Traffic::begin(Instant::now());
        let (counts_when_done, counts_bytes) = (false, false);
        Self { filter, route, state, response, counts_when_done, counts_bytes, traffic }
    }

    fn config(&self) -> &Config {
        &self.filter.config
    }

    /// The route's limits, if it has any; else the filter's.
    fn limits(&self) -> &[Limit] {
        match self.route.as_deref() {
            Some(route) if !route.limits.is_empty() => &route.limits,
            _ => &self.config().limits,
        }
    }

    /// The descriptors for the end of the stream if `done`, else those for now.
    fn descriptors(&self, cx: &Context<'_>, done: bool) -> DescriptorEntry {
        descriptors(self.limits(), &View { cx, traffic: self.traffic }, done)
    }

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

    /// The message about `descriptors`; `None` when there are none, and so nothing to ask.
    fn message(&self, cx: &Context<'_>, descriptors: Vec<Descriptor>) -> Option<RateLimitRequest> {
        if descriptors.is_empty() {
            return None;
        }
        let domain = match self.route.as_deref() {
            Some(route) if !route.domain.is_empty() => &route.domain,
            _ => &self.config().domain,
        };
        Some(RateLimitRequest {
            domain: domain.clone(),
            descriptors: descriptors.into_iter().map(|descriptor| descriptor.message).collect(),
            hits_addend: cx
                .filter_state(HITS_ADDEND)
                .and_then(|text| String::from_utf8(text).ok())
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
        })
    }

    /// The metadata of a call, with what it quotes of the request.
    fn metadata(&self, cx: &Context<'_>) -> MetadataMap {
        self.config().service.metadata.fill(|operator| cx.operator(operator))
    }

    /// What holds for `message`.
    fn handling(&self, message: &RateLimitRequest) -> Policy {
        let callout = &self.config().callout;
        let mode = self.route.as_deref().and_then(|route| route.mode).unwrap_or(callout.terms.mode);
        Policy::of(&callout.rules, &message.descriptors, mode, callout.shadow)
    }

    /// Under which terms calls about `message` may be saved.
    fn terms(&self, message: &RateLimitRequest, mode: Mode) -> LeaseConfig {
        let mode = match mode {
            // What is left unspent of a limit that several sets share would add up.
            Mode::Lease | Mode::Async if message.descriptors.len() > 1 => Mode::CacheOverLimit,
            mode => mode,
        };
        LeaseConfig { mode, ..self.config().callout.terms }
    }

    /// Decides about the request, or asks the service and holds it.
    fn check(
        &mut self,
        cx: &mut Context<'_>,
        message: RateLimitRequest,
        metadata: MetadataMap,
        shown: Vec<Option<bool>>,
    ) -> HookStatus {
        let filter = Arc::clone(&self.filter);
        let stats = filter.stats;
        cx.count(stats.requests);
        let handling = self.handling(&message);
        let terms = self.terms(&message, handling.mode);
        // Requests that only something unreadable tells apart share nothing.
        let told = cx.unread().count() == 0;
        let key = (told && one_hit(&message) && filter.config.callout.remembers(terms.mode))
            .then(|| call::key(&message, &metadata));
        let now = Instant::now();
        let next = key.map(|key| (key, filter.ledger.turn(key, now, &terms)));
        let account = next.as_ref().and_then(|(key, next)| next.is_ok().then_some((*key, terms)));
        if let Some((_, Err(Unknown::Full))) = next {
            cx.count(stats.table_full);
        }
        let question = Arc::new(CheckCall { message, metadata, account });
        let Next { turn, errand, quota } = next.and_then(|(_, next)| next.ok()).unwrap_or(Next {
            turn: Admission::Ask(Batch::ONE),
            errand: None,
            quota: None,
        });
        let asked = Asked { question, handling, shown, key, quota };
        if let Some(errand) = errand {
            self.run_beside(cx, errand, &asked);
        }
        match turn {
            Admission::Refused(known) => {
                cx.count(stats.cache_over_limit);
                let answer = replayed(&known, now);
                step(self.apply(cx, &asked, Ok(answer), Source::Cache, Duration::ZERO))
            }
            Admission::Admitted(known) => {
                cx.count(stats.lease_hit);
                let answer = replayed(&known, now);
                step(self.apply(cx, &asked, Ok(answer), Source::Lease, Duration::ZERO))
            }
            Admission::Ask(_) if !self.shield_admits(cx, &asked) => {
                cx.count(stats.shield_over_limit);
                step(self.apply(cx, &asked, Ok(own(false)), Source::Shield, Duration::ZERO))
            }
            Admission::Ask(batch) => {
                let Some(permit) = filter.enter_breaker() else {
                    cx.count(stats.breaker_open);
                    let failure = Failure::Call(CallError::BreakerOpen);
                    return step(self.without_service(cx, &asked, failure, Duration::ZERO));
                };
                cx.count(stats.rpc);
                ask(cx, &asked.question, filter, batch, permit);
                self.state = State::Waiting(stats.calls.begin(cx), asked);
                HookStatus::Pause(StopMode::AllIteration)
            }
        }
    }

    /// Makes a call beside the requests, as far as what holds for calls of requests lets it. What is owed
    /// was admitted already, so that no shield is to keep it back; the breaker is asked when it is
    /// reported.
    fn run_beside(&self, cx: &mut Context<'_>, errand: BackgroundCall, asked: &Asked) {
        let permit = match &errand {
            BackgroundCall::Prefetch(_) if !self.shield_admits(cx, asked) => None,
            BackgroundCall::Prefetch(_) => self.filter.enter_breaker(),
            BackgroundCall::Report(..) => Some(Permit::free()),
        };
        let Some(permit) = permit else { return };
        cx.count(self.filter.stats.rpc);
        let question = Arc::clone(&asked.question);
        cx.spawn_detached(question.run(Arc::clone(&self.filter), errand, permit));
    }

    /// Whether a call may be made about a set of descriptors. Without a known limit it may, and where
    /// there is no room to count it: the service itself decides then.
    fn shield_admits(&self, cx: &mut Context<'_>, asked: &Asked) -> bool {
        let size = self.config().callout.shield.and_then(|multiple| {
            let quota = asked.quota?;
            Size::part_of(quota.limit, quota.window, (multiple, 1))
        });
        let (Some(key), Some(size)) = (asked.key, size) else { return true };
        self.filter.shield.admits(key, size, Instant::now()).unwrap_or_else(|| {
            cx.count(self.filter.stats.table_full);
            true
        })
    }

    /// Whether the limit of this proxy's own admits a request that the service does not decide about;
    /// `None` when there is no such limit.
    fn fallback_admits(&self, cx: &mut Context<'_>, asked: &Asked) -> Option<bool> {
        let callout = &self.config().callout;
        let size = callout.fallback?.size(asked.quota, callout.terms.expected_proxies)?;
        let CheckCall { message, metadata, .. } = &*asked.question;
        let key = asked.key.unwrap_or_else(|| call::key(message, metadata));
        let (fallback, now) = (&self.filter.fallback, Instant::now());
        Some(fallback.admits(key, size, now).unwrap_or_else(|| {
            cx.count(self.filter.stats.table_full);
            fallback.shared_admits(key, size, now)
        }))
    }

    /// The service gave no answer: a limit of this proxy's own decides, where there is one, and else
    /// the failure mode.
    fn without_service(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked,
        failure: Failure,
        took: Duration,
    ) -> EventAction {
        let admitted = self.fallback_admits(cx, asked);
        let Some(admitted) = admitted else {
            return self.apply(cx, asked, Err(failure), Source::Service, took);
        };
        let stats = self.filter.stats;
        cx.count(if admitted { stats.fallback_ok } else { stats.fallback_over_limit });
        self.apply(cx, asked, Ok(own(admitted)), Source::Fallback, took)
    }

    fn on_result(&mut self, cx: &mut Context<'_>, answer: CheckResult) -> EventAction {
        let State::Waiting(call, asked) = std::mem::replace(&mut self.state, State::Idle) else {
            return EventAction::Stay;
        };
        let took = call.end(cx, answer.as_ref().err());
        match answer {
            Ok(answer) => self.apply(cx, &asked, Ok(answer), Source::Service, took),
            Err(failure) => {
                tracing::debug!(cause = failure.cause(), "ratelimit: no answer");
                self.without_service(cx, &asked, failure, took)
            }
        }
    }

    /// Does what an answer, or the lack of one, says.
    fn apply(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked,
        answer: Result<RateLimitResponse, Failure>,
        source: Source,
        took: Duration,
    ) -> EventAction {
        let filter = Arc::clone(&self.filter);
        let (config, stats) = (&filter.config, filter.stats);
        let draw = Sampling {
            enforced: config.filter_enforced.contains(rand::random()),
            deny_failure: asked
                .handling
                .failure_mode_deny
                .unwrap_or_else(|| config.failure_mode_deny.contains(rand::random())),
        };
        let cause = answer.as_ref().err().map(Failure::cause);
        let descriptors = &asked.question.message.descriptors;
        let shadowed = match &answer {
            Ok(answer) => asked.handling.shadows(&answer.statuses),
            Err(_) => asked.handling.is_shadow(),
        };
        let hit =
            answer.as_ref().ok().and_then(|answer| access_log::hit(descriptors, &answer.statuses));
        let Decision { verdict, metadata, dropped } =
            decide(&config.replies, &asked.shown, draw, answer);
        let (name, hit) = match &verdict {
            Verdict::Allow { over_limit: false, .. } => ("ok", None),
            Verdict::Allow { over_limit: true, .. } | Verdict::Limit { .. } => {
                ("over_limit", hit.as_ref())
            }
            Verdict::Pass => ("failure_mode_allowed", None),
            Verdict::Refuse(_) => ("refused", None),
        };
        access_log::record(cx, name, source, cause, hit, took);
        cx.count_by(stats.dropped_headers, dropped);
        if let Some(metadata) = metadata.filter(|metadata| !metadata.fields.is_empty())
            && !cx.metadata_mut().merge_struct(&config.metadata_namespace, &metadata)
        {
            cx.count(stats.dropped_metadata);
        }
        match verdict {
            Verdict::Allow { over_limit, request, response } => {
                cx.count(if over_limit { stats.over_limit } else { stats.ok });
                let mut headers = cx.request_mut();
                for (name, value) in &request {
                    headers.add(name, value);
                }
                self.response = response;
                EventAction::Request
            }
            Verdict::Limit { mut response, body } => {
                cx.count(stats.over_limit);
                if shadowed {
                    cx.count(stats.shadow_over_limit);
                    return EventAction::Request;
                }
                for added in &config.response_headers_to_add {
                    added.apply(&mut response, |lines, operator| of_refusal(cx, lines, operator));
                }
                // No hook of this filter sees its own reply.
                self.traffic.passed(Direction::Response, body.len());
                EventAction::Reply(limited(&config.replies, response, body))
            }
            Verdict::Pass => {
                cx.count(stats.error);
                cx.count(stats.failure_mode_allowed);
                EventAction::Request
            }
            Verdict::Refuse(_) if shadowed => {
                cx.count(stats.error);
                EventAction::Request
            }
            Verdict::Refuse(reply) => {
                cx.count(stats.error);
                EventAction::Reply(reply)
            }
        }
    }
}

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
        self.counts_bytes = self.limits().iter().any(|limit| limit.counts_bytes);
        let DescriptorEntry { descriptors, skipped } = self.descriptors(cx, false);
        cx.count_by(self.filter.stats.descriptor_skipped, skipped);
        if skipped > 0 && config.callout.deny_unevaluable && !config.callout.shadow {
            return HookStatus::Reply(refusal(&config.replies));
        }
        let metadata = self.metadata(cx);
        let step = if filter.unreadable.refuses(cx.unread()) && !config.callout.shadow {
            HookStatus::Reply(refusal(&config.replies))
        } else {
            let shown = descriptors.iter().map(|one| one.x_ratelimit_headers).collect();
            match self.message(cx, descriptors) {
                Some(message) => self.check(cx, message, metadata, shown),
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
        if let Some(message) = self.message(cx, descriptors) {
            let stats = self.filter.stats;
            let Some(permit) = self.filter.enter_breaker() else {
                return cx.count(stats.breaker_open);
            };
            let metadata = self.metadata(cx);
            let question = Arc::new(CheckCall { message, metadata, account: None });
            cx.count(stats.rpc);
            cx.spawn_detached(question.tell(Arc::clone(&self.filter), permit));
        }
    }
}

/// Asks for `batch` on behalf of a request. What was asked for many belongs to all: the call goes on
/// when this request's client leaves.
fn ask(
    cx: &mut Context<'_>,
    question: &Arc<CheckCall>,
    filter: Arc<RateLimit>,
    batch: Batch,
    permit: Permit,
) {
    let hits = batch.hits;
    let worker = hits == 1 && filter.config.callout.calls == Calls::Worker && cx.has_worker();
    if let Some(call) = worker.then(|| question.call_on_worker(&filter)).flatten() {
        return cx.spawn_on_worker(Arc::clone(question).ask_by(filter, call, permit));
    }
    let call = Arc::clone(question).ask(filter, batch, permit);
    if hits == 1 {
        return cx.spawn(call);
    }
    let (tell, told) = oneshot::channel();
    cx.spawn_detached(async move {
        // Nobody listens any more when the client has left.
        let _ = tell.send(call.await);
    });
    cx.spawn(async move { told.await.unwrap_or(Err(Failure::Lost)) });
}

/// What an operator stands for in the reply to a request over a limit, before there is that reply, but
/// for these `lines` of it.
fn of_refusal(cx: &Context<'_>, lines: &Lines, operator: &CommandOperator) -> Option<Vec<u8>> {
    match operator {
        CommandOperator::ResponseCode => Some(b"0".to_vec()),
        CommandOperator::ResponseFlags => Some(b"RL".to_vec()),
        CommandOperator::ResponseCodeDetails => Some(LIMITED_DETAILS.as_bytes().to_vec()),
        CommandOperator::Response { names, limit } => {
            let first = |name: &String| lines.iter().find(|(line, _)| line == name);
            let (_, value) = names.iter().find_map(first)?;
            Some(value.get(..*limit).unwrap_or(value).to_vec())
        }
        operator => cx.operator(operator),
    }
}

/// Whether the request counts as one hit, and nothing of it says otherwise.
fn one_hit(message: &RateLimitRequest) -> bool {
    message.hits_addend <= 1
        && message
            .descriptors
            .iter()
            .all(|descriptor| !descriptor.is_negative_hits && descriptor.hits_addend.is_none())
}

/// The answer of a hook that need not wait.
fn step(resume: EventAction) -> HookStatus {
    match resume {
        EventAction::Reply(reply) => HookStatus::Reply(reply),
        _ => HookStatus::Continue,
    }
}

#[cfg(test)]
mod tests;
