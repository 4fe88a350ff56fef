//! One request: asks the service about its descriptors, and does what the answer says.

use std::net::IpAddr;
use std::sync::Arc;

use callout_common::calls::Waiting;
use callout_common::config::deadline;
use callout_common::grpc::{CallError, Failure};
use callout_common::host::{MetadataSource, MetadataValue};
use callout_common::template::Operator;
use callout_common::{Cx, Hold, HttpStream, Resume, Step};
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

use crate::RateLimit;
use crate::config::{Config, Route};
use crate::descriptors::{Descriptor, Limit, Request, descriptors};
use crate::headers::Lines;
use crate::verdict::{Draw, Judged, Verdict, judge, limited};

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// Filter-state key by which another filter sets the hits of the whole request.
const HITS_ADDEND: &str = "envoy.ratelimit.hits_addend";

/// What the service answered.
pub(crate) type Answer = Result<RateLimitResponse, CallError>;
type Context<'a> = Cx<'a, Answer>;

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
}

#[derive(Debug)]
enum State {
    Idle,
    /// The call is under way; `shown` are the `x_ratelimit_option`s of its descriptors.
    Waiting {
        call: Waiting,
        shown: Vec<Option<bool>>,
    },
}

impl Stream {
    pub(crate) fn new(filter: Arc<RateLimit>, route: Option<Arc<Route>>) -> Self {
        let (state, response) = (State::Idle, Lines::new());
        Self { filter, route, state, response, counts_when_done: false }
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

    fn call(
        &self,
        cx: &Context<'_>,
        message: RateLimitRequest,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let service = self.config().service.clone();
        let metadata = service.metadata.fill(|operator| cx.operator(operator));
        let deadline = deadline(self.config().timeout);
        async move { service.client.unary(SHOULD_RATE_LIMIT, &message, &metadata, deadline).await }
    }

    fn settle(
        &mut self,
        cx: &mut Context<'_>,
        answer: Result<RateLimitResponse, Failure>,
    ) -> Resume {
        let stats = self.filter.stats;
        let State::Waiting { call, shown } = std::mem::replace(&mut self.state, State::Idle) else {
            return Resume::Stay;
        };
        call.end(cx, answer.as_ref().err());
        if let Err(failure) = &answer {
            tracing::debug!(cause = failure.cause(), "ratelimit: no answer");
        }
        let config = self.config();
        let draw = Draw {
            enforced: config.filter_enforced.contains(rand::random()),
            deny_failure: config.failure_mode_deny.contains(rand::random()),
        };
        let Judged { verdict, metadata, dropped } = judge(config, &shown, draw, answer);
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
                Resume::Request
            }
            Verdict::Limit { mut response, body } => {
                cx.count(stats.over_limit);
                for added in &config.response_headers_to_add {
                    added.apply(&mut response, |operator| cx.operator(operator));
                }
                Resume::Reply(limited(config, response, body))
            }
            Verdict::Pass => {
                cx.count(stats.error);
                cx.count(stats.failure_mode_allowed);
                Resume::Request
            }
            Verdict::Refuse(reply) => {
                cx.count(stats.error);
                Resume::Reply(reply)
            }
        }
    }
}

impl HttpStream for Stream {
    type Event = Answer;

    fn request_headers(&mut self, cx: &mut Context<'_>, _end: bool) -> Step {
        let config = self.config();
        // Without a cluster (no route, a redirect, a direct response) nothing is counted.
        if !config.filter_enabled.contains(rand::random())
            || !config.request_type.covers(cx.request().get("x-envoy-internal"))
            || cx.cluster_name().is_none()
        {
            return Step::Continue;
        }
        self.counts_when_done = true;
        let descriptors = descriptors(self.limits(), &View(cx), false);
        let shown = descriptors.iter().map(|one| one.x_ratelimit_headers).collect();
        let Some(message) = self.message(cx, descriptors) else { return Step::Continue };
        let call = self.call(cx, message);
        self.state = State::Waiting { call: self.filter.stats.calls.begin(cx), shown };
        cx.spawn(call);
        Step::Pause(Hold::Everything)
    }

    fn response_headers(&mut self, cx: &mut Context<'_>, _end: bool) -> Step {
        let mut headers = cx.response_mut();
        for (name, value) in std::mem::take(&mut self.response) {
            headers.add(&name, &value);
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
        // A client that left while the call was pending is not charged at the end.
        if let State::Waiting { call, .. } = std::mem::replace(&mut self.state, State::Idle) {
            return call.abandon(cx);
        }
        if !self.counts_when_done {
            return;
        }
        let descriptors = descriptors(self.limits(), &View(cx), true);
        if let Some(message) = self.message(cx, descriptors) {
            let call = self.call(cx, message);
            cx.spawn_detached(async move {
                if let Err(error) = call.await {
                    tracing::debug!(%error, "ratelimit: the hits at a stream's end were not counted");
                }
            });
        }
    }
}

/// A stream as what descriptors are made of.
struct View<'a, 'b>(&'a Context<'b>);

impl Request for View<'_, '_> {
    fn header(&self, name: &str) -> Vec<&[u8]> {
        let name = if name == "host" { ":authority" } else { name };
        self.0.request().get_all(name).collect()
    }

    fn remote_ip(&self) -> Option<IpAddr> {
        self.0.remote_ip()
    }

    fn cluster(&self) -> Option<&[u8]> {
        self.0.cluster_name()
    }

    fn metadata(
        &self,
        source: MetadataSource,
        namespace: &str,
        key: &str,
    ) -> Option<MetadataValue> {
        self.0.metadata(source).get(namespace, key)
    }

    fn operator(&self, operator: &Operator) -> Option<Vec<u8>> {
        self.0.operator(operator)
    }
}
