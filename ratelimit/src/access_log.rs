//! What became of a request, in the dynamic metadata for the access log:
//! `%DYNAMIC_METADATA(callout.ratelimit:source)%` and the like.

use std::time::Duration;

use callout_common::StreamContext;
use callout_protos::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};

use crate::decide::headers::window;

const NAMESPACE: &str = "callout.ratelimit";

/// Where a decision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The service was asked.
    Service,
    /// Its last refusal still holds.
    Cache,
    /// Hits that were paid for, or are reported afterwards.
    Lease,
    /// The limit of this proxy's own while the service is down.
    Fallback,
    /// The limit of this proxy's own before any call.
    Shield,
    /// Nobody was asked.
    Filter,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Cache => "cache",
            Self::Lease => "lease",
            Self::Fallback => "fallback",
            Self::Shield => "shield",
            Self::Filter => "filter",
        }
    }
}

/// Which of the limits was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    /// `key=value` of each entry.
    pub(crate) descriptor: String,
    /// Requests per seconds; empty where the service does not say.
    pub(crate) limit: String,
}

/// The first limit that is over, as far as the service says which; else the only descriptor.
pub(crate) fn hit(
    descriptors: &[RateLimitDescriptor],
    statuses: &[DescriptorStatus],
) -> Option<Hit> {
    let over = |status: &DescriptorStatus| status.code == i32::from(Code::OverLimit);
    let place = statuses.iter().position(over);
    let descriptor = match (place, descriptors) {
        (Some(place), _) => descriptors.get(place)?,
        (None, [only]) => only,
        (None, _) => return None,
    };
    let entries = descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value));
    let limit = place.and_then(|place| statuses.get(place)?.current_limit.as_ref());
    Some(Hit {
        descriptor: entries.collect::<Vec<_>>().join(","),
        limit: limit
            .map(|limit| format!("{}/{}s", limit.requests_per_unit, window(limit)))
            .unwrap_or_default(),
    })
}

/// Writes it down; `hit` where a limit was.
pub(crate) fn record<E: Send + 'static>(
    cx: &mut StreamContext<'_, E>,
    verdict: &str,
    source: Source,
    cause: Option<&str>,
    hit: Option<&Hit>,
    took: Duration,
) {
    let mut metadata = cx.metadata_mut();
    metadata.set_str(NAMESPACE, "verdict", verdict);
    metadata.set_str(NAMESPACE, "source", source.name());
    if let Some(cause) = cause {
        metadata.set_str(NAMESPACE, "cause", cause);
    }
    if let Some(hit) = hit {
        metadata.set_str(NAMESPACE, "descriptor", &hit.descriptor);
        if !hit.limit.is_empty() {
            metadata.set_str(NAMESPACE, "limit", &hit.limit);
        }
    }
    if !took.is_zero() {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        metadata.set_number(NAMESPACE, "latency_us", f64::from(micros));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_was_hit_is_named_by_its_descriptor() {
        let descriptors: Vec<RateLimitDescriptor> = serde_json::from_str(
            r#"[{"entries": [{"key": "a", "value": "1"}]}, {"entries": [{"key": "b", "value": "2"}, {"key": "c", "value": "3"}]}]"#,
        )
        .unwrap();
        let statuses: Vec<DescriptorStatus> = serde_json::from_str(
            r#"[{"code": "OK"}, {"code": "OVER_LIMIT", "currentLimit": {"requestsPerUnit": 9, "unit": "MINUTE"}}]"#,
        )
        .unwrap();
        let second = Hit { descriptor: "b=2,c=3".to_owned(), limit: "9/60s".to_owned() };
        assert_eq!(hit(&descriptors, &statuses), Some(second));
        assert_eq!(hit(&descriptors, &[]), None);
        assert_eq!(hit(&descriptors[..1], &[]).unwrap().descriptor, "a=1");
    }
}
