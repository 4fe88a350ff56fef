//! `request_attributes` and `response_attributes`: names of Envoy's attributes, and
//! `request.headers['name']`. The built-in takes any CEL expression; a module has these.

use std::time::Duration;

use callout_common::attributes::Attribute as Id;
use callout_common::text::sanitized;
use callout_common::{ConfigError, Cx, Map};
use callout_protos::pbjson_types::{Struct, Value, value::Kind};

/// Attributes to send, by the names under which they go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(Vec<(String, Source)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Text(Id),
    Number(Id),
    Bool(Id),
    Header(Map, String),
    /// When the request began.
    Time,
}

/// Every attribute that the ABI answers as one value.
const KNOWN: &[(&str, Source)] = &[
    ("request.path", Source::Text(Id::RequestPath)),
    ("request.url_path", Source::Text(Id::RequestUrlPath)),
    ("request.host", Source::Text(Id::RequestHost)),
    ("request.scheme", Source::Text(Id::RequestScheme)),
    ("request.method", Source::Text(Id::RequestMethod)),
    ("request.referer", Source::Text(Id::RequestReferer)),
    ("request.useragent", Source::Text(Id::RequestUserAgent)),
    ("request.time", Source::Time),
    ("request.id", Source::Text(Id::RequestId)),
    ("request.protocol", Source::Text(Id::RequestProtocol)),
    ("request.query", Source::Text(Id::RequestQuery)),
    ("request.size", Source::Number(Id::RequestSize)),
    ("request.total_size", Source::Number(Id::RequestTotalSize)),
    ("response.code", Source::Number(Id::ResponseCode)),
    ("response.code_details", Source::Text(Id::ResponseCodeDetails)),
    ("response.flags", Source::Number(Id::ResponseFlags)),
    ("response.grpc_status", Source::Number(Id::ResponseGrpcStatus)),
    ("response.size", Source::Number(Id::ResponseSize)),
    ("response.total_size", Source::Number(Id::ResponseTotalSize)),
    ("source.address", Source::Text(Id::SourceAddress)),
    ("source.port", Source::Number(Id::SourcePort)),
    ("destination.address", Source::Text(Id::DestinationAddress)),
    ("destination.port", Source::Number(Id::DestinationPort)),
    ("connection.id", Source::Number(Id::ConnectionId)),
    ("connection.mtls", Source::Bool(Id::ConnectionMtls)),
    ("connection.requested_server_name", Source::Text(Id::ConnectionRequestedServerName)),
    ("connection.tls_version", Source::Text(Id::ConnectionTlsVersion)),
    ("connection.subject_local_certificate", Source::Text(Id::ConnectionSubjectLocalCertificate)),
    ("connection.subject_peer_certificate", Source::Text(Id::ConnectionSubjectPeerCertificate)),
    ("connection.dns_san_local_certificate", Source::Text(Id::ConnectionDnsSanLocalCertificate)),
    ("connection.dns_san_peer_certificate", Source::Text(Id::ConnectionDnsSanPeerCertificate)),
    ("connection.uri_san_local_certificate", Source::Text(Id::ConnectionUriSanLocalCertificate)),
    ("connection.uri_san_peer_certificate", Source::Text(Id::ConnectionUriSanPeerCertificate)),
    (
        "connection.sha256_peer_certificate_digest",
        Source::Text(Id::ConnectionSha256PeerCertificateDigest),
    ),
    ("connection.transport_failure_reason", Source::Text(Id::ConnectionTransportFailureReason)),
    ("connection.termination_details", Source::Text(Id::ConnectionTerminationDetails)),
    ("upstream.address", Source::Text(Id::UpstreamAddress)),
    ("upstream.port", Source::Number(Id::UpstreamPort)),
    ("upstream.tls_version", Source::Text(Id::UpstreamTlsVersion)),
    ("upstream.local_address", Source::Text(Id::UpstreamLocalAddress)),
    ("upstream.transport_failure_reason", Source::Text(Id::UpstreamTransportFailureReason)),
    ("upstream.request_attempt_count", Source::Number(Id::UpstreamRequestAttemptCount)),
    ("xds.cluster_name", Source::Text(Id::XdsClusterName)),
    ("xds.route_name", Source::Text(Id::XdsRouteName)),
    ("xds.virtual_host_name", Source::Text(Id::XdsVirtualHostName)),
    ("xds.filter_chain_name", Source::Text(Id::XdsFilterChainName)),
    ("xds.listener_direction", Source::Number(Id::XdsListenerDirection)),
];

impl Attributes {
    /// Reads a list of names.
    pub(crate) fn configure(names: &[String]) -> Result<Self, ConfigError> {
        let named = names.iter().enumerate().filter(|(_, name)| {
            let nobody = nobodys(name);
            if nobody {
                tracing::warn!("extproc: `{name}` is no attribute of Envoy's and is left out");
            }
            !nobody
        });
        let one = |(index, name): (usize, &String)| {
            let source = KNOWN
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, source)| source.clone())
                .or_else(|| header(name))
                .ok_or_else(|| {
                    ConfigError::field(
                        format!("[{index}]"),
                        format!("`{name}` is no attribute that a module can read"),
                    )
                })?;
            Ok((name.clone(), source))
        };
        named.map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The values in this stream; `time` is when the request began, since 1970. Absent ones are
    /// left out. `None` when none are asked for.
    pub(crate) fn values<E: Send + 'static>(
        &self,
        cx: &Cx<'_, E>,
        time: Duration,
    ) -> Option<Struct> {
        if self.0.is_empty() {
            return None;
        }
        let fields = self.0.iter().filter_map(|(name, source)| {
            let kind = source.read(cx, time)?;
            Some((name.clone(), Value { kind: Some(kind) }))
        });
        Some(Struct { fields: fields.collect() })
    }
}

impl Source {
    fn read<E: Send + 'static>(&self, cx: &Cx<'_, E>, time: Duration) -> Option<Kind> {
        Some(match self {
            Self::Text(id) => Kind::StringValue(sanitized(cx.attribute(*id)?)),
            Self::Bool(id) => Kind::BoolValue(cx.attribute_bool(*id)?),
            Self::Header(map, name) => Kind::StringValue(sanitized(cx.headers(*map).get(name)?)),
            Self::Time => Kind::StringValue(rfc3339(time)),
            #[allow(clippy::cast_precision_loss, reason = "a Struct has no other numbers")]
            Self::Number(id) => Kind::NumberValue(cx.attribute_int(*id)? as f64),
        })
    }
}

/// The roots of Envoy's attributes.
const ROOTS: &[&str] = &[
    "request",
    "response",
    "connection",
    "upstream",
    "source",
    "destination",
    "metadata",
    "filter_state",
    "upstream_filter_state",
    "xds",
    "node",
    "plugin_name",
    "plugin_root_id",
    "plugin_vm_id",
    "cluster_name",
    "cluster_metadata",
    "listener_direction",
    "listener_metadata",
    "route_name",
    "route_metadata",
    "upstream_host_metadata",
    "true",
    "false",
    "null",
];

/// Whether this is a plain name outside of Envoy's: the built-in evaluates it to nothing.
fn nobodys(name: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    name.split('.').all(word) && !name.split('.').next().is_some_and(|root| ROOTS.contains(&root))
}

/// `request.headers['name']` and `response.headers["name"]`.
fn header(expression: &str) -> Option<Source> {
    let (map, rest) = [("request.headers[", Map::Request), ("response.headers[", Map::Response)]
        .into_iter()
        .find_map(|(prefix, map)| Some((map, expression.strip_prefix(prefix)?)))?;
    let quoted = rest.strip_suffix(']')?;
    let name = ["'", "\""]
        .into_iter()
        .find_map(|quote| quoted.strip_prefix(quote)?.strip_suffix(quote))?;
    let plain = name.strip_prefix(':').unwrap_or(name);
    callout_common::headers::valid_name(plain)
        .then(|| Source::Header(map, name.to_ascii_lowercase()))
}

/// A time since 1970 as RFC 3339 text in UTC, to the microsecond.
fn rfc3339(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date of a day count, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}+00:00",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        time.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_expressions_are_read_in_both_quotes() {
        let expected = Some(Source::Header(Map::Request, "x-a".to_owned()));
        assert_eq!(header("request.headers['X-A']"), expected);
        assert_eq!(header("request.headers[\"x-a\"]"), expected);
        assert_eq!(header("request.headers['x-a\"]"), None);
        assert_eq!(header("request.headers['a b']"), None);
        assert!(Attributes::configure(&["request.size + 1".to_owned()]).is_err());
        assert!(Attributes::configure(&["filter_state.x".to_owned()]).is_err());
        assert_eq!(Attributes::configure(&["bogus.thing".to_owned()]).unwrap().0, []);
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(
            rfc3339(Duration::new(1_709_210_096, 5_000)),
            "2024-02-29T12:34:56.000005+00:00"
        );
        assert_eq!(rfc3339(Duration::from_secs(4_102_444_799)), "2099-12-31T23:59:59.000000+00:00");
    }
}
