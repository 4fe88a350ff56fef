//! `google.protobuf.Any` in configurations: messages of types that the field does not name.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage};
use serde_json::{Value, json};

use super::ConfigError;
use super::message::descriptions;
use callout_protos::pbjson_types::Any;

/// The key by which JSON tells an `Any` and its type.
const TYPE: &str = "@type";

/// Serializes every `Any` in `json` that is written in fields, as the generated readers want it.
pub(super) fn pack(json: &mut Value) -> Result<(), ConfigError> {
    match json {
        Value::Object(fields) => {
            for (name, field) in &mut *fields {
                pack(field).map_err(|error| error.under(name))?;
            }
            let Some(Value::String(url)) = fields.remove(TYPE) else { return Ok(()) };
            let rest = Value::Object(std::mem::take(fields));
            let message = DynamicMessage::deserialize(described(&url)?, rest)
                .map_err(|error| ConfigError::whole(error.to_string()))?;
            let value = BASE64_STANDARD.encode(message.encode_to_vec());
            *json = json!({"typeUrl": url, "value": value});
            Ok(())
        }
        Value::Array(values) => values.iter_mut().enumerate().try_for_each(|(index, value)| {
            pack(value).map_err(|error| error.under(&format!("[{index}]")))
        }),
        _ => Ok(()),
    }
}

/// What `message` holds, if it is an `Any`.
pub(super) fn unpacked(message: &DynamicMessage) -> Option<Result<DynamicMessage, ConfigError>> {
    let any = message.descriptor().full_name() == "google.protobuf.Any";
    let any = any.then(|| message.transcode_to::<Any>().ok())??;
    Some(described(&any.type_url).and_then(|descriptor| {
        DynamicMessage::decode(descriptor, any.value.as_ref())
            .map_err(|error| ConfigError::whole(error.to_string()))
    }))
}

/// The message `M` in `any`, if that is its type.
///
/// # Errors
/// When its bytes are none.
pub fn message_of<M: Message + Name + Default>(any: &Any) -> Option<Result<M, ConfigError>> {
    (type_of(&any.type_url) == M::full_name()).then(|| {
        M::decode(any.value.as_ref()).map_err(|error| ConfigError::whole(error.to_string()))
    })
}

fn type_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn described(url: &str) -> Result<MessageDescriptor, ConfigError> {
    descriptions()
        .and_then(|pool| pool.get_message_by_name(type_of(url)))
        .ok_or_else(|| ConfigError::whole(format!("the type {url} is not known to this version")))
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;

    use super::*;

    const URL: &str = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput";

    fn packed(fields: Value) -> Result<Any, ConfigError> {
        let mut json = fields;
        pack(&mut json)?;
        Ok(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn what_is_written_in_fields_is_read_as_its_message() {
        let any = packed(json!({"@type": URL, "header_name": "x-a"})).unwrap();
        let input: HttpRequestHeaderMatchInput = message_of(&any).unwrap().unwrap();
        assert_eq!(input.header_name, "x-a");
        assert!(message_of::<callout_protos::envoy::config::core::v3::HeaderValue>(&any).is_none());
    }

    #[test]
    fn unknown_types_and_fields_are_refused() {
        assert!(packed(json!({"@type": "type.googleapis.com/a.B"})).is_err());
        assert!(packed(json!({"@type": URL, "nonsense": 1})).is_err());
        let mut inner = json!({"a": [{"b": {"@type": "x"}}]});
        assert_eq!(pack(&mut inner).unwrap_err().path(), "a[0].b");
    }
}
