//! What the filter counts: the built-in's leaf names, and the cause of each failed call.

use callout_common::stats::{Counter, Gauge, Histogram, LabelledCounter};
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
    /// Failed calls by their cause.
    pub(crate) call_failed: LabelledCounter,
    /// Calls that wait for their answer.
    pub(crate) in_flight: Gauge,
    /// Time from call to answer, in microseconds.
    pub(crate) latency_us: Histogram,
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
            call_failed: setup.labelled_counter("call_failed", "cause")?,
            in_flight: setup.gauge("in_flight")?,
            latency_us: setup.histogram("latency_us")?,
        })
    }
}
