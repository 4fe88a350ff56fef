//! Metadata that Envoy does not hand to modules, out of the filter state: objects, null, and lists with
//! these.
//!
//! Two writers put it there as JSON: Envoy's own `set_filter_state` in front of a filter, a whole
//! namespace under [`state_key`], and the filters of this suite, what they write themselves under the
//! same key and a number. The filter state can't be written twice under one key.

use std::collections::BTreeMap;

use callout_protos::pbjson_types::{Struct, Value, value::Kind};

use crate::envoy::host::Host;
use crate::envoy::types::{MetadataSource, MetadataValue};

/// How often this suite writes into one namespace of one stream.
const MOST_WRITES: usize = 32;

/// The key of the filter state under which a namespace of `source` stands as JSON.
#[must_use]
pub fn state_key(source: MetadataSource, namespace: &str) -> String {
    let source = match source {
        MetadataSource::Dynamic => "dynamic",
        MetadataSource::Route => "route",
        MetadataSource::Cluster => "cluster",
        MetadataSource::Host => "host",
        MetadataSource::HostLocality => "host_locality",
    };
    format!("callout.{source}_metadata.{namespace}")
}

/// What has to stand in front of a filter for it to read `namespace` of `source` whole; `None` where
/// Envoy has no formatter for the source.
#[must_use]
pub fn remedy(source: MetadataSource, namespace: &str) -> Option<String> {
    let format = match source {
        MetadataSource::Dynamic => format!("%DYNAMIC_METADATA({namespace})%"),
        MetadataSource::Route => format!("%METADATA(ROUTE:{namespace})%"),
        MetadataSource::Cluster => format!("%METADATA(CLUSTER:{namespace})%"),
        MetadataSource::Host | MetadataSource::HostLocality => return None,
    };
    Some(in_front(&state_key(source, namespace), &format))
}

/// Envoy's own filter that puts what `format` stands for under `key`, in one line of YAML.
#[must_use]
pub fn in_front(key: &str, format: &str) -> String {
    format!(
        "{{name: callout.state, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config, on_request_headers: [{{object_key: {key}, factory_key: envoy.string, format_string: {{text_format_source: {{inline_string: \"{format}\"}}, omit_empty_values: true}}, skip_if_empty: true}}]}}}}"
    )
}

/// What the filter state has of `namespace`: what stands in front, and over it what this suite wrote.
pub(super) fn read(
    host: &dyn Host,
    source: MetadataSource,
    namespace: &str,
) -> BTreeMap<String, MetadataValue> {
    let key = state_key(source, namespace);
    let mut fields = host.filter_state(&key).and_then(|json| object(&json)).unwrap_or_default();
    if source == MetadataSource::Dynamic {
        let written = (1..=MOST_WRITES).map_while(|n| host.filter_state(&format!("{key}#{n}")));
        fields.extend(written.filter_map(|json| object(&json)).flatten());
    }
    fields
}

/// Keeps what of `values` Envoy does not hand out again. `whole` where it holds them at least. `false`
/// when there is no more room.
pub(super) fn write(host: &mut dyn Host, namespace: &str, values: &Struct, whole: bool) -> bool {
    let hidden = values.fields.iter().filter(|(_, value)| !is_readable(value, whole));
    let hidden: serde_json::Map<_, _> =
        hidden.map(|(key, value)| (key.clone(), json(value))).collect();
    if hidden.is_empty() {
        return true;
    }
    let key = state_key(MetadataSource::Dynamic, namespace);
    let mut keys = (1..=MOST_WRITES).map(|number| format!("{key}#{number}"));
    let Some(key) = keys.find(|key| host.filter_state(key).is_none()) else { return false };
    let text = serde_json::Value::Object(hidden).to_string();
    host.set_filter_state(&key, text.as_bytes())
}

/// Whether Envoy hands the value out, once it is in the metadata.
fn is_readable(value: &Value, whole: bool) -> bool {
    match &value.kind {
        Some(Kind::NumberValue(_) | Kind::StringValue(_) | Kind::BoolValue(_)) => true,
        Some(Kind::ListValue(list)) => {
            whole
                && list.values.iter().all(|one| {
                    !matches!(one.kind, Some(Kind::ListValue(_))) && is_readable(one, whole)
                })
        }
        Some(Kind::StructValue(_) | Kind::NullValue(_)) | None => false,
    }
}

fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::BoolValue(truth)) => (*truth).into(),
        Some(Kind::StructValue(fields)) => {
            fields.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect()
        }
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::NullValue(_)) | None => serde_json::Value::Null,
    }
}

/// An object as Envoy prints it; `None` for anything else, as for the `-` of an absent namespace.
fn object(text: &[u8]) -> Option<BTreeMap<String, MetadataValue>> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).ok()?;
    Some(fields.into_iter().map(|(key, value)| (key, of_json(value))).collect())
}

fn of_json(value: serde_json::Value) -> MetadataValue {
    match value {
        serde_json::Value::Null => MetadataValue::Null,
        serde_json::Value::Bool(truth) => MetadataValue::Bool(truth),
        serde_json::Value::Number(number) => {
            MetadataValue::Number(number.as_f64().unwrap_or_default())
        }
        serde_json::Value::String(text) => MetadataValue::String(text.into_bytes()),
        serde_json::Value::Array(list) => {
            MetadataValue::List(list.into_iter().map(of_json).collect())
        }
        serde_json::Value::Object(fields) => MetadataValue::Object(
            fields.into_iter().map(|(key, value)| (key, of_json(value))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeHost;

    fn values(json: &str) -> Struct {
        serde_json::from_str(json).unwrap()
    }

    fn text(text: &str) -> MetadataValue {
        MetadataValue::String(text.as_bytes().to_vec())
    }

    #[test]
    fn what_this_suite_writes_is_read_in_order_over_what_stands_in_front() {
        let mut host = FakeHost::default();
        let front = br#"{"a": {"x": "front"}, "b": {"x": "front"}, "c": "front"}"#;
        host.filter_state.insert("callout.dynamic_metadata.n".to_owned(), front.to_vec());
        let first = r#"{"a": {"x": "1"}, "flat": 1, "l": ["v", {"k": null}]}"#;
        assert!(write(&mut host, "n", &values(first), true));
        assert!(write(&mut host, "n", &values(r#"{"a": {"x": "2"}}"#), true));
        assert!(write(&mut host, "n", &values(r#"{"flat": 2}"#), true));
        let read = read(&host, MetadataSource::Dynamic, "n");
        let object = |x: &str| MetadataValue::Object([("x".to_owned(), text(x))].into());
        assert_eq!(read["a"], object("2"));
        assert_eq!((&read["b"], &read["c"]), (&object("front"), &text("front")));
        let inner = MetadataValue::Object([("k".to_owned(), MetadataValue::Null)].into());
        assert_eq!(read["l"], MetadataValue::List(vec![text("v"), inner]));
        assert!(!read.contains_key("flat"), "Envoy hands it out itself");
    }

    #[test]
    fn a_flat_list_is_kept_where_envoy_holds_none() {
        for (whole, kept) in [(true, false), (false, true)] {
            let mut host = FakeHost::default();
            assert!(write(&mut host, "n", &values(r#"{"l": ["v"]}"#), whole));
            assert_eq!(read(&host, MetadataSource::Dynamic, "n").contains_key("l"), kept);
        }
    }

    #[test]
    fn writes_have_a_bound() {
        let mut host = FakeHost::default();
        for _ in 0..MOST_WRITES {
            assert!(write(&mut host, "n", &values(r#"{"a": {}}"#), true));
        }
        assert!(!write(&mut host, "n", &values(r#"{"a": {}}"#), true));
    }

    #[test]
    fn what_is_no_object_is_nothing() {
        let mut host = FakeHost::default();
        for text in ["-", "", "[1]", "{", "\"a\""] {
            host.filter_state.insert("callout.route_metadata.n".to_owned(), text.into());
            assert!(read(&host, MetadataSource::Route, "n").is_empty(), "{text}");
        }
    }
}
