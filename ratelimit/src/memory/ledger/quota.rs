//! What a service tells about its limits, and how many hits to ask for at once.

use std::time::{Duration, Instant};

use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::Code;

use super::{LeaseConfig, Server};
use crate::decide::headers::{reset, window};

/// The tightest limit that an answer tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Requests in a window.
    pub(crate) limit: u64,
    /// What is left of them.
    pub(crate) remaining: u64,
    /// The window; zero where the service does not say.
    pub(crate) window: Duration,
    /// When the window ends at the earliest.
    pub(crate) until: Instant,
}

impl Quota {
    /// What `answer`, to a call sent at `sent`, tells; `None` when it does not say enough.
    pub(crate) fn told(answer: &RateLimitResponse, sent: Instant, server: Server) -> Option<Self> {
        let tightest = answer
            .statuses
            .iter()
            .filter_map(|status| Some((status, status.current_limit.as_ref()?)))
            .min_by_key(|(status, _)| status.limit_remaining);
        if let Some((status, limit)) = tightest {
            return Some(Self {
                limit: limit.requests_per_unit.into(),
                remaining: status.limit_remaining.into(),
                window: Duration::from_secs(window(limit)),
                until: server.safe_end(sent, seconds(reset(status)))?,
            });
        }
        // Without statuses the draft's headers tell, as limitador's.
        let header = |name: &str| -> Option<u64> {
            let line = answer
                .response_headers_to_add
                .iter()
                .find(|line| line.key.eq_ignore_ascii_case(name) && !line.value.is_empty())?;
            line.value.split([',', ';']).next()?.trim().parse().ok()
        };
        Some(Self {
            limit: header("x-ratelimit-limit")?,
            remaining: header("x-ratelimit-remaining")?,
            window: Duration::ZERO,
            until: server.safe_end(sent, Duration::from_secs(header("x-ratelimit-reset")?))?,
        })
    }

    /// How long `answer`, a refusal to a call sent at `sent`, surely holds: until the last of the
    /// limits that were exceeded starts anew.
    pub(crate) fn refused_until(
        answer: &RateLimitResponse,
        sent: Instant,
        server: Server,
    ) -> Option<Instant> {
        let over = |code: i32| code == i32::from(Code::OverLimit);
        let longest = answer.statuses.iter().filter(|status| over(status.code)).map(reset).max();
        match longest {
            Some(longest) => server.safe_end(sent, seconds(longest)),
            None if answer.statuses.is_empty() => Some(Self::told(answer, sent, server)?.until),
            None => None,
        }
    }

    /// How many hits to ask for at once, when `rate` requests a second come and this much is `left` of
    /// the window: never so many that what
    /// all proxies together leave unspent exceeds the allowed error.
    pub(crate) fn batch(&self, rate: f64, left: Duration, terms: &LeaseConfig) -> u64 {
        let proxies = u64::from(terms.expected_proxies.max(1));
        let bound = self.limit.saturating_mul(terms.max_error_percent.into()) / 100 / (proxies + 1);
        let share = self.remaining / (2 * proxies);

        // As long as a batch is to last: a twentieth of the window, within reason.
        let window = if self.window.is_zero() { left } else { self.window };
        let horizon = (window / 20).clamp(Duration::from_millis(100), Duration::from_secs(5));
        let pace = (rate * horizon.min(left).as_secs_f64()).clamp(0.0, 1e9);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1e9")]
        let pace = pace as u64;
        bound.min(share).min(pace).max(1)
    }

    /// How many hits may go unreported, so that all proxies together stay within the error.
    pub(crate) fn credit(&self, terms: &LeaseConfig) -> u64 {
        let proxies = u64::from(terms.expected_proxies.max(1));
        let bound = self.limit.saturating_mul(terms.max_error_percent.into()) / 100 / proxies;
        bound.min(self.remaining / (2 * proxies))
    }
}

impl Server {
    /// The earliest end of a window that ends `left` after `sent` by the service's word, which in whole
    /// seconds may be up to a second too late.
    fn safe_end(self, sent: Instant, left: Duration) -> Option<Instant> {
        let guard = match self {
            Self::Limitador => Duration::ZERO,
            Self::Generic | Self::EnvoyRatelimit => Duration::from_secs(1),
        };
        sent.checked_add(left.saturating_sub(guard))
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
