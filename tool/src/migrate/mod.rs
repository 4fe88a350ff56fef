//! `callout migrate`: the built-in filters of a configuration become ours. The text is changed where
//! it has to be, and nowhere else; a value that moves is written as it was.

mod routes;

use crate::envoy::{Kind, Level, TYPE, walk};
use crate::yaml::{Edits, File, Node, Shape};

/// A configuration that was carried over.
#[derive(Debug)]
pub(crate) struct Migrated {
    /// The new text.
    pub(crate) text: String,
    /// Configurations of built-in filters that became modules.
    pub(crate) wrapped: usize,
    /// What could not be carried over, or not as it was, each with its place.
    pub(crate) remarks: Vec<Remark>,
}

/// Something to know about a place of the old text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// What is gathered on the way.
#[derive(Debug, Default)]
struct Migration {
    edits: Edits,
    wrapped: usize,
    remarks: Vec<Remark>,
}

impl Migration {
    fn remark(&mut self, node: &Node, text: impl Into<String>) {
        let remark = Remark { line: node.line, text: text.into() };
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}

/// Carries `file` over: a bootstrap, a listener, routes, or any part of them.
pub(crate) fn migrate(file: &File) -> Migrated {
    let mut migration = Migration::default();
    for document in &file.documents {
        routes::carry_over(file, document, &mut migration);
        walk(document, &mut |node, _| {
            if node.message().contains(".dynamic_modules.") {
                return false;
            }
            if let Some((kind, level)) = Kind::of_message(node.message()) {
                wrap(file, node, kind, level, &mut migration);
                return false;
            }
            if let Some(types) = node.field("type_urls") {
                rename_types(types, &mut migration);
            }
            true
        });
    }
    let Migration { edits, wrapped, mut remarks } = migration;
    remarks.sort_by_key(|remark| remark.line);
    Migrated { text: edits.apply(file), wrapped, remarks }
}

/// The fields of a module's configuration before its `filter_config`.
fn head(kind: Kind, level: Level) -> [(&'static str, String); 3] {
    let name = kind.name();
    [
        ("@type", format!("\"{TYPE}{}\"", level.wrapper())),
        (
            "dynamic_module_config",
            format!("{{\"name\": \"callout_{name}\", \"do_not_close\": true}}"),
        ),
        ("filter_name", format!("\"{name}\"")),
    ]
}

fn wrap(file: &File, node: &Node, kind: Kind, level: Level, migration: &mut Migration) {
    let head = head(kind, level);
    let fields: Vec<(&str, &str)> =
        head.iter().map(|(name, value)| (*name, value.as_str())).collect();
    migration.edits.wrap(file, node, &fields, "filter_config");
    migration.wrapped += 1;
    if (kind, level) == (Kind::RateLimit, Level::Route) {
        // Both steer the limits of the route table, which are gone.
        migration.edits.remove(file, node, &["vh_rate_limits", "override_option"]);
    }
}

/// Filters that a control plane discovers are told by their types.
fn rename_types(types: &Node, migration: &mut Migration) {
    for item in types.items() {
        let url = item.text().unwrap_or_default();
        let message = url.rsplit('/').next().unwrap_or_default();
        if let (Some((_, level)), Shape::Scalar { .. }) = (Kind::of_message(message), &item.shape) {
            migration.edits.replace(item, &format!("\"{TYPE}{}\"", level.wrapper()));
            migration.remark(
                item,
                "this filter is served by a control plane: what it serves has to be migrated there, too",
            );
        }
    }
}

#[cfg(test)]
mod tests;
