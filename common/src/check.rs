//! Configurations checked without an Envoy: for tools that tell what a module will refuse.

use crate::api::config::{ConfigError, RawConfig};
use crate::cluster_streams::ClusterStreams;
use crate::envoy::host::{ConfigHost, Scheduler};
use crate::envoy::types::{MetricId, MetricKind};
use crate::filter::Filter;
use crate::filter::stats::Setup;

/// Whether `F` takes `bytes` as its configuration, as Envoy would hand them over. Starts nothing.
/// Warnings go where `tracing` events go.
///
/// # Errors
/// The field that is wrong and why.
pub fn filter<F: Filter>(name: &str, bytes: &[u8]) -> Result<(), ConfigError> {
    let mut host = NoHost { metrics: 0 };
    let mut setup = Setup::new(&mut host, name, ClusterStreams::default());
    F::configure(RawConfig::new(bytes), &mut setup).map(drop)
}

/// Whether `F` takes `bytes` as the configuration of a route.
///
/// # Errors
/// The field that is wrong and why.
pub fn route<F: Filter>(bytes: &[u8]) -> Result<(), ConfigError> {
    F::route(RawConfig::new(bytes)).map(drop)
}

/// Takes every metric and keeps none.
struct NoHost {
    metrics: usize,
}

impl ConfigHost for NoHost {
    fn define_metric(&mut self, _: MetricKind, _: &str, _: &[&str]) -> Option<MetricId> {
        self.metrics += 1;
        Some(MetricId(self.metrics))
    }

    fn validating(&self) -> bool {
        true
    }

    fn scheduler(&mut self) -> Box<dyn Scheduler> {
        Box::new(Nowhere)
    }
}

/// A scheduler whose events nobody fires.
struct Nowhere;

impl Scheduler for Nowhere {
    fn commit(&self, _: u64) {}
}
