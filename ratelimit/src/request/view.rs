//! A request as what descriptors are made of.

use std::collections::BTreeMap;
use std::net::IpAddr;

use callout_common::api::cel::AttributeSource;
use callout_common::api::format::CommandOperator;
use callout_common::envoy::attributes::Attribute;
use callout_common::envoy::types::{MetadataPath, MetadataSource, MetadataValue};
use callout_common::envoy::version::EnvoyVersion;
use callout_common::{Direction, Map, StreamContext};

use crate::request::Request;
use crate::request::traffic::{Traffic, envoy_tells_bytes};

/// A stream as what descriptors are made of.
pub(crate) struct View<'a, 'b, E: Send + 'static> {
    pub(crate) cx: &'a StreamContext<'b, E>,
    pub(crate) traffic: Traffic,
}

fn decimal(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl<E: Send + 'static> Request for View<'_, '_, E> {
    fn header(&self, name: &str) -> Vec<&[u8]> {
        let name = if name == "host" { ":authority" } else { name };
        self.cx.request().get_all(name).collect()
    }

    fn remote_ip(&self) -> Option<IpAddr> {
        self.cx.remote_ip()
    }

    fn cluster(&self) -> Option<&[u8]> {
        self.cx.cluster_name()
    }

    fn metadata(
        &self,
        source: MetadataSource,
        namespace: &str,
        path: &MetadataPath,
    ) -> Option<MetadataValue> {
        self.cx.metadata(source).at(namespace, path)
    }

    fn object(
        &self,
        namespace: &str,
        path: &MetadataPath,
    ) -> Option<BTreeMap<String, MetadataValue>> {
        self.cx.metadata(MetadataSource::Dynamic).object(namespace, path)
    }

    fn operator(&self, operator: &CommandOperator) -> Option<Vec<u8>> {
        match operator {
            CommandOperator::BytesReceived if !envoy_tells_bytes() => {
                Some(decimal(self.traffic.bytes(Direction::Request)))
            }
            CommandOperator::BytesSent if !envoy_tells_bytes() => {
                Some(decimal(self.traffic.bytes(Direction::Response)))
            }
            // As in the built-in, which has no response there before 1.40.
            CommandOperator::Response { .. } | CommandOperator::Trailer { .. }
                if EnvoyVersion::running() < EnvoyVersion::V1_40 =>
            {
                None
            }
            CommandOperator::RequestDuration => self.traffic.request_millis().map(decimal),
            operator => self.cx.operator(operator),
        }
    }

    fn attributes(&self) -> &dyn AttributeSource {
        self
    }
}

impl<E: Send + 'static> AttributeSource for View<'_, '_, E> {
    fn text(&self, attribute: Attribute) -> Option<&[u8]> {
        self.cx.attribute(attribute)
    }

    fn number(&self, attribute: Attribute) -> Option<u64> {
        match attribute {
            Attribute::RequestSize if !envoy_tells_bytes() => {
                self.cx.content_length().or_else(|| Some(self.traffic.bytes(Direction::Request)))
            }
            Attribute::ResponseSize if !envoy_tells_bytes() => {
                Some(self.traffic.bytes(Direction::Response))
            }
            attribute => self.cx.number(attribute),
        }
    }

    fn truth(&self, attribute: Attribute) -> Option<bool> {
        self.cx.attribute_bool(attribute)
    }

    fn lines(&self, map: Map) -> Vec<(&[u8], &[u8])> {
        self.cx.lines(map)
    }
}
