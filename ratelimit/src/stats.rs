//! What the filter counts: the built-in's leaf names, and the cause of each failed call.

use callout_common::calls::CallStats;
use callout_common::stats::Counter;
use callout_common::{ConfigError, Setup};

/// The filter's statistics, under `<metrics_namespace>.ratelimit.<stat_prefix>.`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stats {
    /// The service said the request is within its limits.
    pub(crate) ok: Counter,
    /// The service said it is over a limit, enforced or not.
    pub(crate) over_limit: Counter,
    /// The call failed.
    pub(crate) error: Counter,
    /// A failure let the request pass.
    pub(crate) failure_mode_allowed: Counter,
    /// Headers of an answer that were left out: malformed, or part of the framing.
    pub(crate) dropped_headers: Counter,
    /// Metadata of an answer that this Envoy can't hold.
    pub(crate) dropped_metadata: Counter,
    /// The calls.
    pub(crate) calls: CallStats,
}

impl Stats {
    pub(crate) fn define(setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            ok: setup.counter("ok")?,
            over_limit: setup.counter("over_limit")?,
            error: setup.counter("error")?,
            failure_mode_allowed: setup.counter("failure_mode_allowed")?,
            dropped_headers: setup.counter("dropped_headers")?,
            dropped_metadata: setup.counter("dropped_metadata")?,
            calls: CallStats::define(setup)?,
        })
    }
}
