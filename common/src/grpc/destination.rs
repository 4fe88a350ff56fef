//! A server that we dial, and how it is talked to.

use std::fmt;

use super::connection::Keepalive;
use super::target::Target;
use super::tls::TlsSettings;

/// A server, and how it is talked to. Clients of the same destination share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) target: Target,
    /// `None` for connections in plain text.
    pub(super) tls: Option<TlsSettings>,
    pub(super) keepalive: Option<Keepalive>,
}

impl From<Target> for Destination {
    fn from(target: Target) -> Self {
        Self { target, tls: None, keepalive: None }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, tls, keepalive: _ } = self;
        match tls {
            Some(tls) => write!(f, "{target} over TLS as {tls}"),
            None => write!(f, "{target}"),
        }
    }
}
