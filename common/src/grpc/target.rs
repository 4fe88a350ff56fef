//! What a gRPC service is dialled by: gRPC's "name syntax" as far as it names one server.

use std::fmt;
use std::path::PathBuf;

/// A server to dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Host (a name or an address, without brackets) and port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Why a target is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No port, or no number where the port should be.
    #[error("`{0}` names no port: write host:port")]
    NoPort(String),
    /// Nothing before the port.
    #[error("`{0}` names no host")]
    NoHost(String),
    /// A scheme that is not honoured.
    #[error("the scheme `{0}` is not supported: use host:port, dns:, ipv4:, ipv6: or unix:")]
    Scheme(String),
}

impl Target {
    /// Parses `host:port`, `dns:host:port`, `dns:///host:port`, `ipv4:a.b.c.d:port`,
    /// `ipv6:[addr]:port`, `unix:path` or `unix:///path`.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(uri: &str) -> Result<Self, TargetError> {
        if let Some(path) = uri.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(TargetError::NoHost(uri.to_owned()));
            }
            return Ok(Self::Unix(path.into()));
        }
        let rest = ["dns:///", "dns:", "ipv4:", "ipv6:"]
            .iter()
            .find_map(|scheme| uri.strip_prefix(scheme))
            .unwrap_or(uri);
        if let Some((scheme, _)) = rest.split_once("://") {
            return Err(TargetError::Scheme(scheme.to_owned()));
        }
        let no_port = || TargetError::NoPort(uri.to_owned());
        let (host, port) = rest.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().map_err(|_| no_port())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(TargetError::NoHost(uri.to_owned()));
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// The `:authority` of calls.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => f.write_str(&self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Result<Target, TargetError> {
        Ok(Target::Tcp { host: host.to_owned(), port })
    }

    #[test]
    fn every_spelling_of_a_target_is_read() {
        assert_eq!(Target::parse("authz.internal:9001"), tcp("authz.internal", 9001));
        assert_eq!(Target::parse("dns:///a:1"), tcp("a", 1));
        assert_eq!(Target::parse("dns:a:1"), tcp("a", 1));
        assert_eq!(Target::parse("ipv4:127.0.0.1:2"), tcp("127.0.0.1", 2));
        assert_eq!(Target::parse("ipv6:[::1]:3"), tcp("::1", 3));
        assert_eq!(Target::parse("[::1]:3").unwrap().authority(), "[::1]:3");
        assert_eq!(Target::parse("unix:///run/s"), Ok(Target::Unix("/run/s".into())));
        assert_eq!(Target::parse("unix:rel"), Ok(Target::Unix("rel".into())));
    }

    #[test]
    fn what_names_no_server_is_refused() {
        assert!(matches!(Target::parse("host"), Err(TargetError::NoPort(_))));
        assert!(matches!(Target::parse("host:x"), Err(TargetError::NoPort(_))));
        assert!(matches!(Target::parse("host:70000"), Err(TargetError::NoPort(_))));
        assert!(matches!(Target::parse(":80"), Err(TargetError::NoHost(_))));
        assert!(matches!(Target::parse("unix:"), Err(TargetError::NoHost(_))));
        assert!(matches!(Target::parse("xds:///a:1"), Err(TargetError::Scheme(_))));
    }
}
