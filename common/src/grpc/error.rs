//! Why a call has no answer, told apart by cause and not by gRPC code alone.

use std::time::{Duration, Instant};

use crate::envoy::cluster::ClusterError;

/// The statuses by which a service gives a call up.
const CANCELLED: i32 = 1;
const DEADLINE_EXCEEDED: i32 = 4;
/// What part of its time a service may have left, and how much at least, when it gives up because of
/// the deadline: clocks differ, and timers are coarse.
const EARLY: u32 = 10;
const SHORTLY: Duration = Duration::from_millis(5);

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
    /// The service does not read what it is sent, and no more may wait for it.
    #[error("the service does not read what it is sent")]
    Unread,
    /// This process failed, not the service: a limit of the HTTP/2 library, or a resource that is
    /// used up.
    #[error("the call failed in this process: {0}")]
    Internal(String),
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
            Self::Unread => "unread",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the service was asked and did not get to say anything: no connection, or no answer in
    /// time. Not so where it was not asked (a breaker, a limit, a failure of this process).
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

    /// Whether the service neither failed nor refused the call, so that it is sent again: it never
    /// got there, or this side broke it off. All that a repeated question costs is a hit counted
    /// twice; an innocent request that is refused costs more.
    pub(super) const fn is_ours(&self) -> bool {
        matches!(self, Self::NotSent | Self::Internal(_))
    }

    /// The error, of a call that Envoy carries. Where Envoy has no answer it writes one, with words
    /// of its own.
    pub(super) fn of_cluster(self) -> Self {
        const WORDS: [&str; 2] = ["upstream connect error", "no healthy upstream"];
        match self {
            Self::Status { code: 4 | 14, message }
                if message.starts_with("upstream request timeout") =>
            {
                Self::Timeout
            }
            Self::Status { code: 14, message }
                if WORDS.iter().any(|words| message.starts_with(words)) =>
            {
                Self::Unreachable(message)
            }
            other => other,
        }
    }

    /// The error as it counts at `now`, for a call that began at `begun`. A service that was told the
    /// deadline gives up when we do, and its status or reset may win the race: what fails once the
    /// deadline is over has timed out, and so has what it gives up shortly before.
    pub(super) fn at(self, begun: Instant, now: Instant, deadline: Option<Instant>) -> Self {
        let Some(deadline) = deadline else { return self };
        let given_up = matches!(self, Self::Status { code: CANCELLED | DEADLINE_EXCEEDED, .. });
        let early = (deadline.saturating_duration_since(begun) / EARLY).max(SHORTLY);
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() || (given_up && left <= early) { Self::Timeout } else { self }
    }

    /// What an error of the HTTP/2 library stands for.
    pub(super) fn from_h2(error: &h2::Error) -> Self {
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // A service that goes away names the last call that it took on; only later ones fail by it.
        if refused || (error.is_remote() && error.is_go_away()) {
            return Self::NotSent;
        }
        let limit = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
        if error.is_library() && error.is_go_away() && limit {
            return Self::Internal(error.to_string());
        }
        Self::Reset(error.to_string())
    }

    /// What the end of a stream to one of Envoy's clusters stands for.
    pub(super) fn from_cluster(error: &ClusterError) -> Self {
        match error {
            ClusterError::NoCluster | ClusterError::NotOpened => Self::Connect(error.to_string()),
            ClusterError::Reset => Self::Reset(error.to_string()),
            ClusterError::TooLarge => Self::TooLarge,
            ClusterError::Unread => Self::Unread,
        }
    }
}

/// A call that has no answer, and whether it is sent again without anybody having asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) error: CallError,
    pub(super) resend: bool,
}

impl Broken {
    /// The same, of a call that Envoy carries.
    pub(super) fn of_cluster(self) -> Self {
        Self { error: self.error.of_cluster(), ..self }
    }
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Self {
        Self { resend: error.is_ours(), error }
    }
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        // Our side ended the connection, for the sake of another call perhaps.
        let ended = error.is_library() && error.is_go_away();
        let error = CallError::from_h2(&error);
        Self { resend: ended || error.is_ours(), error }
    }
}

impl From<ClusterError> for Broken {
    fn from(error: ClusterError) -> Self {
        CallError::from_cluster(&error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_envoy_says_for_a_service_it_can_not_reach_is_told_apart() {
        let status = |message: &str| CallError::Status { code: 14, message: message.to_owned() };
        let unreachable = status("upstream connect error or disconnect/reset before headers");
        assert_eq!(unreachable.of_cluster().cause(), "unreachable");
        assert_eq!(status("no healthy upstream").of_cluster().cause(), "unreachable");
        assert_eq!(status("upstream request timeout").of_cluster(), CallError::Timeout);
        assert_eq!(status("later").of_cluster(), status("later"));
    }

    #[test]
    fn what_fails_once_the_deadline_is_over_has_timed_out() {
        let begun = Instant::now();
        let ms = |ms| begun + Duration::from_millis(ms);
        let status = |code| CallError::Status { code, message: "Timeout expired".to_owned() };
        let at = |error: CallError, now, deadline| error.at(begun, ms(now), Some(ms(deadline)));
        for code in [1, 4] {
            assert_eq!(at(status(code), 200, 200), CallError::Timeout);
            assert_eq!(at(status(code), 196, 200), CallError::Timeout);
            assert_eq!(at(status(code), 1850, 2000), CallError::Timeout);
            assert_eq!(at(status(code), 100, 200), status(code));
            assert_eq!(status(code).at(begun, ms(200), None), status(code));
        }
        assert_eq!(at(status(14), 199, 200), status(14));
        assert_eq!(at(status(14), 200, 200), CallError::Timeout);
    }

    #[test]
    fn a_call_that_the_service_refused_or_never_took_on_is_sent_again() {
        let refused = Broken::from(h2::Error::from(h2::Reason::REFUSED_STREAM));
        assert_eq!(refused, Broken { error: CallError::NotSent, resend: true });
        let broken = Broken::from(h2::Error::from(h2::Reason::CANCEL));
        assert!(broken.error.cause() == "reset" && !broken.resend);
    }

    #[test]
    fn what_ends_a_stream_to_a_cluster_has_its_cause() {
        let cause = |error| CallError::from_cluster(&error).cause();
        assert_eq!(cause(ClusterError::NoCluster), "connect");
        assert_eq!(cause(ClusterError::NotOpened), "connect");
        assert_eq!(cause(ClusterError::Reset), "reset");
        assert_eq!(cause(ClusterError::TooLarge), "too_large");
    }
}
