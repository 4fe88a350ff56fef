//! What a check knows of its request: copied, since the check runs on another thread.

use std::collections::HashMap;
use std::net::IpAddr;

use super::notes::Notes;
use crate::envoy::attributes::Attribute;
use crate::envoy::types::{Header, MetadataSource, MetadataValue};
use crate::filter::context::StreamContext;
use crate::filter::stats::{Counter, Histogram, LabelledCounter};

/// The head of a request, and what Envoy knows of its client.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    client: Option<IpAddr>,
    tls: Option<Tls>,
    cluster: Option<String>,
    metadata: HashMap<(String, String), MetadataValue>,
    notes: Notes,
}

/// What Envoy knows of the client's TLS connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// The version, as `TLSv1.3`.
    pub version: String,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// Whether the client showed a certificate, and Envoy trusts it.
    pub mutual: bool,
    /// The subject of that certificate.
    pub subject: Option<String>,
    /// Its first URI, as `spiffe://...`.
    pub uri: Option<String>,
    /// Its first DNS name.
    pub dns: Option<String>,
    /// Its SHA-256, in hexadecimal.
    pub sha256: Option<String>,
}

impl Tls {
    fn of<E: Send + 'static>(cx: &StreamContext<'_, E>) -> Option<Self> {
        let text = |attribute| text(cx, attribute);
        Some(Self {
            version: text(Attribute::ConnectionTlsVersion)?,
            server_name: text(Attribute::ConnectionRequestedServerName),
            mutual: cx.attribute_bool(Attribute::ConnectionMtls) == Some(true),
            subject: text(Attribute::ConnectionSubjectPeerCertificate),
            uri: text(Attribute::ConnectionUriSanPeerCertificate),
            dns: text(Attribute::ConnectionDnsSanPeerCertificate),
            sha256: text(Attribute::ConnectionSha256PeerCertificateDigest),
        })
    }
}

fn text<E: Send + 'static>(cx: &StreamContext<'_, E>, attribute: Attribute) -> Option<String> {
    let bytes = cx.attribute(attribute).filter(|bytes| !bytes.is_empty())?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

impl RequestHead {
    /// Copies what there is of the request of `cx`, and the dynamic metadata at `wanted`.
    pub(super) fn of<E: Send + 'static>(
        cx: &StreamContext<'_, E>,
        wanted: &[(String, String)],
        notes: Notes,
    ) -> Self {
        let copy = |line: Header<'_>| (line.name.to_vec(), line.value.to_vec());
        let value = |(namespace, key): &(String, String)| {
            let value = cx.metadata(MetadataSource::Dynamic).get(namespace, key)?;
            Some(((namespace.clone(), key.clone()), value))
        };
        Self {
            headers: cx.request().all().into_iter().map(copy).collect(),
            client: cx.remote_ip(),
            tls: Tls::of(cx),
            cluster: cx.cluster_name().map(|name| String::from_utf8_lossy(name).into_owned()),
            metadata: wanted.iter().filter_map(value).collect(),
            notes,
        }
    }

    /// The first value of `name` (lower-case; pseudo headers included), if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name.as_bytes())?;
        std::str::from_utf8(&found.1).ok()
    }

    /// Every line in order, pseudo headers first.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.header(":method").unwrap_or_default()
    }

    /// The path with its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.header(":path").unwrap_or_default()
    }

    /// The authority.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.header(":authority").unwrap_or_default()
    }

    /// The client's address as Envoy trusts it (`xff_num_trusted_hops` and the like); `None` where it
    /// is not an IP address.
    #[must_use]
    pub const fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// The client's TLS connection; `None` for plain text.
    #[must_use]
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The cluster to which the route leads.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// A value of the dynamic metadata that [`Gate::metadata`](crate::Gate::metadata) names.
    #[must_use]
    pub fn metadata(&self, namespace: &str, key: &str) -> Option<&MetadataValue> {
        self.metadata.get(&(namespace.to_owned(), key.to_owned()))
    }

    /// Counts one. Envoy is told when the check ends, or the request does.
    pub fn count(&self, counter: Counter) {
        self.notes.count(counter, 1);
    }

    /// Counts one under `label`, which is one of a small, fixed set.
    pub fn count_labelled(&self, counter: LabelledCounter, label: &str) {
        self.notes.count_labelled(counter, label);
    }

    /// Records a value in a histogram.
    pub fn record(&self, histogram: Histogram, value: u64) {
        self.notes.record(histogram, value);
    }

    /// Tells the access log: `%DYNAMIC_METADATA(callout.<filter>:<key>)%`.
    pub fn tell(&self, key: &str, value: &str) {
        self.notes.text(key, value);
    }

    /// As [`RequestHead::tell`], a number.
    pub fn tell_number(&self, key: &str, value: f64) {
        self.notes.number(key, value);
    }
}
