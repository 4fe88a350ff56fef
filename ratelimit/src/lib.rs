//! Global rate limits for Envoy: asks an `envoy.service.ratelimit.v3` service whether a request is
//! within its limits, as the built-in `envoy.filters.http.ratelimit` does, out of a dynamic module.

pub mod migrate;
mod stream;
mod access_log;
mod call;
mod memory;
mod decide;
mod request;
mod config;
mod stats;

use std::sync::Arc;
use std::time::Instant;

use callout_common::grpc::circuit_breaker::Breaker;
use callout_common::{ConfigError, Filter, RawConfig, Setup};

use config::{Config, Route};
use memory::ledger::Ledger;
use memory::local::Locals;
use stats::Stats;
use stream::Stream;

/// The configured filter.
#[derive(Debug)]
pub struct RateLimit {
    config: Config,
    stats: Stats,
    ledger: Arc<Ledger>,
    breaker: Option<Breaker>,
    fallback: Locals,
    shield: Locals,
}

impl RateLimit {
    /// Whether the service may be called, as far as it answered of late. Whoever may has to call.
    pub(crate) fn breaker_admits(&self) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.admits(Instant::now()))
    }
}

impl Filter for RateLimit {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let mut config = Config::read(raw)?;
        config.service = config.service.through(setup.clusters());
        setup.stat_prefix(&config.stat_prefix);
        let accounts = config.callout.accounts;
        Ok(Self {
            stats: Stats::define(setup)?,
            ledger: Ledger::shared(&config.service.identity(), accounts),
            breaker: config.callout.breaker.map(Breaker::new),
            fallback: Locals::new(accounts.entries),
            shield: Locals::new(accounts.entries),
            config,
        })
    }

    fn route(raw: RawConfig<'_>) -> Result<Route, ConfigError> {
        Route::read(raw)
    }

    fn stream(self: &Arc<Self>, route: Option<Arc<Route>>) -> Stream {
        Stream::new(Arc::clone(self), route)
    }
}

callout_common::export!("ratelimit" => RateLimit);
