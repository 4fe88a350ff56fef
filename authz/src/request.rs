//! What the service is told about a request: the view of it, and the `CheckRequest` made of that.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use callout_common::api::text::sanitized;
use callout_common::envoy::types::Header;
use callout_common::filter::headers::Headers;
use callout_protos::envoy::config::core::v3 as core;
use callout_protos::envoy::service::auth::v3 as auth;
use callout_protos::pbjson_types::Timestamp;
use core::address::Address as AddressKind;
use core::socket_address::PortSpecifier;

use crate::config::{BodyLimits, Config};

/// Tells the service whether it got all of the body. The filter's own: a client's copy is not sent.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// The header by which an Envoy in front names its service: `source.service`.
pub(crate) const SERVICE: &str = "x-envoy-downstream-service-cluster";

/// A request as the filter sees it.
#[derive(Debug, Default)]
pub(crate) struct View<'a> {
    pub(crate) headers: Vec<Header<'a>>,
    pub(crate) source: Peer<'a>,
    /// The client's certificate as URL-encoded PEM, where the service is to see it.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) destination: Peer<'a>,
    pub(crate) protocol: &'a [u8],
    /// Server name that the client asked for in its TLS handshake.
    pub(crate) server_name: &'a [u8],
    /// When the request began, since 1970.
    pub(crate) time: Duration,
    /// Tells this stream from others.
    pub(crate) id: u64,
    /// Bytes of the body that have arrived.
    pub(crate) size: u64,
    pub(crate) body: Option<Body>,
    pub(crate) context_extensions: Option<&'a HashMap<String, String>>,
    pub(crate) metadata: core::Metadata,
    pub(crate) route_metadata: core::Metadata,
}

/// One end of the downstream connection.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Peer<'a> {
    /// `ip:port`, or the path of a Unix socket.
    pub(crate) address: &'a [u8],
    /// First URI SAN, first DNS SAN and subject of the certificate; empty without one.
    pub(crate) identities: [&'a [u8]; 3],
}

impl<'a> Peer<'a> {
    /// The first identity that there is; empty without one.
    pub(crate) fn identity(self) -> &'a [u8] {
        self.identities.into_iter().find(|identity| !identity.is_empty()).unwrap_or_default()
    }
}

/// The buffered part of the body.
#[derive(Debug)]
pub(crate) struct Body {
    /// The first `max_request_bytes` bytes.
    pub(crate) bytes: Vec<u8>,
    /// Bytes that there were.
    pub(crate) received: usize,
    pub(crate) limits: BodyLimits,
}

/// What there is to wait for before the service can be shown the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Nothing: there is no body, or none that ends.
    Nothing,
    /// All of the body, which ends after `length` bytes or, without one, with the stream.
    Whole { length: Option<usize> },
}

/// What there is to wait for after these headers; `end` when nothing follows them.
///
/// A request that Envoy upgrades has no body, and its stream does not end: a WebSocket, as for the
/// built-in, and any other kind that announces no body. `upgrade` alone upgrades nothing.
pub(crate) fn awaited(headers: &Headers<'_>, end: bool) -> Awaited {
    if end || headers.get(":method") == Some(b"CONNECT") {
        return Awaited::Nothing;
    }
    let tokens = headers.get("connection").unwrap_or_default().split(|byte| *byte == b',');
    let mut tokens = tokens.map(<[u8]>::trim_ascii);
    match headers.get("upgrade") {
        Some(kind) if tokens.any(|token| token.eq_ignore_ascii_case(b"upgrade")) => {
            let length = headers.get_str("content-length").and_then(|text| text.parse().ok());
            let announced = length.unwrap_or(0) > 0 || headers.get("transfer-encoding").is_some();
            if announced && !kind.eq_ignore_ascii_case(b"websocket") {
                Awaited::Whole { length }
            } else {
                Awaited::Nothing
            }
        }
        _ => Awaited::Whole { length: None },
    }
}

/// Builds the message. `config` decides which headers go in, and how.
pub(crate) fn build(config: &Config, view: View<'_>) -> auth::CheckRequest {
    let first = |name: &[u8]| {
        view.headers
            .iter()
            .find(|header| header.name == name)
            .map(|header| sanitized(header.value))
            .unwrap_or_default()
    };
    let mut http = auth::attribute_context::HttpRequest {
        id: view.id.to_string(),
        method: first(b":method"),
        path: first(b":path"),
        host: first(b":authority"),
        scheme: first(b":scheme"),
        protocol: sanitized(view.protocol),
        ..Default::default()
    };
    let service = first(SERVICE.as_bytes());
    let chosen = view.headers.iter().filter(|header| config.headers.includes(header.name));
    if config.encode_raw_headers {
        let mut headers: Vec<_> = chosen
            .filter(|header| header.name != PARTIAL_BODY.as_bytes())
            .map(|header| raw(sanitized(header.name), header.value))
            .collect();
        if let Some(body) = &view.body {
            headers.push(raw(PARTIAL_BODY.to_owned(), partial(body).as_bytes()));
        }
        http.header_map = Some(core::HeaderMap { headers });
    } else {
        http.headers = joined(chosen);
        if let Some(body) = &view.body {
            http.headers.insert(PARTIAL_BODY.to_owned(), partial(body).to_owned());
        }
    }
    http.size = i64::try_from(view.size).unwrap_or(i64::MAX);
    if let Some(body) = view.body {
        if body.limits.pack_as_bytes {
            http.raw_body = body.bytes;
        } else {
            http.body = sanitized(&body.bytes);
        }
    }

    let tls_session = config
        .include_tls_session
        .then(|| auth::attribute_context::TlsSession { sni: sanitized(view.server_name) });
    let attributes = auth::AttributeContext {
        source: Some(auth::attribute_context::Peer {
            service,
            certificate: view.certificate.as_deref().map(sanitized).unwrap_or_default(),
            ..peer(view.source)
        }),
        destination: Some(auth::attribute_context::Peer {
            labels: config.labels.clone(),
            ..peer(view.destination)
        }),
        request: Some(auth::attribute_context::Request {
            time: Some(timestamp(view.time)),
            http: Some(http),
        }),
        context_extensions: view.context_extensions.cloned().unwrap_or_default(),
        metadata_context: Some(view.metadata),
        route_metadata_context: Some(view.route_metadata),
        tls_session,
    };
    auth::CheckRequest { attributes: Some(attributes) }
}

/// Headers as a map: several lines of a name are joined with commas, as the built-in joins them.
fn joined<'a>(headers: impl Iterator<Item = &'a Header<'a>>) -> HashMap<String, String> {
    let mut map: HashMap<String, String> = HashMap::new();
    for header in headers {
        let name = sanitized(header.name);
        if name == PARTIAL_BODY {
            continue;
        }
        let value = sanitized(header.value);
        map.entry(name)
            .and_modify(|first| {
                first.push(',');
                first.push_str(&value);
            })
            .or_insert(value);
    }
    map
}

fn raw(key: String, value: &[u8]) -> core::HeaderValue {
    core::HeaderValue { key, value: String::new(), raw_value: value.to_vec() }
}

const fn partial(body: &Body) -> &'static str {
    if body.received > body.bytes.len() { "true" } else { "false" }
}

fn peer(peer: Peer<'_>) -> auth::attribute_context::Peer {
    auth::attribute_context::Peer {
        address: Some(address(peer.address)),
        principal: sanitized(peer.identity()),
        ..Default::default()
    }
}

fn address(text: &[u8]) -> core::Address {
    let text = sanitized(text);
    let kind = match text.parse::<SocketAddr>() {
        Ok(address) => AddressKind::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..Default::default()
        }),
        Err(_) => AddressKind::Pipe(core::Pipe { path: text, mode: 0 }),
    };
    core::Address { address: Some(kind) }
}

fn timestamp(time: Duration) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use callout_common::RawConfig;

    use super::*;

    fn config(fields: &str) -> Config {
        let json = format!(
            r#"{{"grpc_service": {{"google_grpc": {{"target_uri": "127.0.0.1:1"}}}}{fields}}}"#
        );
        Config::read(RawConfig::new(json.as_bytes())).unwrap()
    }

    fn header<'a>(name: &'a str, value: &'a [u8]) -> Header<'a> {
        Header { name: name.as_bytes(), value }
    }

    fn http(config: &Config, view: View<'_>) -> auth::attribute_context::HttpRequest {
        build(config, view).attributes.unwrap().request.unwrap().http.unwrap()
    }

    #[test]
    fn lines_of_one_name_are_joined_and_pseudo_headers_fill_their_fields() {
        let headers = vec![
            header(":method", b"GET"),
            header(":path", b"/p?q=1"),
            header(":authority", b"h"),
            header("x-a", b"1"),
            header("x-a", b""),
            header("x-b", b"\xff\xfe"),
            header(PARTIAL_BODY, b"spoofed"),
        ];
        let http = http(&config(""), View { headers, ..Default::default() });
        assert_eq!((http.method.as_str(), http.path.as_str()), ("GET", "/p?q=1"));
        assert_eq!(http.headers["x-a"], "1,");
        assert_eq!(http.headers["x-b"], "!!");
        assert_eq!(http.headers[":path"], "/p?q=1");
        assert!(!http.headers.contains_key(PARTIAL_BODY) && http.query.is_empty());
    }

    #[test]
    fn raw_headers_keep_lines_order_and_bytes() {
        let headers = vec![header("x-b", b"\xff"), header("x-a", b"1"), header("x-a", b"2")];
        let http = http(
            &config(r#", "encode_raw_headers": true"#),
            View { headers, ..Default::default() },
        );
        let lines: Vec<_> = http.header_map.unwrap().headers;
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].raw_value, b"\xff");
        assert!(http.headers.is_empty());
    }

    #[test]
    fn a_cut_body_is_marked_partial() {
        let limits =
            BodyLimits { max_request_bytes: 2, allow_partial_message: true, pack_as_bytes: false };
        let body = Some(Body { bytes: b"ab".to_vec(), received: 3, limits });
        let http = http(&config(""), View { size: 3, body, ..Default::default() });
        assert_eq!((http.body.as_str(), http.size), ("ab", 3));
        assert_eq!(http.headers[PARTIAL_BODY], "true");
    }

    #[test]
    fn peers_carry_address_and_the_first_identity_of_the_certificate() {
        let source = Peer { address: b"[::1]:80", identities: [b"", b"dns.test", b"CN=x"] };
        let destination = Peer { address: b"/run/s", ..Default::default() };
        let view = View { source, destination, ..Default::default() };
        let attributes = build(&config(""), view).attributes.unwrap();
        let source = attributes.source.unwrap();
        assert_eq!(source.principal, "dns.test");
        let Some(AddressKind::SocketAddress(socket)) = source.address.unwrap().address else {
            panic!("no socket address");
        };
        assert_eq!(socket.address, "::1");
        assert_eq!(socket.port_specifier, Some(PortSpecifier::PortValue(80)));
        let pipe = attributes.destination.unwrap().address.unwrap().address;
        assert!(matches!(pipe, Some(AddressKind::Pipe(pipe)) if pipe.path == "/run/s"));
    }
}
