//! One request: asks the service, or finds what it said before, and does what the verdict says.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use callout_common::api::config::since_epoch;
use callout_common::api::text::sanitized;
use callout_common::envoy::attributes::Attribute;
use callout_common::envoy::types::{Body as BodyKind, MetadataSource};
use callout_common::envoy::version::EnvoyVersion;
use callout_common::filter::trace::CallSpan;
use callout_common::grpc::{Calls, Failure, MetadataMap, Service, entries};
use callout_common::{BodyEdit, EventAction, HookStatus, HttpStream, StopMode};
use callout_protos::envoy::config::core::v3::Metadata;

use crate::access_log::Source;
use crate::access_log::shadow;
use crate::apply::Applied;
use crate::apply::headers;
use crate::apply::state::{State, Stream};
use crate::call::check_call::{Addressee, CheckCall, CheckResult, Context};
use crate::config::{BodyLimits, DEFAULT_TIMEOUT, Route, RouteBody};
use crate::decide::verdict::{Verdict, invalid, refusal, unreadable};
use crate::memory::cache::{Entry, Found, Kept, Origin};
use crate::memory::key::{Key, KeyContext};
use crate::request::{self, Awaited, Body, Peer, View, awaited};

impl Stream {
    /// The limits of the body that the service is to see, if any.
    fn body_limits(&self) -> Option<BodyLimits> {
        let own = self.config().with_request_body;
        match self.settings().map(|settings| settings.body).unwrap_or_default() {
            RouteBody::Inherit => own,
            RouteBody::Off => None,
            RouteBody::Limits(limits) => Some(BodyLimits {
                // The built-in takes this one from the filter, whatever the route says.
                pack_as_bytes: own.is_some_and(|own| own.pack_as_bytes),
                ..limits
            }),
        }
    }

    fn enabled(&self, cx: &Context<'_>) -> bool {
        let config = self.config();
        config.filter_enabled.contains(rand::random())
            && config.filter_enabled_metadata.as_ref().is_none_or(|matcher| {
                let before = cx.unread().count();
                let value = cx.metadata(MetadataSource::Dynamic).at(&matcher.filter, &matcher.path);
                // What can't be told switches nothing off.
                cx.unread().count() > before || matcher.matches(value.as_ref())
            })
    }

    fn switched_off(&self, cx: &mut Context<'_>) -> HookStatus {
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
    fn check(&mut self, cx: &mut Context<'_>, body: Option<Body>) -> HookStatus {
        self.state = State::Idle;
        let step = self.find_or_ask(cx, body);
        self.authz.unreadable.count(cx);
        step
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

    /// Whether requests of this kind may share decisions.
    fn shares(&self) -> bool {
        self.config().callout.shares()
            && !self.settings().is_some_and(|settings| settings.callout.always_ask)
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
            Applied::Applied(resume) => step(resume),
            Applied::Invalid(resume) => {
                if let (Some(cache), Some(key)) = (&self.authz.cache, key) {
                    cache.forget(&key);
                }
                step(resume)
            }
        }
    }

    /// `on_unreadable_metadata: fail`.
    fn refuse_unreadable(&mut self, cx: &mut Context<'_>) -> HookStatus {
        let judged = Arc::new(unreadable(self.config()));
        step(self.apply(cx, &judged, Source::Filter, Duration::ZERO).resume())
    }

    fn metadata(&self, cx: &Context<'_>) -> MetadataMap {
        self.service().metadata.fill(|operator| cx.operator(operator))
    }

    fn service(&self) -> &Service {
        self.settings()
            .and_then(|settings| settings.service.as_ref())
            .unwrap_or_else(|| &self.config().service)
    }

    /// How long an answer of `service` is waited for; zero is no limit.
    fn timeout(&self, service: &Service) -> Duration {
        self.settings()
            .and_then(|settings| settings.callout.timeout)
            .or(service.timeout)
            .unwrap_or(DEFAULT_TIMEOUT)
    }

    /// The services of `callout.services`.
    fn others(&self, cx: &Context<'_>) -> Vec<Addressee> {
        let services = self.config().callout.services.iter().flat_map(|more| &more.services);
        let addressee = |service: &Service| Addressee {
            service: service.clone(),
            timeout: self.timeout(service),
            metadata: service.metadata.fill(|operator| cx.operator(operator)),
        };
        services.map(addressee).collect()
    }

    fn view<'a>(&'a self, cx: &'a Context<'_>, body: Option<Body>) -> View<'a> {
        let config = self.config();
        let attribute = |attribute| cx.attribute(attribute).unwrap_or_default();
        let contexts = |source, flat: &[String], typed: &[String]| {
            let mut context = Metadata::default();
            cx.metadata(source).collect(flat, typed, &mut context);
            context
        };
        View {
            headers: cx.request().all(),
            source: Peer {
                address: attribute(Attribute::SourceAddress),
                identities: [
                    attribute(Attribute::ConnectionUriSanPeerCertificate),
                    attribute(Attribute::ConnectionDnsSanPeerCertificate),
                    attribute(Attribute::ConnectionSubjectPeerCertificate),
                ],
            },
            certificate: config.include_peer_certificate.then(|| cx.peer_certificate()).flatten(),
            destination: Peer {
                address: attribute(Attribute::DestinationAddress),
                identities: [
                    attribute(Attribute::ConnectionUriSanLocalCertificate),
                    attribute(Attribute::ConnectionDnsSanLocalCertificate),
                    attribute(Attribute::ConnectionSubjectLocalCertificate),
                ],
            },
            protocol: attribute(Attribute::RequestProtocol),
            server_name: if config.include_tls_session {
                attribute(Attribute::ConnectionRequestedServerName)
            } else {
                b""
            },
            time: since_epoch(SystemTime::now()),
            id: rand::random(),
            size: body_size(cx).unwrap_or_else(|| {
                // What is held, which is less than what came where it was cut.
                let held = cx.body_so_far(callout_common::Direction::Request);
                u64::try_from(held).unwrap_or(u64::MAX)
            }),
            body,
            context_extensions: self.settings().map(|settings| &settings.context_extensions),
            metadata: contexts(
                MetadataSource::Dynamic,
                &config.metadata_context_namespaces,
                &config.typed_metadata_context_namespaces,
            ),
            route_metadata: contexts(
                MetadataSource::Route,
                &config.route_metadata_context_namespaces,
                &config.route_typed_metadata_context_namespaces,
            ),
        }
    }

    fn on_result(&mut self, cx: &mut Context<'_>, answer: &CheckResult) -> EventAction {
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

impl HttpStream for Stream {
    type Event = CheckResult;

    fn request_headers(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        // A request without a route is answered with 404 by the router; there is nothing to allow.
        if matches!(self.route.as_deref(), Some(Route::Disabled)) || !cx.has_route() {
            return HookStatus::Continue;
        }
        if !self.enabled(cx) {
            return self.switched_off(cx);
        }
        if self.authz.unreadable.refuses(cx.unread()) {
            self.authz.unreadable.count(cx);
            return self.refuse_unreadable(cx);
        }
        match (self.body_limits(), awaited(&cx.request(), end)) {
            (Some(limits), Awaited::Whole { length }) => {
                self.authz.unreadable.count(cx);
                self.state = State::Buffering(limits, length);
                if limits.allow_partial_message {
                    return HookStatus::Pause(StopMode::Watermark);
                }
                let limit = u64::try_from(limits.max_request_bytes).unwrap_or(u64::MAX);
                HookStatus::Pause(StopMode::Buffer).after(vec![BodyEdit::Limit(limit)])
            }
            _ => self.check(cx, None),
        }
    }

    fn request_body(&mut self, cx: &mut Context<'_>, end: bool) -> HookStatus {
        let State::Buffering(limits, length) = self.state else { return HookStatus::Continue };
        let received = cx.body_so_far(callout_common::Direction::Request);
        let full = received >= limits.max_request_bytes;
        let end = end || length.is_some_and(|length| received >= length);
        if (limits.allow_partial_message && full) || (end && received <= limits.max_request_bytes) {
            return self.check_with_body(cx, limits);
        }
        // Over the limit Envoy itself answers 413 to the hold that stands.
        HookStatus::Continue
    }

    fn request_trailers(&mut self, cx: &mut Context<'_>) -> HookStatus {
        match self.state {
            State::Buffering(limits, _) => self.check_with_body(cx, limits),
            _ => HookStatus::Continue,
        }
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, _end: bool) -> HookStatus {
        let allowed = self.allowed.take();
        let Some(Verdict::Allow(edits)) = allowed.as_ref().map(|judged| &judged.verdict) else {
            return HookStatus::Continue;
        };
        let mut response = cx.response_mut();
        for mutation in &edits.response {
            mutation.apply(&mut response);
        }
        let limits = &self.config().callout.header_limits;
        if self.config().enforce_response_header_limits
            && !headers::response_within_limits(cx, limits)
        {
            cx.count(self.authz.stats.response_header_limits_reached);
            cx.count(self.authz.stats.invalid);
            return HookStatus::Reply(invalid());
        }
        HookStatus::Continue
    }

    fn event(&mut self, cx: &mut Context<'_>, answer: CheckResult) -> EventAction {
        self.on_result(cx, &answer)
    }

    fn lost(&mut self, cx: &mut Context<'_>) -> EventAction {
        let answer = CheckResult::failed(&self.authz, Failure::Lost);
        self.on_result(cx, &answer)
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        if let State::Waiting(call, _) = std::mem::replace(&mut self.state, State::Idle) {
            call.abandon(cx);
        }
    }
}

impl Stream {
    fn check_with_body(&mut self, cx: &mut Context<'_>, limits: BodyLimits) -> HookStatus {
        let received = cx.body_so_far(callout_common::Direction::Request);
        let mut bytes = cx.body(BodyKind::BufferedRequest);
        if !cx.received_is_buffered(callout_common::Direction::Request) {
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
}

/// Bytes of the body so far, as Envoy tells them since 1.40; before, asking for them is an error in its log.
fn body_size(cx: &Context<'_>) -> Option<u64> {
    let told = EnvoyVersion::running() >= EnvoyVersion::V1_40;
    told.then(|| cx.attribute_int(Attribute::RequestSize)).flatten()
}

/// The name of the request's route, if it has one.
fn route_name(cx: &Context<'_>) -> Option<String> {
    let name = cx.attribute(Attribute::XdsRouteName).filter(|name| !name.is_empty())?;
    Some(sanitized(name))
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
