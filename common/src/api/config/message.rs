//! A built-in filter's own configuration message, in any of the forms in which Envoy hands it over.

use callout_protos::pbjson_types::Struct;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::descriptions::described;
use super::nearest::nearest;
use super::{ConfigError, RawConfig, any, json, scalar};

/// The key under which everything stands that only this suite has.
const CALLOUT: &str = "callout";

/// A configuration message, with what stands beside it under the key `callout`.
#[derive(Debug, Clone)]
pub struct Parsed<M> {
    /// The message.
    pub message: M,
    callout: Json,
}

impl<M> Parsed<M> {
    /// What stands under `callout`, as `T`; its default when there is nothing.
    ///
    /// # Errors
    /// When it does not fit `T`; with the path of the field.
    pub fn callout<T: DeserializeOwned + Default>(&self) -> Result<T, ConfigError> {
        if self.callout.is_null() {
            return Ok(T::default());
        }
        from_json(self.callout.clone()).map_err(|error| error.in_field(CALLOUT))
    }
}

impl RawConfig<'_> {
    /// A filter's configuration as the message `M`: its serialized form, or a `Struct`, a
    /// `StringValue` with JSON or a `TypedStruct`, with the message's fields and the key `callout`.
    /// Fields may be spelt in every way that Envoy's own reader takes.
    ///
    /// # Errors
    /// What can't be read, does not fit, or is not supported, with the field's path.
    pub fn message<M: Message + Name + Default>(&self) -> Result<Parsed<M>, ConfigError> {
        if self.bytes.trim_ascii_start().first() == Some(&b'{') {
            let json = serde_json::from_slice(self.bytes).map_err(|error| {
                ConfigError::without_path(format!("is not valid JSON: {error}"))
            })?;
            return fields(json);
        }
        match TypedStruct::of::<M>(self.bytes)? {
            Some(value) => fields(struct_json(&value)?),
            None => Ok(Parsed { message: binary(self.bytes)?, callout: Json::Null }),
        }
    }

    /// As [`RawConfig::message`], for per-route messages: on Envoy 1.38 their `Struct` arrives
    /// serialized. No per-route message of Envoy's begins with a length-delimited field 1, as a
    /// `Struct` does.
    ///
    /// # Errors
    /// As for [`RawConfig::message`].
    pub fn route_message<M: Message + Name + Default>(&self) -> Result<Parsed<M>, ConfigError> {
        const STRUCT_FIELDS: u8 = (1 << 3) | 2;
        if self.bytes.first() != Some(&STRUCT_FIELDS) || TypedStruct::is(self.bytes) {
            return self.message();
        }
        fields(serialized_struct(self.bytes)?)
    }
}

/// `xds.type.v3.TypedStruct` and the older `udpa.type.v1.TypedStruct`, which Envoy hands over
/// serialized (1.40 the former as JSON).
#[derive(Clone, PartialEq, prost::Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

impl TypedStruct {
    /// Whether `bytes` are one: its first field names a type, where those of Envoy's configuration
    /// messages are messages.
    fn is(bytes: &[u8]) -> bool {
        Self::decode(bytes).is_ok_and(|this| described(any::type_of(&this.type_url)).is_some())
    }

    /// The fields of the message `M`, if `bytes` are a `TypedStruct`.
    fn of<M: Name>(bytes: &[u8]) -> Result<Option<Struct>, ConfigError> {
        if !Self::is(bytes) {
            return Ok(None);
        }
        let this =
            Self::decode(bytes).map_err(|error| ConfigError::without_path(error.to_string()))?;
        if any::type_of(&this.type_url) != M::full_name() {
            let (found, wanted) = (this.type_url, M::full_name());
            let reason = format!("is {found}, where {wanted} is needed");
            return Err(ConfigError::field("type_url", reason));
        }
        Ok(Some(this.value.unwrap_or_default()))
    }
}

/// The serialized `Struct` in `bytes`.
pub(super) fn serialized_struct(bytes: &[u8]) -> Result<Json, ConfigError> {
    let value = Struct::decode(bytes).map_err(|error| {
        ConfigError::without_path(format!("is neither JSON nor a serialized Struct: {error}"))
    })?;
    struct_json(&value)
}

fn struct_json(value: &Struct) -> Result<Json, ConfigError> {
    let mut json = serde_json::to_value(value)
        .map_err(|error| ConfigError::without_path(format!("can't be written as JSON: {error}")))?;
    whole_numbers(&mut json);
    Ok(json)
}

/// Writes whole numbers as such: in a `Struct` every number is a double.
fn whole_numbers(json: &mut Json) {
    match json {
        Json::Number(number) => {
            if let Some(whole) = scalar::whole_number(number).and_then(|w| i64::try_from(w).ok()) {
                *number = whole.into();
            }
        }
        Json::Array(values) => values.iter_mut().for_each(whole_numbers),
        Json::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Json::Null | Json::Bool(_) | Json::String(_) => {}
    }
}

fn fields<M: Message + Name + Default>(mut json: Json) -> Result<Parsed<M>, ConfigError> {
    let callout =
        json.as_object_mut().and_then(|fields| fields.remove(CALLOUT)).unwrap_or_default();
    let descriptor = descriptor::<M>()?;
    let message = json::read(&descriptor, &json)?;
    let message =
        message.transcode_to().map_err(|error| ConfigError::without_path(error.to_string()))?;
    Ok(Parsed { message, callout })
}

pub(super) fn from_json<T: DeserializeOwned>(json: Json) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        // The path ends with the unknown field itself where that is the trouble; "." is no path.
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        ConfigError::field(path, with_hint(&error.inner().to_string()))
    })
}

/// serde lists every field it would have known; the nearest one is enough.
fn with_hint(message: &str) -> String {
    let Some((reason, known)) =
        message.split_once(", expected one of ").or_else(|| message.split_once(", expected "))
    else {
        return message.to_owned();
    };
    let Some(written) = reason.strip_prefix("unknown ").and_then(|r| r.split('`').nth(1)) else {
        return message.to_owned();
    };
    format!("{reason}{}", nearest(written, known.split('`').skip(1).step_by(2)))
}

fn descriptor<M: Name>() -> Result<MessageDescriptor, ConfigError> {
    described(&M::full_name())
        .ok_or_else(|| ConfigError::without_path(format!("{} has no description", M::full_name())))
}

fn binary<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, ConfigError> {
    let name = M::full_name();
    let garbage = |error: String| {
        ConfigError::without_path(format!("is not a serialized {name}, nor JSON: {error}"))
    };
    let message = M::decode(bytes).map_err(|error| garbage(error.to_string()))?;
    // prost drops what it does not know; what was decoded is compared with what came in.
    let dynamic = DynamicMessage::decode(descriptor::<M>()?, bytes)
        .map_err(|error| garbage(error.to_string()))?;
    known(&dynamic)?;
    Ok(message)
}

/// Refuses fields that are not described, at any depth.
fn known(message: &DynamicMessage) -> Result<(), ConfigError> {
    if json::is_stub(&message.descriptor()) {
        return Ok(());
    }
    if let Some(field) = message.unknown_fields().next() {
        let number = field.number();
        let of = message.descriptor().name().to_owned();
        return Err(ConfigError::without_path(format!(
            "field {number} of {of} is not supported by this version of the module"
        )));
    }
    for (field, value) in message.fields() {
        known_value(value).map_err(|error| error.in_field(field.name()))?;
    }
    Ok(())
}

fn known_value(value: &Value) -> Result<(), ConfigError> {
    match value {
        Value::Message(message) => match any::unpacked(message) {
            Some(message) => known(&message?),
            None => known(message),
        },
        Value::List(values) => values.iter().enumerate().try_for_each(|(index, value)| {
            known_value(value).map_err(|error| error.in_field(&format!("[{index}]")))
        }),
        Value::Map(values) => values.values().try_for_each(known_value),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::extensions::filters::http::ext_authz::v3::{
        ExtAuthz, ExtAuthzPerRoute,
    };
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn authz(bytes: &[u8]) -> Result<Parsed<ExtAuthz>, ConfigError> {
        RawConfig::new(bytes).message()
    }

    fn refused(bytes: &[u8]) -> String {
        authz(bytes).map(|parsed| parsed.message).unwrap_err().to_string()
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Callout {
        #[serde(default)]
        coalesce: bool,
    }

    #[test]
    fn the_serialized_message_and_its_json_are_read_alike() {
        let json = br#"{"failure_mode_allow": true, "grpc_service": {"timeout": "0.25s"}}"#;
        let from_json = authz(json).unwrap().message;
        assert_eq!(authz(&from_json.encode_to_vec()).unwrap().message, from_json);
        assert!(from_json.failure_mode_allow);
    }

    #[test]
    fn callout_stands_beside_the_fields_of_the_message() {
        let parsed = authz(br#"{"callout": {"coalesce": true}}"#).unwrap();
        assert_eq!(parsed.callout::<Callout>().unwrap(), Callout { coalesce: true });
        assert_eq!(authz(b"").unwrap().callout::<Callout>().unwrap(), Callout::default());
        let unknown = authz(br#"{"callout": {"colaesce": true}}"#).unwrap();
        let error = unknown.callout::<Callout>().unwrap_err().to_string();
        assert!(error.starts_with("at callout") && error.contains("colaesce"), "{error}");
    }

    #[test]
    fn a_serialized_struct_is_read_for_a_route() {
        let fields: Struct = serde_json::from_str(r#"{"disabled": true}"#).unwrap();
        let bytes = fields.encode_to_vec();
        let route: ExtAuthzPerRoute = RawConfig::new(&bytes).route_message().unwrap().message;
        let direct: ExtAuthzPerRoute =
            RawConfig::new(br#"{"disabled": true}"#).route_message().unwrap().message;
        assert_eq!(route, direct);
        assert!(route.r#override.is_some());
    }

    #[test]
    fn wrong_types_and_unknown_names_are_refused_with_their_path() {
        assert!(
            refused(br#"{"grpc_service": {"timeout": "soon"}}"#)
                .starts_with("at grpc_service.timeout: ")
        );
        assert!(refused(br#"{"grpc_service": {"google_grpc": {"target": "x"}}}"#).starts_with(
            "at grpc_service.google_grpc.target: is not a supported field of GoogleGrpc"
        ));
        assert!(refused(b"{").contains("is not valid JSON"));
    }

    #[test]
    fn unknown_fields_of_the_serialized_message_are_refused_with_path_and_number() {
        // Field 999 of the message, and field 99 inside grpc_service (1).
        assert!(refused(&[0xb8, 0x3e, 1]).contains("field 999 of ExtAuthz"));
        assert_eq!(
            refused(&[0x0a, 3, 0x98, 0x06, 1]),
            "at grpc_service: field 99 of GrpcService is not supported by this version of the module"
        );
        assert!(refused(b"\xff\xff\xff").contains("is not a serialized envoy.extensions"));
    }

    #[test]
    fn typed_structs_of_both_ages_are_read_and_those_of_another_type_refused() {
        let json = r#"{"typeUrl": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
            "value": {"check_settings": {"with_request_body": {"max_request_bytes": 10}}, "callout": {"coalesce": true}}}"#;
        #[derive(Deserialize)]
        struct Written {
            #[serde(rename = "typeUrl")]
            type_url: String,
            value: Struct,
        }
        let written: Written = serde_json::from_str(json).unwrap();
        let typed = TypedStruct { type_url: written.type_url, value: Some(written.value) };
        let bytes = typed.encode_to_vec();
        for parsed in [
            RawConfig::new(&bytes).route_message::<ExtAuthzPerRoute>().unwrap(),
            RawConfig::new(&bytes).message::<ExtAuthzPerRoute>().unwrap(),
        ] {
            assert!(parsed.message.r#override.is_some());
            assert!(parsed.callout::<Callout>().unwrap().coalesce);
        }
        let refused = authz(&bytes).unwrap_err();
        assert_eq!(refused.path(), "type_url");
        assert!(
            refused
                .to_string()
                .contains("where envoy.extensions.filters.http.ext_authz.v3.ExtAuthz is needed"),
            "{refused}"
        );
    }

    #[test]
    fn whole_numbers_of_a_serialized_struct_stay_whole_for_callout() {
        #[derive(Debug, Default, Deserialize, PartialEq)]
        struct Number {
            number: u64,
        }
        let fields: Struct =
            serde_json::from_str(r#"{"callout": {"number": 7}, "disabled": true}"#).unwrap();
        let bytes = fields.encode_to_vec();
        let parsed = RawConfig::new(&bytes).route_message::<ExtAuthzPerRoute>().unwrap();
        assert_eq!(parsed.callout::<Number>(), Ok(Number { number: 7 }));
    }

    #[test]
    fn a_misspelt_key_of_callout_is_told_the_nearest() {
        let parsed = authz(br#"{"callout": {"coalesc": true}}"#).unwrap();
        let error = parsed.callout::<Callout>().unwrap_err().to_string();
        assert_eq!(error, "at callout.coalesc: unknown field `coalesc`, did you mean `coalesce`?");
    }

    #[test]
    fn an_http_service_is_read_so_that_the_filter_can_refuse_it_by_name() {
        // Field 3, http_service, with field 1 inside.
        assert!(authz(&[0x1a, 2, 0x0a, 0]).unwrap().message.services.is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = authz(&bytes);
            let _ = RawConfig::new(&bytes).route_message::<ExtAuthzPerRoute>();
        }
    }
}
