//! `envoy.config.route.v3.RateLimit`: what of a request is counted, as descriptors.

mod action_config;
mod actions;
pub(crate) mod budget;
mod claim;
mod entry;
mod extension;
mod inputs;
mod hits;
mod limit_override;
pub(crate) mod traffic;
pub(crate) mod view;

use std::collections::BTreeMap;

use callout_common::ConfigError;
use callout_common::api::cel::AttributeSource;
use callout_common::api::config::refuse_if;
use callout_common::api::format::{CommandOperator, SubstitutionFormat};
use callout_common::envoy::types::{MetadataPath, MetadataSource, MetadataValue};
use callout_protos::envoy::config::route::v3 as route;
use callout_protos::envoy::extensions::common::ratelimit::v3 as common;
use callout_protos::pbjson_types::UInt64Value;
use common::rate_limit_descriptor::Entry;
use route::rate_limit::XRateLimitOption;

use actions::Action;
use entry::DescriptorEntry as MadeEntry;
use hits::Hits;
use limit_override::Override;

/// What descriptors are made of.
pub(crate) trait Request {
    /// The lines of a header (lower-case), in order.
    fn header(&self, name: &str) -> Vec<&[u8]>;
    /// The client's address as Envoy trusts it.
    fn remote_ip(&self) -> Option<std::net::IpAddr>;
    /// The upstream cluster.
    fn cluster(&self) -> Option<&[u8]>;
    /// A metadata value.
    fn metadata(
        &self,
        source: MetadataSource,
        namespace: &str,
        path: &MetadataPath,
    ) -> Option<MetadataValue>;
    /// An object of the dynamic metadata.
    fn object(
        &self,
        namespace: &str,
        path: &MetadataPath,
    ) -> Option<BTreeMap<String, MetadataValue>>;
    /// What an operator of a template stands for.
    fn operator(&self, operator: &CommandOperator) -> Option<Vec<u8>>;
    /// What expressions are about.
    fn attributes(&self) -> &dyn AttributeSource;
}

/// One entry of `rate_limits`: makes one descriptor of a request, or none.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    actions: Vec<Action>,
    limit: Option<Override>,
    hits: Option<Hits>,
    pub(crate) on_stream_done: bool,
    /// It asks for the bytes of a body.
    pub(crate) counts_bytes: bool,
    /// `x_ratelimit_option`; `None` follows the filter.
    x_ratelimit_headers: Option<bool>,
}

/// A descriptor, with what the filter has to know about it when the answer comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Descriptor {
    pub(crate) message: common::RateLimitDescriptor,
    pub(crate) x_ratelimit_headers: Option<bool>,
}

impl Limit {
    pub(crate) fn configure(config: &route::RateLimit) -> Result<Self, ConfigError> {
        let route::RateLimit {
            stage,
            disable_key,
            actions,
            limit,
            hits_addend,
            apply_on_stream_done,
            x_ratelimit_option,
        } = config;
        let table = "belongs to limits of the route table, not to a filter's own";
        refuse_if(stage.is_some(), "stage", table)?;
        refuse_if(!disable_key.is_empty(), "disable_key", table)?;
        refuse_if(actions.is_empty(), "actions", "needs at least one action")?;
        let actions: Vec<Action> = actions
            .iter()
            .enumerate()
            .map(|(index, action)| {
                Action::configure(action).map_err(|e| e.in_field(&format!("actions[{index}]")))
            })
            .collect::<Result<_, _>>()?;
        let hits = hits_addend
            .as_ref()
            .map(Hits::configure)
            .transpose()
            .map_err(|error| error.in_field("hits_addend"))?;
        Ok(Self {
            counts_bytes: actions.iter().any(Action::counts_bytes)
                || hits.as_ref().is_some_and(Hits::counts_bytes),
            actions,
            limit: limit
                .as_ref()
                .map(Override::configure)
                .transpose()
                .map_err(|error| error.in_field("limit"))?,
            hits,
            on_stream_done: *apply_on_stream_done,
            x_ratelimit_headers: match XRateLimitOption::try_from(*x_ratelimit_option) {
                Ok(XRateLimitOption::Unspecified) => None,
                Ok(XRateLimitOption::Off) => Some(false),
                Ok(XRateLimitOption::DraftVersion03) => Some(true),
                Err(_) => return Err(ConfigError::field("x_ratelimit_option", "is unknown")),
            },
        })
    }

    /// The descriptor of `request`; `None` when one of the actions has nothing to say about it.
    fn descriptor(&self, request: &dyn Request) -> Option<Descriptor> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
            match action.entry(request) {
                MadeEntry::Entry(key, value) => entries.push(Entry { key, value }),
                MadeEntry::Nothing => {}
                MadeEntry::Failed => return None,
            }
        }
        let (hits_addend, is_negative_hits) = match &self.hits {
            Some(hits) => (Some(UInt64Value { value: hits.of(request)? }), hits.negative),
            None => (None, false),
        };
        Some(Descriptor {
            message: common::RateLimitDescriptor {
                entries,
                limit: self.limit.as_ref().and_then(|limit| limit.of(request)),
                hits_addend,
                is_negative_hits,
            },
            x_ratelimit_headers: self.x_ratelimit_headers,
        })
    }
}

/// Whether `template` asks for the bytes of a body.
fn asks_for_bytes(template: &SubstitutionFormat) -> bool {
    template.operators().any(|operator| {
        matches!(operator, CommandOperator::BytesReceived | CommandOperator::BytesSent)
    })
}

/// What limits make of a request.
#[derive(Debug, Default)]
pub(crate) struct DescriptorEntry {
    pub(crate) descriptors: Vec<Descriptor>,
    /// Limits that make none of it.
    pub(crate) skipped: u64,
}

/// The descriptors of `request`, in the order of `limits`; those for the end of the stream if
/// `done`, else those for now.
pub(crate) fn descriptors(limits: &[Limit], request: &dyn Request, done: bool) -> DescriptorEntry {
    let mut made = DescriptorEntry::default();
    for limit in limits.iter().filter(|limit| limit.on_stream_done == done) {
        match limit.descriptor(request) {
            Some(descriptor) => made.descriptors.push(descriptor),
            None => made.skipped += 1,
        }
    }
    made
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;

    use callout_common::Map;
    use callout_common::envoy::attributes::Attribute;
    use common::rate_limit_descriptor::RateLimitOverride;

    use super::*;

    /// A request made of plain values.
    #[derive(Default)]
    pub(crate) struct Fake {
        pub(crate) headers: Vec<(&'static str, &'static str)>,
        pub(crate) ip: Option<IpAddr>,
        pub(crate) cluster: Option<&'static str>,
        pub(crate) metadata: HashMap<(&'static str, &'static str), MetadataValue>,
    }

    impl Request for Fake {
        fn header(&self, name: &str) -> Vec<&[u8]> {
            let lines = self.headers.iter().filter(|(key, _)| *key == name);
            lines.map(|(_, value)| value.as_bytes()).collect()
        }
        fn remote_ip(&self) -> Option<IpAddr> {
            self.ip
        }
        fn cluster(&self) -> Option<&[u8]> {
            self.cluster.map(str::as_bytes)
        }
        fn metadata(
            &self,
            _: MetadataSource,
            namespace: &str,
            path: &MetadataPath,
        ) -> Option<MetadataValue> {
            self.metadata
                .iter()
                .find(|((ns, k), _)| *ns == namespace && *k == path.key)
                .and_then(|(_, value)| path.follow(value.clone()))
        }
        fn object(
            &self,
            namespace: &str,
            path: &MetadataPath,
        ) -> Option<BTreeMap<String, MetadataValue>> {
            match self.metadata(MetadataSource::Dynamic, namespace, path) {
                Some(MetadataValue::Object(fields)) => Some(fields),
                _ => None,
            }
        }
        fn operator(&self, operator: &CommandOperator) -> Option<Vec<u8>> {
            let CommandOperator::Request { names, .. } = operator else { return None };
            names.iter().find_map(|name| self.header(name).first().map(|value| value.to_vec()))
        }
        fn attributes(&self) -> &dyn AttributeSource {
            self
        }
    }

    impl AttributeSource for Fake {
        fn text(&self, _: Attribute) -> Option<&[u8]> {
            None
        }
        fn number(&self, _: Attribute) -> Option<u64> {
            None
        }
        fn truth(&self, _: Attribute) -> Option<bool> {
            None
        }
        fn lines(&self, _: Map) -> Vec<(&[u8], &[u8])> {
            self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
        }
    }

    fn made(json: &str, request: &Fake) -> Vec<Descriptor> {
        let limits: Vec<Limit> = serde_json::from_str::<Vec<route::RateLimit>>(json)
            .unwrap()
            .iter()
            .map(|limit| Limit::configure(limit).unwrap())
            .collect();
        descriptors(&limits, request, false).descriptors
    }

    #[test]
    fn one_failing_action_drops_its_descriptor_and_no_other() {
        let json = r#"[{"actions": [{"generic_key": {"descriptor_value": "a"}}, {"request_headers": {"header_name": "x-none", "descriptor_key": "k"}}]},
                       {"actions": [{"generic_key": {"descriptor_value": "b"}}]},
                       {"apply_on_stream_done": true, "actions": [{"generic_key": {"descriptor_value": "c"}}]}]"#;
        let made = made(json, &Fake::default());
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].message.entries[0].value, "b");
    }

    #[test]
    fn an_explicit_zero_of_hits_and_an_empty_override_are_sent() {
        let json = r#"[{"actions": [{"remote_address": {}}], "hits_addend": {"number": "0"}, "limit": {"rate_limit": {}}}]"#;
        let request = Fake { ip: Some("10.0.0.1".parse().unwrap()), ..Fake::default() };
        let made = made(json, &request);
        assert_eq!(made[0].message.hits_addend.map(|hits| hits.value), Some(0));
        assert_eq!(made[0].message.limit, Some(RateLimitOverride::default()));
    }
}
