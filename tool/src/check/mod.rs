//! `callout check`: what our modules refuse or warn about, and what they can't see, before Envoy runs.

mod limits;
mod services;
mod warnings;

use callout_authz::Authz;
use callout_common::{ConfigError, check};
use callout_extproc::ExtProc;
use callout_ratelimit::RateLimit;
use serde_json::Value as Json;

use crate::envoy::{Kind, Level, MANAGER, Module, Place, walk};
use crate::yaml::{File, Node};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Envoy will not load it, or every call will fail.
    Error,
    /// It loads, and does not do what it says.
    Warning,
}

/// Something that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) place: String,
    pub(crate) text: String,
}

/// All that was found, in the order of the lines.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, node: &Node, place: &Place, text: impl Into<String>) {
        let finding =
            Finding { severity, line: node.line, place: place.to_string(), text: text.into() };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    fn error(&mut self, node: &Node, place: &Place, text: impl Into<String>) {
        self.add(Severity::Error, node, place, text);
    }

    fn warn(&mut self, node: &Node, place: &Place, text: impl Into<String>) {
        self.add(Severity::Warning, node, place, text);
    }
}

/// What a check came to.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Configurations of our modules that were read.
    pub(crate) modules: usize,
    pub(crate) findings: Vec<Finding>,
}

/// Checks every configuration of our modules in `file`.
pub(crate) fn check_file(file: &File) -> Checked {
    let mut findings = Findings::default();
    let mut modules = 0;
    for document in &file.documents {
        let clusters = services::ClusterStreams::of(document);
        walk(document, &mut |node, place| {
            if node.message() == MANAGER || node.field("http_filters").is_some() {
                limits::check_manager(node, place, &mut findings);
            }
            let Some(module) = Module::of(node) else { return true };
            modules += 1;
            check_module(&module, place, &mut findings);
            clusters.check(&module, place, &mut findings);
            false
        });
    }
    findings.0.sort_by_key(|finding| finding.line);
    Checked { modules, findings: findings.0 }
}

fn check_module(module: &Module<'_>, place: &Place, findings: &mut Findings) {
    let node = module.node;
    let name = module.kind.name();
    if let Some(old) = node.field("per_route_config_name") {
        let text = "per_route_config_name is deprecated, and Envoy warns of it: write filter_name";
        findings.warn(old, place, text);
    }
    let named = node.field("filter_name").or_else(|| node.field("per_route_config_name"));
    match named.and_then(Node::text) {
        Some(written) if written != name => {
            let text = format!("at filter_name: `{written}` is not in this library, `{name}` is");
            findings.error(named.unwrap_or(node), place, text);
        }
        None if module.level == Level::Filter => {
            findings.error(node, place, format!("at filter_name: is required: write {name}"));
        }
        _ => {}
    }
    let library = node.field("dynamic_module_config");
    let remote = library.and_then(|library| library.field("module")?.field("remote"));
    if let (Some(remote), Kind::Authz) = (remote, module.kind) {
        let text =
            "a remote module that can't be fetched lets every request pass: give Envoy a file";
        findings.warn(remote, place, text);
    }
    let (result, warnings) = warnings::collected(|| read(module));
    let config = node.field("filter_config").unwrap_or(node);
    let fields = module.fields().unwrap_or(config);
    if let Err(error) = result {
        findings.error(fields.at(error.path()), place, error.to_string());
    }
    for warning in warnings {
        let text =
            warning.strip_prefix(name).and_then(|w| w.strip_prefix(": ")).unwrap_or(&warning);
        if text.starts_with("rate_limits is empty") {
            // Said by `limits`, with the routes in view.
            continue;
        }
        let path = text.split([' ', ':']).next().unwrap_or_default();
        findings.warn(fields.at(path), place, text);
    }
}

/// Reads a configuration as the module will.
fn read(module: &Module<'_>) -> Result<(), ConfigError> {
    let bytes = bytes(module)?;
    match (module.kind, module.level) {
        (Kind::Authz, Level::Filter) => check::filter::<Authz>("authz", &bytes),
        (Kind::Authz, Level::Route) => check::route::<Authz>(&bytes),
        (Kind::RateLimit, Level::Filter) => check::filter::<RateLimit>("ratelimit", &bytes),
        (Kind::RateLimit, Level::Route) => check::route::<RateLimit>(&bytes),
        (Kind::ExtProc, Level::Filter) => check::filter::<ExtProc>("extproc", &bytes),
        (Kind::ExtProc, Level::Route) => check::route::<ExtProc>(&bytes),
    }
}

/// What Envoy hands over.
fn bytes(module: &Module<'_>) -> Result<Vec<u8>, ConfigError> {
    let wanted = module.kind.message(module.level);
    let Some(config) = module.node.field("filter_config") else { return Ok(Vec::new()) };
    let value = config.field("value");
    match config.message() {
        "google.protobuf.Struct" => {
            Ok(value.map_or_else(|| "{}".to_owned(), |value| value.json().to_string()).into_bytes())
        }
        "google.protobuf.StringValue" => {
            Ok(value.and_then(Node::text).unwrap_or_default().as_bytes().to_vec())
        }
        "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct" => {
            let url = config.text_of("type_url");
            if url.rsplit('/').next() != Some(wanted) {
                let reason = format!("is `{url}`, where {wanted} is needed");
                return Err(ConfigError::field("type_url", reason));
            }
            Ok(value.map_or_else(|| "{}".to_owned(), |value| value.json().to_string()).into_bytes())
        }
        message if message == wanted => {
            let mut json = config.json();
            let fields = json.as_object_mut();
            if let Some(fields) = fields {
                fields.remove("@type");
                if fields.contains_key("callout") {
                    let reason = format!(
                        "{wanted} has no such field: write the configuration as a google.protobuf.Struct, with the same fields under `value`"
                    );
                    return Err(ConfigError::field("callout", reason));
                }
            }
            Ok(json.to_string().into_bytes())
        }
        "" => Err(ConfigError::field("filter_config.@type", format!("is required: {wanted}"))),
        other => Err(ConfigError::field(
            "filter_config.@type",
            format!("is {other}, where {wanted} or a google.protobuf.Struct is needed"),
        )),
    }
}

impl Finding {
    /// The finding in one line, behind the name of its file.
    pub(crate) fn line(&self, file: &str) -> String {
        let word = match self.severity {
            Severity::Error => "\u{1b}[1;31merror\u{1b}[0m",
            Severity::Warning => "\u{1b}[1;33mwarning\u{1b}[0m",
        };
        let place = if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) };
        format!("{file}:{}: {word}: {place}{}", self.line, self.text)
    }

    /// The finding for a program.
    pub(crate) fn json(&self, file: &str) -> Json {
        serde_json::json!({
            "file": file,
            "line": self.line,
            "severity": match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "place": self.place,
            "message": self.text,
        })
    }
}

#[cfg(test)]
mod tests;
