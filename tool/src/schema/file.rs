//! The schema of a whole file: Envoy's own configuration is passed over, and what configures one of our
//! modules is held to its schema, wherever it stands.

use serde_json::{Value as Json, json};

use super::message::Messages;
use super::{DRAFT, extend, object, with_callout};
use crate::envoy::{Kind, Level, TYPE};

/// The schema of a bootstrap, a listener, routes, filters, or manifests for Kubernetes around them.
pub(crate) fn envoy_file() -> Json {
    let mut messages = Messages::default();
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        for level in [Level::Filter, Level::Route] {
            cases.push(case(&mut messages, kind, level));
        }
    }
    cases.extend(Kind::ALL.map(gateway_case));
    let anything = json!({
        "allOf": cases,
        "items": {"$ref": "#/definitions/anything"},
        "additionalProperties": {"$ref": "#/definitions/anything"},
    });
    let mut definitions = messages.definitions();
    extend(&mut definitions, json!({"anything": anything}));
    for kind in Kind::ALL {
        for level in [Level::Filter, Level::Route] {
            let name = name(kind, level);
            let schema = with_callout(&mut Messages::default(), kind, level);
            extend(&mut definitions, object([(name, schema)]));
        }
    }
    json!({
        "$schema": DRAFT,
        "title": "Envoy's configuration, as far as the modules of Callouts for Envoy are concerned",
        "$ref": "#/definitions/anything",
        "definitions": definitions,
    })
}

fn name(kind: Kind, level: Level) -> String {
    match level {
        Level::Filter => kind.name().to_owned(),
        Level::Route => format!("{}-route", kind.name()),
    }
}

/// What holds for a configuration of one of our modules.
fn case(messages: &mut Messages, kind: Kind, level: Level) -> Json {
    // Its definitions, beside the schema that refers to them.
    with_callout(messages, kind, level);
    let fields = json!({"$ref": format!("#/definitions/{}", name(kind, level))});
    let library = format!("(^|/)(lib)?callout[_-]{}", kind.name());
    let wrapper = json!({
        "required": ["@type", "dynamic_module_config"],
        "properties": {
            "@type": {"pattern": format!("(^|/){}$", level.wrapper().replace('.', r"\."))},
            "dynamic_module_config": {"anyOf": [
                {"required": ["name"], "properties": {"name": {"pattern": library}}},
                {"required": ["module"], "properties": {"module": {
                    "required": ["local"], "properties": {"local": {
                        "required": ["filename"], "properties": {"filename": {"pattern": library}},
                    }},
                }}},
            ]},
        },
    });
    let of = |message: &str| json!({"pattern": format!("(^|/){}$", message.replace('.', r"\."))});
    let message = kind.message(level);
    let own = json!({
        "if": {"required": ["@type"], "properties": {"@type": of(message)}},
        "then": own_message(messages, kind, level),
        "else": {
            "required": ["@type"],
            "properties": {"@type": {"pattern": r"(^|/)(google\.protobuf\.(Struct|StringValue)|(xds\.type\.v3|udpa\.type\.v1)\.TypedStruct)$"}},
        },
    });
    let in_fields = json!({
        "if": {"required": ["@type"], "properties": {"@type": {"pattern": r"(^|/)(google\.protobuf\.Struct|(xds\.type\.v3|udpa\.type\.v1)\.TypedStruct)$"}}},
        "then": {"properties": {"value": fields}},
    });
    let mut then = json!({
        "properties": {
            "filter_config": {"type": "object", "allOf": [own, in_fields]},
            "filter_name": {"enum": [kind.name()], "description": "The filter in the library."},
        },
    });
    if level == Level::Filter {
        extend(&mut then, json!({"required": ["filter_name", "filter_config"]}));
    }
    json!({"if": wrapper, "then": then})
}

/// The message with its type beside the fields, and without `callout`.
fn own_message(messages: &mut Messages, kind: Kind, level: Level) -> Json {
    let mut schema = messages.whole(kind.message(level));
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        let url = format!("{TYPE}{}", kind.message(level));
        properties.insert("@type".to_owned(), json!({"default": url}));
    }
    schema
}

/// `EnvoyExtensionPolicy.spec.dynamicModule` of Envoy Gateway.
fn gateway_case(kind: Kind) -> Json {
    json!({
        "if": {
            "required": ["filterName", "config"],
            "properties": {"filterName": {"const": kind.name()}, "config": {"type": "object"}},
        },
        "then": {"properties": {"config": {"$ref": format!("#/definitions/{}", kind.name())}}},
    })
}
