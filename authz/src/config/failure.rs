//! Which failures of the service a failure mode that lets requests pass covers.

use callout_common::ConfigError;
use callout_common::grpc::{CallError, Failure};

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Unavailable,
    /// Too many calls of our own are under way.
    Overloaded,
    /// No message, or one that strict mode does not take.
    InvalidReply,
    /// A gRPC status other than OK.
    Status(i32),
    /// The service's own `error_response`.
    ErrorResponse,
}

/// The classes that pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FailurePolicy {
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

impl Class {
    /// The class of `failure`; `None` for work lost in this process, which never passes.
    pub(crate) const fn of(failure: &Failure) -> Option<Self> {
        match failure {
            Failure::Lost => None,
            Failure::Call(error) => Some(match error {
                CallError::Timeout => Self::Timeout,
                CallError::Connect(_)
                | CallError::Unreachable(_)
                | CallError::NotSent
                | CallError::Reset(_)
                | CallError::BreakerOpen
                | CallError::TooMany => Self::Unavailable,
                CallError::Overload => Self::Overloaded,
                CallError::TooLarge | CallError::Decode(_) => Self::InvalidReply,
                CallError::Status { code, .. } => Self::Status(*code),
            }),
        }
    }

    /// Whether the service did not get to say anything.
    pub(crate) const fn is_silence(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable)
    }
}

impl FailurePolicy {
    /// The built-in's: all of the service's failures or none. Our own overload never passes.
    pub(crate) fn builtin(failure_mode_allow: bool) -> Self {
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

    /// Reads `failure_mode_allow_on`.
    pub(crate) fn configure(classes: &[String]) -> Result<Self, ConfigError> {
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
    pub(crate) fn allows(&self, class: Class) -> bool {
        match class {
            Class::Timeout => self.timeout,
            Class::Unavailable => self.unavailable,
            Class::Overloaded => self.overloaded,
            Class::InvalidReply => self.invalid_reply,
            Class::Status(code) => self.status || self.statuses.contains(&code),
            Class::ErrorResponse => self.error_response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Class; 6] = [
        Class::Timeout,
        Class::Unavailable,
        Class::Overloaded,
        Class::InvalidReply,
        Class::Status(7),
        Class::ErrorResponse,
    ];

    fn policy(classes: &[&str]) -> Result<FailurePolicy, ConfigError> {
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        FailurePolicy::configure(&classes)
    }

    #[test]
    fn the_builtins_mode_covers_everything_but_our_own_overload() {
        for class in ALL {
            let allowed = FailurePolicy::builtin(true).allows(class);
            assert_eq!(allowed, class != Class::Overloaded, "{class:?}");
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
        assert!(one.allows(Class::Status(14)) && !one.allows(Class::Status(7)));
    }

    #[test]
    fn a_class_that_nobody_knows_is_refused_by_its_place() {
        assert_eq!(policy(&["timeout", "slow"]).unwrap_err().path(), "[1]");
        assert_eq!(policy(&["status:OK"]).unwrap_err().path(), "[0]");
    }
}
