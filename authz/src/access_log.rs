//! What became of a request, in the dynamic metadata for the access log:
//! `%DYNAMIC_METADATA(callout.authz:verdict)%` and the like.

pub(crate) mod shadow;

use std::time::Duration;

use callout_common::StreamContext;

use crate::decide::verdict::Verdict;

const NAMESPACE: &str = "callout.authz";

/// Where a decision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The service was asked.
    Service,
    /// A fresh decision was kept.
    Cache,
    /// Another request's call.
    Coalesced,
    /// A decision past its life.
    Stale,
    /// The filter itself; nobody was asked.
    Filter,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Cache => "cache",
            Self::Coalesced => "coalesced",
            Self::Stale => "stale",
            Self::Filter => "filter",
        }
    }
}

/// Writes it down. `cause` says why there is no verdict.
pub(crate) fn record<E: Send + 'static>(
    cx: &mut StreamContext<'_, E>,
    verdict: &Verdict,
    cause: Option<&'static str>,
    source: Source,
    took: Duration,
) {
    let verdict = match verdict {
        Verdict::Allow(_) => "allowed",
        Verdict::Deny { .. } => "denied",
        Verdict::Pass => "failure_mode_allowed",
        Verdict::Refuse { .. } => "refused",
        Verdict::Invalid { .. } => "invalid",
    };
    let mut metadata = cx.metadata_mut();
    metadata.set_str(NAMESPACE, "verdict", verdict);
    metadata.set_str(NAMESPACE, "source", source.name());
    if let Some(cause) = cause {
        metadata.set_str(NAMESPACE, "cause", cause);
    }
    if !took.is_zero() {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        metadata.set_number(NAMESPACE, "latency_us", f64::from(micros));
    }
}
