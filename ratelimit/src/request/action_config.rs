//! The configuration of the actions.

use std::net::IpAddr;

use callout_common::ConfigError;
use callout_common::api::config::refuse_if;
use callout_common::api::format::{CommandOperator, SubstitutionFormat};
use callout_common::api::matching::{HeaderMatcher, StringMatcher};
use callout_common::api::node::Node;
use callout_common::envoy::types::{MetadataPath, MetadataSource, PathSegment};
use callout_protos::envoy::config::route::v3 as route;
use callout_protos::envoy::r#type::matcher::v3::AddressMatcher;
use callout_protos::envoy::r#type::metadata::v3::MetadataKey;
use callout_protos::envoy::r#type::metadata::v3::metadata_key as proto_key;
use callout_protos::pbjson_types::UInt32Value;
use callout_protos::xds::core::v3::CidrRange;
use ipnet::IpNet;
use proto_key::path_segment::Segment;
use route::query_parameter_matcher::QueryParameterMatchSpecifier;
use route::rate_limit::action::meta_data::Source;
use route::rate_limit::action::{self as proto, ActionSpecifier};

use super::actions::{Action, QueryMatcher, Value};

impl Action {
    pub(super) fn configure(config: &route::rate_limit::Action) -> Result<Self, ConfigError> {
        let Some(specifier) = &config.action_specifier else {
            return Err(ConfigError::without_path("names no action"));
        };
        match specifier {
            ActionSpecifier::GenericKey(action) => {
                generic_key(action).map_err(under("generic_key"))
            }
            ActionSpecifier::RequestHeaders(action) => {
                request_headers(action).map_err(under("request_headers"))
            }
            ActionSpecifier::QueryParameters(action) => {
                query_parameters(action).map_err(under("query_parameters"))
            }
            ActionSpecifier::RemoteAddress(proto::RemoteAddress {}) => {
                Ok(Self::new("remote_address", Value::RemoteAddress))
            }
            ActionSpecifier::DestinationCluster(proto::DestinationCluster {}) => {
                Ok(Self::new("destination_cluster", Value::Cluster))
            }
            ActionSpecifier::MaskedRemoteAddress(action) => {
                masked(action).map_err(under("masked_remote_address"))
            }
            ActionSpecifier::HeaderValueMatch(action) => {
                header_value_match(action).map_err(under("header_value_match"))
            }
            ActionSpecifier::QueryParameterValueMatch(action) => {
                query_value_match(action).map_err(under("query_parameter_value_match"))
            }
            ActionSpecifier::RemoteAddressMatch(action) => {
                remote_address_match(action).map_err(under("remote_address_match"))
            }
            ActionSpecifier::Metadata(action) => metadata(action).map_err(under("metadata")),
            ActionSpecifier::SourceCluster(proto::SourceCluster {}) => {
                let node = Node::of_this_process("source_cluster")?;
                Ok(Self::new("source_cluster", Value::Fixed(node.cluster)))
            }
            ActionSpecifier::DynamicMetadata(_) => {
                Err(ConfigError::field("dynamic_metadata", "is deprecated: use metadata"))
            }
            ActionSpecifier::Extension(config) => {
                Self::extension(config).map_err(under("extension"))
            }
        }
    }
}

fn under(field: &str) -> impl FnOnce(ConfigError) -> ConfigError {
    move |error| error.in_field(field)
}

fn required(text: &str, field: &str) -> Result<String, ConfigError> {
    refuse_if(text.is_empty(), field, "is required")?;
    Ok(text.to_owned())
}

fn or(key: &str, default: &str) -> String {
    if key.is_empty() { default.to_owned() } else { key.to_owned() }
}

fn generic_key(config: &proto::GenericKey) -> Result<Action, ConfigError> {
    // default_value counts only where Envoy formats the value, which 1.40 does not by default.
    let proto::GenericKey { descriptor_value, default_value: _, descriptor_key } = config;
    Ok(Action {
        key: or(descriptor_key, "generic_key"),
        value: Value::Fixed(required(descriptor_value, "descriptor_value")?),
    })
}

fn request_headers(config: &proto::RequestHeaders) -> Result<Action, ConfigError> {
    let proto::RequestHeaders { header_name, descriptor_key, skip_if_absent } = config;
    let name = required(header_name, "header_name")?.to_ascii_lowercase();
    Ok(Action {
        key: required(descriptor_key, "descriptor_key")?,
        value: Value::Header { name, skip: *skip_if_absent },
    })
}

fn query_parameters(config: &proto::QueryParameters) -> Result<Action, ConfigError> {
    let proto::QueryParameters { query_parameter_name, descriptor_key, skip_if_absent } = config;
    let name = required(query_parameter_name, "query_parameter_name")?;
    Ok(Action {
        key: required(descriptor_key, "descriptor_key")?,
        value: Value::Query { name, skip: *skip_if_absent },
    })
}

fn masked(config: &proto::MaskedRemoteAddress) -> Result<Action, ConfigError> {
    let proto::MaskedRemoteAddress { v4_prefix_mask_len, v6_prefix_mask_len } = config;
    let length = |value: &Option<UInt32Value>, most: u8, field: &str| match value {
        None => Ok(most),
        Some(value) => u8::try_from(value.value)
            .ok()
            .filter(|length| *length <= most)
            .ok_or_else(|| ConfigError::field(field, format!("must be {most} or less"))),
    };
    Ok(Action::new(
        "masked_remote_address",
        Value::MaskedRemoteAddress {
            v4: length(v4_prefix_mask_len, 32, "v4_prefix_mask_len")?,
            v6: length(v6_prefix_mask_len, 128, "v6_prefix_mask_len")?,
        },
    ))
}

fn header_value_match(config: &proto::HeaderValueMatch) -> Result<Action, ConfigError> {
    let proto::HeaderValueMatch {
        descriptor_value,
        default_value: _,
        descriptor_key,
        expect_match,
        headers,
    } = config;
    refuse_if(headers.is_empty(), "headers", "needs at least one matcher")?;
    let matchers = headers
        .iter()
        .enumerate()
        .map(|(index, matcher)| {
            HeaderMatcher::configure(matcher).map_err(|e| e.in_field(&format!("headers[{index}]")))
        })
        .collect::<Result<_, _>>()?;
    Ok(Action {
        key: or(descriptor_key, "header_match"),
        value: Value::IfHeaders {
            value: required(descriptor_value, "descriptor_value")?,
            matchers,
            expected: expect_match.is_none_or(|expected| expected.value),
        },
    })
}

fn query_value_match(config: &proto::QueryParameterValueMatch) -> Result<Action, ConfigError> {
    let proto::QueryParameterValueMatch {
        descriptor_value,
        default_value: _,
        descriptor_key,
        expect_match,
        query_parameters,
    } = config;
    refuse_if(query_parameters.is_empty(), "query_parameters", "needs at least one matcher")?;
    let matcher = |matcher: &route::QueryParameterMatcher| {
        let route::QueryParameterMatcher { name, query_parameter_match_specifier } = matcher;
        let (value, present) = match query_parameter_match_specifier {
            Some(QueryParameterMatchSpecifier::StringMatch(string)) => {
                (Some(StringMatcher::configure(string).map_err(under("string_match"))?), true)
            }
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => (None, *present),
            None => (None, true),
        };
        Ok(QueryMatcher { name: required(name, "name")?, value, present })
    };
    Ok(Action {
        key: or(descriptor_key, "query_match"),
        value: Value::IfQuery {
            value: required(descriptor_value, "descriptor_value")?,
            matchers: query_parameters
                .iter()
                .enumerate()
                .map(|(index, parameter)| {
                    matcher(parameter)
                        .map_err(|e: ConfigError| e.in_field(&format!("query_parameters[{index}]")))
                })
                .collect::<Result<_, _>>()?,
            expected: expect_match.is_none_or(|expected| expected.value),
        },
    })
}

fn remote_address_match(config: &proto::RemoteAddressMatch) -> Result<Action, ConfigError> {
    let proto::RemoteAddressMatch {
        descriptor_value,
        descriptor_key,
        default_value,
        address_matcher,
    } = config;
    let AddressMatcher { ranges, invert_match } = address_matcher
        .as_ref()
        .ok_or_else(|| ConfigError::field("address_matcher", "is required"))?;
    let range = |(index, range): (usize, &CidrRange)| {
        let at = format!("address_matcher.ranges[{index}]");
        let address: IpAddr = range
            .address_prefix
            .parse()
            .map_err(|_| ConfigError::field(format!("{at}.address_prefix"), "is no IP address"))?;
        let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
        u8::try_from(length)
            .ok()
            .and_then(|length| IpNet::new(address, length).ok())
            .ok_or_else(|| ConfigError::field(format!("{at}.prefix_len"), "is too long"))
    };
    refuse_if(ranges.is_empty(), "address_matcher.ranges", "needs at least one range")?;
    Ok(Action {
        key: or(descriptor_key, "remote_address_match"),
        value: Value::IfAddress {
            value: template(&required(descriptor_value, "descriptor_value")?)
                .map_err(|reason| ConfigError::field("descriptor_value", reason))?,
            default: default_value.clone(),
            ranges: ranges.iter().enumerate().map(range).collect::<Result<_, _>>()?,
            inverted: *invert_match,
        },
    })
}

/// A text about the stream. Its flags are not for a module.
fn template(text: &str) -> Result<SubstitutionFormat, String> {
    let template = SubstitutionFormat::parse_any(text)?;
    if template.operators().any(|operator| *operator == CommandOperator::ResponseFlags) {
        return Err("`%RESPONSE_FLAGS%` is not supported in a module".to_owned());
    }
    Ok(template)
}

fn metadata(config: &proto::MetaData) -> Result<Action, ConfigError> {
    let proto::MetaData { descriptor_key, metadata_key, default_value, source, skip_if_absent } =
        config;
    let metadata_key =
        metadata_key.as_ref().ok_or_else(|| ConfigError::field("metadata_key", "is required"))?;
    let (namespace, path) = place(metadata_key).map_err(under("metadata_key"))?;
    let source = match Source::try_from(*source) {
        Ok(Source::Dynamic) => MetadataSource::Dynamic,
        Ok(Source::RouteEntry) => MetadataSource::Route,
        Ok(Source::ClusterEntry) => MetadataSource::Cluster,
        Ok(Source::ClusterLocalityEntry) => MetadataSource::HostLocality,
        Err(_) => return Err(ConfigError::field("source", "is unknown")),
    };
    Ok(Action {
        key: required(descriptor_key, "descriptor_key")?,
        value: Value::Metadata {
            source,
            namespace,
            path,
            default: default_value.clone(),
            skip: *skip_if_absent,
        },
    })
}

/// The namespace of a `MetadataKey`, and the place in it.
pub(super) fn place(config: &MetadataKey) -> Result<(String, MetadataPath), ConfigError> {
    let MetadataKey { key: namespace, path } = config;
    let step = |(index, segment): (usize, &proto_key::PathSegment)| match &segment.segment {
        Some(Segment::Key(key)) if !key.is_empty() => Ok(PathSegment::Key(key.clone())),
        Some(Segment::Index(place)) if index > 0 => {
            Ok(PathSegment::Index(usize::try_from(*place).unwrap_or(usize::MAX)))
        }
        _ => Err(ConfigError::field(format!("path[{index}].key"), "is required")),
    };
    let steps: Vec<_> = path.iter().enumerate().map(step).collect::<Result<_, _>>()?;
    let mut steps = steps.into_iter();
    let Some(PathSegment::Key(key)) = steps.next() else {
        return Err(ConfigError::field("path", "is required"));
    };
    Ok((required(namespace, "key")?, MetadataPath { key, within: steps.collect() }))
}
