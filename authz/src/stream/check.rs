//! Decides about a request by what is kept, or asks the service, holds it, and does what the answer
//! says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use callout_common::api::text::sanitized;
use callout_common::envoy::attributes::Attribute;
use callout_common::envoy::types::{Body as BodyKind, MetadataSource};
use callout_common::filter::trace::CallSpan;
use callout_common::grpc::{Calls, MetadataMap, entries};
use callout_common::{Direction, EventAction, HookStatus, StopMode};

use crate::access_log::Source;
use crate::access_log::shadow;
use crate::apply::Applied;
use crate::apply::state::{State, Stream};
use crate::call::check_call::{Addressee, CheckCall, CheckResult, Context};
use crate::config::BodyLimits;
use crate::decide::verdict::{Verdict, refusal, unreadable};
use crate::memory::cache::{Entry, Found, Kept, Origin};
use crate::memory::key::{Key, KeyContext};
use crate::request::{self, Body, View};

impl Stream {
    pub(super) fn enabled(&self, cx: &Context<'_>) -> bool {
        let config = self.config();
        config.filter_enabled.contains(rand::random())
            && config.filter_enabled_metadata.as_ref().is_none_or(|matcher| {
                let before = cx.unread().count();
                let value = cx.metadata(MetadataSource::Dynamic).at(&matcher.filter, &matcher.path);
                // What can't be told switches nothing off.
                cx.unread().count() > before || matcher.matches(value.as_ref())
            })
    }

    pub(super) fn switched_off(&self, cx: &mut Context<'_>) -> HookStatus {
        let stats = self.authz.stats;
        cx.count(stats.disabled);
        if !self.config().deny_at_disable.is_on() {
            return HookStatus::Continue;
        }
        let reply = refusal(self.config());
        if self.config().shadow_mode {
            cx.count(stats.shadow_denied);
            shadow::record(cx, shadow::Outcome::Denied(&reply));
            return HookStatus::Continue;
        }
        HookStatus::Reply(reply)
    }

    /// Decides about the request by what is kept, or asks the service and holds it.
    pub(super) fn check(&mut self, cx: &mut Context<'_>, body: Option<Body>) -> HookStatus {
        self.state = State::Idle;
        let step = self.find_or_ask(cx, body);
        self.authz.unreadable.count(cx);
        step
    }

    pub(super) fn check_with_body(
        &mut self,
        cx: &mut Context<'_>,
        limits: BodyLimits,
    ) -> HookStatus {
        let received = cx.body_so_far(Direction::Request);
        let mut bytes = cx.body(BodyKind::BufferedRequest);
        if !cx.received_is_buffered(Direction::Request) {
            bytes.extend(cx.body(BodyKind::ReceivedRequest));
        }
        bytes.truncate(limits.max_request_bytes);
        let body = (received > 0).then_some(Body { bytes, received, limits });
        match self.check(cx, body) {
            // The headers are held.
            HookStatus::Continue => HookStatus::Release,
            HookStatus::Pause(_) => HookStatus::Continue,
            other => other,
        }
    }

    fn find_or_ask(&mut self, cx: &mut Context<'_>, body: Option<Body>) -> HookStatus {
        let authz = Arc::clone(&self.authz);
        let stats = authz.stats;
        let view = self.view(cx, body);
        let mut metadata = None;
        let key = self.shares().then(|| self.key(cx, &view, &mut metadata));
        let shared = key.is_some();
        let key = key.flatten();
        if authz.unreadable.refuses(cx.unread()) {
            drop(view);
            return self.refuse_unreadable(cx);
        }
        let found = match (&authz.cache, &key) {
            (Some(cache), Some(key)) => cache.find(key, Instant::now()),
            _ => Found::Miss,
        };
        if let Found::Fresh(entry) = found {
            drop(view);
            cx.count(stats.cache_hit);
            return self.kept(cx, &entry, Source::Cache, key);
        }
        let mut question = CheckCall {
            message: request::build(self.config(), view),
            own: Addressee {
                service: self.service().clone().with_cluster_streams(&authz.clusters),
                timeout: self.timeout(self.service()),
                metadata: metadata.unwrap_or_else(|| self.metadata(cx)),
            },
            others: self.others(cx),
        };
        if authz.unreadable.refuses(cx.unread()) {
            return self.refuse_unreadable(cx);
        }
        if let (Found::Stale(entry), Some(key)) = (found, key) {
            if let Some(claim) = entry.begin_refresh() {
                cx.spawn_detached(question.refresh(authz, key, claim, route_name(cx)));
            }
            cx.count(stats.cache_stale);
            return self.kept(cx, &entry, Source::Stale, Some(key));
        }
        if shared && key.is_none() {
            cx.count(stats.cache_bypassed);
        } else if authz.cache.is_some() && shared {
            cx.count(stats.cache_miss);
        }
        let span = self.span(cx, &mut question);
        self.state = State::Waiting(stats.calls.begin(cx, span), key);
        let together = key.filter(|_| authz.config.callout.coalesce);
        let on_worker = together.is_none() && authz.config.callout.calls == Calls::Worker;
        let call = on_worker.then(|| question.ask_on_worker(Arc::clone(&authz))).flatten();
        // Asked last: a worker that makes no calls needs none of what they need.
        match call.filter(|_| cx.has_worker()) {
            Some(call) => cx.spawn_on_worker(call),
            None => cx.spawn(question.ask(authz, together)),
        }
        HookStatus::Pause(StopMode::AllIteration)
    }

    /// The span of the calls, whose trace they carry on.
    fn span(&self, cx: &mut Context<'_>, question: &mut CheckCall) -> CallSpan {
        let emitted = self
            .settings()
            .and_then(|settings| settings.emit_client_span)
            .unwrap_or_else(|| self.config().emit_client_span);
        let CheckCall { own, others, .. } = question;
        let of = (CheckCall::METHOD, own.service.name.as_str());
        let span = CallSpan::begin(cx, emitted, of);
        let lines = span.lines(cx);
        for one in std::iter::once(own).chain(others) {
            lines.add_to(&mut one.metadata);
        }
        span
    }

    fn key(
        &self,
        cx: &Context<'_>,
        view: &View<'_>,
        metadata: &mut Option<MetadataMap>,
    ) -> Option<Key> {
        let keys = &self.authz.keys;
        let call = keys.takes_call().then(|| &*metadata.insert(self.metadata(cx)));
        let others = if keys.takes_call() { self.others(cx) } else { Vec::new() };
        // What the key should hold and nobody could read tells no requests apart.
        if keys.takes_metadata() && cx.unread().count() > 0 {
            return None;
        }
        let route = [Attribute::XdsRouteName, Attribute::XdsVirtualHostName];
        let [name, host] = route.map(|attribute| cx.attribute(attribute));
        let surroundings = KeyContext {
            route: [name, host, cx.cluster_name()],
            route_config: self.settings().map(|settings| settings.fingerprint.as_slice()),
            call: call
                .into_iter()
                .chain(others.iter().map(|other| &other.metadata))
                .flat_map(entries)
                .collect(),
            attributes: keys.attributes().iter().map(|one| cx.attribute(*one)).collect(),
        };
        keys.key(view, &surroundings, |name| self.config().headers.includes(name))
    }

    /// Does what a decision says that was kept.
    fn kept(
        &mut self,
        cx: &mut Context<'_>,
        entry: &Entry,
        source: Source,
        key: Option<Key>,
    ) -> HookStatus {
        match self.apply(cx, &entry.judged, source, Duration::ZERO) {
            Applied::Applied(resume) => resume.in_hook(),
            Applied::Invalid(resume) => {
                if let (Some(cache), Some(key)) = (&self.authz.cache, key) {
                    cache.forget(&key);
                }
                resume.in_hook()
            }
        }
    }

    /// `on_unreadable_metadata: fail`.
    pub(super) fn refuse_unreadable(&mut self, cx: &mut Context<'_>) -> HookStatus {
        let judged = Arc::new(unreadable(self.config()));
        self.apply(cx, &judged, Source::Filter, Duration::ZERO).resume().in_hook()
    }

    pub(super) fn on_result(&mut self, cx: &mut Context<'_>, answer: &CheckResult) -> EventAction {
        let State::Waiting(call, key) = std::mem::replace(&mut self.state, State::Idle) else {
            return EventAction::Stay;
        };
        let took = call.end(cx, answer.failure.as_ref());
        if let Some(failure) = &answer.failure {
            tracing::debug!(cause = failure.cause(), "authz: no verdict");
        }
        let stats = self.authz.stats;
        if answer.coalesced {
            cx.count(stats.coalesced);
        }
        let authz = Arc::clone(&self.authz);
        let shelf = authz.cache.as_ref().zip(key);
        if answer.judged.silence
            && let Some((cache, key)) = shelf
            && let Some(entry) = cache.get_stale_if_error(&key, Instant::now())
        {
            cx.count(stats.cache_stale_on_error);
            return self.apply(cx, &entry.judged, Source::Stale, took).resume();
        }
        let route = route_name(cx);
        let source = if answer.coalesced { Source::Coalesced } else { Source::Service };
        let done = self.apply(cx, &answer.judged, source, took);
        if let Some((cache, key)) = shelf {
            match (&done, &answer.judged.verdict) {
                // No answer of the service changes nothing of what it said before.
                (_, Verdict::Pass | Verdict::Refuse { .. }) => {}
                (Applied::Invalid(_), _) => cache.forget(&key),
                (Applied::Applied(_), _) => {
                    let judged = Arc::clone(&answer.judged);
                    let CheckResult { asked, made, .. } = *answer;
                    let origin = Origin { asked, made, route };
                    if cache.keep(key, judged, origin, rand::random()) == Kept::TooLarge {
                        cx.count(stats.cache_too_large);
                    }
                }
            }
        }
        done.resume()
    }
}

/// The name of the request's route, if it has one.
fn route_name(cx: &Context<'_>) -> Option<String> {
    let name = cx.attribute(Attribute::XdsRouteName).filter(|name| !name.is_empty())?;
    Some(sanitized(name))
}
