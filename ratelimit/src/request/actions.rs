//! The actions that make the entries of a descriptor.

use std::net::IpAddr;
use std::sync::Arc;

use callout_common::api::cel::Expression;
use callout_common::api::format::SubstitutionFormat;
use callout_common::api::matching::{HeaderMatcher, StringMatcher};
use callout_common::api::text::sanitized;
use callout_common::envoy::types::{MetadataPath, MetadataSource, MetadataValue};
use ipnet::IpNet;

use super::entry::{DescriptorEntry, query_value};
use super::inputs::{Claim, Input, printed};
use super::{Request, asks_for_bytes};
use crate::request::traffic::envoy_tells_bytes;

/// One action.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) key: String,
    pub(super) value: Value,
}

/// Where an entry's value comes from.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Fixed(String),
    Cluster,
    RemoteAddress,
    MaskedRemoteAddress {
        v4: u8,
        v6: u8,
    },
    Header {
        name: String,
        skip: bool,
    },
    Query {
        name: String,
        skip: bool,
    },
    IfHeaders {
        value: String,
        matchers: Vec<HeaderMatcher>,
        expected: bool,
    },
    IfQuery {
        value: String,
        matchers: Vec<QueryMatcher>,
        expected: bool,
    },
    IfAddress {
        value: SubstitutionFormat,
        default: String,
        ranges: Vec<IpNet>,
        inverted: bool,
    },
    Metadata {
        source: MetadataSource,
        namespace: String,
        path: MetadataPath,
        default: String,
        skip: bool,
    },
    Input(Input),
    Claim(Claim),
    Expression {
        expression: Arc<Expression>,
        skip: bool,
    },
}

#[derive(Debug, Clone)]
pub(super) struct QueryMatcher {
    pub(super) name: String,
    /// `None` asks for presence, or absence.
    pub(super) value: Option<StringMatcher>,
    pub(super) present: bool,
}

impl Action {
    pub(super) fn new(key: &str, value: Value) -> Self {
        Self { key: key.to_owned(), value }
    }

    /// Whether the bytes of a body are asked for, as far as Envoy does not tell them.
    pub(super) fn counts_bytes(&self) -> bool {
        match &self.value {
            Value::IfAddress { value, .. } => asks_for_bytes(value),
            Value::Expression { .. } => !envoy_tells_bytes(),
            _ => false,
        }
    }

    /// The entry of `request`.
    pub(super) fn entry(&self, request: &dyn Request) -> DescriptorEntry {
        let absent =
            |skip: bool| if skip { DescriptorEntry::Nothing } else { DescriptorEntry::Failed };
        let entry = |value: String| DescriptorEntry::Entry(self.key.clone(), value);
        match &self.value {
            Value::Fixed(value) => entry(value.clone()),
            Value::Cluster => {
                request.cluster().map_or(DescriptorEntry::Failed, |name| entry(sanitized(name)))
            }
            Value::RemoteAddress => {
                request.remote_ip().map_or(DescriptorEntry::Failed, |ip| entry(ip.to_string()))
            }
            Value::MaskedRemoteAddress { v4, v6 } => request
                .remote_ip()
                .and_then(|ip| IpNet::new(ip, if ip.is_ipv4() { *v4 } else { *v6 }).ok())
                .map_or(DescriptorEntry::Failed, |net| entry(net.trunc().to_string())),
            Value::Header { name, skip } => request
                .header(name)
                .first()
                .map_or_else(|| absent(*skip), |value| entry(sanitized(value))),
            Value::Query { name, skip } => {
                query_value(request, name).map_or_else(|| absent(*skip), entry)
            }
            Value::IfHeaders { value, matchers, expected } => {
                let matched =
                    matchers.iter().all(|matcher| matcher.matches(&request.header(matcher.name())));
                if matched == *expected { entry(value.clone()) } else { DescriptorEntry::Failed }
            }
            Value::IfQuery { value, matchers, expected } => {
                let matched = matchers.iter().all(|matcher| matcher.matches(request));
                if matched == *expected { entry(value.clone()) } else { DescriptorEntry::Failed }
            }
            Value::IfAddress { value, default, ranges, inverted } => {
                let inside = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip));
                match request.remote_ip() {
                    Some(ip) if inside(ip) != *inverted => {
                        let filled = sanitized(&value.fill(|operator| request.operator(operator)));
                        or_default(filled, default).map_or(DescriptorEntry::Failed, entry)
                    }
                    _ => DescriptorEntry::Failed,
                }
            }
            Value::Metadata { source, namespace, path, default, skip } => {
                let text = match request.metadata(*source, namespace, path) {
                    Some(MetadataValue::String(text)) => sanitized(&text),
                    _ => String::new(),
                };
                or_default(text, default).map_or_else(|| absent(*skip), entry)
            }
            Value::Input(input) => input.entry(&self.key, request),
            Value::Claim(claim) => claim.entry(&self.key, request),
            Value::Expression { expression, skip } => expression
                .evaluate(request.attributes())
                .map_or_else(|| absent(*skip), |outcome| entry(printed(outcome))),
        }
    }
}

fn or_default(text: String, default: &str) -> Option<String> {
    let text = if text.is_empty() { default.to_owned() } else { text };
    (!text.is_empty()).then_some(text)
}

impl QueryMatcher {
    fn matches(&self, request: &dyn Request) -> bool {
        let found = query_value(request, &self.name);
        match (&self.value, found) {
            (Some(matcher), Some(value)) => matcher.matches(value.as_bytes()),
            (Some(_), None) => false,
            (None, found) => found.is_some() == self.present,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    fn made(json: &str, request: &Fake) -> DescriptorEntry {
        Action::configure(&serde_json::from_str(json).unwrap()).unwrap().entry(request)
    }

    fn entry(key: &str, value: &str) -> DescriptorEntry {
        DescriptorEntry::Entry(key.to_owned(), value.to_owned())
    }

    fn with_path(path: &'static str) -> Fake {
        Fake { headers: vec![(":path", path)], ..Fake::default() }
    }

    #[test]
    fn a_header_gives_its_first_line_and_an_empty_one_counts() {
        let json = r#"{"request_headers": {"header_name": "X-K", "descriptor_key": "k"}}"#;
        let request = Fake { headers: vec![("x-k", "a"), ("x-k", "b")], ..Fake::default() };
        assert_eq!(made(json, &request), entry("k", "a"));
        let empty = Fake { headers: vec![("x-k", "")], ..Fake::default() };
        assert_eq!(made(json, &empty), entry("k", ""));
        assert_eq!(made(json, &Fake::default()), DescriptorEntry::Failed);
        let skip = r#"{"request_headers": {"header_name": "x-k", "descriptor_key": "k", "skip_if_absent": true}}"#;
        assert_eq!(made(skip, &Fake::default()), DescriptorEntry::Nothing);
    }

    #[test]
    fn a_query_parameter_is_decoded_and_its_first_value_counts() {
        let json = r#"{"query_parameters": {"query_parameter_name": "q", "descriptor_key": "k"}}"#;
        assert_eq!(made(json, &with_path("/?Q=z&q=a%20b+c&q=d")), entry("k", "a b+c"));
        assert_eq!(made(json, &with_path("/?q")), entry("k", ""));
        assert_eq!(made(json, &with_path("/q")), DescriptorEntry::Failed);
    }

    #[test]
    fn addresses_are_masked_by_family() {
        let json =
            r#"{"masked_remote_address": {"v4_prefix_mask_len": 24, "v6_prefix_mask_len": 64}}"#;
        let from = |ip: &str| Fake { ip: Some(ip.parse().unwrap()), ..Fake::default() };
        assert_eq!(made(json, &from("1.2.3.4")), entry("masked_remote_address", "1.2.3.0/24"));
        assert_eq!(
            made(json, &from("2001:abcd:ef01:2345:6789::1")),
            entry("masked_remote_address", "2001:abcd:ef01:2345::/64")
        );
        assert_eq!(
            made(r#"{"remote_address": {}}"#, &from("1.2.3.4")),
            entry("remote_address", "1.2.3.4")
        );
    }

    #[test]
    fn a_header_match_emits_when_it_comes_out_as_expected() {
        let json = |expect: &str| {
            format!(
                r#"{{"header_value_match": {{"descriptor_value": "v", {expect} "headers": [{{"name": "x", "string_match": {{"exact": "a"}}}}]}}}}"#
            )
        };
        let a = Fake { headers: vec![("x", "a")], ..Fake::default() };
        assert_eq!(made(&json(""), &a), entry("header_match", "v"));
        assert_eq!(made(&json(r#""expect_match": false,"#), &a), DescriptorEntry::Failed);
        assert_eq!(
            made(&json(r#""expect_match": false,"#), &Fake::default()),
            entry("header_match", "v")
        );
    }

    #[test]
    fn only_strings_of_the_metadata_count() {
        let json = r#"{"metadata": {"descriptor_key": "k", "default_value": "d", "metadata_key": {"key": "ns", "path": [{"key": "a"}]}}}"#;
        let with = |value| Fake { metadata: [(("ns", "a"), value)].into(), ..Fake::default() };
        assert_eq!(made(json, &with(MetadataValue::String(b"s".to_vec()))), entry("k", "s"));
        assert_eq!(made(json, &with(MetadataValue::Number(1.0))), entry("k", "d"));
    }

    #[test]
    fn a_place_in_a_list_of_the_metadata_is_its_string() {
        let json = |index: u32| {
            format!(
                r#"{{"metadata": {{"descriptor_key": "k", "default_value": "d", "metadata_key": {{"key": "ns", "path": [{{"key": "a"}}, {{"index": {index}}}]}}}}}}"#
            )
        };
        let string = |text: &str| MetadataValue::String(text.as_bytes().to_vec());
        let with = |value| Fake { metadata: [(("ns", "a"), value)].into(), ..Fake::default() };
        let list = MetadataValue::List(vec![string("x"), MetadataValue::Number(1.0), string("z")]);
        let request = with(list);
        let values = [0, 1, 2, 3].map(|index| made(&json(index), &request));
        assert_eq!(values, ["x", "d", "z", "d"].map(|value| entry("k", value)));
        assert_eq!(made(&json(0), &with(string("x"))), entry("k", "d"));
        let deep = r#"{"metadata": {"descriptor_key": "k", "metadata_key": {"key": "ns", "path": [{"key": "a"}, {"key": "b"}]}}}"#;
        let inner = MetadataValue::Object([("b".to_owned(), string("y"))].into());
        assert_eq!(made(deep, &with(inner)), entry("k", "y"));
        assert_eq!(made(deep, &with(string("y"))), DescriptorEntry::Failed);
    }

    #[test]
    fn an_address_match_fills_its_value() {
        let json = r#"{"remote_address_match": {"descriptor_value": "%REQ(x)%", "default_value": "d", "address_matcher": {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}}"#;
        let inside = Fake {
            ip: Some("10.1.1.1".parse().unwrap()),
            headers: vec![("x", "v")],
            ..Fake::default()
        };
        assert_eq!(made(json, &inside), entry("remote_address_match", "v"));
        let outside = Fake { ip: Some("11.1.1.1".parse().unwrap()), ..Fake::default() };
        assert_eq!(made(json, &outside), DescriptorEntry::Failed);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let path = |json: &str| {
            Action::configure(&serde_json::from_str(json).unwrap()).unwrap_err().path().to_owned()
        };
        assert_eq!(path(r#"{"extension": {"name": "x"}}"#), "extension.typed_config");
        assert_eq!(
            path(
                r#"{"remote_address_match": {"descriptor_value": "%START_TIME%", "address_matcher": {"ranges": [{"address_prefix": "::"}]}}}"#
            ),
            "remote_address_match.descriptor_value"
        );
        assert_eq!(
            path(r#"{"masked_remote_address": {"v4_prefix_mask_len": 33}}"#),
            "masked_remote_address.v4_prefix_mask_len"
        );
    }
}
