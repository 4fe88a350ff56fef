//! What the filter counts: the built-in's leaf names, and the cause of each failed call.

use callout_common::filter::call_stats::CallStats;
use callout_common::filter::stats::Counter;
use callout_common::{ConfigError, Setup};

/// The filter's statistics, under `<metrics_namespace>.authz.<stat_prefix>.`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stats {
    /// The service allowed the request.
    pub(crate) ok: Counter,
    /// The service denied it.
    pub(crate) denied: Counter,
    /// The call failed, or the service answered with an error.
    pub(crate) error: Counter,
    /// The filter was switched off by `filter_enabled` or `filter_enabled_metadata`.
    pub(crate) disabled: Counter,
    /// An error let the request pass.
    pub(crate) failure_mode_allowed: Counter,
    /// The answer asked for changes that can't be made.
    pub(crate) invalid: Counter,
    /// The answer's metadata was dropped.
    pub(crate) ignored_dynamic_metadata: Counter,
    /// The changed request would have had too many headers.
    pub(crate) request_header_limits_reached: Counter,
    /// The changed response would have had too many headers.
    pub(crate) response_header_limits_reached: Counter,
    /// Shadow mode passed over a denial.
    pub(crate) shadow_denied: Counter,
    /// Shadow mode passed over an error.
    pub(crate) shadow_error: Counter,
    /// Headers of an answer that were left out: malformed, or part of the framing.
    pub(crate) dropped_headers: Counter,
    /// A fresh decision was kept, and answered on the worker.
    pub(crate) cache_hit: Counter,
    /// None was, so that the service was asked.
    pub(crate) cache_miss: Counter,
    /// A decision past its life answered while the service was asked again.
    pub(crate) cache_stale: Counter,
    /// An allow stood in for a service that did not answer.
    pub(crate) cache_stale_on_error: Counter,
    /// Requests that have no key: with a body, or without what the key is made of.
    pub(crate) cache_bypassed: Counter,
    /// Decisions that were larger than an entry may be.
    pub(crate) cache_too_large: Counter,
    /// Requests that shared the call of another.
    pub(crate) coalesced: Counter,
    /// The calls.
    pub(crate) calls: CallStats,
}

impl Stats {
    pub(crate) fn define(setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            ok: setup.counter("ok")?,
            denied: setup.counter("denied")?,
            error: setup.counter("error")?,
            disabled: setup.counter("disabled")?,
            failure_mode_allowed: setup.counter("failure_mode_allowed")?,
            invalid: setup.counter("invalid")?,
            ignored_dynamic_metadata: setup.counter("ignored_dynamic_metadata")?,
            request_header_limits_reached: setup.counter("request_header_limits_reached")?,
            response_header_limits_reached: setup.counter("response_header_limits_reached")?,
            shadow_denied: setup.counter("shadow_denied")?,
            shadow_error: setup.counter("shadow_error")?,
            dropped_headers: setup.counter("dropped_headers")?,
            cache_hit: setup.counter("cache_hit")?,
            cache_miss: setup.counter("cache_miss")?,
            cache_stale: setup.counter("cache_stale")?,
            cache_stale_on_error: setup.counter("cache_stale_on_error")?,
            cache_bypassed: setup.counter("cache_bypassed")?,
            cache_too_large: setup.counter("cache_too_large")?,
            coalesced: setup.counter("coalesced")?,
            calls: CallStats::define(setup)?,
        })
    }
}
