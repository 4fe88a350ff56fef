//! Statistics: defined while a filter is configured, changed by its streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::config::ConfigError;
use crate::cluster_streams::ClusterStreams;
use crate::envoy::host::{ConfigHost, Host};
use crate::envoy::types::{MetricId, MetricKind, MetricOp};

/// What a filter may do while it is configured.
pub struct Setup<'a> {
    host: &'a mut dyn ConfigHost,
    filter: String,
    prefix: String,
    clusters: ClusterStreams,
}

impl std::fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl<'a> Setup<'a> {
    /// A set-up for the filter called `filter`.
    pub fn new(host: &'a mut dyn ConfigHost, filter: &str, clusters: ClusterStreams) -> Self {
        Self { host, filter: filter.to_owned(), prefix: format!("{filter}."), clusters }
    }

    /// The filter's name, with its `stat_prefix` once that is known: `authz.edge`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }

    /// The filter's name.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// The way to Envoy's clusters for the work of this configuration.
    #[must_use]
    pub const fn clusters(&self) -> &ClusterStreams {
        &self.clusters
    }

    /// Puts the filter's `stat_prefix` between the filter's name and the metric's own.
    pub fn stat_prefix(&mut self, prefix: &str) {
        if !prefix.is_empty() {
            self.prefix.push_str(prefix);
            self.prefix.push('.');
        }
    }

    /// Names what is defined from now on as a built-in filter does, `<metrics_namespace>.<scope>.<builtin>.<name>`
    /// (`callout.builtin_stats`): with the namespaces `cluster` and `http` Envoy takes `scope` for the tag that the
    /// built-in's have.
    ///
    /// # Errors
    /// When `scope` is not one element of a name.
    pub fn builtin_names(&mut self, scope: &str, builtin: &str) -> Result<(), ConfigError> {
        let element = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if scope.is_empty() || !scope.chars().all(element) {
            return Err(ConfigError::field(
                "callout.builtin_stats",
                "has to be letters, digits, `_` and `-`: Envoy takes no more for one element of a name",
            ));
        }
        self.prefix = format!("{scope}.{builtin}.");
        Ok(())
    }

    /// Whether Envoy only validates the configuration: start no thread, open no socket.
    #[must_use]
    pub fn validating(&self) -> bool {
        self.host.validating()
    }

    /// Defines the counter `<metrics_namespace>.<filter>.<stat_prefix>.<name>`.
    ///
    /// # Errors
    /// When Envoy refuses the metric.
    pub fn counter(&mut self, name: &str) -> Result<Counter, ConfigError> {
        self.define(MetricKind::Counter, name).map(Counter)
    }

    /// Defines a gauge; named as counters are.
    ///
    /// # Errors
    /// When Envoy refuses the metric.
    pub fn gauge(&mut self, name: &str) -> Result<Gauge, ConfigError> {
        self.define(MetricKind::Gauge, name).map(Gauge)
    }

    /// Defines a histogram; named as counters are.
    ///
    /// # Errors
    /// When Envoy refuses the metric.
    pub fn histogram(&mut self, name: &str) -> Result<Histogram, ConfigError> {
        self.define(MetricKind::Histogram, name).map(Histogram)
    }

    /// Defines a counter with one label of a small, fixed set of values.
    ///
    /// # Errors
    /// When Envoy refuses the metric.
    pub fn labelled_counter(
        &mut self,
        name: &str,
        label: &str,
    ) -> Result<LabelledCounter, ConfigError> {
        let full = format!("{}{name}", self.prefix);
        self.host
            .define_metric(MetricKind::Counter, &full, &[label])
            .map(LabelledCounter)
            .ok_or_else(|| ConfigError::without_path(format!("Envoy refused the metric `{full}`")))
    }

    /// Defines a gauge that is 1 once a stream has begun, with labels that say something of the
    /// configuration.
    ///
    /// # Errors
    /// When Envoy refuses the metric.
    pub(crate) fn info(
        &mut self,
        name: &str,
        labels: &[&str],
        values: &'static [&'static str],
    ) -> Result<Info, ConfigError> {
        let full = format!("{}{name}", self.prefix);
        let id = self.host.define_metric(MetricKind::Gauge, &full, labels).ok_or_else(|| {
            ConfigError::without_path(format!("Envoy refused the metric `{full}`"))
        })?;
        Ok(Info { id, values, told: Arc::default() })
    }

    fn define(&mut self, kind: MetricKind, name: &str) -> Result<MetricId, ConfigError> {
        let full = format!("{}{name}", self.prefix);
        self.host
            .define_metric(kind, &full, &[])
            .ok_or_else(|| ConfigError::without_path(format!("Envoy refused the metric `{full}`")))
    }
}

/// A count that only goes up.
#[derive(Debug, Clone, Copy)]
pub struct Counter(MetricId);

/// A count of a few kinds, told apart by one label.
#[derive(Debug, Clone, Copy)]
pub struct LabelledCounter(MetricId);

/// A level that goes up and down.
#[derive(Debug, Clone, Copy)]
pub struct Gauge(MetricId);

/// A gauge that says something by its labels.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    id: MetricId,
    values: &'static [&'static str],
    /// Envoy takes values of streams only: the first one tells.
    told: Arc<AtomicBool>,
}

impl Info {
    pub(crate) fn tell(&self, host: &mut dyn Host) {
        if !self.told.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed) {
            host.metric(self.id, self.values, MetricOp::Set(1));
        }
    }
}

/// A distribution of values.
#[derive(Debug, Clone, Copy)]
pub struct Histogram(MetricId);

impl Counter {
    pub(crate) fn add(self, host: &mut dyn Host, by: u64) {
        host.metric(self.0, &[], MetricOp::Count(by));
    }
}

impl LabelledCounter {
    pub(crate) fn add(self, host: &mut dyn Host, label: &str, by: u64) {
        host.metric(self.0, &[label], MetricOp::Count(by));
    }
}

impl Gauge {
    pub(crate) fn add(self, host: &mut dyn Host, by: u64) {
        host.metric(self.0, &[], MetricOp::Raise(by));
    }

    pub(crate) fn sub(self, host: &mut dyn Host, by: u64) {
        host.metric(self.0, &[], MetricOp::Lower(by));
    }
}

impl Histogram {
    pub(crate) fn record(self, host: &mut dyn Host, value: u64) {
        host.metric(self.0, &[], MetricOp::Record(value));
    }
}
