//! External authorization for Envoy: asks an `envoy.service.auth.v3` service whether a request may
//! pass, as the built-in `envoy.filters.http.ext_authz` does, out of a dynamic module.

mod stream;
mod apply;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod access_log;
mod call;
mod memory;
mod decide;
mod request;
mod config;
mod stats;

use std::sync::Arc;
use std::time::Instant;

use callout_common::cluster_streams::ClusterStreams;
use callout_common::filter::admin::Purge;
use callout_common::filter::unreadable::UnreadableMetadata;
use callout_common::{ConfigError, Filter, RawConfig, Setup};

use apply::state::Stream;
use call::check_call::CheckResult;
use call::single_flight::SingleFlight;
use config::{Config, Route};
use memory::cache::Cache;
use memory::key::Keys;
use stats::Stats;

/// The configured filter.
#[derive(Debug)]
pub struct Authz {
    config: Config,
    stats: Stats,
    keys: Keys,
    cache: Option<Cache>,
    flights: Arc<SingleFlight<CheckResult>>,
    clusters: ClusterStreams,
    unreadable: UnreadableMetadata,
}

impl Filter for Authz {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let mut config = Config::read(raw)?;
        config.service = config.service.with_cluster_streams(setup.clusters());
        for service in config.callout.services.iter_mut().flat_map(|more| &mut more.services) {
            *service = service.clone().with_cluster_streams(setup.clusters());
        }
        if let Some(scope) = &config.callout.builtin_stats {
            setup.builtin_names(scope, "ext_authz")?;
        }
        setup.stat_prefix(&config.stat_prefix);
        Ok(Self {
            stats: Stats::define(setup)?,
            unreadable: UnreadableMetadata::define(
                setup,
                "authz",
                config.callout.on_unreadable_metadata,
            )?,
            keys: Keys::new(
                config.callout.key.clone(),
                config.reads_dynamic_metadata(),
                rand::random(),
            ),
            cache: config.callout.cache.map(Cache::new),
            flights: Arc::default(),
            clusters: setup.clusters().clone(),
            config,
        })
    }

    fn route(raw: RawConfig<'_>) -> Result<Route, ConfigError> {
        Route::read(raw)
    }

    const PURGES: bool = true;

    fn status(&self) -> serde_json::Value {
        let cache = self.cache.as_ref().map(|cache| {
            let (entries, bytes) = cache.size();
            serde_json::json!({"entries": entries, "bytes": bytes, "max_bytes": cache.max_bytes()})
        });
        serde_json::json!({
            "stat_prefix": self.config.stat_prefix,
            "service": self.config.service.name,
            "cache": cache,
        })
    }

    fn purge(&self, what: &Purge) -> u64 {
        let purged = self.cache.as_ref().map_or(0, |cache| cache.purge(what, Instant::now()));
        self.flights.part();
        purged
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

callout_common::export!("authz" => Authz);
