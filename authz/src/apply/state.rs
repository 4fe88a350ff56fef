//! What one request consists of: what hooks and events find and leave.

use std::sync::Arc;

use callout_common::filter::call_stats::Waiting;

use crate::Authz;
use crate::config::{BodyLimits, CheckSettings, Config, Route};
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
}
