//! Metadata of the stream, its route and its cluster.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use callout_protos::envoy::config::core::v3 as core;
use callout_protos::pbjson_types::{Any, ListValue, Struct, Value, value::Kind};
use prost::Message;

use crate::api::text::sanitized;
use crate::envoy::host::Host;
use crate::envoy::types::{MetadataPath, MetadataSource, MetadataValue};
use crate::filter::nested;

/// What could not be read of what a hook asked for: what the service is told then lacks it.
#[derive(Debug, Default)]
pub struct Unread {
    count: Cell<u64>,
    first: RefCell<Option<Missing>>,
}

/// One thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A value: its source, namespace and key.
    Value(MetadataSource, String, String),
    /// Typed metadata under this namespace.
    Typed(String),
    /// What Envoy's formatter would have put under this key of the filter state.
    State {
        /// The key.
        key: &'static str,
        /// The formatter.
        format: &'static str,
    },
}

impl Unread {
    /// How many values could not be read.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count.get()
    }

    /// The first of them. All is forgotten.
    pub fn take_first(&self) -> Option<Missing> {
        self.count.set(0);
        self.first.take()
    }

    /// Notes one.
    pub(crate) fn note(&self, what: impl FnOnce() -> Missing) {
        if self.count.replace(self.count.get().saturating_add(1)) == 0 {
            *self.first.borrow_mut() = Some(what());
        }
    }
}

/// Reads the metadata of one source.
#[derive(Clone, Copy)]
pub struct Metadata<'a> {
    host: &'a dyn Host,
    source: MetadataSource,
    unread: &'a Unread,
}

impl std::fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<'a> Metadata<'a> {
    pub(crate) const fn new(
        host: &'a dyn Host,
        source: MetadataSource,
        unread: &'a Unread,
    ) -> Self {
        Self { host, source, unread }
    }

    /// One value. Of an object, a list that holds objects, and null it tells only that it is there,
    /// unless the filter state has it ([`nested`]).
    #[must_use]
    pub fn get(&self, namespace: &str, key: &str) -> Option<MetadataValue> {
        let found = self.host.metadata(self.source, namespace, key);
        // What this suite wrote may be nowhere else: Envoy takes objects from modules since 1.40.
        let hidden = match &found {
            Some(MetadataValue::Unreadable) => true,
            None => self.source == MetadataSource::Dynamic,
            Some(_) => false,
        };
        if !hidden {
            return found;
        }
        nested::read(self.host, self.source, namespace).remove(key).or(found)
    }

    /// The value at `path`. `None` where there is none, and where something on the way can't be read,
    /// which is noted.
    #[must_use]
    pub fn at(&self, namespace: &str, path: &MetadataPath) -> Option<MetadataValue> {
        let value = path.follow(self.get(namespace, &path.key)?)?;
        if value == MetadataValue::Unreadable && !path.within.is_empty() {
            self.note(namespace, &path.key);
            return None;
        }
        Some(value)
    }

    /// The object at `path`. `None` where there is none, and where it can't be read, which is noted.
    #[must_use]
    pub fn object(
        &self,
        namespace: &str,
        path: &MetadataPath,
    ) -> Option<BTreeMap<String, MetadataValue>> {
        match self.at(namespace, path)? {
            MetadataValue::Object(fields) => Some(fields),
            MetadataValue::Unreadable => {
                self.note(namespace, &path.key);
                None
            }
            _ => None,
        }
    }

    fn note(&self, namespace: &str, key: &str) {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        self.unread.note(|| Missing::Value(self.source, namespace, key));
    }

    /// One value as Envoy's formatter prints it: a list as JSON. What can't be read is noted.
    #[must_use]
    pub fn printed(&self, namespace: &str, path: &MetadataPath) -> Option<Vec<u8>> {
        match self.at(namespace, path)? {
            MetadataValue::String(text) => Some(text),
            MetadataValue::Unreadable => {
                self.note(namespace, &path.key);
                None
            }
            other => serde_json::to_vec(&json(&other)).ok(),
        }
    }

    /// One value as Envoy's services are told it. `None` where there is none, and where it can't be
    /// read, which is noted.
    #[must_use]
    pub fn value(&self, namespace: &str, path: &MetadataPath) -> Option<Value> {
        match self.at(namespace, path)? {
            MetadataValue::Unreadable => {
                self.note(namespace, &path.key);
                None
            }
            value => Some(message(value)),
        }
    }

    /// Every key of a namespace that can be read, with its value. The others are noted.
    #[must_use]
    pub fn values(&self, namespace: &str) -> Vec<(String, MetadataValue)> {
        let mut values = Vec::new();
        let mut hidden = Vec::new();
        for key in self.host.metadata_keys(self.source, namespace) {
            // A key that is not UTF-8 can't be asked for, nor sent.
            let key = String::from_utf8(key);
            let name = key.as_deref().unwrap_or_default();
            let ask = |key: &String| self.host.metadata(self.source, namespace, key);
            match key.as_ref().ok().and_then(ask) {
                Some(MetadataValue::Unreadable) | None => hidden.push(name.to_owned()),
                Some(value) => values.push((name.to_owned(), value)),
            }
        }
        if hidden.is_empty() && self.source != MetadataSource::Dynamic {
            return values;
        }
        let mut nested = nested::read(self.host, self.source, namespace);
        for key in hidden {
            match nested.remove(&key) {
                Some(value) => values.push((key, value)),
                None => self.note(namespace, &key),
            }
        }
        let known = |key: &String| values.iter().any(|(name, _)| name == key);
        nested.retain(|key, _| !known(key));
        values.extend(nested);
        values
    }

    /// Adds what there is under the namespaces `untyped` and, since Envoy 1.40, `typed`, as the
    /// messages of Envoy's services carry it. Namespaces that are absent are passed over; what is
    /// there, or may be, and can't be read is noted.
    pub fn collect(&self, untyped: &[String], typed: &[String], into: &mut core::Metadata) {
        for namespace in untyped {
            let values = self.values(namespace);
            if !values.is_empty() {
                into.filter_metadata.insert(namespace.clone(), fields(values));
            }
        }
        for namespace in typed {
            if !self.host.reads_typed_metadata() {
                self.unread.note(|| Missing::Typed(namespace.clone()));
            } else if let Some((type_url, value)) = self.typed(namespace) {
                let any = Any { type_url: sanitized(&type_url), value: value.into() };
                into.typed_filter_metadata.insert(namespace.clone(), any);
            }
        }
    }

    /// All of the source but what is typed. What can't be read is noted.
    #[must_use]
    pub fn whole(&self) -> core::Metadata {
        let namespaces = self.host.metadata_namespaces(self.source);
        let namespaces: Vec<String> =
            namespaces.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
        let mut whole = core::Metadata::default();
        self.collect(&namespaces, &[], &mut whole);
        whole
    }

    /// A typed value as (type URL, bytes); needs Envoy 1.40.
    #[must_use]
    pub fn typed(&self, namespace: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        self.host.typed_metadata(self.source, namespace)
    }
}

/// About how many bytes of memory `values` holds beside itself, with what the allocator rounds up.
#[must_use]
pub fn heap_bytes(values: &Struct) -> usize {
    // A table has room for a power of two of entries, of which it uses seven eighths.
    let room = (values.fields.capacity() * 8 / 7).next_power_of_two();
    let place = size_of::<(String, Value)>() + 1;
    let entries = values.fields.iter().map(|(key, value)| rounded(key.len()) + value_bytes(value));
    room * place + entries.sum::<usize>()
}

fn value_bytes(value: &Value) -> usize {
    match &value.kind {
        Some(Kind::StringValue(text)) => rounded(text.len()),
        Some(Kind::StructValue(values)) => heap_bytes(values),
        Some(Kind::ListValue(list)) => {
            let room = list.values.capacity() * size_of::<Value>();
            room + list.values.iter().map(value_bytes).sum::<usize>()
        }
        _ => 0,
    }
}

/// Bytes that an allocation of `bytes` takes.
const fn rounded(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes.next_multiple_of(16) + 16 }
}

/// Values as a `Struct`.
fn fields(values: impl IntoIterator<Item = (String, MetadataValue)>) -> Struct {
    Struct { fields: values.into_iter().map(|(key, value)| (key, message(value))).collect() }
}

fn message(value: MetadataValue) -> Value {
    let kind = match value {
        MetadataValue::Number(number) => Kind::NumberValue(number),
        MetadataValue::String(text) => Kind::StringValue(sanitized(&text)),
        MetadataValue::Bool(truth) => Kind::BoolValue(truth),
        MetadataValue::List(list) => {
            Kind::ListValue(ListValue { values: list.into_iter().map(message).collect() })
        }
        MetadataValue::Object(values) => Kind::StructValue(fields(values)),
        MetadataValue::Null | MetadataValue::Unreadable => Kind::NullValue(0),
    };
    Value { kind: Some(kind) }
}

fn json(value: &MetadataValue) -> serde_json::Value {
    match value {
        // A whole number is printed without a point.
        #[allow(clippy::cast_possible_truncation, reason = "whole, and within 2^53")]
        MetadataValue::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            (*number as i64).into()
        }
        MetadataValue::Number(number) => (*number).into(),
        MetadataValue::String(text) => sanitized(text).into(),
        MetadataValue::Bool(truth) => (*truth).into(),
        MetadataValue::List(list) => list.iter().map(json).collect(),
        MetadataValue::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), json(value))).collect()
        }
        MetadataValue::Null | MetadataValue::Unreadable => serde_json::Value::Null,
    }
}

/// Changes the dynamic metadata.
pub struct MetadataMut<'a> {
    host: &'a mut dyn Host,
}

impl std::fmt::Debug for MetadataMut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataMut").finish_non_exhaustive()
    }
}

impl<'a> MetadataMut<'a> {
    pub(crate) fn new(host: &'a mut dyn Host) -> Self {
        Self { host }
    }

    /// Sets a string.
    pub fn set_str(&mut self, namespace: &str, key: &str, value: &str) -> bool {
        self.set(namespace, key, &MetadataValue::String(value.as_bytes().to_vec()))
    }

    /// Sets a number.
    pub fn set_number(&mut self, namespace: &str, key: &str, value: f64) -> bool {
        self.set(namespace, key, &MetadataValue::Number(value))
    }

    /// Sets a number, string or truth value; `false` for others.
    pub fn set(&mut self, namespace: &str, key: &str, value: &MetadataValue) -> bool {
        self.host.set_metadata(namespace, key, value)
    }

    /// Merges a `Struct`. Before Envoy 1.40 only its numbers, strings and truth values can be set:
    /// `false` when others had to be left out. What Envoy does not hand to modules again is kept for
    /// the filters of this suite behind ([`nested`]).
    pub fn merge_struct(&mut self, namespace: &str, values: &Struct) -> bool {
        let merged = self.host.merge_metadata(namespace, &values.encode_to_vec());
        let kept = nested::write(self.host, namespace, values, merged);
        if merged {
            return kept;
        }
        values.fields.iter().fold(true, |whole, (key, value)| {
            let flat = match &value.kind {
                Some(Kind::NumberValue(number)) => MetadataValue::Number(*number),
                Some(Kind::StringValue(text)) => MetadataValue::String(text.clone().into_bytes()),
                Some(Kind::BoolValue(truth)) => MetadataValue::Bool(*truth),
                _ => return false,
            };
            self.set(namespace, key, &flat) && whole
        })
    }

    /// Sets typed metadata from a serialized `google.protobuf.Any`; `false` before Envoy 1.40.
    pub fn set_typed(&mut self, namespace: &str, serialized_any: &[u8]) -> bool {
        self.host.set_typed_metadata(namespace, serialized_any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::types::PathSegment;
    use crate::testing::FakeHost;

    const NAMESPACE: &str = "n";

    fn host(values: &[(&str, MetadataValue)]) -> FakeHost {
        let mut host = FakeHost::default();
        for (key, value) in values {
            let place = (MetadataSource::Dynamic, NAMESPACE.to_owned(), (*key).to_owned());
            host.metadata.insert(place, value.clone());
        }
        host
    }

    fn top(key: &str) -> MetadataPath {
        MetadataPath { key: key.to_owned(), within: Vec::new() }
    }

    fn list() -> MetadataValue {
        MetadataValue::List(vec![
            MetadataValue::String(b"a".to_vec()),
            MetadataValue::Number(2.0),
            MetadataValue::Bool(true),
        ])
    }

    #[test]
    fn lists_are_sent_and_what_can_not_be_read_is_noted() {
        let host = host(&[("list", list()), ("object", MetadataValue::Unreadable)]);
        let unread = Unread::default();
        let metadata = Metadata::new(&host, MetadataSource::Dynamic, &unread);
        let mut context = core::Metadata::default();
        metadata.collect(&[NAMESPACE.to_owned(), "none".to_owned()], &[], &mut context);
        let fields = &context.filter_metadata[NAMESPACE].fields;
        assert_eq!((fields.len(), context.filter_metadata.len()), (1, 1));
        let Some(Kind::ListValue(sent)) = &fields["list"].kind else { panic!("not a list") };
        assert_eq!(sent.values.len(), 3);
        assert_eq!(unread.count(), 1);
        let missing = (MetadataSource::Dynamic, NAMESPACE.to_owned(), "object".to_owned());
        assert_eq!(unread.take_first(), Some(Missing::Value(missing.0, missing.1, missing.2)));
    }

    #[test]
    fn an_empty_list_is_sent_and_nothing_is_noted() {
        let host = host(&[("list", MetadataValue::List(Vec::new()))]);
        let unread = Unread::default();
        let metadata = Metadata::new(&host, MetadataSource::Dynamic, &unread);
        let mut context = core::Metadata::default();
        metadata.collect(&[NAMESPACE.to_owned()], &[], &mut context);
        assert_eq!(context.filter_metadata[NAMESPACE].fields.len(), 1);
        assert_eq!(unread.count(), 0);
    }

    #[test]
    fn typed_metadata_that_this_envoy_does_not_hand_out_is_noted() {
        let (host, unread) = (FakeHost::default(), Unread::default());
        let metadata = Metadata::new(&host, MetadataSource::Dynamic, &unread);
        metadata.collect(&[], &["t".to_owned()], &mut core::Metadata::default());
        assert_eq!(unread.take_first(), Some(Missing::Typed("t".to_owned())));
    }

    #[test]
    fn what_the_filter_state_has_is_read_sent_and_followed() {
        let mut host = host(&[("flat", list()), ("object", MetadataValue::Unreadable)]);
        let state = br#"{"flat": 0, "object": {"list": [{"k": "v"}], "n": null}}"#;
        host.filter_state.insert("callout.dynamic_metadata.n".to_owned(), state.to_vec());
        let written: Struct = serde_json::from_str(r#"{"own": {"k": "w"}}"#).unwrap();
        // This host takes no `Struct`, as Envoy before 1.40.
        assert!(!MetadataMut::new(&mut host).merge_struct(NAMESPACE, &written));
        let unread = Unread::default();
        let metadata = Metadata::new(&host, MetadataSource::Dynamic, &unread);
        let mut context = core::Metadata::default();
        metadata.collect(&[NAMESPACE.to_owned()], &[], &mut context);
        let fields = &context.filter_metadata[NAMESPACE].fields;
        let mut keys: Vec<&str> = fields.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["flat", "object", "own"]);
        assert_eq!(metadata.get(NAMESPACE, "flat"), Some(list()));
        let text = |key: &str, within: &[PathSegment]| {
            let path = MetadataPath { key: key.to_owned(), within: within.to_vec() };
            metadata.at(NAMESPACE, &path)
        };
        let key = |key: &str| PathSegment::Key(key.to_owned());
        let string = |text: &str| Some(MetadataValue::String(text.as_bytes().to_vec()));
        assert_eq!(text("object", &[key("list"), PathSegment::Index(0), key("k")]), string("v"));
        assert_eq!(text("own", &[key("k")]), string("w"));
        assert_eq!(text("object", &[key("none")]), None);
        assert_eq!(unread.count(), 0);
        assert_eq!(
            metadata.printed(NAMESPACE, &top("own")).as_deref(),
            Some(r#"{"k":"w"}"#.as_bytes())
        );
    }

    #[test]
    fn a_path_into_what_can_not_be_read_is_noted() {
        let host = host(&[("object", MetadataValue::Unreadable)]);
        let unread = Unread::default();
        let metadata = Metadata::new(&host, MetadataSource::Dynamic, &unread);
        let path = |within: &[PathSegment]| MetadataPath {
            key: "object".to_owned(),
            within: within.to_vec(),
        };
        assert_eq!(metadata.at(NAMESPACE, &path(&[])), Some(MetadataValue::Unreadable));
        assert_eq!(unread.count(), 0);
        assert_eq!(metadata.at(NAMESPACE, &path(&[PathSegment::Index(0)])), None);
        assert_eq!(unread.count(), 1);
    }

    #[test]
    fn a_value_is_printed_as_envoy_prints_it() {
        let host = host(&[
            ("text", MetadataValue::String(b"a\"b".to_vec())),
            ("whole", MetadataValue::Number(7.0)),
            ("part", MetadataValue::Number(7.5)),
            ("truth", MetadataValue::Bool(true)),
            ("list", list()),
            ("object", MetadataValue::Unreadable),
        ]);
        let unread = Unread::default();
        let metadata = Metadata::new(&host, MetadataSource::Dynamic, &unread);
        let printed =
            |key: &str| metadata.printed(NAMESPACE, &top(key)).map(|text| sanitized(&text));
        for (key, text) in [
            ("text", "a\"b"),
            ("whole", "7"),
            ("part", "7.5"),
            ("truth", "true"),
            ("list", r#"["a",2,true]"#),
        ] {
            assert_eq!(printed(key).as_deref(), Some(text));
        }
        assert_eq!((printed("none"), unread.count()), (None, 0));
        assert_eq!((printed("object"), unread.count()), (None, 1));
    }
}
