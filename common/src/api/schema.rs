//! JSON Schemas of what configurations are written in: for tools and editors.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Where a schema that holds those of Envoy's messages has them.
pub const DEFINITIONS: &str = "#/definitions/";

/// The schema of `T`, in the draft that editors know, in one piece.
#[must_use]
pub fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>()
}

/// A list of texts, each one of `names`.
#[must_use]
pub fn list_of(names: &[&str]) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "enum": names}})
}

/// A `google.protobuf.Duration` under `callout`.
#[derive(Debug)]
pub struct DurationText;

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$"})
    }
}

/// A message of Envoy's under `callout`, whose description the tool has.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident, $message:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"$ref": format!("{DEFINITIONS}{}", $message)})
            }
        }
    };
}

message! {
    /// `envoy.type.v3.HttpStatus`.
    StatusFields, "envoy.type.v3.HttpStatus"
}
message! {
    /// `envoy.config.core.v3.GrpcService`.
    GrpcServiceFields, "envoy.config.core.v3.GrpcService"
}
message! {
    /// `envoy.type.matcher.v3.StringMatcher`.
    MatcherFields, "envoy.type.matcher.v3.StringMatcher"
}

/// The defaults that `schema` tells, by the paths of their fields; fields in lists are left out.
#[cfg(any(test, feature = "testing"))]
#[must_use]
pub fn defaults(schema: &serde_json::Value) -> Vec<(Vec<String>, serde_json::Value)> {
    let mut found = Vec::new();
    let parts = schema.get("anyOf").and_then(|parts| parts.as_array()).into_iter().flatten();
    for part in parts {
        found.extend(defaults(part));
    }
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    for (name, field) in properties.into_iter().flatten() {
        if let Some(default) = field.get("default") {
            found.push((vec![name.clone()], default.clone()));
        }
        for (path, default) in defaults(field) {
            let path = std::iter::once(name.clone()).chain(path).collect();
            found.push((path, default));
        }
    }
    found
}

/// `base` once for each default of `schema` whose place is in it, with the default written out.
#[cfg(any(test, feature = "testing"))]
#[must_use]
pub fn with_defaults(
    schema: &serde_json::Value,
    base: &serde_json::Value,
) -> Vec<serde_json::Value> {
    let written = |(path, default): (Vec<String>, serde_json::Value)| {
        let (name, parents) = path.split_last()?;
        let mut whole = base.clone();
        let place = parents.iter().try_fold(&mut whole, |place, name| place.get_mut(name))?;
        place.as_object_mut()?.insert(name.clone(), default);
        Some(whole)
    };
    defaults(schema).into_iter().filter_map(written).collect()
}
