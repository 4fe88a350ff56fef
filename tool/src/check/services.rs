//! The clusters that configurations name: each has to exist, and to speak HTTP/2.

use std::collections::HashMap;

use super::Findings;
use crate::envoy::{Module, Place, walk};
use crate::yaml::Node;

/// The clusters of a bootstrap.
#[derive(Debug, Default)]
pub(super) struct ClusterStreams<'a> {
    known: HashMap<&'a str, &'a Node>,
    /// All clusters are in the file.
    complete: bool,
}

impl<'a> ClusterStreams<'a> {
    pub(super) fn of(document: &'a Node) -> Self {
        let fixed = document.field("static_resources");
        let list = fixed.and_then(|fixed| fixed.field("clusters"));
        let dynamic = document.field("dynamic_resources");
        let served = dynamic.is_some_and(|dynamic| {
            dynamic.field("cds_config").is_some() || dynamic.field("ads_config").is_some()
        });
        Self {
            known: list
                .map(Node::items)
                .unwrap_or_default()
                .iter()
                .map(|cluster| (cluster.text_of("name"), cluster))
                .collect(),
            complete: fixed.is_some() && !served,
        }
    }

    /// Checks every cluster that a module's configuration names.
    pub(super) fn check(&self, module: &Module<'_>, place: &Place, findings: &mut Findings) {
        let Some(fields) = module.fields() else { return };
        walk(fields, &mut |node, _| {
            let Some(name) = node.field("envoy_grpc").and_then(|grpc| grpc.field("cluster_name"))
            else {
                return true;
            };
            let text = name.text().unwrap_or_default();
            match self.known.get(text) {
                Some(cluster) if !speaks_http2(cluster) => findings.error(
                    name,
                    place,
                    format!("cluster `{text}` does not speak HTTP/2, which gRPC needs: give it http2_protocol_options"),
                ),
                None if self.complete && !text.contains('%') => findings.error(
                    name,
                    place,
                    format!("no cluster is called `{text}`: every call will fail"),
                ),
                _ => {}
            }
            true
        });
    }
}

fn speaks_http2(cluster: &Node) -> bool {
    if cluster.field("http2_protocol_options").is_some() {
        return true;
    }
    let Some(options) = cluster.field("typed_extension_protocol_options") else { return false };
    let mut found = false;
    walk(options, &mut |node, _| {
        found |= ["http2_protocol_options", "use_downstream_protocol_config", "auto_config"]
            .into_iter()
            .any(|field| node.field(field).is_some());
        !found
    });
    found
}
