//! `callout schema`: JSON Schemas of the configurations, for editors and for pipelines. Envoy's fields
//! come from the descriptions by which the modules read them, what stands under `callout` from the
//! types into which they read it.

mod file;
mod message;

use serde_json::{Map, Value as Json, json};

use crate::envoy::{Kind, Level};
pub(crate) use file::envoy_file;
use message::Messages;

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of the fields of a filter or of its routes, with `callout`.
pub(crate) fn fields(kind: Kind, level: Level) -> Json {
    let mut messages = Messages::default();
    let fields = with_callout(&mut messages, kind, level);
    let mut schema = json!({"$schema": DRAFT, "title": title(kind, level)});
    extend(&mut schema, fields);
    extend(&mut schema, json!({"definitions": messages.definitions()}));
    schema
}

fn title(kind: Kind, level: Level) -> String {
    let of = match level {
        Level::Filter => "",
        Level::Route => " of a route",
    };
    format!("callout_{}{of}: {} and callout", kind.name(), kind.message(level))
}

/// A message with `callout` beside its own fields.
fn with_callout(messages: &mut Messages, kind: Kind, level: Level) -> Json {
    let mut schema = messages.whole(kind.message(level));
    let callout = callout(messages, kind, level);
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        properties.insert("callout".to_owned(), callout);
    }
    schema
}

/// What stands under `callout`.
fn callout(messages: &mut Messages, kind: Kind, level: Level) -> Json {
    let [filter, route] = match kind {
        Kind::Authz => callout_authz::schemas(),
        Kind::RateLimit => callout_ratelimit::schemas(),
        Kind::ExtProc => callout_extproc::schemas(),
    };
    let mut schema = match level {
        Level::Filter => filter.to_value(),
        Level::Route => route.to_value(),
    };
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("title");
        fields.insert("description".to_owned(), json!("What only these filters have."));
    }
    messages.add_referred(&schema);
    // `callout` with nothing under it is as good as none.
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// Adds the fields of `more`.
fn extend(schema: &mut Json, more: Json) {
    if let (Some(schema), Json::Object(more)) = (schema.as_object_mut(), more) {
        schema.extend(more);
    }
}

/// An object of one entry for each of `entries`.
fn object(entries: impl IntoIterator<Item = (String, Json)>) -> Json {
    Json::Object(entries.into_iter().collect::<Map<String, Json>>())
}

#[cfg(test)]
mod tests;
