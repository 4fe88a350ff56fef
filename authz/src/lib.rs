//! External authorization for Envoy: asks an `envoy.service.auth.v3` service whether a request may
//! pass, as the built-in `envoy.filters.http.ext_authz` does, out of a dynamic module.

mod apply;
mod cache;
mod callout;
mod carry_out;
mod config;
mod edits;
mod failure;
mod flights;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod key;
mod outcome;
mod query;
mod question;
mod request;
mod shadow;
mod stats;
mod stream;
mod strict;
mod verdict;

use std::sync::Arc;

use callout_common::clusters::Clusters;
use callout_common::unreadable::UnreadableMetadata;
use callout_common::{ConfigError, Filter, RawConfig, Setup};

use cache::Cache;
use config::{Config, Route};
use flights::Flights;
use key::Keys;
use question::Answer;
use stats::Stats;
use stream::Stream;

/// The configured filter.
#[derive(Debug)]
pub struct Authz {
    config: Config,
    stats: Stats,
    keys: Keys,
    cache: Option<Cache>,
    flights: Arc<Flights<Answer>>,
    clusters: Clusters,
    unreadable: UnreadableMetadata,
}

impl Filter for Authz {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let mut config = Config::read(raw)?;
        config.service = config.service.through(setup.clusters());
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

    fn stream(self: &Arc<Self>, route: Option<Arc<Route>>) -> Stream {
        Stream::new(Arc::clone(self), route)
    }
}

callout_common::export!("authz" => Authz);
