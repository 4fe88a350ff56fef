//! Why a call has no answer, told apart by cause and not by gRPC code alone.

use std::error::Error;
use std::time::Instant;

use tonic::{Code, Status};

use crate::envoy::cluster::ClusterError;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection could be made, or none may be tried so soon after the last failure.
    #[error("no connection: {0}")]
    Connect(String),
    /// Envoy, which carries the call, could not reach the service, or lost it before the answer.
    #[error("{0}")]
    Unreachable(String),
    /// The request never reached the service (its connection closed, or it refused the stream).
    #[error("the request was not sent")]
    NotSent,
    /// The deadline passed.
    #[error("the deadline passed")]
    Timeout,
    /// The connection broke, or the service reset the call, before the answer.
    #[error("the call broke off: {0}")]
    Reset(String),
    /// The answer is larger than the limit.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer is no message of the expected type, or not exactly one.
    #[error("the answer can't be decoded: {0}")]
    Decode(String),
    /// The service answered with a status other than OK.
    #[error("status {code}: {message}")]
    Status {
        /// The gRPC code.
        code: i32,
        /// The message, as the service wrote it. Escape it before it is shown.
        message: String,
    },
    /// The breaker is open: the service did not answer of late.
    #[error("the breaker is open")]
    BreakerOpen,
    /// As many calls as the configuration allows are open.
    #[error("as many calls as are allowed are open")]
    TooMany,
    /// Too many calls are in flight already.
    #[error("too many calls in flight")]
    Overload,
}

impl CallError {
    /// A short name of the cause, for statistics.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Unreachable(_) => "unreachable",
            Self::NotSent => "not_sent",
            Self::Timeout => "timeout",
            Self::Reset(_) => "reset",
            Self::TooLarge => "too_large",
            Self::Decode(_) => "decode",
            Self::Status { .. } => "status",
            Self::BreakerOpen => "breaker",
            Self::TooMany => "too_many",
            Self::Overload => "overload",
        }
    }

    /// Whether the service did not get to say anything: no connection, or no answer in time.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::Connect(_)
                | Self::Unreachable(_)
                | Self::NotSent
                | Self::Reset(_)
        )
    }

    /// The error, of a call that Envoy carries. Where Envoy has no answer it writes one, with words
    /// of its own.
    pub(super) fn of_cluster(self) -> Self {
        const WORDS: [&str; 2] = ["upstream connect error", "no healthy upstream"];
        match self {
            Self::Status { code: 14, message }
                if WORDS.iter().any(|words| message.starts_with(words)) =>
            {
                Self::Unreachable(message)
            }
            other => other,
        }
    }

    /// The error as it counts at `now`. A service that was told the deadline gives up when we do,
    /// and its status or reset may win the race: what fails once the deadline is over has timed out.
    pub(super) fn at(self, now: Instant, deadline: Option<Instant>) -> Self {
        if deadline.is_some_and(|deadline| now >= deadline) { Self::Timeout } else { self }
    }

    /// What a status of tonic's stands for. Statuses that tonic makes of transport errors carry
    /// them as source; what the service itself sent carries none.
    pub(super) fn from_status(status: &Status) -> Self {
        let mut source = status.source();
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<hyper::Error>()
                && error.is_canceled()
            {
                return Self::NotSent;
            }
            if let Some(error) = error.downcast_ref::<ClusterError>() {
                return match error {
                    ClusterError::NoCluster | ClusterError::NotOpened => {
                        Self::Connect(error.to_string())
                    }
                    ClusterError::Reset => Self::Reset(error.to_string()),
                    ClusterError::TooLarge => Self::TooLarge,
                };
            }
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                return if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
                    Self::NotSent
                } else {
                    Self::Reset(error.to_string())
                };
            }
            if source.is_some_and(|e| e.source().is_none()) {
                return Self::Reset(error.to_string());
            }
            source = error.source();
        }
        match status.code() {
            // tonic's own words for a message over the decoding limit.
            Code::OutOfRange if status.message().contains("message length too large") => {
                Self::TooLarge
            }
            code => Self::Status { code: code.into(), message: status.message().to_owned() },
        }
    }
}

/// Why a stream has no answer of its service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The work was lost inside this process.
    #[error("the work was lost")]
    Lost,
}

impl Failure {
    /// A short name of the cause, for statistics.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Call(error) => error.cause(),
            Self::Lost => "lost",
        }
    }

    /// Whether a failure mode that lets requests pass covers it: the service's failures, but not
    /// our own overload and losses, which an attacker may bring about.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        !matches!(self, Self::Lost | Self::Call(CallError::Overload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_the_service_keeps_its_code_and_message() {
        let error = CallError::from_status(&Status::permission_denied("no"));
        assert_eq!(error, CallError::Status { code: 7, message: "no".to_owned() });
        assert_eq!(error.cause(), "status");
    }

    #[test]
    fn what_envoy_says_for_a_service_it_can_not_reach_is_told_apart() {
        let status = |message: &str| CallError::Status { code: 14, message: message.to_owned() };
        let unreachable = status("upstream connect error or disconnect/reset before headers");
        assert_eq!(unreachable.of_cluster().cause(), "unreachable");
        assert_eq!(status("no healthy upstream").of_cluster().cause(), "unreachable");
        assert_eq!(status("later").of_cluster(), status("later"));
    }

    #[test]
    fn what_fails_once_the_deadline_is_over_has_timed_out() {
        let now = Instant::now();
        let later = now + std::time::Duration::from_millis(1);
        let cancelled = CallError::Status { code: 1, message: "Timeout expired".to_owned() };
        assert_eq!(cancelled.clone().at(now, Some(now)), CallError::Timeout);
        assert_eq!(cancelled.clone().at(now, Some(later)), cancelled);
        assert_eq!(cancelled.clone().at(now, None), cancelled);
    }

    #[test]
    fn a_status_made_of_a_transport_error_is_a_reset() {
        let broken = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "broken");
        assert_eq!(CallError::from_status(&Status::from_error(Box::new(broken))).cause(), "reset");
        let refused = h2::Error::from(h2::Reason::REFUSED_STREAM);
        assert_eq!(
            CallError::from_status(&Status::from_error(Box::new(refused))),
            CallError::NotSent
        );
    }
}
