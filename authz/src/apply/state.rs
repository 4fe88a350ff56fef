//! What one request consists of: what hooks and events find and leave, and what holds for it.

use std::sync::Arc;
use std::time::Duration;

use callout_common::filter::call_stats::Waiting;
use callout_common::grpc::{MetadataMap, Service};

use crate::Authz;
use crate::call::check_call::{Addressee, Context};
use crate::config::{BodyLimits, CheckSettings, Config, DEFAULT_TIMEOUT, Route, RouteBody};
use crate::decide::verdict::Decision;
use crate::memory::key::Key;

/// One request.
#[derive(Debug)]
pub struct Stream {
    pub(crate) authz: Arc<Authz>,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) state: State,
    /// The decision that let the request pass, with its changes to the response.
    pub(crate) allowed: Option<Arc<Decision>>,
}

#[derive(Debug)]
pub(crate) enum State {
    /// Nothing to wait for.
    Idle,
    /// The body has to come in first. Of a request to upgrade that has one, only the length tells
    /// where it ends.
    Buffering(BodyLimits, Option<usize>),
    /// The call is under way.
    Waiting(Waiting, Option<Key>),
}

impl Stream {
    pub(crate) fn new(authz: Arc<Authz>, route: Option<Arc<Route>>) -> Self {
        Self { authz, route, state: State::Idle, allowed: None }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.authz.config
    }

    pub(crate) fn settings(&self) -> Option<&CheckSettings> {
        match self.route.as_deref() {
            Some(Route::Enabled(settings)) => Some(settings),
            _ => None,
        }
    }

    /// The limits of the body that the service is to see, if any.
    pub(crate) fn body_limits(&self) -> Option<BodyLimits> {
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

    /// Whether requests of this kind may share decisions.
    pub(crate) fn shares(&self) -> bool {
        self.config().callout.shares()
            && !self.settings().is_some_and(|settings| settings.callout.always_ask)
    }

    pub(crate) fn service(&self) -> &Service {
        self.settings()
            .and_then(|settings| settings.service.as_ref())
            .unwrap_or_else(|| &self.config().service)
    }

    /// How long an answer of `service` is waited for; zero is no limit.
    pub(crate) fn timeout(&self, service: &Service) -> Duration {
        self.settings()
            .and_then(|settings| settings.callout.timeout)
            .or(service.timeout)
            .unwrap_or(DEFAULT_TIMEOUT)
    }

    pub(crate) fn metadata(&self, cx: &Context<'_>) -> MetadataMap {
        self.service().metadata.fill(|operator| cx.operator(operator))
    }

    /// The services of `callout.services`.
    pub(crate) fn others(&self, cx: &Context<'_>) -> Vec<Addressee> {
        let services = self.config().callout.services.iter().flat_map(|more| &more.services);
        let addressee = |service: &Service| Addressee {
            service: service.clone(),
            timeout: self.timeout(service),
            metadata: service.metadata.fill(|operator| cx.operator(operator)),
        };
        services.map(addressee).collect()
    }
}
