//! The short way for authors: an asynchronous function from a request to a verdict.

mod edits;
mod notes;
mod request;

use std::future::Future;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::api::config::{ConfigError, RawConfig};
use crate::envoy::reply::Reply;
use crate::envoy::types::Map;
use crate::filter::context::StreamContext;
use crate::filter::decision::{EventAction, HookStatus, StopMode};
use crate::filter::headers::Headers;
use crate::filter::stats::Setup;
use crate::filter::{Filter, HttpStream};
pub use edits::Edits;
use notes::Notes;
pub use request::{RequestHead, Tls};

/// A filter that asks somebody whether a request may pass.
///
/// Export it as `export!("name" => Gated<MyGate>)`. A panic in [`Gate::check`] answers 500.
pub trait Gate: Send + Sync + Sized + 'static {
    /// The configuration, from a `google.protobuf.Struct`. Deny unknown fields.
    type Config: DeserializeOwned;
    /// The configuration of a route, from a `Struct`, too; [`NoRoute`](crate::NoRoute) refuses any.
    type Route: DeserializeOwned + Send + Sync + 'static;

    /// Makes the gate. Runs under `--mode validate` too: starts no thread, opens no socket.
    ///
    /// # Errors
    /// The field that is wrong and why.
    fn configure(config: Self::Config, setup: &mut Setup<'_>) -> Result<Self, ConfigError>;

    /// The dynamic metadata, by namespace and key, that [`Gate::check`] looks at; it is copied for
    /// each request. None unless told.
    fn metadata(&self) -> &[(String, String)] {
        &[]
    }

    /// Decides on one request, off the worker. Dropped when the client leaves. The request waits as
    /// long as this takes, so it should have a deadline. `route` is the configuration of the route
    /// that the request is on.
    fn check(
        &self,
        request: RequestHead,
        route: Option<Arc<Self::Route>>,
    ) -> impl Future<Output = Verdict> + Send;

    /// Looks at the head of a response, the replies of Envoy and of other filters included, and
    /// changes its headers. Runs on the worker, so it must not wait for anything.
    fn response(&self, headers: Headers<'_>) -> Edits {
        let _ = headers;
        Edits::default()
    }
}

/// What a gate decides.
#[derive(Debug)]
pub enum Verdict {
    /// The request may pass, with these changes.
    Allow(Edits),
    /// The request is answered here.
    Deny(Reply),
}

impl Verdict {
    /// The request may pass as it is.
    #[must_use]
    pub fn allow() -> Self {
        Self::Allow(Edits::default())
    }
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Deny(reply)
    }
}

/// A [`Gate`] as a [`Filter`].
#[derive(Debug)]
pub struct Gated<G> {
    gate: Arc<G>,
    /// Where the outcomes of requests go in the dynamic metadata.
    namespace: Arc<str>,
}

impl<G: Gate> Filter for Gated<G> {
    type Stream = GateStream<G>;
    type Route = G::Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let namespace = format!("callout.{}", setup.filter()).into();
        Ok(Self { gate: Arc::new(G::configure(raw.json()?, setup)?), namespace })
    }

    fn route(raw: RawConfig<'_>) -> Result<G::Route, ConfigError> {
        raw.json()
    }

    fn stream(self: &Arc<Self>, route: Option<Arc<G::Route>>) -> GateStream<G> {
        GateStream {
            gate: Arc::clone(&self.gate),
            namespace: Arc::clone(&self.namespace),
            route,
            notes: Notes::default(),
            response: Edits::default(),
        }
    }
}

/// One request before a [`Gate`].
#[derive(Debug)]
pub struct GateStream<G: Gate> {
    gate: Arc<G>,
    namespace: Arc<str>,
    route: Option<Arc<G::Route>>,
    /// What the check counts and tells.
    notes: Notes,
    /// What the verdict changes of the response.
    response: Edits,
}

impl<G: Gate> HttpStream for GateStream<G> {
    type Event = Verdict;

    fn request_headers(&mut self, cx: &mut StreamContext<'_, Verdict>, _end: bool) -> HookStatus {
        let (gate, route) = (Arc::clone(&self.gate), self.route.clone());
        let head = RequestHead::of(cx, gate.metadata(), self.notes.clone());
        cx.spawn(async move { gate.check(head, route).await });
        HookStatus::Pause(StopMode::AllIteration)
    }

    fn response_headers(&mut self, cx: &mut StreamContext<'_, Verdict>, _end: bool) -> HookStatus {
        self.gate.response(cx.response()).apply(cx, Map::Response);
        std::mem::take(&mut self.response).apply(cx, Map::Response);
        HookStatus::Continue
    }

    fn event(&mut self, cx: &mut StreamContext<'_, Verdict>, verdict: Verdict) -> EventAction {
        self.notes.settle(cx, &self.namespace);
        match verdict {
            Verdict::Allow(mut edits) => {
                self.response = edits.take_response();
                edits.apply(cx, Map::Request);
                EventAction::Request
            }
            Verdict::Deny(reply) => EventAction::Reply(reply),
        }
    }

    fn complete(&mut self, cx: &mut StreamContext<'_, Verdict>) {
        // A check that was given up has counted, too.
        self.notes.settle(cx, &self.namespace);
    }
}

#[cfg(test)]
mod tests;
