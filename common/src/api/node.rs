//! Envoy's own node, which the module interface does not tell: read, while a configuration is made,
//! from where Envoy has it (its command line and its bootstrap).

use std::path::Path;

use serde_json::Value;

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
        let line = std::fs::read("/proc/self/cmdline")
            .map_err(|error| refused(format!("its command line can't be read: {error}")))?;
        let arguments: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| error.to_string());
        node(&arguments, read).map_err(refused)
    }
}

/// The node of an Envoy with these arguments, whose files `read` reads.
fn node(
    arguments: &[String],
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Node, String> {
    let mut node = Node::default();
    // What is given in words goes over the file, as in Envoy.
    if let Some(path) = option(arguments, &["-c", "--config-path"]) {
        if Path::new(path).extension().is_some_and(|suffix| suffix == "pb" || suffix == "pb_text") {
            return Err(format!("{path} is no YAML or JSON"));
        }
        let text = read(path).map_err(|error| format!("{path} can't be read: {error}"))?;
        node.merge(&text).map_err(|error| format!("{path}: {error}"))?;
    }
    if let Some(text) = option(arguments, &["--config-yaml"]) {
        node.merge(text).map_err(|error| format!("--config-yaml: {error}"))?;
    }
    if let Some(cluster) = option(arguments, &["--service-cluster"]).filter(|name| !name.is_empty())
    {
        cluster.clone_into(&mut node.cluster);
    }
    Ok(node)
}

impl Node {
    fn merge(&mut self, bootstrap: &str) -> Result<(), String> {
        let bootstrap: Value =
            serde_norway::from_str(bootstrap).map_err(|error| format!("is no YAML: {error}"))?;
        let Some(node) = bootstrap.get("node") else { return Ok(()) };
        if let Some(cluster) = node.get("cluster").and_then(Value::as_str) {
            cluster.clone_into(&mut self.cluster);
        }
        if let Some(metadata) = node.get("metadata") {
            match (self.metadata.as_object_mut(), metadata.as_object()) {
                (Some(own), Some(other)) => own.extend(other.clone()),
                _ => self.metadata = metadata.clone(),
            }
        }
        Ok(())
    }
}

/// The value of an option: `--name value`, `--name=value`, `-n value`.
fn option<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(index, argument)| {
        names.iter().find_map(|name| match argument.strip_prefix(name)? {
            "" => arguments.get(index + 1).map(String::as_str),
            rest => rest.strip_prefix('='),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str, file: &str) -> Result<Node, String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        node(&arguments, |path| match path {
            "/e.yaml" => Ok(file.to_owned()),
            _ => Err("no such file".to_owned()),
        })
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
        assert!(of("envoy -c /e.pb", "").unwrap_err().contains("no YAML"));
        assert!(of("envoy -c /e.yaml", "a: [").unwrap_err().contains("/e.yaml"));
    }
}
