//! External processing for Envoy: an `envoy.service.ext_proc.v3` service reads and changes requests
//! and responses, as with the built-in `envoy.filters.http.ext_proc`, out of a dynamic module.

mod attributes;
mod carry_out;
mod config;
mod immediate;
mod machine;
mod message;
mod mutate;
mod session;
mod stats;
mod stream;

use std::sync::Arc;

use callout_common::clusters::Clusters;
use callout_common::{ConfigError, Filter, RawConfig, Setup};

use config::{Config, Route};
use stats::Stats;
use stream::Stream;

/// The configured filter.
#[derive(Debug)]
pub struct ExtProc {
    config: Config,
    stats: Stats,
    clusters: Clusters,
}

impl Filter for ExtProc {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let mut config = Config::read(raw)?;
        config.service = config.service.through(setup.clusters());
        setup.stat_prefix(&config.stat_prefix);
        let clusters = setup.clusters().clone();
        Ok(Self { config, stats: Stats::define(setup)?, clusters })
    }

    fn route(raw: RawConfig<'_>) -> Result<Route, ConfigError> {
        Route::read(raw)
    }

    fn stream(self: &Arc<Self>, route: Option<Arc<Route>>) -> Stream {
        Stream::new(Arc::clone(self), route)
    }
}

callout_common::export!("extproc" => ExtProc);
