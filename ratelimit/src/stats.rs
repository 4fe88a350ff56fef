//! What the filter counts: the built-in's leaf names, and the cause of each failed call.

use callout_common::filter::call_stats::CallStats;
use callout_common::filter::stats::Counter;
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
    /// Requests with descriptors, each of which would be a call.
    pub(crate) requests: Counter,
    /// Requests of which no limit made a descriptor, so that nothing was asked.
    pub(crate) no_descriptors: Counter,
    /// Calls of the service, those beside the requests included.
    pub(crate) rpc: Counter,
    /// Requests that were paid for, or are reported afterwards.
    pub(crate) lease_hit: Counter,
    /// Requests that a refusal covered which still holds.
    pub(crate) cache_over_limit: Counter,
    /// Requests that were not asked about because the breaker was open.
    pub(crate) breaker_open: Counter,
    /// Requests that the limit of this proxy's own admitted while the service was down.
    pub(crate) fallback_ok: Counter,
    /// Requests that it refused.
    pub(crate) fallback_over_limit: Counter,
    /// Requests that were refused before any call.
    pub(crate) shield_over_limit: Counter,
    /// Requests of sets of descriptors for which there was no room.
    pub(crate) table_full: Counter,
    /// Requests that shadow mode let pass.
    pub(crate) shadow_over_limit: Counter,
    /// Limits that had nothing to say about a request: one of their actions found nothing.
    pub(crate) descriptor_skipped: Counter,
    /// Hits that were charged when a request was over, beside what was reserved.
    pub(crate) budget_charged: Counter,
    /// Hits that were given back then.
    pub(crate) budget_refunded: Counter,
    /// Requests of which nothing told what they used.
    pub(crate) budget_without_usage: Counter,
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
            requests: setup.counter("requests")?,
            no_descriptors: setup.counter("no_descriptors")?,
            rpc: setup.counter("rpc")?,
            lease_hit: setup.counter("lease_hit")?,
            cache_over_limit: setup.counter("cache_over_limit")?,
            breaker_open: setup.counter("breaker_open")?,
            fallback_ok: setup.counter("fallback_ok")?,
            fallback_over_limit: setup.counter("fallback_over_limit")?,
            shield_over_limit: setup.counter("shield_over_limit")?,
            table_full: setup.counter("table_full")?,
            shadow_over_limit: setup.counter("shadow_over_limit")?,
            descriptor_skipped: setup.counter("descriptor_skipped")?,
            budget_charged: setup.counter("budget_charged")?,
            budget_refunded: setup.counter("budget_refunded")?,
            budget_without_usage: setup.counter("budget_without_usage")?,
            calls: CallStats::define(setup)?,
        })
    }
}
