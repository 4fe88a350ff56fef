//! What a module can't see of its connection manager: the route table's limits, and per-route
//! configurations under another filter's name.

use super::Findings;
use crate::envoy::{Kind, Level, Module, Place, walk};
use crate::yaml::Node;

/// Checks the filters of a connection manager against its route table.
pub(super) fn check_manager(manager: &Node, place: &Place, findings: &mut Findings) {
    let filters = manager.field("http_filters").map(Node::items).unwrap_or_default();
    let ours: Vec<(&str, Module<'_>)> = filters
        .iter()
        .filter_map(|filter| {
            Some((filter.text_of("name"), Module::of(filter.field("typed_config")?)?))
        })
        .collect();
    let table = manager.field("route_config");
    if let (Some(table), false) = (table, ours.is_empty()) {
        let names: Vec<&str> = filters.iter().map(|filter| filter.text_of("name")).collect();
        check_names(table, &names, place, findings);
    }
    for (name, module) in ours {
        if module.kind == Kind::RateLimit {
            check_limits(name, &module, table, place, findings);
        }
    }
}

/// A per-route configuration holds for the filter whose name is its key.
fn check_names(table: &Node, names: &[&str], outer: &Place, findings: &mut Findings) {
    walk(table, &mut |node, place| {
        let configs = node.field("typed_per_filter_config").map(Node::entries).unwrap_or_default();
        for (key, config) in configs {
            let name = key.text().unwrap_or_default();
            if Module::of(config).is_some() && !names.contains(&name) {
                let text = format!(
                    "no filter is called `{name}`, so that this has no effect: the filters are {}",
                    names.join(", ")
                );
                findings.warn(key, &both(outer, place), text);
            }
        }
        Module::of(node).is_none()
    });
}

fn both(outer: &Place, inner: &Place) -> Place {
    outer.clone().with(inner)
}

fn check_limits(
    name: &str,
    module: &Module<'_>,
    table: Option<&Node>,
    place: &Place,
    findings: &mut Findings,
) {
    let own = |module: &Module<'_>| match module.fields() {
        Some(fields) => fields.field("rate_limits").is_some_and(|list| !list.items().is_empty()),
        // A text: it is not looked into.
        None => module.node.field("filter_config").is_some(),
    };
    let mut limited = own(module);
    let mut first_of_table = None;
    if let Some(table) = table {
        walk(table, &mut |node, _| {
            if let Some(module) = Module::of(node) {
                let here = module.kind == Kind::RateLimit && module.level == Level::Route;
                limited |= here && own(&module);
                return false;
            }
            if let Some(limits) = node.field("rate_limits").filter(|l| !l.items().is_empty()) {
                first_of_table = first_of_table.or(Some(limits));
            }
            true
        });
    }
    if let Some(limits) = first_of_table {
        let text = format!(
            "a module can't see the rate_limits of the route table, so that `{name}` does not count them: `callout migrate` moves them into its own configuration"
        );
        findings.warn(limits, place, text);
    }
    if !limited && table.is_some() {
        let text = format!(
            "`{name}` has no rate_limits of its own, here or on a route: it limits nothing"
        );
        findings.warn(module.node, place, text);
    }
}
