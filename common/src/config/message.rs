//! A built-in filter's own configuration message, in any of the forms in which Envoy hands it over.

use std::sync::LazyLock;

use callout_protos::FILE_DESCRIPTOR_SET;
use callout_protos::pbjson_types::Struct;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ConfigError, RawConfig, any};

/// The key under which everything stands that only this suite has.
const CALLOUT: &str = "callout";

/// A configuration message, with what stands beside it under the key `callout`.
#[derive(Debug, Clone)]
pub struct Parsed<M> {
    /// The message.
    pub message: M,
    callout: serde_json::Value,
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
        from_json(self.callout.clone()).map_err(|error| error.under(CALLOUT))
    }
}

impl RawConfig<'_> {
    /// A filter's configuration as the message `M`: its serialized form, or a `Struct` with its
    /// fields and the key `callout`.
    ///
    /// # Errors
    /// What can't be read, does not fit, or is not known to this version, with the field's path.
    pub fn message<M>(&self) -> Result<Parsed<M>, ConfigError>
    where
        M: Message + Name + Default + Serialize + DeserializeOwned,
    {
        if self.bytes.first() == Some(&b'{') {
            let json = serde_json::from_slice(self.bytes)
                .map_err(|error| ConfigError::whole(format!("is no JSON: {error}")))?;
            return fields(json);
        }
        Ok(Parsed { message: binary(self.bytes)?, callout: serde_json::Value::Null })
    }

    /// As [`RawConfig::message`], for per-route messages: on Envoy 1.38 their `Struct` arrives
    /// serialized. No per-route message of Envoy's begins with a length-delimited field 1, as a
    /// `Struct` does.
    ///
    /// # Errors
    /// As for [`RawConfig::message`].
    pub fn route_message<M>(&self) -> Result<Parsed<M>, ConfigError>
    where
        M: Message + Name + Default + Serialize + DeserializeOwned,
    {
        const STRUCT_FIELDS: u8 = (1 << 3) | 2;
        if self.bytes.first() == Some(&STRUCT_FIELDS) {
            let fields_of = Struct::decode(self.bytes)
                .map_err(|error| ConfigError::whole(format!("is no serialized Struct: {error}")))?;
            let json = serde_json::to_value(fields_of)
                .map_err(|error| ConfigError::whole(format!("is no JSON: {error}")))?;
            return fields(json);
        }
        self.message()
    }
}

fn fields<M: DeserializeOwned>(mut json: serde_json::Value) -> Result<Parsed<M>, ConfigError> {
    let callout =
        json.as_object_mut().and_then(|fields| fields.remove(CALLOUT)).unwrap_or_default();
    any::pack(&mut json)?;
    Ok(Parsed { message: from_json(json)?, callout })
}

fn from_json<T: DeserializeOwned>(json: serde_json::Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        // The path ends with the unknown field itself where that is the trouble; "." is no path.
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        ConfigError::field(path, first_clause(&error.inner().to_string()))
    })
}

/// serde lists every field it would have known; the name of the unknown one is enough.
fn first_clause(message: &str) -> String {
    message.split(", expected one of").next().unwrap_or(message).to_owned()
}

fn binary<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, ConfigError> {
    let name = M::full_name();
    let garbage = |error: String| ConfigError::whole(format!("is no serialized {name}: {error}"));
    let message = M::decode(bytes).map_err(|error| garbage(error.to_string()))?;
    // prost drops what it does not know; what was decoded is compared with what came in.
    let descriptor = descriptions()
        .and_then(|pool| pool.get_message_by_name(&name))
        .ok_or_else(|| garbage("this version has no description of it".to_owned()))?;
    let dynamic =
        DynamicMessage::decode(descriptor, bytes).map_err(|error| garbage(error.to_string()))?;
    known(&dynamic)?;
    Ok(message)
}

/// The descriptions of all messages; read once.
pub(super) fn descriptions() -> Option<&'static DescriptorPool> {
    static POOL: LazyLock<Option<DescriptorPool>> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());
    POOL.as_ref()
}

/// Refuses fields that this version does not know, at any depth.
fn known(message: &DynamicMessage) -> Result<(), ConfigError> {
    if let Some(field) = message.unknown_fields().next() {
        let number = field.number();
        let of = message.descriptor().name().to_owned();
        return Err(ConfigError::whole(format!(
            "field {number} of {of} is not known to this version"
        )));
    }
    for (field, value) in message.fields() {
        known_value(value).map_err(|error| error.under(field.name()))?;
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
            known_value(value).map_err(|error| error.under(&format!("[{index}]")))
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
        assert!(
            refused(br#"{"grpc_service": {"google_grpc": {"target": "x"}}}"#).contains("`target`")
        );
        assert!(refused(b"{").contains("is no JSON"));
    }

    #[test]
    fn unknown_fields_of_the_serialized_message_are_refused_with_path_and_number() {
        // Field 999 of the message, and field 99 inside grpc_service (1).
        assert!(refused(&[0xb8, 0x3e, 1]).contains("field 999 of ExtAuthz"));
        assert_eq!(
            refused(&[0x0a, 3, 0x98, 0x06, 1]),
            "at grpc_service: field 99 of GrpcService is not known to this version"
        );
        assert!(refused(b"\xff\xff\xff").contains("is no serialized envoy.extensions"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = authz(&bytes);
            let _ = RawConfig::new(&bytes).route_message::<ExtAuthzPerRoute>();
        }
    }
}
