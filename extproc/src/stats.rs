//! What the filter counts: the built-in's leaf names, and the cause of each failed exchange.

use callout_common::filter::service_log::ServiceLog;
use callout_common::filter::stats::{Counter, LabelledCounter};
use callout_common::{ConfigError, Setup};

use crate::decide::machine::Stat;

/// The filter's statistics, under `<metrics_namespace>.extproc.<stat_prefix>.`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stats {
    /// Exchanges with the processor that were begun.
    pub(crate) streams_started: Counter,
    /// Messages sent to it.
    pub(crate) stream_msgs_sent: Counter,
    /// Answers that were expected.
    pub(crate) stream_msgs_received: Counter,
    /// Answers that were not.
    pub(crate) spurious_msgs_received: Counter,
    /// Exchanges that ended, by either side.
    pub(crate) streams_closed: Counter,
    /// Exchanges that failed.
    pub(crate) streams_failed: Counter,
    /// A failure let the message pass.
    pub(crate) failure_mode_allowed: Counter,
    /// No answer within the time.
    pub(crate) message_timeouts: Counter,
    /// Header changes that the rules refused.
    pub(crate) rejected_header_mutations: Counter,
    /// Times that the processor asked for more time, and got it.
    pub(crate) override_message_timeout_received: Counter,
    /// Times that it asked and did not.
    pub(crate) override_message_timeout_ignored: Counter,
    /// `clear_route_cache` without a header change.
    pub(crate) clear_route_cache_ignored: Counter,
    /// `clear_route_cache` where the configuration forbids it.
    pub(crate) clear_route_cache_disabled: Counter,
    /// Replies of this filter, those to failures included.
    pub(crate) immediate_responses_sent: Counter,
    /// Exchanges that the processor closed.
    pub(crate) server_half_closed: Counter,
    /// Pieces that `observability_mode` left out, because the processor is too slow.
    pub(crate) observation_dropped: Counter,
    /// Exchanges that the processor was not asked about.
    pub(crate) skipped: Counter,
    /// Bodies that it was not shown.
    pub(crate) body_skipped: Counter,
    /// Bodies that were refused as too long.
    pub(crate) body_rejected: Counter,
    /// Exchanges that were not begun, because the breaker is open.
    pub(crate) breaker_open: Counter,
    /// Exchanges that were not begun, because as many as may be are open.
    pub(crate) too_many_streams: Counter,
    /// Exchanges that were begun again.
    pub(crate) retried: Counter,
    /// Requests whose endpoint the processor picked.
    pub(crate) endpoint_picked: Counter,
    /// Endpoints that it named and that are no addresses.
    pub(crate) endpoint_invalid: Counter,
    /// Failed exchanges by their cause.
    pub(crate) call_failed: LabelledCounter,
    /// What the log says of the processor.
    pub(crate) service: &'static ServiceLog,
}

impl Stats {
    pub(crate) fn define(setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            streams_started: setup.counter("streams_started")?,
            stream_msgs_sent: setup.counter("stream_msgs_sent")?,
            stream_msgs_received: setup.counter("stream_msgs_received")?,
            spurious_msgs_received: setup.counter("spurious_msgs_received")?,
            streams_closed: setup.counter("streams_closed")?,
            streams_failed: setup.counter("streams_failed")?,
            failure_mode_allowed: setup.counter("failure_mode_allowed")?,
            message_timeouts: setup.counter("message_timeouts")?,
            rejected_header_mutations: setup.counter("rejected_header_mutations")?,
            override_message_timeout_received: setup
                .counter("override_message_timeout_received")?,
            override_message_timeout_ignored: setup.counter("override_message_timeout_ignored")?,
            clear_route_cache_ignored: setup.counter("clear_route_cache_ignored")?,
            clear_route_cache_disabled: setup.counter("clear_route_cache_disabled")?,
            immediate_responses_sent: setup.counter("immediate_responses_sent")?,
            server_half_closed: setup.counter("server_half_closed")?,
            observation_dropped: setup.counter("observation_dropped")?,
            skipped: setup.counter("skipped")?,
            body_skipped: setup.counter("body_skipped")?,
            body_rejected: setup.counter("body_rejected")?,
            breaker_open: setup.counter("breaker_open")?,
            too_many_streams: setup.counter("too_many_streams")?,
            retried: setup.counter("retried")?,
            endpoint_picked: setup.counter("endpoint_picked")?,
            endpoint_invalid: setup.counter("endpoint_invalid")?,
            call_failed: setup.labelled_counter("call_failed", "cause")?,
            service: ServiceLog::of(setup),
        })
    }

    pub(crate) const fn of(&self, stat: Stat) -> Counter {
        match stat {
            Stat::Received => self.stream_msgs_received,
            Stat::Spurious => self.spurious_msgs_received,
            Stat::Closed => self.streams_closed,
            Stat::Failed => self.streams_failed,
            Stat::FailureModeAllowed => self.failure_mode_allowed,
            Stat::Timeout => self.message_timeouts,
            Stat::MoreTime => self.override_message_timeout_received,
            Stat::MoreTimeIgnored => self.override_message_timeout_ignored,
            Stat::ClearRouteIgnored => self.clear_route_cache_ignored,
            Stat::ClearRouteDisabled => self.clear_route_cache_disabled,
            Stat::ServerHalfClosed => self.server_half_closed,
            Stat::ObservationDropped => self.observation_dropped,
            Stat::BodySkipped => self.body_skipped,
            Stat::BodyRejected => self.body_rejected,
        }
    }
}
