//! External processing for Envoy: an `envoy.service.ext_proc.v3` service reads and changes requests
//! and responses, as with the built-in `envoy.filters.http.ext_proc`, out of a dynamic module.

mod stream;
mod apply;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod access_log;
mod call;
mod config;
mod stats;
mod request;
mod decide;

use std::sync::Arc;
use std::time::Instant;

use callout_common::cluster_streams::ClusterStreams;
use callout_common::filter::unreadable::UnreadableMetadata;
use callout_common::grpc::circuit_breaker::CircuitBreaker;
use callout_common::{ConfigError, Filter, RawConfig, Setup};

use access_log::Latencies;
use apply::state::Stream;
use call::exchange::StreamPermits;
use config::{Config, Route};
use stats::Stats;

/// The configured filter.
#[derive(Debug)]
pub struct ExtProc {
    config: Config,
    stats: Stats,
    latencies: Latencies,
    clusters: ClusterStreams,
    breaker: Option<Arc<CircuitBreaker>>,
    places: StreamPermits,
    unreadable: UnreadableMetadata,
}

impl Filter for ExtProc {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let mut config = Config::read(raw)?;
        config.service = config.service.with_cluster_streams(setup.clusters());
        if let Some(scope) = &config.callout.builtin_stats {
            setup.builtin_names(scope, "ext_proc")?;
        }
        setup.stat_prefix(&config.stat_prefix);
        Ok(Self {
            stats: Stats::define(setup)?,
            unreadable: UnreadableMetadata::define(
                setup,
                "extproc",
                config.callout.on_unreadable_metadata,
            )?,
            latencies: Latencies::define(setup)?,
            clusters: setup.clusters().clone(),
            breaker: config.callout.breaker.map(|settings| Arc::new(CircuitBreaker::new(settings))),
            places: StreamPermits::new(config.callout.max_streams),
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
            "service": self.config.service.name,
            "breaker": breaker,
            "open_exchanges": self.places.taken(),
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

callout_common::export!("extproc" => ExtProc);
