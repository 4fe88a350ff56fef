//! Schemas of Envoy's messages, by their descriptions: what `common`'s reader takes, in every spelling.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use callout_common::api::config::is_stub;
use callout_common::api::schema::DEFINITIONS;
use callout_protos::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value as Json, json};

use super::{extend, object};

/// The definitions that are needed so far.
#[derive(Default)]
pub(super) struct Messages(BTreeMap<String, Json>);

impl Messages {
    pub(super) fn definitions(self) -> Json {
        object(self.0)
    }

    /// The message called `name`, with its fields in place.
    pub(super) fn whole(&mut self, name: &str) -> Json {
        described(name).map_or(Json::Null, |of| self.fields(&of))
    }

    /// Adds the messages to which `schema` refers.
    pub(super) fn add_referred(&mut self, schema: &Json) {
        match schema {
            Json::Object(fields) => {
                let name = fields.get("$ref").and_then(Json::as_str);
                if let Some(of) = name.and_then(|n| n.strip_prefix(DEFINITIONS)).and_then(described)
                {
                    self.refer(&of);
                }
                fields.values().for_each(|value| self.add_referred(value));
            }
            Json::Array(values) => values.iter().for_each(|value| self.add_referred(value)),
            _ => {}
        }
    }

    /// A reference to the definition called `name`, which `make` makes where it is not there.
    fn define(&mut self, name: &str, make: impl FnOnce() -> Json) -> Json {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), make());
        }
        json!({"$ref": format!("{DEFINITIONS}{name}")})
    }

    fn refer(&mut self, of: &MessageDescriptor) -> Json {
        let name = of.full_name();
        if !self.0.contains_key(name) {
            // It may hold itself.
            self.0.insert(name.to_owned(), json!(true));
            let schema = self.fields(of);
            self.0.insert(name.to_owned(), schema);
        }
        json!({"$ref": format!("{DEFINITIONS}{name}")})
    }

    fn fields(&mut self, of: &MessageDescriptor) -> Json {
        if is_stub(of) {
            return json!({"type": "object"});
        }
        let mut names = BTreeMap::new();
        // Envoy's reader takes the other spelling, too; an editor need not offer it.
        let mut other = BTreeMap::new();
        for field in of.fields() {
            let schema = self.field(&field);
            if field.json_name() != field.name() {
                let mut plain = schema.clone();
                if let Some(plain) = plain.as_object_mut() {
                    plain.remove("description");
                    plain.remove("default");
                }
                other.insert(format!("^{}$", field.json_name()), plain);
            }
            names.insert(field.name().to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object", "properties": object(names), "additionalProperties": false,
        });
        if !other.is_empty() {
            extend(&mut schema, json!({"patternProperties": object(other)}));
        }
        let rivals: Vec<Json> = of
            .oneofs()
            .filter(|one| !one.is_synthetic())
            .flat_map(|one| {
                let names: Vec<String> = one.fields().map(|f| f.name().to_owned()).collect();
                pairs(&names)
            })
            .map(|(one, other)| json!({"required": [one, other]}))
            .collect();
        if !rivals.is_empty() {
            extend(&mut schema, json!({"not": {"anyOf": rivals}}));
        }
        schema
    }

    fn field(&mut self, field: &FieldDescriptor) -> Json {
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return json!(true) };
            let values = self.value(&entry.map_entry_value_field().kind());
            json!({"type": "object", "additionalProperties": values})
        } else if field.is_list() {
            let item = self.value(&field.kind());
            json!({"anyOf": [{"type": "array", "items": item}, item]})
        } else {
            self.value(&field.kind())
        };
        let mut schema = json!({"anyOf": [value, {"type": "null"}]});
        let comment = comment(field);
        let (text, default) = split_default(&comment);
        if !text.is_empty() {
            extend(&mut schema, json!({"description": text}));
        }
        if let Some(default) = default {
            extend(&mut schema, json!({"default": default}));
        }
        schema
    }

    fn value(&mut self, kind: &Kind) -> Json {
        match kind {
            Kind::String => json!({"type": "string"}),
            Kind::Enum(of) => {
                let names: Vec<String> = of.values().map(|v| v.name().to_owned()).collect();
                let any_case: Vec<String> = names.iter().map(|name| any_case(name)).collect();
                self.define(of.full_name(), || {
                    json!({"anyOf": [
                        {"enum": names},
                        {"type": "string", "pattern": format!("^({})$", any_case.join("|"))},
                        {"type": "integer"},
                        text_of_number(),
                    ]})
                })
            }
            Kind::Message(of) => self.message(of),
            plain => self.define(&format!("{plain:?}"), || scalar(plain)),
        }
    }

    fn message(&mut self, of: &MessageDescriptor) -> Json {
        match of.full_name() {
            "google.protobuf.Any" => {
                json!({"type": "object", "anyOf": [{"required": ["@type"]}, {"maxProperties": 0}]})
            }
            "google.protobuf.Struct" => json!({"type": "object"}),
            "google.protobuf.Value" => json!(true),
            "google.protobuf.ListValue" => json!({"type": "array"}),
            name @ "google.protobuf.Duration" => self.define(name, || {
                json!({"anyOf": [
                    {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{0,9})?s$"},
                    {"type": "object", "properties": {"seconds": true, "nanos": true}, "additionalProperties": false},
                ]})
            }),
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                let value = of.get_field(1).map_or(json!(true), |f| self.value(&f.kind()));
                self.define(name, || {
                    json!({"anyOf": [value, {
                        "type": "object", "properties": {"value": value}, "additionalProperties": false,
                    }]})
                })
            }
            _ => self.refer(of),
        }
    }
}

/// A value that is neither a text, a message nor of an enumeration.
fn scalar(kind: &Kind) -> Json {
    match kind {
        Kind::Double | Kind::Float => json!({"anyOf": [
            {"type": "number"},
            {"type": "string", "pattern": r"^(NaN|-?Infinity|[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)$"},
        ]}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(i32::MIN.into(), i32::MAX.into()),
        Kind::Uint32 | Kind::Fixed32 => whole(0, u32::MAX.into()),
        Kind::Uint64 | Kind::Fixed64 => {
            json!({"anyOf": [{"type": "integer", "minimum": 0}, text_of_number()]})
        }
        Kind::Bool => json!({"anyOf": [
            {"type": "boolean"},
            {"type": "string", "pattern": "^([Tt]|[Tt][Rr][Uu][Ee]|[Ff]|[Ff][Aa][Ll][Ss][Ee]|[Yy]|[Yy][Ee][Ss]|[Nn]|[Nn][Oo]|[01])$"},
        ]}),
        // Base64 of either alphabet, with its padding or without.
        Kind::Bytes => {
            json!({"type": "string", "pattern": "^([A-Za-z0-9+/_-]{4})*([A-Za-z0-9+/_-]{2,3}={0,2})?$"})
        }
        _ => json!({"anyOf": [{"type": "integer"}, text_of_number()]}),
    }
}

fn whole(minimum: i64, maximum: i64) -> Json {
    json!({"anyOf": [
        {"type": "integer", "minimum": minimum, "maximum": maximum}, text_of_number(),
    ]})
}

/// A whole number that is written as a text.
fn text_of_number() -> Json {
    json!({"type": "string", "pattern": r"^[-+]?[0-9]+(\.0*)?([eE][-+]?[0-9]+)?$"})
}

/// A pattern of `name` in any case.
fn any_case(name: &str) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        false => c.to_string(),
    };
    name.chars().map(letter).collect()
}

/// All pairs of `names`.
fn pairs(names: &[String]) -> Vec<(String, String)> {
    let behind = |at: usize| names.iter().skip(at + 1);
    names
        .iter()
        .enumerate()
        .flat_map(|(at, one)| behind(at).map(|other| (one.clone(), other.clone())))
        .collect()
}

/// What stands above a field in its file.
fn comment(field: &FieldDescriptor) -> String {
    let file = field.parent_file();
    let locations = file.file_descriptor_proto().source_code_info.as_ref();
    let location = locations
        .and_then(|info| info.location.iter().find(|location| location.path == field.path()));
    location.map(|location| location.leading_comments().trim().to_owned()).unwrap_or_default()
}

/// The description, and the default behind `Unless set:`, which is JSON.
pub(super) fn split_default(comment: &str) -> (&str, Option<Json>) {
    let Some((text, default)) = comment.rsplit_once("Unless set: ") else { return (comment, None) };
    match serde_json::from_str(default.trim_end().trim_end_matches('.')) {
        Ok(default) => (text.trim(), Some(default)),
        Err(_) => (comment, None),
    }
}

pub(super) fn described(name: &str) -> Option<MessageDescriptor> {
    static POOL: LazyLock<Option<DescriptorPool>> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());
    POOL.as_ref()?.get_message_by_name(name)
}
