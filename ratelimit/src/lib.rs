//! Global rate limits for Envoy: asks an `envoy.service.ratelimit.v3` service whether a request is
//! within its limits, as the built-in `envoy.filters.http.ratelimit` does, out of a dynamic module.

mod config;
mod descriptors;
mod headers;
mod stats;
mod stream;
mod verdict;

use std::sync::Arc;

use callout_common::{ConfigError, Filter, RawConfig, Setup};

use config::{Config, Route};
use stats::Stats;
use stream::Stream;

/// The configured filter.
#[derive(Debug)]
pub struct RateLimit {
    config: Config,
    stats: Stats,
}

impl Filter for RateLimit {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let config = Config::read(raw)?;
        setup.stat_prefix(&config.stat_prefix);
        Ok(Self { config, stats: Stats::define(setup)? })
    }

    fn route(raw: RawConfig<'_>) -> Result<Route, ConfigError> {
        Route::read(raw)
    }

    fn stream(self: &Arc<Self>, route: Option<Arc<Route>>) -> Stream {
        Stream::new(Arc::clone(self), route)
    }
}

callout_common::export!("ratelimit" => RateLimit);
