//! `google.protobuf.Any` in configurations: messages of types that the field does not name.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use serde_json::{Map, Value as Json};

use super::ConfigError;
use super::descriptions::described;
use super::scalar::unexpected;
use callout_protos::pbjson_types::Any;

/// The key by which JSON tells an `Any` and its type.
const TYPE: &str = "@type";
/// The types of a message in the fields of a `Struct`; the older has the same fields.
const TYPED_STRUCTS: [&str; 2] = ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"];

/// An `Any` in JSON as the message `of`: its type, and beside it the fields, which `read` reads.
///
/// # Errors
/// When the type is missing or not supported, or the fields do not fit it.
pub(super) fn read(
    of: &MessageDescriptor,
    json: &Json,
    read: impl Fn(&MessageDescriptor, &Json) -> Result<DynamicMessage, ConfigError>,
) -> Result<DynamicMessage, ConfigError> {
    let Json::Object(object) = json else { return Err(unexpected("an object", json)) };
    let mut any = DynamicMessage::new(of.clone());
    let mut fields = object.clone();
    let url = match fields.remove(TYPE) {
        Some(Json::String(url)) => url,
        Some(_) => return Err(ConfigError::field(TYPE, "must be text")),
        None if fields.is_empty() => return Ok(any),
        None => return Err(ConfigError::field(TYPE, "is required")),
    };
    let (url, fields) = if is_typed_struct(&url) { unwrap(fields)? } else { (url, fields) };
    let descriptor = type_named(&url)?;
    // A type with a JSON form of its own stands under `value`.
    let own_form = descriptor.full_name().starts_with("google.protobuf.");
    let message = match fields.get("value") {
        Some(value) if own_form && fields.len() == 1 => {
            read(&descriptor, value).map_err(|error| error.in_field("value"))?
        }
        _ => read(&descriptor, &Json::Object(fields))?,
    };
    any.set_field_by_number(1, Value::String(url));
    any.set_field_by_number(2, Value::Bytes(message.encode_to_vec().into()));
    Ok(any)
}

/// Type and fields of a `TypedStruct`.
fn unwrap(mut outer: Map<String, Json>) -> Result<(String, Map<String, Json>), ConfigError> {
    let url = outer.remove("type_url").or_else(|| outer.remove("typeUrl"));
    let Some(Json::String(url)) = url else {
        return Err(ConfigError::field("type_url", "is required, as text"));
    };
    match outer.remove("value") {
        Some(Json::Object(fields)) => Ok((url, fields)),
        None => Ok((url, Map::new())),
        Some(other) => Err(unexpected("an object", &other).in_field("value")),
    }
}

/// What `message` holds, if it is an `Any`.
pub(super) fn unpacked(message: &DynamicMessage) -> Option<Result<DynamicMessage, ConfigError>> {
    let any = message.descriptor().full_name() == "google.protobuf.Any";
    let any = any.then(|| message.transcode_to::<Any>().ok())??;
    Some(type_named(&any.type_url).and_then(|descriptor| {
        DynamicMessage::decode(descriptor, any.value.as_ref())
            .map_err(|error| ConfigError::without_path(error.to_string()))
    }))
}

/// The message `M` in `any`, if that is its type.
///
/// # Errors
/// When its bytes are not a serialized `M`.
pub fn message_of<M: Message + Name + Default>(any: &Any) -> Option<Result<M, ConfigError>> {
    (type_of(&any.type_url) == M::full_name()).then(|| {
        M::decode(any.value.as_ref()).map_err(|error| ConfigError::without_path(error.to_string()))
    })
}

/// The name of the message that `url` names.
pub(super) fn type_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn is_typed_struct(url: &str) -> bool {
    TYPED_STRUCTS.contains(&type_of(url))
}

fn type_named(url: &str) -> Result<MessageDescriptor, ConfigError> {
    described(type_of(url))
        .ok_or_else(|| ConfigError::without_path(format!("the type {url} is not supported")))
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
    use serde_json::json;

    use super::super::json;
    use super::*;

    const URL: &str = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput";

    fn packed(json: Json) -> Result<Any, ConfigError> {
        let any = described("google.protobuf.Any").unwrap();
        Ok(json::read(&any, &json)?.transcode_to().unwrap())
    }

    #[test]
    fn what_is_written_in_fields_is_read_as_its_message() {
        let typed = json!({
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": URL, "value": {"headerName": "x-a"},
        });
        for json in [json!({"@type": URL, "header_name": "x-a"}), typed] {
            let any = packed(json).unwrap();
            let input: HttpRequestHeaderMatchInput = message_of(&any).unwrap().unwrap();
            assert_eq!(input.header_name, "x-a");
            let other = message_of::<callout_protos::envoy::config::core::v3::HeaderValue>(&any);
            assert!(other.is_none());
        }
    }

    #[test]
    fn unknown_types_and_fields_are_refused() {
        let unknown = packed(json!({"@type": "type.googleapis.com/a.B"})).unwrap_err();
        assert_eq!(unknown.to_string(), "the type type.googleapis.com/a.B is not supported");
        assert_eq!(packed(json!({"@type": URL, "nonsense": 1})).unwrap_err().path(), "nonsense");
        assert_eq!(packed(json!({"header_name": "x"})).unwrap_err().path(), "@type");
    }

    #[test]
    fn a_type_with_a_form_of_its_own_stands_under_value() {
        let any =
            packed(json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "2s"}));
        let duration = pbjson_types::Duration { seconds: 2, nanos: 0 };
        assert_eq!(any.unwrap().value, duration.encode_to_vec());
    }
}
