//! The two traits that a filter implements: [`Filter`], configured once, and [`HttpStream`], one
//! request and its response.

use std::sync::Arc;

use crate::api::config::{ConfigError, RawConfig};
use crate::envoy::reply::Reply;
use crate::envoy::types::Direction;
use crate::filter::admin::Purge;
use crate::filter::context::StreamContext;
use crate::filter::decision::{BodyEdit, EventAction, HookStatus};
use crate::filter::stats::Setup;

/// A configured filter, shared by the workers.
pub trait Filter: Send + Sync + Sized + 'static {
    /// One request and its response.
    type Stream: HttpStream;
    /// The per-route configuration, or [`NoRoute`].
    type Route: Send + Sync + 'static;

    /// Makes the filter from its configuration. Runs on the main thread, under `--mode validate`
    /// too, so it starts no thread and opens no socket.
    ///
    /// # Errors
    /// The field that is wrong and why; Envoy then refuses the whole configuration.
    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError>;

    /// Makes the per-route configuration. Runs on the main thread, possibly before
    /// [`Filter::configure`] and without any filter at all.
    ///
    /// # Errors
    /// The field that is wrong and why.
    fn route(raw: RawConfig<'_>) -> Result<Self::Route, ConfigError>;

    /// Whether it keeps decisions that an operator may have forgotten.
    const PURGES: bool = false;

    /// How this configuration is, for `GET /callout/<filter>/status` on Envoy's admin interface. Runs on the
    /// main thread.
    fn status(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Forgets kept decisions, and tells how many. Runs on the main thread; only where
    /// [`Filter::PURGES`].
    fn purge(&self, what: &Purge) -> u64 {
        let _ = what;
        0
    }

    /// A new stream, made in its first hook, with the per-route configuration that holds then.
    fn stream(self: &Arc<Self>, route: Option<Arc<Self::Route>>) -> Self::Stream;
}

/// One request and its response, on one worker; needs no locks.
///
/// Hooks of the response may run for a stream whose request hooks never did, because an earlier
/// filter answered. Every hook has to be total.
pub trait HttpStream: 'static {
    /// What work off the worker sends back.
    type Event: Send + 'static;

    /// Whether it may hold the end of a request whose headers it let go, and says so
    /// ([`StreamContext::hold_request_end`]). Such filters agree among themselves what goes when.
    const HOLDS_ENDS: bool = false;

    /// The request's headers; `end` when no body and no trailers follow.
    fn request_headers(
        &mut self,
        cx: &mut StreamContext<'_, Self::Event>,
        end: bool,
    ) -> HookStatus {
        let _ = (cx, end);
        HookStatus::Continue
    }
    /// A piece of the request's body; `end` with the last one when no trailers follow.
    fn request_body(&mut self, cx: &mut StreamContext<'_, Self::Event>, end: bool) -> HookStatus {
        let _ = (cx, end);
        HookStatus::Continue
    }
    /// The request's trailers.
    fn request_trailers(&mut self, cx: &mut StreamContext<'_, Self::Event>) -> HookStatus {
        let _ = cx;
        HookStatus::Continue
    }
    /// The response's headers, local replies of Envoy and of other filters included.
    fn response_headers(
        &mut self,
        cx: &mut StreamContext<'_, Self::Event>,
        end: bool,
    ) -> HookStatus {
        let _ = (cx, end);
        HookStatus::Continue
    }
    /// A piece of the response's body; `end` with the last one when no trailers follow.
    fn response_body(&mut self, cx: &mut StreamContext<'_, Self::Event>, end: bool) -> HookStatus {
        let _ = (cx, end);
        HookStatus::Continue
    }
    /// The response's trailers.
    fn response_trailers(&mut self, cx: &mut StreamContext<'_, Self::Event>) -> HookStatus {
        let _ = cx;
        HookStatus::Continue
    }

    /// Work off the worker sent `event`.
    fn event(&mut self, cx: &mut StreamContext<'_, Self::Event>, event: Self::Event)
    -> EventAction;

    /// Work off the worker ended without its event: it panicked, or could not be started. There is
    /// no verdict, so the default answers 500.
    fn lost(&mut self, cx: &mut StreamContext<'_, Self::Event>) -> EventAction {
        let _ = cx;
        EventAction::Reply(Reply::new(500).details("callout_lost"))
    }

    /// `direction` was let go on: what was held has reached the filters behind, as far as they take
    /// it now. Not called when that ended the stream. What is returned is done to the body at once.
    fn resumed(
        &mut self,
        cx: &mut StreamContext<'_, Self::Event>,
        direction: Direction,
    ) -> Option<BodyEdit> {
        let _ = (cx, direction);
        None
    }

    /// The stream ended, in whatever way. Pending work has been cancelled.
    fn complete(&mut self, cx: &mut StreamContext<'_, Self::Event>) {
        let _ = cx;
    }
}

const NO_ROUTE: &str = "this filter takes no per-route configuration";

/// The per-route configuration of a filter that has none: any is refused.
#[derive(Debug, Clone, Copy)]
pub struct NoRoute;

impl<'de> serde::Deserialize<'de> for NoRoute {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(NO_ROUTE))
    }
}

impl NoRoute {
    /// Refuses a per-route configuration.
    ///
    /// # Errors
    /// Always.
    pub fn refuse(_raw: RawConfig<'_>) -> Result<Self, ConfigError> {
        Err(ConfigError::without_path(NO_ROUTE))
    }
}
