//! A filter that fails where the request's `x-fault` tells it to: what a panic does to a request,
//! and what it leaves of Envoy, is tested with it.
#![allow(clippy::panic, reason = "it is what this filter is for")]

use std::sync::Arc;

use callout_common::{
    ConfigError, EventAction, Filter, HookStatus, HttpStream, NoRoute, RawConfig, Setup, StopMode,
    StreamContext,
};

struct Faults;

impl Filter for Faults {
    type Stream = Stream;
    type Route = NoRoute;

    fn configure(_: RawConfig<'_>, _: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn route(raw: RawConfig<'_>) -> Result<NoRoute, ConfigError> {
        NoRoute::refuse(raw)
    }

    fn stream(self: &Arc<Self>, _: Option<Arc<NoRoute>>) -> Stream {
        Stream { fault: String::new() }
    }
}

struct Stream {
    fault: String,
}

impl Stream {
    fn at(&self, place: &str) {
        assert!(self.fault != place, "asked to fail in {place}");
    }
}

impl HttpStream for Stream {
    type Event = ();

    fn request_headers(&mut self, cx: &mut StreamContext<'_, ()>, _: bool) -> HookStatus {
        self.fault = cx.request().get_str("x-fault").unwrap_or_default().to_owned();
        self.at("request_headers");
        if self.fault == "leak" {
            std::mem::forget(vec![1_u8; 100]);
        }
        let fails = self.fault == "task";
        cx.spawn(async move { assert!(!fails, "asked to fail in task") });
        HookStatus::Pause(StopMode::AllIteration)
    }

    fn request_body(&mut self, _: &mut StreamContext<'_, ()>, _: bool) -> HookStatus {
        self.at("request_body");
        HookStatus::Continue
    }

    fn response_headers(&mut self, _: &mut StreamContext<'_, ()>, _: bool) -> HookStatus {
        self.at("response_headers");
        HookStatus::Continue
    }

    fn response_body(&mut self, _: &mut StreamContext<'_, ()>, _: bool) -> HookStatus {
        self.at("response_body");
        HookStatus::Continue
    }

    fn event(&mut self, _: &mut StreamContext<'_, ()>, (): ()) -> EventAction {
        self.at("event");
        EventAction::Request
    }

    fn complete(&mut self, _: &mut StreamContext<'_, ()>) {
        self.at("complete");
    }
}

callout_common::export!("faults" => Faults);
