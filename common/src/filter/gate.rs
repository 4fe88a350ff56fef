//! The short way for authors: an asynchronous function from a request to a verdict.

use std::future::Future;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::api::config::{ConfigError, RawConfig};
use crate::envoy::reply::Reply;
use crate::filter::context::StreamContext;
use crate::filter::decision::{EventAction, HookStatus, StopMode};
use crate::filter::headers::Headers;
use crate::filter::stats::Setup;
use crate::filter::{Filter, HttpStream, NoRoute};
use crate::http::mutation::{Mutation, Op};
use crate::http::rules::{is_framing, valid_name, valid_value};

/// A filter that asks somebody whether a request may pass.
///
/// Export it as `export!("name" => Gated<MyGate>)`. A panic in [`Gate::check`] answers 500.
pub trait Gate: Send + Sync + Sized + 'static {
    /// The configuration, from a `google.protobuf.Struct`. Deny unknown fields.
    type Config: DeserializeOwned;

    /// Makes the gate. Runs under `--mode validate` too: starts no thread, opens no socket.
    ///
    /// # Errors
    /// The field that is wrong and why.
    fn configure(config: Self::Config, setup: &mut Setup<'_>) -> Result<Self, ConfigError>;

    /// Decides on one request, off the worker. Dropped when the client leaves. The request waits as
    /// long as this takes, so it should have a deadline.
    fn check(&self, request: RequestHead) -> impl Future<Output = Verdict> + Send;
}

/// The head of a request, copied.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    headers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl RequestHead {
    /// Copies the head of a request.
    #[must_use]
    pub fn copy(headers: Headers<'_>) -> Self {
        let copy = |h: crate::envoy::types::Header<'_>| (h.name.to_vec(), h.value.to_vec());
        Self { headers: headers.all().into_iter().map(copy).collect() }
    }

    /// The first value of `name` (lower-case; pseudo headers included), if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name.as_bytes())?;
        std::str::from_utf8(&found.1).ok()
    }

    /// Every line in order, pseudo headers first.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.header(":method").unwrap_or_default()
    }

    /// The path with its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.header(":path").unwrap_or_default()
    }

    /// The authority.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.header(":authority").unwrap_or_default()
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

/// Changes to the request's headers, made in the order in which they are given. Lines that are not
/// well-formed or belong to the framing are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    mutations: Vec<Mutation>,
}

impl Edits {
    /// Sets a header, replacing every line of that name.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let (name, value) = (name.to_ascii_lowercase(), value.into());
        if valid_name(&name) && valid_value(&value) && !is_framing(&name) {
            self.mutations.push(Mutation::new(Op::Set, name, value));
        }
        self
    }

    /// Removes a header.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if valid_name(&name) && !is_framing(&name) && name != "host" {
            self.mutations.push(Mutation::remove(name));
        }
        self
    }

    fn apply<E: Send + 'static>(&self, cx: &mut StreamContext<'_, E>) {
        let mut headers = cx.request_mut();
        for mutation in &self.mutations {
            mutation.apply(&mut headers);
        }
    }
}

/// A [`Gate`] as a [`Filter`].
#[derive(Debug)]
pub struct Gated<G> {
    gate: Arc<G>,
}

impl<G: Gate> Filter for Gated<G> {
    type Stream = GateStream<G>;
    type Route = NoRoute;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self { gate: Arc::new(G::configure(raw.json()?, setup)?) })
    }

    fn route(raw: RawConfig<'_>) -> Result<NoRoute, ConfigError> {
        NoRoute::refuse(raw)
    }

    fn stream(self: &Arc<Self>, _route: Option<Arc<NoRoute>>) -> GateStream<G> {
        GateStream { gate: Arc::clone(&self.gate) }
    }
}

/// One request before a [`Gate`].
#[derive(Debug)]
pub struct GateStream<G> {
    gate: Arc<G>,
}

impl<G: Gate> HttpStream for GateStream<G> {
    type Event = Verdict;

    fn request_headers(&mut self, cx: &mut StreamContext<'_, Verdict>, _end: bool) -> HookStatus {
        let gate = Arc::clone(&self.gate);
        let head = RequestHead::copy(cx.request());
        cx.spawn(async move { gate.check(head).await });
        HookStatus::Pause(StopMode::AllIteration)
    }

    fn event(&mut self, cx: &mut StreamContext<'_, Verdict>, verdict: Verdict) -> EventAction {
        match verdict {
            Verdict::Allow(edits) => {
                edits.apply(cx);
                EventAction::Request
            }
            Verdict::Deny(reply) => EventAction::Reply(reply),
        }
    }
}
