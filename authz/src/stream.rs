//! One request: asks the service, and does what the verdict says.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use callout_common::attributes::Attribute;
use callout_common::calls::Waiting;
use callout_common::config::{deadline, since_epoch};
use callout_common::grpc::{CallError, Failure, Service};
use callout_common::host::{Body as BodyKind, MetadataSource};
use callout_common::{Cx, Hold, HttpStream, Resume, Step};
use callout_protos::envoy::config::core::v3::Metadata;
use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use callout_protos::pbjson_types::{Struct, Value, value::Kind};

use crate::Authz;
use crate::config::{BodyLimits, CheckSettings, Config, DEFAULT_TIMEOUT, Route, RouteBody};
use crate::edits::Edits;
use crate::request::{self, Body, Peer, View};
use crate::verdict::{Judged, Verdict, invalid, judge, refusal};
use crate::{apply, shadow};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Where the built-in puts an answer's metadata, whatever the filter is called.
const NAMESPACE: &str = "envoy.filters.http.ext_authz";

/// What the service answered.
pub(crate) type Answer = Result<CheckResponse, CallError>;

/// One request.
#[derive(Debug)]
pub struct Stream {
    authz: Arc<Authz>,
    route: Option<Arc<Route>>,
    state: State,
    /// Changes to the response, once the request is allowed.
    edits: Edits,
}

#[derive(Debug)]
enum State {
    /// Nothing to wait for.
    Idle,
    /// The body has to come in first.
    Buffering(BodyLimits),
    /// The call is under way.
    Waiting(Waiting),
}

type Context<'a> = Cx<'a, Answer>;

impl Stream {
    pub(crate) fn new(authz: Arc<Authz>, route: Option<Arc<Route>>) -> Self {
        Self { authz, route, state: State::Idle, edits: Edits::default() }
    }

    fn config(&self) -> &Config {
        &self.authz.config
    }

    fn settings(&self) -> Option<&CheckSettings> {
        match self.route.as_deref() {
            Some(Route::Enabled(settings)) => Some(settings),
            _ => None,
        }
    }

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
                let metadata = cx.metadata(MetadataSource::Dynamic);
                matcher.matches(metadata.get(&matcher.filter, &matcher.key).as_ref())
            })
    }

    fn switched_off(&self, cx: &mut Context<'_>) -> Step {
        let stats = self.authz.stats;
        cx.count(stats.disabled);
        if !self.config().deny_at_disable {
            return Step::Continue;
        }
        let reply = refusal(self.config());
        if self.config().shadow_mode {
            cx.count(stats.shadow_denied);
            shadow::record(cx, shadow::Outcome::Denied(&reply));
            return Step::Continue;
        }
        Step::Reply(reply)
    }

    fn check(&mut self, cx: &mut Context<'_>, body: Option<Body>) {
        let message = self.message(cx, body);
        let service = self.service().clone();
        let metadata = service.metadata.fill(|operator| cx.operator(operator));
        let deadline = deadline(service.timeout.unwrap_or(DEFAULT_TIMEOUT));
        self.state = State::Waiting(self.authz.stats.calls.begin(cx));
        cx.spawn(async move { service.client.unary(CHECK, &message, &metadata, deadline).await });
    }

    fn service(&self) -> &Service {
        self.settings()
            .and_then(|settings| settings.service.as_ref())
            .unwrap_or_else(|| &self.config().service)
    }

    fn message(&self, cx: &Context<'_>, body: Option<Body>) -> CheckRequest {
        let config = self.config();
        let attribute = |attribute| cx.attribute(attribute).unwrap_or_default();
        let contexts = |source, flat: &[String], typed: &[String]| {
            let mut context = Metadata::default();
            cx.metadata(source).collect(flat, typed, &mut context);
            context
        };
        request::build(
            config,
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
            },
        )
    }

    fn settle(&mut self, cx: &mut Context<'_>, answer: Result<CheckResponse, Failure>) -> Resume {
        let stats = self.authz.stats;
        let State::Waiting(call) = std::mem::replace(&mut self.state, State::Idle) else {
            return Resume::Stay;
        };
        let took = call.end(cx, answer.as_ref().err());
        if let Err(failure) = &answer {
            tracing::debug!(cause = failure.cause(), "authz: no verdict");
        }
        let Judged { verdict, metadata } = judge(self.config(), answer);
        self.keep_metadata(cx, metadata, took, matches!(verdict, Verdict::Allow(_)));
        match verdict {
            Verdict::Allow(edits) => self.allow(cx, edits),
            Verdict::Deny { reply, dropped } => {
                cx.tag_span("ext_authz_status", "ext_authz_unauthorized");
                cx.count(stats.denied);
                cx.count_by(stats.dropped_headers, dropped);
                if self.config().shadow_mode {
                    cx.count(stats.shadow_denied);
                    shadow::record(cx, shadow::Outcome::Denied(&reply));
                    return Resume::Request;
                }
                Resume::Reply(reply)
            }
            Verdict::Pass => {
                cx.tag_span("ext_authz_status", "ext_authz_error");
                cx.count(stats.error);
                if self.config().shadow_mode {
                    cx.count(stats.shadow_error);
                    shadow::record(cx, shadow::Outcome::Error(&refusal(self.config())));
                    return Resume::Request;
                }
                cx.count(stats.failure_mode_allowed);
                if self.config().failure_mode_allow_header_add {
                    cx.request_mut().add("x-envoy-auth-failure-mode-allowed", b"true");
                }
                Resume::Request
            }
            Verdict::Refuse { reply, dropped } => {
                cx.tag_span("ext_authz_status", "ext_authz_error");
                cx.count(stats.error);
                cx.count_by(stats.dropped_headers, dropped);
                if self.config().shadow_mode {
                    cx.count(stats.shadow_error);
                    shadow::record(cx, shadow::Outcome::Error(&reply));
                    return Resume::Request;
                }
                Resume::Reply(reply)
            }
            Verdict::Invalid { denied } => {
                if denied {
                    cx.count(stats.denied);
                }
                self.invalid(cx)
            }
        }
    }

    fn invalid(&self, cx: &mut Context<'_>) -> Resume {
        cx.count(self.authz.stats.invalid);
        if self.config().shadow_mode { Resume::Request } else { Resume::Reply(invalid()) }
    }

    fn allow(&mut self, cx: &mut Context<'_>, edits: Edits) -> Resume {
        let stats = self.authz.stats;
        cx.tag_span("ext_authz_status", "ext_authz_ok");
        cx.count_by(stats.dropped_headers, edits.dropped);
        if edits.clear_route_cache {
            cx.clear_route_cache();
        }
        if !apply::request(cx, &edits) {
            cx.count(stats.request_header_limits_reached);
            return self.invalid(cx);
        }
        self.edits = edits;
        cx.count(stats.ok);
        if self.config().shadow_mode {
            shadow::record(cx, shadow::Outcome::Allowed);
        }
        Resume::Request
    }

    fn keep_metadata(
        &self,
        cx: &mut Context<'_>,
        metadata: Option<Struct>,
        took: Duration,
        allowed: bool,
    ) {
        let Some(mut metadata) = metadata else { return };
        if !self.config().enable_dynamic_metadata_ingestion {
            cx.count(self.authz.stats.ignored_dynamic_metadata);
            return;
        }
        if allowed {
            #[allow(clippy::cast_precision_loss, reason = "no call takes 2^53 milliseconds")]
            let millis = took.as_millis() as f64;
            let duration = Value { kind: Some(Kind::NumberValue(millis)) };
            metadata.fields.insert("ext_authz_duration".to_owned(), duration);
        }
        if !cx.metadata_mut().merge_struct(NAMESPACE, &metadata) {
            cx.count(self.authz.stats.ignored_dynamic_metadata);
        }
    }
}

impl HttpStream for Stream {
    type Event = Answer;

    fn request_headers(&mut self, cx: &mut Context<'_>, end: bool) -> Step {
        // A request without a route is answered with 404 by the router; there is nothing to allow.
        if matches!(self.route.as_deref(), Some(Route::Disabled)) || !cx.has_route() {
            return Step::Continue;
        }
        if !self.enabled(cx) {
            return self.switched_off(cx);
        }
        let upgrade = cx.request().get("upgrade").is_some()
            || cx.request().get(":method") == Some(b"CONNECT");
        match self.body_limits() {
            Some(limits) if !end && !upgrade => {
                self.state = State::Buffering(limits);
                if limits.allow_partial_message {
                    return Step::Pause(Hold::Watermark);
                }
                cx.set_buffer_limit(u64::try_from(limits.max_request_bytes).unwrap_or(u64::MAX));
                Step::Pause(Hold::Buffer)
            }
            _ => {
                self.check(cx, None);
                Step::Pause(Hold::Everything)
            }
        }
    }

    fn request_body(&mut self, cx: &mut Context<'_>, end: bool) -> Step {
        let State::Buffering(limits) = self.state else { return Step::Continue };
        let received = cx.body_so_far(callout_common::Direction::Request);
        let full = received >= limits.max_request_bytes;
        if (limits.allow_partial_message && full) || (end && received <= limits.max_request_bytes) {
            self.check_with_body(cx, limits);
        }
        // Over the limit Envoy itself answers 413 to the hold that stands.
        Step::Continue
    }

    fn request_trailers(&mut self, cx: &mut Context<'_>) -> Step {
        if let State::Buffering(limits) = self.state {
            self.check_with_body(cx, limits);
        }
        Step::Continue
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, _end: bool) -> Step {
        let edits = std::mem::take(&mut self.edits.response);
        if edits.is_empty() {
            return Step::Continue;
        }
        apply::response(cx, &edits);
        if self.config().enforce_response_header_limits && !apply::response_within_limits(cx) {
            cx.count(self.authz.stats.response_header_limits_reached);
            cx.count(self.authz.stats.invalid);
            return Step::Reply(invalid());
        }
        Step::Continue
    }

    fn event(&mut self, cx: &mut Context<'_>, answer: Answer) -> Resume {
        self.settle(cx, answer.map_err(Failure::Call))
    }

    fn lost(&mut self, cx: &mut Context<'_>) -> Resume {
        self.settle(cx, Err(Failure::Lost))
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        if let State::Waiting(call) = std::mem::replace(&mut self.state, State::Idle) {
            call.abandon(cx);
        }
    }
}

impl Stream {
    fn check_with_body(&mut self, cx: &mut Context<'_>, limits: BodyLimits) {
        let received = cx.body_so_far(callout_common::Direction::Request);
        let mut bytes = cx.body(BodyKind::BufferedRequest);
        if !cx.received_is_buffered(callout_common::Direction::Request) {
            bytes.extend(cx.body(BodyKind::ReceivedRequest));
        }
        bytes.truncate(limits.max_request_bytes);
        let body = (received > 0).then_some(Body { bytes, received, limits });
        self.check(cx, body);
    }
}
