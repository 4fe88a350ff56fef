//! A filter that fails where the request's `x-fault` tells it to: what a panic does to a request,
//! and what it leaves of Envoy, is tested with it.
#![allow(clippy::panic, reason = "it is what this filter is for")]

use std::sync::Arc;

use callout_common::{
    ConfigError, Cx, Filter, Hold, HttpStream, NoRoute, RawConfig, Resume, Setup, Step,
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

    fn request_headers(&mut self, cx: &mut Cx<'_, ()>, _: bool) -> Step {
        self.fault = cx.request().get_str("x-fault").unwrap_or_default().to_owned();
        self.at("request_headers");
        if self.fault == "leak" {
            std::mem::forget(vec![1_u8; 100]);
        }
        let fails = self.fault == "task";
        cx.spawn(async move { assert!(!fails, "asked to fail in task") });
        Step::Pause(Hold::Everything)
    }

    fn request_body(&mut self, _: &mut Cx<'_, ()>, _: bool) -> Step {
        self.at("request_body");
        Step::Continue
    }

    fn response_headers(&mut self, _: &mut Cx<'_, ()>, _: bool) -> Step {
        self.at("response_headers");
        Step::Continue
    }

    fn response_body(&mut self, _: &mut Cx<'_, ()>, _: bool) -> Step {
        self.at("response_body");
        Step::Continue
    }

    fn event(&mut self, _: &mut Cx<'_, ()>, (): ()) -> Resume {
        self.at("event");
        Resume::Request
    }

    fn complete(&mut self, _: &mut Cx<'_, ()>) {
        self.at("complete");
    }
}

callout_common::export!("faults" => Faults);
