//! Envoy's own node, out of its bootstrap and its command line.

use serde_json::Value;

use crate::api::bootstrap::Bootstrap;
use crate::api::config::ConfigError;

/// `envoy.config.core.v3.Node`, as far as filters ask for it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// `--service-cluster`, or `node.cluster`; empty when neither is given.
    pub cluster: String,
    /// `node.metadata`.
    pub metadata: Value,
}

impl Node {
    /// The node of the running Envoy.
    ///
    /// # Errors
    /// When it can't be read, `field` needs it.
    pub fn of_this_process(field: &str) -> Result<Self, ConfigError> {
        let refused = |why: String| ConfigError::field(field, format!("needs Envoy's node: {why}"));
        Bootstrap::of_this_process().map(|bootstrap| Self::of(&bootstrap)).map_err(refused)
    }

    fn of(bootstrap: &Bootstrap) -> Self {
        let mut node = Self::default();
        for document in bootstrap.documents() {
            node.merge(document);
        }
        // What is given in words goes over the file, as in Envoy.
        let named = bootstrap.option(&["--service-cluster"]).filter(|name| !name.is_empty());
        if let Some(cluster) = named {
            cluster.clone_into(&mut node.cluster);
        }
        node
    }

    fn merge(&mut self, bootstrap: &Value) {
        let Some(node) = bootstrap.get("node") else { return };
        if let Some(cluster) = node.get("cluster").and_then(Value::as_str) {
            cluster.clone_into(&mut self.cluster);
        }
        if let Some(metadata) = node.get("metadata") {
            match (self.metadata.as_object_mut(), metadata.as_object()) {
                (Some(own), Some(other)) => own.extend(other.clone()),
                _ => self.metadata = metadata.clone(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str, file: &str) -> Result<Node, String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let bootstrap = Bootstrap::of(arguments, |path| match path {
            "/e.yaml" => Ok(file.to_owned()),
            _ => Err("no such file".to_owned()),
        })?;
        Ok(Node::of(&bootstrap))
    }

    const FILE: &str = "node: {cluster: file, metadata: {labels: {a: b}}}\nadmin: {}";

    #[test]
    fn the_command_line_goes_over_the_file() {
        let cluster = |line: &str| of(line, FILE).unwrap().cluster;
        assert_eq!(cluster("envoy -c /e.yaml"), "file");
        assert_eq!(cluster("envoy --config-path=/e.yaml --service-cluster line"), "line");
        assert_eq!(cluster("envoy --service-cluster=line -c /e.yaml"), "line");
        assert_eq!(cluster("envoy -c /e.yaml --config-yaml {\"node\":{\"cluster\":\"w\"}}"), "w");
        assert_eq!(of("envoy -c /e.yaml", "admin: {}").unwrap(), Node::default());
    }

    #[test]
    fn metadata_of_file_and_command_line_is_merged() {
        let node = of("envoy -c /e.yaml --config-yaml {\"node\":{\"metadata\":{\"x\":1}}}", FILE);
        let expected = serde_json::json!({"labels": {"a": "b"}, "x": 1});
        assert_eq!(node.unwrap().metadata, expected);
    }

    #[test]
    fn what_can_not_be_read_is_said() {
        assert!(of("envoy -c /none.yaml", "").unwrap_err().contains("/none.yaml"));
        assert!(of("envoy -c /e.pb", "").unwrap_err().contains("neither YAML nor JSON"));
        assert!(of("envoy -c /e.yaml", "a: [").unwrap_err().contains("/e.yaml"));
    }
}
