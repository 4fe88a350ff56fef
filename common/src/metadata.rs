//! Dynamic metadata of the stream.

use callout_protos::envoy::config::core::v3 as core;
use callout_protos::pbjson_types::{Any, Struct, Value, value::Kind};
use prost::Message;

use crate::host::{Host, MetadataSource, MetadataValue};
use crate::text::sanitized;

/// Reads the metadata of one source.
#[derive(Clone, Copy)]
pub struct Metadata<'a> {
    host: &'a dyn Host,
    source: MetadataSource,
}

impl std::fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<'a> Metadata<'a> {
    pub(crate) const fn new(host: &'a dyn Host, source: MetadataSource) -> Self {
        Self { host, source }
    }

    /// One flat value. The ABI hands out no nested structures.
    #[must_use]
    pub fn get(&self, namespace: &str, key: &str) -> Option<MetadataValue> {
        self.host.metadata(self.source, namespace, key)
    }

    /// Every key of a namespace whose value is flat, with the value.
    #[must_use]
    pub fn flat(&self, namespace: &str) -> Vec<(String, MetadataValue)> {
        self.host
            .metadata_keys(self.source, namespace)
            .into_iter()
            .filter_map(|key| String::from_utf8(key).ok())
            .filter_map(|key| self.get(namespace, &key).map(|value| (key, value)))
            .collect()
    }

    /// Adds what there is under the namespaces `flat` and, since Envoy 1.40, `typed`, as the
    /// messages of Envoy's services carry it. Namespaces that are absent are passed over.
    pub fn collect(&self, flat: &[String], typed: &[String], into: &mut core::Metadata) {
        for namespace in flat {
            let values = self.flat(namespace);
            if !values.is_empty() {
                into.filter_metadata.insert(namespace.clone(), fields(values));
            }
        }
        for namespace in typed {
            if let Some((type_url, value)) = self.typed(namespace) {
                let any = Any { type_url: sanitized(&type_url), value: value.into() };
                into.typed_filter_metadata.insert(namespace.clone(), any);
            }
        }
    }

    /// A typed value as (type URL, bytes); needs Envoy 1.40.
    #[must_use]
    pub fn typed(&self, namespace: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        self.host.typed_metadata(self.source, namespace)
    }
}

/// Bytes of the serialized form of `values`.
#[must_use]
pub fn encoded_len(values: &Struct) -> usize {
    values.encoded_len()
}

/// Flat values as a `Struct`.
fn fields(values: Vec<(String, MetadataValue)>) -> Struct {
    let value = |flat| match flat {
        MetadataValue::Number(number) => Kind::NumberValue(number),
        MetadataValue::String(text) => Kind::StringValue(sanitized(&text)),
        MetadataValue::Bool(truth) => Kind::BoolValue(truth),
    };
    let field = |(key, flat)| (key, Value { kind: Some(value(flat)) });
    Struct { fields: values.into_iter().map(field).collect() }
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

    /// Sets a flat value; `false` when this Envoy can't hold it.
    pub fn set(&mut self, namespace: &str, key: &str, value: &MetadataValue) -> bool {
        self.host.set_metadata(namespace, key, value)
    }

    /// Merges a `Struct`. Before Envoy 1.40 only its flat values can be set: `false` when others
    /// had to be left out.
    pub fn merge_struct(&mut self, namespace: &str, values: &Struct) -> bool {
        if self.host.merge_metadata(namespace, &values.encode_to_vec()) {
            return true;
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
