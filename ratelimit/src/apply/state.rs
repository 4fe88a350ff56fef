//! What one request consists of: what hooks and events find and leave, and what holds for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use callout_common::StreamContext;
use callout_common::filter::call_stats::Waiting;
use callout_common::grpc::MetadataMap;
use callout_common::http::mutation::Lines;
use callout_protos::envoy::service::ratelimit::v3::RateLimitRequest;

use crate::RateLimit;
use crate::call::{CheckCall, CheckResult};
use crate::config::rules::Policy;
use crate::config::{Config, Route};
use crate::memory::key::Key;
use crate::memory::ledger::{LeaseConfig, Mode, Quota};
use crate::request::traffic::Traffic;
use crate::request::view::View;
use crate::request::{Descriptor, DescriptorEntry, Limit, descriptors};

/// Filter-state key by which another filter sets the hits of the whole request.
pub(crate) const HITS_ADDEND: &str = "envoy.ratelimit.hits_addend";

pub(crate) type Context<'a> = StreamContext<'a, CheckResult>;

/// One request.
#[derive(Debug)]
pub struct Stream {
    pub(crate) filter: Arc<RateLimit>,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) state: State,
    /// Lines to add to the response, once the request is allowed.
    pub(crate) response: Lines,
    /// The request was looked at, so that it may count at its end, too.
    pub(crate) counts_when_done: bool,
    /// The bytes of its bodies matter.
    pub(crate) counts_bytes: bool,
    /// What was counted of it by an estimate.
    pub(crate) reserved: Option<Reserved>,
    pub(crate) traffic: Traffic,
}

#[derive(Debug)]
pub(crate) enum State {
    Idle,
    /// The call is under way.
    Waiting(Waiting, Box<Asked>),
}

/// What was counted of a request by an estimate: `hits` for each of the descriptors of this message.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) message: RateLimitRequest,
    pub(crate) hits: u64,
}

/// What was asked, as far as it matters when the answer comes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Arc<CheckCall>,
    pub(crate) handling: Policy,
    /// `x_ratelimit_option` of each descriptor.
    pub(crate) shown: Vec<Option<bool>>,
    /// The name of the set of descriptors, and the limit that the service told of last.
    pub(crate) key: Option<Key>,
    pub(crate) quota: Option<Quota>,
}

impl Stream {
    pub(crate) fn new(filter: Arc<RateLimit>, route: Option<Arc<Route>>) -> Self {
        let (state, response) = (State::Idle, Lines::new());
        let traffic = Traffic::begin(Instant::now());
        let (counts_when_done, counts_bytes, reserved) = (false, false, None);
        Self { filter, route, state, response, counts_when_done, counts_bytes, reserved, traffic }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.filter.config
    }

    /// The route's limits, if it has any; else the filter's.
    pub(crate) fn limits(&self) -> &[Limit] {
        match self.route.as_deref() {
            Some(route) if !route.limits.is_empty() => &route.limits,
            _ => &self.config().limits,
        }
    }

    /// The descriptors for the end of the stream if `done`, else those for now.
    pub(crate) fn descriptors(&self, cx: &Context<'_>, done: bool) -> DescriptorEntry {
        descriptors(self.limits(), &View { cx, traffic: self.traffic }, done)
    }

    /// The message about `descriptors`; `None` when there are none, and so nothing to ask.
    pub(crate) fn message(
        &self,
        cx: &Context<'_>,
        descriptors: Vec<Descriptor>,
    ) -> Option<RateLimitRequest> {
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
    pub(crate) fn metadata(&self, cx: &Context<'_>) -> MetadataMap {
        self.config().service.metadata.fill(|operator| cx.operator(operator))
    }

    /// How long an answer is waited for; zero is no limit.
    pub(crate) fn timeout(&self) -> Duration {
        let route = self.route.as_deref().and_then(|route| route.callout.timeout);
        route.unwrap_or_else(|| self.config().timeout)
    }

    /// What holds for `message`.
    pub(crate) fn handling(&self, message: &RateLimitRequest) -> Policy {
        let callout = &self.config().callout;
        let mode = self
            .route
            .as_deref()
            .and_then(|route| route.callout.mode)
            .unwrap_or(callout.terms.mode);
        Policy::of(&callout.rules, &message.descriptors, mode, callout.shadow)
    }

    /// Under which terms calls about `message` may be saved.
    pub(crate) fn terms(&self, message: &RateLimitRequest, mode: Mode) -> LeaseConfig {
        let mode = match mode {
            // What is left unspent of a limit that several sets share would add up.
            Mode::Lease | Mode::Async if message.descriptors.len() > 1 => Mode::CacheOverLimit,
            mode => mode,
        };
        LeaseConfig { mode, ..self.config().callout.terms }
    }
}
