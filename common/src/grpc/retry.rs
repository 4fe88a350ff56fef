//! `retry_policy` of a service: which failed calls are made again, and after how long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callout_protos::envoy::config::core::v3::{BackoffStrategy, RetryPolicy as Proto};

use super::error::CallError;
use crate::api::config::{ConfigError, duration, refuse_if};

/// Envoy's first pause, when none is set; the longest is ten times as long.
const BASE_INTERVAL: Duration = Duration::from_millis(25);
/// Calls that may be in their pause or their second attempt at once: these, and a fifth of all in
/// flight. A service that fails must not get more calls for it.
const BUDGET: usize = 10;

/// Which failed calls are made again.
#[derive(Debug)]
pub(super) struct RetryPolicy {
    retries: u32,
    /// gRPC codes that the service may answer with.
    codes: Vec<i32>,
    connect: bool,
    refused: bool,
    reset: bool,
    base_interval: Duration,
    max_interval: Duration,
    retrying: AtomicUsize,
}

impl RetryPolicy {
    pub(super) fn configure(config: &Proto) -> Result<Self, ConfigError> {
        let Proto {
            retry_back_off,
            num_retries,
            retry_on,
            retry_priority,
            retry_host_predicate,
            host_selection_retry_max_attempts,
        } = config;
        let hosts = "chooses among a cluster's hosts, which a module does not see";
        refuse_if(retry_priority.is_some(), "retry_priority", hosts)?;
        refuse_if(!retry_host_predicate.is_empty(), "retry_host_predicate", hosts)?;
        refuse_if(
            *host_selection_retry_max_attempts != 0,
            "host_selection_retry_max_attempts",
            hosts,
        )?;
        let mut policy = Self {
            retries: num_retries.as_ref().map_or(1, |retries| retries.value),
            codes: Vec::new(),
            connect: false,
            refused: false,
            reset: false,
            base_interval: BASE_INTERVAL,
            max_interval: BASE_INTERVAL * 10,
            retrying: AtomicUsize::new(0),
        };
        for condition in retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            policy.add(condition)?;
        }
        if let Some(back_off) = retry_back_off {
            policy.pause(back_off).map_err(|error| error.in_field("retry_back_off"))?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &str) -> Result<(), ConfigError> {
        match condition {
            "cancelled" => self.codes.push(1),
            "deadline-exceeded" => self.codes.push(4),
            "resource-exhausted" => self.codes.push(8),
            "internal" => self.codes.push(13),
            "unavailable" => self.codes.push(14),
            "connect-failure" => self.connect = true,
            "refused-stream" => self.refused = true,
            "reset" => self.reset = true,
            // What has no HTTP status of its own counts as 503.
            "5xx" | "gateway-error" => {
                (self.connect, self.refused, self.reset) = (true, true, true);
            }
            _ => {
                return Err(ConfigError::field(
                    "retry_on",
                    format!("`{condition}` is no condition for a gRPC call"),
                ));
            }
        }
        Ok(())
    }

    fn pause(&mut self, config: &BackoffStrategy) -> Result<(), ConfigError> {
        let BackoffStrategy { base_interval, max_interval } = config;
        let base = base_interval
            .as_ref()
            .ok_or_else(|| ConfigError::field("base_interval", "is required"))?;
        self.base_interval = duration(base, "base_interval")?;
        refuse_if(self.base_interval.is_zero(), "base_interval", "must be longer than 0")?;
        self.max_interval = match max_interval {
            Some(max) => duration(max, "max_interval")?,
            None => self.base_interval.saturating_mul(10),
        };
        refuse_if(
            self.max_interval < self.base_interval,
            "max_interval",
            "must not be less than base_interval",
        )
    }

    /// How long to wait before the call that failed with `error` after `retries` retries is made
    /// again; `None` when it is not. `jitter` lies in 0..1.
    pub(super) fn delay(&self, error: &CallError, retries: u32, jitter: f64) -> Option<Duration> {
        let covered = match error {
            CallError::Status { code, .. } => self.codes.contains(code),
            CallError::Connect(_) => self.connect,
            CallError::Unreachable(_) => self.connect || self.codes.contains(&14),
            CallError::NotSent => self.refused,
            CallError::Reset(_) => self.reset,
            CallError::Timeout
            | CallError::TooLarge
            | CallError::Decode(_)
            | CallError::BreakerOpen
            | CallError::TooMany
            | CallError::Overload
            | CallError::Unread
            | CallError::Internal(_) => false,
        };
        let longest = self
            .base_interval
            .saturating_mul(2_u32.saturating_pow(retries + 1) - 1)
            .min(self.max_interval);
        (covered && retries < self.retries).then(|| longest.mul_f64(jitter))
    }

    /// Leave to make a call again, with `in_flight` calls in flight; it is given back when dropped.
    pub(super) fn leave(&self, in_flight: usize) -> Option<RetryPermit<'_>> {
        let retrying = self.retrying.fetch_add(1, Ordering::Relaxed);
        let leave = RetryPermit(&self.retrying);
        (retrying < BUDGET.max(in_flight / 5)).then_some(leave)
    }
}

/// Leave to make a call again.
#[derive(Debug)]
pub struct RetryPermit<'a>(&'a AtomicUsize);

impl Drop for RetryPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<RetryPolicy, ConfigError> {
        RetryPolicy::configure(&serde_json::from_str(json).unwrap())
    }

    fn status(code: i32) -> CallError {
        CallError::Status { code, message: String::new() }
    }

    #[test]
    fn only_what_is_named_is_made_again_and_only_so_often() {
        let policy = policy(r#"{"num_retries": 2, "retry_on": "unavailable, connect-failure"}"#);
        let policy = policy.unwrap();
        let again = |error: &CallError, retries| policy.delay(error, retries, 0.5).is_some();
        assert!(again(&status(14), 0) && again(&status(14), 1) && !again(&status(14), 2));
        assert!(again(&CallError::Connect(String::new()), 0));
        assert!(!again(&status(7), 0) && !again(&CallError::Timeout, 0));
        assert!(!again(&CallError::Reset(String::new()), 0));
    }

    #[test]
    fn without_conditions_nothing_is_made_again() {
        assert!(policy(r#"{"num_retries": 2}"#).unwrap().delay(&status(14), 0, 0.5).is_none());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = policy(
            r#"{"num_retries": 9, "retry_on": "unavailable", "retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}"#,
        )
        .unwrap();
        let pause = |retries| policy.delay(&status(14), retries, 1.0).unwrap().as_millis();
        assert_eq!((pause(0), pause(1), pause(2), pause(8)), (100, 300, 500, 500));
        assert_eq!(policy.delay(&status(14), 0, 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn retries_have_a_budget() {
        let policy = policy(r#"{"retry_on": "unavailable"}"#).unwrap();
        let held: Vec<_> = (0..BUDGET).map(|_| policy.leave(0).unwrap()).collect();
        assert!(policy.leave(0).is_none());
        assert!(policy.leave(100).is_some());
        drop(held);
        assert!(policy.leave(0).is_some());
    }

    #[test]
    fn what_can_not_be_honoured_is_refused_by_name() {
        let path = |json: &str| policy(json).unwrap_err().path().to_owned();
        assert_eq!(path(r#"{"retry_on": "retriable-headers"}"#), "retry_on");
        assert_eq!(path(r#"{"retry_priority": {}}"#), "retry_priority");
        assert_eq!(path(r#"{"retry_back_off": {}}"#), "retry_back_off.base_interval");
    }
}
