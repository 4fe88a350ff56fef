//! What a failed call means for its request: the one place that says which failures a failure mode
//! that lets requests pass covers, and which of them are a service's silence.

use super::error::CallError;
use crate::api::config::ConfigError;

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

    /// Its kind.
    #[must_use]
    pub const fn class(&self) -> FailureClass {
        match self {
            Self::Lost => FailureClass::Internal,
            Self::Call(error) => match error {
                CallError::Timeout => FailureClass::Timeout,
                CallError::Connect(_)
                | CallError::Unreachable(_)
                | CallError::NotSent
                | CallError::Reset(_)
                | CallError::BreakerOpen
                | CallError::TooMany => FailureClass::Unavailable,
                CallError::Overload | CallError::Unread => FailureClass::Overloaded,
                CallError::TooLarge | CallError::Decode(_) => FailureClass::InvalidReply,
                CallError::Status { code, .. } => FailureClass::Status(*code),
                CallError::Internal(_) => FailureClass::Internal,
            },
        }
    }

    /// Whether a failure mode that lets requests pass covers it, where no list says otherwise: the
    /// service's failures, but not our own, which a client may bring about.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        FailurePolicy::builtin(true).allows(self.class())
    }

    /// Whether the service was not asked: a breaker, a limit, a failure of this process.
    #[must_use]
    pub const fn is_unasked(&self) -> bool {
        matches!(
            self,
            Self::Lost
                | Self::Call(
                    CallError::BreakerOpen
                        | CallError::TooMany
                        | CallError::Overload
                        | CallError::Internal(_)
                )
        )
    }

    /// Whether the service was asked and did not get to say anything.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_silence())
    }
}

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// No answer in time.
    Timeout,
    /// No connection, it broke, or the service is not asked for now.
    Unavailable,
    /// Too many calls of our own are under way, or too much waits for the service. A client may
    /// bring it about.
    Overloaded,
    /// The answer is not a valid message, or not one that the filter takes.
    InvalidReply,
    /// A gRPC status other than OK.
    Status(i32),
    /// The service answered that it failed (authz's `error_response`).
    ErrorResponse,
    /// This process failed. Covered by no policy.
    Internal,
}

/// The classes of failures that let a request pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailurePolicy {
    timeout: bool,
    unavailable: bool,
    overloaded: bool,
    invalid_reply: bool,
    status: bool,
    statuses: Vec<i32>,
    error_response: bool,
}

/// The gRPC status codes by their names, in order.
const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl FailurePolicy {
    /// The built-in's: all of the service's failures or none. Our own never pass.
    #[must_use]
    pub const fn builtin(failure_mode_allow: bool) -> Self {
        Self {
            timeout: failure_mode_allow,
            unavailable: failure_mode_allow,
            overloaded: false,
            invalid_reply: failure_mode_allow,
            status: failure_mode_allow,
            statuses: Vec::new(),
            error_response: failure_mode_allow,
        }
    }

    /// Reads a list of classes by their names, as `failure_mode_allow_on` has it.
    ///
    /// # Errors
    /// The entry that names no class.
    pub fn configure(classes: &[String]) -> Result<Self, ConfigError> {
        let mut policy = Self::default();
        for (index, class) in classes.iter().enumerate() {
            match class.as_str() {
                "timeout" => policy.timeout = true,
                "unavailable" => policy.unavailable = true,
                "overloaded" => policy.overloaded = true,
                "invalid_reply" => policy.invalid_reply = true,
                "error_response" => policy.error_response = true,
                "status" => policy.status = true,
                other => {
                    let code = other
                        .strip_prefix("status:")
                        .and_then(|name| STATUSES.iter().position(|known| *known == name))
                        .and_then(|code| i32::try_from(code).ok())
                        .filter(|code| *code != 0);
                    policy.statuses.push(code.ok_or_else(|| {
                        ConfigError::field(
                            format!("[{index}]"),
                            format!(
                                "`{other}` is none of timeout, unavailable, overloaded, invalid_reply, error_response, status, status:UNAVAILABLE and the like"
                            ),
                        )
                    })?);
                }
            }
        }
        Ok(policy)
    }

    /// Whether a failure of `class` lets the request pass.
    #[must_use]
    pub fn allows(&self, class: FailureClass) -> bool {
        match class {
            FailureClass::Timeout => self.timeout,
            FailureClass::Unavailable => self.unavailable,
            FailureClass::Overloaded => self.overloaded,
            FailureClass::InvalidReply => self.invalid_reply,
            FailureClass::Status(code) => self.status || self.statuses.contains(&code),
            FailureClass::ErrorResponse => self.error_response,
            FailureClass::Internal => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [FailureClass; 7] = [
        FailureClass::Timeout,
        FailureClass::Unavailable,
        FailureClass::Overloaded,
        FailureClass::InvalidReply,
        FailureClass::Status(7),
        FailureClass::ErrorResponse,
        FailureClass::Internal,
    ];

    fn policy(classes: &[&str]) -> Result<FailurePolicy, ConfigError> {
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        FailurePolicy::configure(&classes)
    }

    #[test]
    fn the_builtins_mode_covers_everything_but_our_own_failures() {
        for class in ALL {
            let allowed = FailurePolicy::builtin(true).allows(class);
            let own = matches!(class, FailureClass::Overloaded | FailureClass::Internal);
            assert_eq!(allowed, !own, "{class:?}");
            assert!(!FailurePolicy::builtin(false).allows(class));
        }
    }

    #[test]
    fn a_list_covers_what_it_names_and_nothing_else() {
        for (name, class) in
            ["timeout", "unavailable", "overloaded", "invalid_reply", "status", "error_response"]
                .iter()
                .zip(ALL)
        {
            let policy = policy(&[name]).unwrap();
            for other in ALL {
                assert_eq!(policy.allows(other), other == class, "{name}: {other:?}");
            }
        }
        let one = policy(&["status:UNAVAILABLE"]).unwrap();
        assert!(one.allows(FailureClass::Status(14)) && !one.allows(FailureClass::Status(7)));
    }

    #[test]
    fn what_fails_inside_this_process_passes_under_no_policy() {
        let classes = ["timeout", "unavailable", "overloaded", "invalid_reply", "status"];
        let policy = policy(&classes).unwrap();
        for own in [Failure::Lost, Failure::Call(CallError::Internal(String::new()))] {
            assert!(!own.may_pass() && !policy.allows(own.class()) && !own.is_silence());
        }
        assert!(!Failure::Call(CallError::Overload).may_pass());
        assert!(policy.allows(Failure::Call(CallError::Overload).class()));
    }

    #[test]
    fn a_service_that_was_not_asked_is_not_silent() {
        let silent = |error| Failure::Call(error).is_silence();
        assert!(silent(CallError::Timeout) && silent(CallError::NotSent));
        assert!(!silent(CallError::BreakerOpen) && !silent(CallError::TooMany));
    }

    #[test]
    fn a_class_that_nobody_knows_is_refused_by_its_place() {
        assert_eq!(policy(&["timeout", "slow"]).unwrap_err().path(), "[1]");
        assert_eq!(policy(&["status:OK"]).unwrap_err().path(), "[0]");
    }
}
