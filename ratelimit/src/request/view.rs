//! A request as what descriptors are made of.

use std::net::IpAddr;

use callout_common::api::cel::AttributeSource;
use callout_common::api::format::CommandOperator;
use callout_common::envoy::types::{MetadataSource, MetadataValue};

use crate::request::Request;
use crate::stream::Context;

/// A stream as what descriptors are made of.
pub(crate) struct View<'a, 'b>(pub(crate) &'a Context<'b>);

impl Request for View<'_, '_> {
    fn header(&self, name: &str) -> Vec<&[u8]> {
        let name = if name == "host" { ":authority" } else { name };
        self.0.request().get_all(name).collect()
    }

    fn remote_ip(&self) -> Option<IpAddr> {
        self.0.remote_ip()
    }

    fn cluster(&self) -> Option<&[u8]> {
        self.0.cluster_name()
    }

    fn metadata(
        &self,
        source: MetadataSource,
        namespace: &str,
        key: &str,
    ) -> Option<MetadataValue> {
        self.0.metadata(source).get(namespace, key)
    }

    fn operator(&self, operator: &CommandOperator) -> Option<Vec<u8>> {
        self.0.operator(operator)
    }

    fn attributes(&self) -> &dyn AttributeSource {
        self.0
    }
}
