//! `callout.override_host`: the endpoint that a processor picks for the request.

use std::net::SocketAddr;

use callout_common::ConfigError;
use callout_common::api::config::refuse_if;
use callout_common::http::mutation::{Mutation, Op};
use callout_common::http::rules::valid_name;
use callout_protos::pbjson_types::{Struct, value::Kind};
use serde::Deserialize;

/// `callout.override_host`, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointFields {
    /// The request header in which an answer names the endpoint.
    header: Option<String>,
    /// Or the place in its dynamic metadata.
    metadata: Option<MetadataFields>,
    /// A host that is not there is a 503, and one that is no address an invalid answer.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    #[serde(default)]
    strict: bool,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetadataFields {
    /// The namespace.
    namespace: String,
    /// The key.
    key: String,
}

/// Where an answer names the endpoint. What the client says does not count.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndpointChoice {
    place: Place,
    /// A host that is not there is a 503, and a picked one that is no address an invalid answer.
    pub(crate) strict: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A request header that the answer sets.
    Header(String),
    /// Namespace and key of its dynamic metadata.
    Metadata(String, String),
}

/// What an answer says of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Picked {
    Nothing,
    Endpoint(SocketAddr),
    /// Something that is no address.
    Invalid,
}

impl EndpointChoice {
    pub(crate) fn configure(fields: EndpointFields) -> Result<Self, ConfigError> {
        let EndpointFields { header, metadata, strict } = fields;
        let place = match (header, metadata) {
            (Some(name), None) => {
                let name = name.to_ascii_lowercase();
                refuse_if(!valid_name(&name), "header", "is not a valid header name")?;
                Place::Header(name)
            }
            (None, Some(MetadataFields { namespace, key })) => {
                refuse_if(namespace.is_empty(), "metadata.namespace", "is required")?;
                refuse_if(key.is_empty(), "metadata.key", "is required")?;
                Place::Metadata(namespace, key)
            }
            (Some(_), Some(_)) => {
                return Err(ConfigError::without_path("takes one of header and metadata"));
            }
            (None, None) => return Err(ConfigError::field("header", "is required, or metadata")),
        };
        Ok(Self { place, strict })
    }

    /// What changes of the request's headers say.
    pub(crate) fn by_headers(&self, changes: &[Mutation]) -> Picked {
        let Place::Header(header) = &self.place else { return Picked::Nothing };
        let named = |change: &&Mutation| change.op != Op::Remove && change.name == *header;
        let value = changes.iter().rev().find(named).map(|change| &change.value);
        value.map_or(Picked::Nothing, |value| {
            std::str::from_utf8(value).map_or(Picked::Invalid, first)
        })
    }

    /// What the dynamic metadata of an answer says; its top-level keys are namespaces.
    pub(crate) fn by_metadata(&self, values: Option<&Struct>) -> Picked {
        let Place::Metadata(namespace, key) = &self.place else { return Picked::Nothing };
        let namespace = values.and_then(|values| values.fields.get(namespace));
        let value = match namespace.and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(fields)) => fields.fields.get(key),
            _ => None,
        };
        match value.map(|value| value.kind.as_ref()) {
            None => Picked::Nothing,
            Some(Some(Kind::StringValue(text))) => first(text),
            Some(_) => Picked::Invalid,
        }
    }
}

/// The first address of a list with commas: Envoy takes one, and its load balancer chooses the next.
fn first(list: &str) -> Picked {
    let mut addresses = list.split(',').filter_map(|one| one.trim().parse().ok());
    addresses.next().map_or(Picked::Invalid, Picked::Endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(json: &str) -> Result<EndpointChoice, ConfigError> {
        EndpointChoice::configure(serde_json::from_str(json).unwrap())
    }

    fn at(address: &str) -> Picked {
        Picked::Endpoint(address.parse().unwrap())
    }

    #[test]
    fn the_last_change_of_the_header_names_the_endpoint() {
        let choice = choice(r#"{"header": "X-Endpoint"}"#).unwrap();
        let change = |op, name: &str, value: &str| Mutation {
            op,
            name: name.to_owned(),
            value: value.into(),
        };
        let set = |name: &str, value: &str| change(Op::Set, name, value);
        for (changes, picked) in [
            (vec![], Picked::Nothing),
            (vec![set("x-other", "10.0.0.1:80")], Picked::Nothing),
            (vec![change(Op::Remove, "x-endpoint", "")], Picked::Nothing),
            (vec![set("x-endpoint", "10.0.0.1:80")], at("10.0.0.1:80")),
            (vec![set("x-endpoint", "10.0.0.1:80"), set("x-endpoint", "[::1]:81")], at("[::1]:81")),
            (vec![set("x-endpoint", "10.0.0.1:80, 10.0.0.2:80")], at("10.0.0.1:80")),
            (vec![set("x-endpoint", "pod-1:80,10.0.0.2:80")], at("10.0.0.2:80")),
            (vec![set("x-endpoint", "pod-1:80")], Picked::Invalid),
            (vec![set("x-endpoint", "10.0.0.1")], Picked::Invalid),
        ] {
            assert_eq!(choice.by_headers(&changes), picked, "{changes:?}");
        }
        assert_eq!(choice.by_metadata(Some(&Struct::default())), Picked::Nothing);
    }

    #[test]
    fn metadata_names_the_endpoint() {
        let choice =
            choice(r#"{"metadata": {"namespace": "envoy.lb", "key": "e"}, "strict": true}"#);
        let choice = choice.unwrap();
        let picked = |json: &str| choice.by_metadata(Some(&serde_json::from_str(json).unwrap()));
        assert!(choice.strict);
        assert_eq!(picked(r#"{"envoy.lb": {"e": "10.0.0.1:80"}}"#), at("10.0.0.1:80"));
        assert_eq!(picked(r#"{"envoy.lb": {"e": 1}}"#), Picked::Invalid);
        assert_eq!(picked(r#"{"envoy.lb": {}}"#), Picked::Nothing);
        assert_eq!(picked(r#"{"e": "10.0.0.1:80"}"#), Picked::Nothing);
        assert_eq!(choice.by_metadata(None), Picked::Nothing);
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let path = |json: &str| choice(json).unwrap_err().path().to_owned();
        assert_eq!(path("{}"), "header");
        assert_eq!(path(r#"{"header": "a b"}"#), "header");
        assert_eq!(path(r#"{"metadata": {"namespace": "", "key": "k"}}"#), "metadata.namespace");
        assert_eq!(path(r#"{"metadata": {"namespace": "n", "key": ""}}"#), "metadata.key");
        let both = r#"{"header": "a", "metadata": {"namespace": "n", "key": "k"}}"#;
        assert_eq!(path(both), "");
    }
}
