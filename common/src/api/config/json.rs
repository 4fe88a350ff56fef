//! A configuration message in JSON, read by the rules of Envoy's own reader, which takes more than
//! proto3's: both spellings of a field's name, names of enumerations in any case, numbers and
//! booleans as text, an object for a duration or a wrapper, one value for a list of one, and null
//! for whatever is not there.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_json::{Map, Value as Json};

use super::nearest::nearest;
use super::scalar::{duration, scalar, unexpected};
use super::{ConfigError, any};

type Read<T> = Result<T, ConfigError>;

/// Lists and messages inside each other, deeper than which nothing is read. As in protobuf.
const MAX_DEPTH: usize = 100;

/// `json` as a message of the type `of`.
///
/// # Errors
/// What does not fit, with the field's path.
pub(super) fn read(of: &MessageDescriptor, json: &Json) -> Read<DynamicMessage> {
    message(of, json, MAX_DEPTH)
}

/// Whether the messages of a type are refused as a whole, so that their fields are not described:
/// they are reserved.
#[must_use]
pub fn is_stub(of: &MessageDescriptor) -> bool {
    of.fields().len() == 0 && of.reserved_ranges().len() > 0
}

fn message(of: &MessageDescriptor, json: &Json, depth: usize) -> Read<DynamicMessage> {
    let depth =
        depth.checked_sub(1).ok_or_else(|| ConfigError::without_path("is nested too deep"))?;
    match (of.full_name(), json) {
        ("google.protobuf.Any", _) => any::read(of, json, |of, json| message(of, json, depth)),
        ("google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue", _) => {
            DynamicMessage::deserialize(of.clone(), json.clone())
                .map_err(|error| ConfigError::without_path(error.to_string()))
        }
        (_, Json::Object(object)) => fields(of, object, depth),
        ("google.protobuf.Duration", Json::String(text)) => {
            let (seconds, nanos) = duration(text)?;
            Ok(made(of, [(1, Value::I64(seconds)), (2, Value::I32(nanos))]))
        }
        (name, _) if is_wrapper(name) => match of.get_field(1) {
            Some(field) => Ok(made(of, [(1, scalar(&field.kind(), json)?)])),
            None => Err(unexpected("an object", json)),
        },
        ("google.protobuf.Duration", _) => Err(unexpected("a duration, as 0.25s", json)),
        _ => Err(unexpected("an object", json)),
    }
}

fn made<const N: usize>(of: &MessageDescriptor, values: [(u32, Value); N]) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for (number, value) in values {
        message.set_field_by_number(number, value);
    }
    message
}

fn is_wrapper(name: &str) -> bool {
    name.strip_prefix("google.protobuf.").is_some_and(|name| name.ends_with("Value"))
}

fn fields(
    of: &MessageDescriptor,
    object: &Map<String, Json>,
    depth: usize,
) -> Read<DynamicMessage> {
    let mut message = DynamicMessage::new(of.clone());
    if is_stub(of) {
        return Ok(message);
    }
    // In the order of their names, so that a field in both of its spellings has one value wherever
    // it is read: the objects of a `Struct` have no order.
    for (name, json) in object {
        let field = named(of, name)?;
        if json.is_null() && !takes_null(&field) {
            continue;
        }
        let rival = field
            .containing_oneof()
            .and_then(|one| one.fields().find(|other| message.has_field(other)));
        if let Some(rival) = rival.filter(|rival| rival.number() != field.number()) {
            return Err(ConfigError::field(name, format!("contradicts {}", rival.name())));
        }
        if message.has_field(&field) {
            warn_of_both(&field);
        }
        let value = value(&field, json, depth).map_err(|error| error.in_field(name))?;
        message.set_field(&field, value);
    }
    Ok(message)
}

fn warn_of_both(field: &FieldDescriptor) {
    let (name, other) = (field.name(), field.json_name());
    tracing::warn!("configuration: {other} and {name} are the same field: {name} holds");
}

fn named(of: &MessageDescriptor, name: &str) -> Read<FieldDescriptor> {
    of.get_field_by_json_name(name).or_else(|| of.get_field_by_name(name)).ok_or_else(|| {
        let known: Vec<FieldDescriptor> = of.fields().collect();
        let hint = nearest(name, known.iter().map(FieldDescriptor::name));
        ConfigError::field(name, format!("is not a supported field of {}{hint}", of.name()))
    })
}

fn takes_null(field: &FieldDescriptor) -> bool {
    !field.is_list() && is_value(&field.kind())
}

fn is_value(kind: &Kind) -> bool {
    kind.as_message().is_some_and(|of| of.full_name() == "google.protobuf.Value")
}

fn value(field: &FieldDescriptor, json: &Json, depth: usize) -> Read<Value> {
    if field.is_map() {
        return map(field, json, depth);
    }
    if field.is_list() {
        let mut list = Vec::new();
        match json {
            Json::Array(values) => items(&field.kind(), values, depth, &mut list)?,
            one => list.push(single(&field.kind(), one, depth)?),
        }
        return Ok(Value::List(list));
    }
    single(&field.kind(), json, depth)
}

fn single(kind: &Kind, json: &Json, depth: usize) -> Read<Value> {
    match kind {
        Kind::Message(of) => message(of, json, depth).map(Value::Message),
        kind => scalar(kind, json),
    }
}

/// The entries of a list. A list inside is one with it, and null is the empty value, as in Envoy.
fn items(kind: &Kind, values: &[Json], depth: usize, list: &mut Vec<Value>) -> Read<()> {
    let depth =
        depth.checked_sub(1).ok_or_else(|| ConfigError::without_path("is nested too deep"))?;
    for (index, json) in values.iter().enumerate() {
        match json {
            Json::Null if !is_value(kind) => list.push(Value::default_value(kind)),
            Json::Array(inner) if !is_value(kind) => items(kind, inner, depth, list)?,
            json => list.push(
                single(kind, json, depth).map_err(|error| error.in_field(&format!("[{index}]")))?,
            ),
        }
    }
    Ok(())
}

fn map(field: &FieldDescriptor, json: &Json, depth: usize) -> Read<Value> {
    let Json::Object(object) = json else { return Err(unexpected("an object", json)) };
    let Kind::Message(entry) = field.kind() else { return Err(unexpected("an object", json)) };
    let kind = entry.map_entry_value_field().kind();
    let mut map = HashMap::new();
    for (name, json) in object {
        let value = match json {
            Json::Null if !is_value(&kind) => Value::default_value(&kind),
            json => single(&kind, json, depth).map_err(|error| error.in_field(name))?,
        };
        // Envoy's configurations have no maps of other keys.
        map.insert(MapKey::String(name.clone()), value);
    }
    Ok(Value::Map(map))
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::extensions::filters::http::ext_authz::v3::{
        ExtAuthz, ExtAuthzPerRoute,
    };
    use callout_protos::envoy::extensions::filters::http::ext_proc::v3::ExternalProcessor;
    use callout_protos::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
    use prost::{Message, Name};
    use serde_json::json;

    use super::super::descriptions::described;
    use super::*;

    fn read_as<M: Message + Name + Default>(json: &Json) -> Result<M, String> {
        let message =
            read(&described(&M::full_name()).unwrap(), json).map_err(|e| e.to_string())?;
        Ok(message.transcode_to().unwrap())
    }

    /// Both configurations are accepted, and say the same.
    fn same<M: Message + Name + Default + PartialEq + std::fmt::Debug>(plain: &Json, other: &Json) {
        let plain: M = read_as(plain).unwrap();
        assert_eq!(read_as(other), Ok(plain), "{other}");
    }

    #[test]
    fn names_and_enumerations_are_read_in_every_spelling() {
        let plain =
            json!({"transport_api_version": "V3", "status_on_error": {"code": "Forbidden"}});
        for version in [json!("v3"), json!(2), json!("2"), json!(2.0)] {
            same::<ExtAuthz>(
                &plain,
                &json!({
                    "transportApiVersion": version, "statusOnError": {"code": "FORBIDDEN"},
                }),
            );
        }
        same::<ExternalProcessor>(
            &json!({"processing_mode": {"request_body_mode": "FULL_DUPLEX_STREAMED"}}),
            &json!({"processingMode": {"requestBodyMode": "Full_Duplex_Streamed"}}),
        );
    }

    #[test]
    fn null_is_what_is_not_there() {
        same::<ExtAuthz>(
            &json!({}),
            &json!({
                "failure_mode_allow": null, "allowed_headers": null, "metadata_context_namespaces": null,
                "decoder_header_mutation_rules": null, "grpc_service": null,
            }),
        );
        same::<ExtAuthz>(
            &json!({"metadata_context_namespaces": [""]}),
            &json!({"metadata_context_namespaces": [null]}),
        );
    }

    #[test]
    fn one_value_is_a_list_and_a_list_in_a_list_is_one_with_it() {
        let plain = json!({"metadata_context_namespaces": ["a", "b"]});
        same::<ExtAuthz>(&plain, &json!({"metadata_context_namespaces": [["a"], "b"]}));
        let plain = json!({"metadata_context_namespaces": ["a"]});
        same::<ExtAuthz>(&plain, &json!({"metadata_context_namespaces": "a"}));
    }

    #[test]
    fn wrappers_and_durations_may_be_objects() {
        let plain = json!({"grpc_service": {"timeout": "1.5s"}, "emit_client_span": true});
        same::<ExtAuthz>(
            &plain,
            &json!({
                "grpc_service": {"timeout": {"seconds": "1", "nanos": 5e8}},
                "emit_client_span": {"value": "true"},
            }),
        );
    }

    #[test]
    fn a_field_in_both_spellings_has_the_value_of_its_own_name() {
        let both = json!({"failure_mode_allow": true, "failureModeAllow": false});
        assert!(read_as::<ExtAuthz>(&both).unwrap().failure_mode_allow);
        let both = json!({"failure_mode_allow": false, "failureModeAllow": true});
        assert!(!read_as::<ExtAuthz>(&both).unwrap().failure_mode_allow);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_path_and_the_way_out() {
        for (json, says) in [
            (
                json!({"grpc_servce": {}}),
                "at grpc_servce: is not a supported field of ExtAuthz, did you mean `grpc_service`?",
            ),
            (
                json!({"grpc_service": {"timeout": "250ms"}}),
                "at grpc_service.timeout: `250ms` is not a duration: write seconds and `s`, as in 0.25s",
            ),
            (
                json!({"grpc_service": {"timeout": 1}}),
                "at grpc_service.timeout: must be a duration, as 0.25s, not 1",
            ),
            (
                json!({"metadata_context_namespaces": ["a", 5]}),
                "at metadata_context_namespaces[1]: must be text, not 5",
            ),
            (
                json!({"status_on_error": {"code": "Forbiden"}}),
                "at status_on_error.code: `Forbiden` is not a value of StatusCode, did you mean `Forbidden`?",
            ),
            (
                json!({"transport_api_version": ""}),
                "at transport_api_version: `` is not a value of ApiVersion: it is one of AUTO, V2, V3",
            ),
            (
                json!({"with_request_body": {"max_request_bytes": 8192.5}}),
                "at with_request_body.max_request_bytes: must be a whole number, not 8192.5",
            ),
            (
                json!({"grpc_service": {}, "http_service": {}}),
                "at http_service: contradicts grpc_service",
            ),
            (
                json!({"failure_mode_allow": 1}),
                "at failure_mode_allow: must be true or false, not 1",
            ),
            (json!([]), "must be an object, not a list"),
        ] {
            assert_eq!(read_as::<ExtAuthz>(&json).unwrap_err(), says);
        }
        let extensions = json!({"check_settings": {"context_extensions": {"a": 1}}});
        assert_eq!(
            read_as::<ExtAuthzPerRoute>(&extensions).unwrap_err(),
            "at check_settings.context_extensions.a: must be text, not 1"
        );
        let strange = json!({"rate_limits": [{"actions": [{"remote_address": {"a": 1}}]}]});
        assert_eq!(
            read_as::<RateLimit>(&strange).unwrap_err(),
            "at rate_limits[0].actions[0].remote_address.a: is not a supported field of RemoteAddress"
        );
    }

    #[test]
    fn what_is_refused_as_a_whole_is_refused_for_no_field_of_it() {
        let http = json!({"http_service": {"server_uri": {"uri": "http://a"}}});
        assert!(read_as::<ExtAuthz>(&http).unwrap().services.is_some());
    }

    #[test]
    fn depth_is_bounded() {
        let mut json = json!("a");
        for _ in 0..200 {
            json = json!([json]);
        }
        let deep = json!({"metadata_context_namespaces": json});
        assert!(read_as::<ExtAuthz>(&deep).unwrap_err().contains("too deep"));
    }
}
