//! Global rate limits for Envoy: asks an `envoy.service.ratelimit.v3` service whether a request is
//! within its limits, as the built-in `envoy.filters.http.ratelimit` does, out of a dynamic module.

mod stream;
mod apply;
mod access_log;
mod call;
mod config;
mod memory;
mod decide;
mod request;
mod stats;

use std::sync::Arc;
use std::time::Instant;

use callout_common::filter::unreadable::UnreadableMetadata;
use callout_common::grpc::circuit_breaker::{CircuitBreaker, Permit};
use callout_common::{ConfigError, Filter, RawConfig, Setup};

use apply::state::Stream;
use config::{Config, Route};
use memory::ledger::LeaseTable;
use memory::local::LocalLimiters;
use stats::Stats;

/// The configured filter.
#[derive(Debug)]
pub struct RateLimit {
    config: Config,
    stats: Stats,
    ledger: Arc<LeaseTable>,
    breaker: Option<Arc<CircuitBreaker>>,
    fallback: LocalLimiters,
    shield: LocalLimiters,
    unreadable: UnreadableMetadata,
}

impl RateLimit {
    /// Leave to call the service, if it answered of late.
    pub(crate) fn enter_breaker(&self) -> Option<Permit> {
        match &self.breaker {
            Some(breaker) => breaker.enter(Instant::now()),
            None => Some(Permit::free()),
        }
    }
}

impl Filter for RateLimit {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let mut config = Config::read(raw)?;
        config.service = config.service.with_cluster_streams(setup.clusters());
        if let Some(scope) = &config.callout.builtin_stats {
            setup.builtin_names(scope, "ratelimit")?;
        }
        setup.stat_prefix(&config.stat_prefix);
        let accounts = config.callout.accounts;
        Ok(Self {
            stats: Stats::define(setup)?,
            unreadable: UnreadableMetadata::define(
                setup,
                "ratelimit",
                config.callout.on_unreadable_metadata,
            )?,
            ledger: LeaseTable::shared(&config.service.identity(), accounts),
            breaker: config.callout.breaker.map(|settings| Arc::new(CircuitBreaker::new(settings))),
            fallback: LocalLimiters::new(accounts.entries),
            shield: LocalLimiters::new(accounts.entries),
            config,
        })
    }

    fn route(raw: RawConfig<'_>) -> Result<Route, ConfigError> {
        Route::read(raw)
    }

    fn status(&self) -> serde_json::Value {
        let breaker = self.breaker.as_ref().map(|breaker| breaker.word(Instant::now()));
        serde_json::json!({
            "stat_prefix": self.config.stat_prefix,
            "domain": self.config.domain,
            "service": self.config.service.name,
            "breaker": breaker,
        })
    }

    fn stream(self: &Arc<Self>, route: Option<Arc<Route>>) -> Stream {
        Stream::new(Arc::clone(self), route)
    }
}

/// JSON Schemas of what stands under `callout`: of the filter, and of a route.
#[cfg(any(test, feature = "schema"))]
#[must_use]
pub fn schemas() -> [schemars::Schema; 2] {
    use callout_common::api::schema::of;
    [of::<config::extensions::Fields>(), of::<config::extensions::RouteFields>()]
}

callout_common::export!("ratelimit" => RateLimit);
