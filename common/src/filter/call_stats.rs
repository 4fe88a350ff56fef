//! What a filter counts of the calls that its streams wait for.

use std::time::{Duration, Instant};

use crate::api::config::ConfigError;
use crate::filter::context::StreamContext;
use crate::filter::service_log::ServiceLog;
use crate::filter::stats::{Gauge, Histogram, LabelledCounter, Setup};
use crate::filter::trace::CallSpan;
use crate::grpc::Failure;

/// The statistics of unary calls: `call_failed` by `cause`, `in_flight` and `latency_us`.
#[derive(Debug, Clone, Copy)]
pub struct CallStats {
    failed: LabelledCounter,
    in_flight: Gauge,
    latency_us: Histogram,
    service: &'static ServiceLog,
}

impl CallStats {
    /// Defines them.
    ///
    /// # Errors
    /// When Envoy refuses a metric.
    pub fn define(setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            failed: setup.labelled_counter("call_failed", "cause")?,
            in_flight: setup.gauge("in_flight")?,
            latency_us: setup.histogram("latency_us")?,
            service: ServiceLog::of(setup),
        })
    }

    /// The stream begins to wait for the call that `span` is about.
    pub fn begin<E: Send + 'static>(
        self,
        cx: &mut StreamContext<'_, E>,
        span: CallSpan,
    ) -> Waiting {
        cx.raise(self.in_flight);
        Waiting { stats: self, since: Instant::now(), span }
    }
}

/// The wait of one stream for one call.
#[derive(Debug)]
#[must_use = "in_flight counts it until it ends"]
pub struct Waiting {
    stats: CallStats,
    since: Instant,
    span: CallSpan,
}

impl Waiting {
    /// The call has ended. Returns how long it took.
    pub fn end<E: Send + 'static>(
        self,
        cx: &mut StreamContext<'_, E>,
        failure: Option<&Failure>,
    ) -> Duration {
        let took = self.since.elapsed();
        cx.record(self.stats.latency_us, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.stats.service.ended(failure);
        if let Some(failure) = failure {
            cx.count_labelled(self.stats.failed, failure.cause());
        }
        cx.lower(self.stats.in_flight);
        self.span.end(failure);
        took
    }

    /// The stream has ended before the call.
    pub fn abandon<E: Send + 'static>(self, cx: &mut StreamContext<'_, E>) {
        cx.lower(self.stats.in_flight);
    }
}
