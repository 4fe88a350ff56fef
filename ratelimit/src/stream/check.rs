//! Decides about a request by what is known, or asks the service and holds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use callout_common::filter::trace::CallSpan;
use callout_common::grpc::circuit_breaker::Permit;
use callout_common::grpc::{CallError, Calls, Failure, MetadataMap};
use callout_common::{EventAction, HookStatus, StopMode};
use callout_protos::envoy::service::ratelimit::v3::RateLimitRequest;
use tokio::sync::oneshot;

use crate::RateLimit;
use crate::access_log::Source;
use crate::apply::state::{Asked, Context, State, Stream};
use crate::call;
use crate::call::{CheckCall, CheckResult};
use crate::memory::ledger::{Admission, BackgroundCall, Batch, Next, Unknown};
use crate::memory::local::Size;
use crate::memory::replay::{own, replayed};

impl Stream {
    /// Decides about the request, or asks the service and holds it.
    pub(super) fn check(
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
        let question = CheckCall::new(message, metadata, self.timeout(), account);
        let question = Arc::new(question);
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
                self.apply(cx, &asked, Ok(answer), Source::Cache, Duration::ZERO).in_hook()
            }
            Admission::Admitted(known) => {
                cx.count(stats.lease_hit);
                let answer = replayed(&known, now);
                self.apply(cx, &asked, Ok(answer), Source::Lease, Duration::ZERO).in_hook()
            }
            Admission::Ask(_) if !self.shield_admits(cx, &asked) => {
                cx.count(stats.shield_over_limit);
                self.apply(cx, &asked, Ok(own(false)), Source::Shield, Duration::ZERO).in_hook()
            }
            Admission::Ask(batch) => {
                let Some(permit) = filter.enter_breaker() else {
                    cx.count(stats.breaker_open);
                    let failure = Failure::Call(CallError::BreakerOpen);
                    return self.without_service(cx, &asked, failure, Duration::ZERO).in_hook();
                };
                cx.count(stats.rpc);
                let of = (CheckCall::METHOD, filter.config.service.name.as_str());
                let span = CallSpan::begin(cx, true, of);
                asked.question.belongs_to(span.lines(cx));
                ask(cx, &asked.question, filter, batch, permit);
                self.state = State::Waiting(stats.calls.begin(cx, span), Box::new(asked));
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

    pub(super) fn on_result(&mut self, cx: &mut Context<'_>, answer: CheckResult) -> EventAction {
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
    let on_worker = hits == 1 && filter.config.callout.calls == Calls::Worker;
    let call = on_worker.then(|| question.call_on_worker(&filter)).flatten();
    // Asked last: a worker that makes no calls needs none of what they need.
    if let Some(call) = call.filter(|_| cx.has_worker()) {
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

/// Whether the request counts as one hit, and nothing of it says otherwise.
fn one_hit(message: &RateLimitRequest) -> bool {
    message.hits_addend <= 1
        && message
            .descriptors
            .iter()
            .all(|descriptor| !descriptor.is_negative_hits && descriptor.hits_addend.is_none())
}
