//! What a gRPC service is dialled by: gRPC's "name syntax".

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A server to dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A name that is resolved whenever a connection is made, and a port.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// Addresses of one service, at least one.
    Addresses(Vec<SocketAddr>),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The name of a Unix socket that has no path (Linux's abstract namespace).
    Abstract(String),
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
    /// Something else than an address of the scheme's family.
    #[error("`{0}` is not an address and port of the family that its scheme names")]
    NoAddress(String),
    /// A DNS server to ask, which the system's resolver can't be told.
    #[error("`{0}` names a DNS server to ask, which is not supported: write dns:///host:port")]
    DnsServer(String),
    /// A scheme that is not honoured.
    #[error(
        "the scheme `{0}` is not supported: use host:port, dns:, ipv4:, ipv6:, unix: or unix-abstract:"
    )]
    Scheme(String),
}

impl Target {
    /// Parses `host:port`, `dns:host:port`, `dns:///host:port`, `ipv4:a.b.c.d:port,...`,
    /// `ipv6:[addr]:port,...`, `unix:path`, `unix:///path` or `unix-abstract:name`.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(uri: &str) -> Result<Self, TargetError> {
        let no_host = || TargetError::NoHost(uri.to_owned());
        if let Some(path) = uri.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(no_host()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(name) = uri.strip_prefix("unix-abstract:") {
            return if name.is_empty() { Err(no_host()) } else { Ok(Self::Abstract(name.into())) };
        }
        if let Some(list) = uri.strip_prefix("ipv4:") {
            return addresses(list, IpAddr::is_ipv4);
        }
        if let Some(list) = uri.strip_prefix("ipv6:") {
            return addresses(list, IpAddr::is_ipv6);
        }
        let rest = match uri.strip_prefix("dns:") {
            Some(rest) => match rest.strip_prefix("//") {
                Some(rest) => {
                    rest.strip_prefix('/').ok_or_else(|| TargetError::DnsServer(uri.to_owned()))?
                }
                None => rest,
            },
            None => uri,
        };
        if let Some((scheme, _)) = rest.split_once("://") {
            return Err(TargetError::Scheme(scheme.to_owned()));
        }
        let no_port = || TargetError::NoPort(uri.to_owned());
        let (host, port) = rest.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().map_err(|_| no_port())?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = inner.unwrap_or(host).parse() {
            return Ok(Self::Addresses(vec![SocketAddr::new(address, port)]));
        }
        match host {
            "" => Err(no_host()),
            _ if host.contains(':') => {
                let scheme = host.split(':').next().unwrap_or_default();
                Err(TargetError::Scheme(scheme.to_owned()))
            }
            _ => Ok(Self::Name { host: host.to_owned(), port }),
        }
    }

    /// The name that the server's certificate has to have, where none is configured.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Name { host, .. } => host.clone(),
            Self::Addresses(addresses) => {
                addresses.first().map(|address| address.ip().to_string()).unwrap_or_default()
            }
            Self::Unix(_) | Self::Abstract(_) => "localhost".to_owned(),
        }
    }

    /// The `:authority` of calls, where none is configured: the name or the first address.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Name { host, port } => format!("{host}:{port}"),
            Self::Addresses(addresses) => {
                addresses.first().map(ToString::to_string).unwrap_or_default()
            }
            Self::Unix(_) | Self::Abstract(_) => "localhost".to_owned(),
        }
    }
}

fn addresses(list: &str, family: impl Fn(&IpAddr) -> bool) -> Result<Target, TargetError> {
    let address = |word: &str| {
        let address: Option<SocketAddr> = word.trim().parse().ok();
        address
            .filter(|address| family(&address.ip()))
            .ok_or_else(|| TargetError::NoAddress(word.to_owned()))
    };
    list.split(',').map(address).collect::<Result<_, _>>().map(Target::Addresses)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { .. } => f.write_str(&self.authority()),
            Self::Addresses(addresses) => {
                let words: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                f.write_str(&words.join(","))
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix-abstract:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, port: u16) -> Result<Target, TargetError> {
        Ok(Target::Name { host: host.to_owned(), port })
    }

    fn at(list: &[&str]) -> Result<Target, TargetError> {
        Ok(Target::Addresses(list.iter().map(|address| address.parse().unwrap()).collect()))
    }

    #[test]
    fn every_spelling_of_a_target_is_read() {
        assert_eq!(Target::parse("authz.internal:9001"), name("authz.internal", 9001));
        assert_eq!(Target::parse("dns:///a:1"), name("a", 1));
        assert_eq!(Target::parse("dns:a:1"), name("a", 1));
        assert_eq!(Target::parse("127.0.0.1:2"), at(&["127.0.0.1:2"]));
        assert_eq!(Target::parse("ipv4:127.0.0.1:2"), at(&["127.0.0.1:2"]));
        assert_eq!(Target::parse("ipv4:10.0.0.1:2,10.0.0.2:3"), at(&["10.0.0.1:2", "10.0.0.2:3"]));
        assert_eq!(Target::parse("ipv6:[::1]:3,[::2]:3"), at(&["[::1]:3", "[::2]:3"]));
        assert_eq!(Target::parse("[::1]:3").unwrap().authority(), "[::1]:3");
        assert_eq!(Target::parse("unix:///run/s"), Ok(Target::Unix("/run/s".into())));
        assert_eq!(Target::parse("unix:rel"), Ok(Target::Unix("rel".into())));
        assert_eq!(Target::parse("unix-abstract:s"), Ok(Target::Abstract("s".into())));
    }

    #[test]
    fn what_names_no_server_is_refused() {
        assert!(matches!(Target::parse("host"), Err(TargetError::NoPort(_))));
        assert!(matches!(Target::parse("host:x"), Err(TargetError::NoPort(_))));
        assert!(matches!(Target::parse("host:70000"), Err(TargetError::NoPort(_))));
        assert!(matches!(Target::parse(":80"), Err(TargetError::NoHost(_))));
        assert!(matches!(Target::parse("unix:"), Err(TargetError::NoHost(_))));
        assert!(matches!(Target::parse("unix-abstract:"), Err(TargetError::NoHost(_))));
        assert!(matches!(Target::parse("xds:///a:1"), Err(TargetError::Scheme(_))));
        assert!(matches!(Target::parse("vsock:1:2"), Err(TargetError::Scheme(_))));
        assert!(matches!(Target::parse("dns://8.8.8.8/a:1"), Err(TargetError::DnsServer(_))));
        assert!(matches!(Target::parse("ipv4:a:1"), Err(TargetError::NoAddress(_))));
        assert!(matches!(Target::parse("ipv4:[::1]:1"), Err(TargetError::NoAddress(_))));
        assert!(matches!(Target::parse("ipv6:[::1]:1,"), Err(TargetError::NoAddress(_))));
    }
}
