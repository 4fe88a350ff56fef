//! Keys of decisions: two requests share a key only if the service would have been told the same
//! about both, or if the operator chose to look at less.
//!
//! Every part is written with its kind and its length, absent parts differ from empty ones, and the
//! whole is hashed to 256 bits under a secret of the configuration. So parts can't run into each
//! other, no credential is kept, and no decision outlives the configuration that it was made under.

use std::collections::HashMap;
use std::net::SocketAddr;

use callout_common::envoy::attributes::Attribute;
use callout_protos::envoy::config::core::v3::Metadata;
use callout_protos::pbjson_types::{Struct, Value, value::Kind};

use crate::config::key_rule::{KeyRule, Omit};
use crate::request::{SERVICE, View};

/// Headers that differ from request to request and say nothing of who asks for what.
const TRACING_HEADERS: [&[u8]; 19] = [
    b"x-request-id",
    b"traceparent",
    b"tracestate",
    b"b3",
    b"x-b3-traceid",
    b"x-b3-spanid",
    b"x-b3-parentspanid",
    b"x-b3-sampled",
    b"x-b3-flags",
    b"x-ot-span-context",
    b"x-cloud-trace-context",
    b"x-amzn-trace-id",
    b"grpc-trace-bin",
    b"x-client-trace-id",
    b"x-datadog-trace-id",
    b"x-datadog-parent-id",
    b"x-datadog-sampling-priority",
    b"sw8",
    b"uber-trace-id",
];

/// What most requests take to write down.
const USUAL_BYTES: usize = 1024;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

#[cfg(test)]
impl Key {
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// What a request is besides its [`View`].
#[derive(Debug, Default)]
pub(crate) struct KeyContext<'a> {
    /// The route's name, its virtual host's and its cluster's.
    pub(crate) route: [Option<&'a [u8]>; 3],
    /// The fingerprint of the route's configuration of this filter.
    pub(crate) route_config: Option<&'a [u8]>,
    /// Metadata of the call that quotes the request: name and value.
    pub(crate) call: Vec<(&'a [u8], &'a [u8])>,
    /// The values of the chosen attributes.
    pub(crate) attributes: Vec<Option<&'a [u8]>>,
}

/// Makes the keys of one configuration.
pub(crate) struct Keys {
    secret: [u8; 32],
    rule: KeyRule,
    /// The service is told dynamic metadata.
    dynamic: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("rule", &self.rule).finish_non_exhaustive()
    }
}

impl Keys {
    /// Keys by `rule`, under a secret that no other configuration has. `dynamic` when the service is
    /// told dynamic metadata.
    pub(crate) fn new(rule: KeyRule, dynamic: bool, secret: [u8; 32]) -> Self {
        Self { secret, rule, dynamic }
    }

    /// Whether a key holds the metadata that the service is told.
    pub(crate) fn takes_metadata(&self) -> bool {
        match &self.rule {
            KeyRule::Everything => true,
            KeyRule::Custom(chosen) => chosen.context,
        }
    }

    /// The attributes whose values a key needs.
    pub(crate) fn attributes(&self) -> &[Attribute] {
        match &self.rule {
            KeyRule::Everything => &[],
            KeyRule::Custom(chosen) => &chosen.attributes,
        }
    }

    /// Whether a key holds the metadata of the call.
    pub(crate) fn takes_call(&self) -> bool {
        self.rule == KeyRule::Everything
    }

    /// The key of a request; `None` when it has none: a body was read, or nothing that was chosen
    /// is there. `sent` tells which headers the service is shown.
    pub(crate) fn key(
        &self,
        view: &View<'_>,
        surroundings: &KeyContext<'_>,
        sent: impl Fn(&[u8]) -> bool,
    ) -> Option<Key> {
        // Hashing the whole at once is faster than piece by piece.
        let mut out = Writer(Vec::with_capacity(USUAL_BYTES));
        self.write(&mut out, view, surroundings, sent)
            .then(|| Key(*blake3::keyed_hash(&self.secret, &out.0).as_bytes()))
    }

    /// Writes what the key of a request is made of; `false` when it has none.
    fn write(
        &self,
        out: &mut Writer,
        view: &View<'_>,
        surroundings: &KeyContext<'_>,
        sent: impl Fn(&[u8]) -> bool,
    ) -> bool {
        if view.body.is_some() {
            return false;
        }
        let omit = match &self.rule {
            KeyRule::Everything => Omit::default(),
            KeyRule::Custom(chosen) => chosen.omit,
        };
        let first = |name| all(view, name).next();
        for (name, omitted) in
            [(":method", omit.method), (":authority", omit.authority), (":path", omit.path)]
        {
            out.option((!omitted).then(|| first(name)).flatten());
        }
        for part in surroundings.route {
            out.option(part.filter(|_| !omit.route));
        }
        // It may name a service of its own, so it is never left out.
        out.option(surroundings.route_config);
        match &self.rule {
            KeyRule::Everything => sent_parts(out, view, surroundings, sent),
            KeyRule::Custom(chosen) => {
                let mut found = chosen.context && self.has_context(view);
                for name in &chosen.headers {
                    let values: Vec<&[u8]> = all(view, name).collect();
                    found |= !values.is_empty();
                    out.count(values.len());
                    values.into_iter().for_each(|value| out.part(value));
                }
                for (attribute, value) in chosen.attributes.iter().zip(&surroundings.attributes) {
                    let value = value.filter(|value| !value.is_empty());
                    found |= value.is_some();
                    let address = *attribute == Attribute::SourceAddress;
                    match value {
                        Some(value) if address => out.part(without_port(value)),
                        value => out.option(value),
                    }
                }
                if chosen.context {
                    context(out, view);
                }
                return found;
            }
        }
        true
    }

    /// Whether there is any of the context. Where the service is told dynamic metadata, that has to
    /// be there: the rest is the same for everybody on a route.
    fn has_context(&self, view: &View<'_>) -> bool {
        let Metadata { filter_metadata, typed_filter_metadata } =
            if self.dynamic { &view.metadata } else { &view.route_metadata };
        let extensions = view.context_extensions.is_some_and(|extensions| !extensions.is_empty());
        !filter_metadata.is_empty()
            || !typed_filter_metadata.is_empty()
            || (!self.dynamic && extensions)
    }
}

fn sent_parts(
    out: &mut Writer,
    view: &View<'_>,
    surroundings: &KeyContext<'_>,
    sent: impl Fn(&[u8]) -> bool,
) {
    out.option(all(view, ":scheme").next());
    // Told to the service whether or not the header itself is.
    out.option(all(view, SERVICE).next());
    // Pseudo headers, too: the service is told each line, should there be more than one.
    let told = |name: &[u8]| !TRACING_HEADERS.contains(&name) && sent(name);
    let shown = || view.headers.iter().filter(|line| told(line.name));
    out.count(shown().count());
    for line in shown() {
        out.part(line.name);
        out.part(line.value);
    }
    out.part(without_port(view.source.address));
    out.part(view.destination.address);
    for peer in [view.source, view.destination] {
        out.part(peer.identity());
    }
    out.option(view.certificate.as_deref());
    out.part(view.protocol);
    out.part(view.server_name);
    out.number(view.size);
    context(out, view);
    out.count(surroundings.call.len());
    for (name, value) in &surroundings.call {
        out.part(name);
        out.part(value);
    }
}

fn context(out: &mut Writer, view: &View<'_>) {
    let none = HashMap::new();
    out.map(view.context_extensions.unwrap_or(&none), |out, value| out.part(value.as_bytes()));
    for Metadata { filter_metadata, typed_filter_metadata } in
        [&view.metadata, &view.route_metadata]
    {
        out.map(filter_metadata, Writer::fields);
        out.map(typed_filter_metadata, |out, any| {
            out.part(any.type_url.as_bytes());
            out.part(&any.value);
        });
    }
}

/// The values of a header, in order.
fn all<'a>(view: &View<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    view.headers.iter().filter(move |line| line.name == name.as_bytes()).map(|line| line.value)
}

/// An address without its port, which is another one for each connection.
fn without_port(address: &[u8]) -> &[u8] {
    let is_socket = |text: &str| text.parse::<SocketAddr>().is_ok();
    match address.iter().rposition(|byte| *byte == b':') {
        Some(colon) if std::str::from_utf8(address).is_ok_and(is_socket) => {
            address.get(..colon).unwrap_or(address)
        }
        _ => address,
    }
}

/// Writes parts so that no two sequences of parts give the same bytes.
struct Writer(Vec<u8>);

impl Writer {
    fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.push(b'p');
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn option(&mut self, part: Option<&[u8]>) {
        match part {
            Some(bytes) => self.part(bytes),
            None => self.0.push(b'-'),
        }
    }

    /// A map, in the order of its keys.
    fn map<T>(&mut self, map: &HashMap<String, T>, mut value: impl FnMut(&mut Self, &T)) {
        let mut entries: Vec<(&String, &T)> = map.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        self.count(entries.len());
        for (key, one) in entries {
            self.part(key.as_bytes());
            value(self, one);
        }
    }

    fn fields(&mut self, values: &Struct) {
        self.map(&values.fields, Self::value);
    }

    fn value(&mut self, value: &Value) {
        match &value.kind {
            None | Some(Kind::NullValue(_)) => self.0.push(b'0'),
            Some(Kind::NumberValue(number)) => {
                self.0.push(b'n');
                self.0.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Some(Kind::StringValue(text)) => {
                self.0.push(b's');
                self.part(text.as_bytes());
            }
            Some(Kind::BoolValue(truth)) => self.0.push(if *truth { b't' } else { b'f' }),
            Some(Kind::StructValue(fields)) => {
                self.0.push(b'o');
                self.fields(fields);
            }
            Some(Kind::ListValue(list)) => {
                self.0.push(b'l');
                self.count(list.values.len());
                list.values.iter().for_each(|value| self.value(value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
