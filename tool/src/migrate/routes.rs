//! The route table: its `rate_limits`, which a module can't see, go into the per-route configuration
//! of the filter whose stage they have, by the rules by which the built-in finds them.

use super::{Migration, head};
use crate::envoy::{Kind, Level, TYPE, walk};
use crate::yaml::{File, Node, Shape, emit};

/// A filter that reads the route table.
#[derive(Debug)]
struct Filter<'a> {
    name: &'a str,
    stage: String,
    /// It has limits of its own, and so never read the route table's.
    own_limits: bool,
}

/// Carries the route tables of a document over.
pub(super) fn carry_over(file: &File, document: &Node, migration: &mut Migration) {
    let mut all = Vec::new();
    walk(document, &mut |node, _| {
        let list = node.field("http_filters").map(Node::items).unwrap_or_default();
        all.extend(list.iter().filter_map(filter));
        true
    });
    walk(document, &mut |node, _| {
        if let Some(list) = node.field("http_filters") {
            let filters: Vec<Filter<'_>> = list.items().iter().filter_map(filter).collect();
            let served = node.field("rds").or_else(|| node.field("scoped_routes"));
            if let (Some(served), false) = (served, filters.is_empty()) {
                migration.remark(
                    served,
                    "routes that a control plane serves are not seen: migrate their files, too",
                );
            }
            if let Some(table) = node.field("route_config") {
                table_of(file, table, &filters, migration);
                return false;
            }
        }
        // A route table in a file of its own belongs to whatever filters the document has.
        if node.field("virtual_hosts").is_some() {
            table_of(file, node, &all, migration);
            return false;
        }
        true
    });
}

fn filter(node: &Node) -> Option<Filter<'_>> {
    let config = node.field("typed_config")?;
    if config.message() != Kind::RateLimit.message(Level::Filter) {
        return None;
    }
    let stage = stage(config);
    Some(Filter { name: node.text_of("name"), stage, own_limits: has_limits(config) })
}

fn stage(node: &Node) -> String {
    match node.text_of("stage") {
        "" => "0".to_owned(),
        stage => stage.to_owned(),
    }
}

fn has_limits(node: &Node) -> bool {
    node.field("rate_limits").is_some_and(|limits| !limits.items().is_empty())
}

fn table_of(file: &File, table: &Node, filters: &[Filter<'_>], migration: &mut Migration) {
    if filters.is_empty() {
        let mut limits = None;
        walk(table, &mut |node, _| {
            if Kind::of_message(node.message()).is_some()
                || node.message().contains(".dynamic_modules.")
            {
                return false;
            }
            limits = limits.or_else(|| node.field("rate_limits"));
            true
        });
        if let Some(limits) = limits {
            migration.remark(
                limits,
                "rate_limits without a built-in rate limit filter beside them: left as they are",
            );
        }
        return;
    }
    for host in table.field("virtual_hosts").map(Node::items).unwrap_or_default() {
        for route in host.field("routes").map(Node::items).unwrap_or_default() {
            let made = |filter: &Filter<'_>| route_of(file, route, host, filter, migration);
            let fresh: Vec<Fresh> = filters.iter().filter_map(made).collect();
            put(file, route, &fresh, migration);
            if let Some(action) = route.field("route") {
                let limits = ["rate_limits", "include_vh_rate_limits"];
                migration.edits.remove(file, action, &limits);
            }
        }
        migration.edits.remove(file, host, &["rate_limits"]);
    }
}

/// A per-route configuration that was not there.
struct Fresh {
    filter: String,
    domain: String,
    limits: Node,
}

/// The limits that the route table gives `filter` on this route: they go into the route's own
/// configuration, if it has one, and else into one that is returned.
fn route_of(
    file: &File,
    route: &Node,
    host: &Node,
    filter: &Filter<'_>,
    migration: &mut Migration,
) -> Option<Fresh> {
    let config_of = |level: &Node| -> Option<Node> {
        let config = level.field("typed_per_filter_config")?.get(filter.name)?;
        (config.message() == Kind::RateLimit.message(Level::Route)).then(|| config.clone())
    };
    let own = config_of(route);
    let config = own.clone().or_else(|| config_of(host));
    let action = route.field("route");
    let of_route = action.and_then(|action| action.field("rate_limits"));
    let of_host = host.field("rate_limits").filter(|limits| !limits.items().is_empty());
    let of_route = of_route.filter(|limits| !limits.items().is_empty());
    if of_route.is_none() && of_host.is_none() {
        return None;
    }
    if filter.own_limits || config.as_ref().is_some_and(has_limits) {
        let why = "these limits are gone: the filter has limits of its own here, so that they were never read";
        migration.remark(of_route.or(of_host).unwrap_or(route), why);
        return None;
    }
    let include = action
        .and_then(|action| action.field("include_vh_rate_limits"))
        .is_some_and(|include| include.json() == true);
    let option = config.as_ref().map(|config| config.text_of("vh_rate_limits").to_owned());
    let with_host = include
        || match option.unwrap_or_default().to_ascii_uppercase().as_str() {
            "INCLUDE" | "1" => true,
            "IGNORE" | "2" => false,
            _ => of_route.is_none(),
        };
    let of_host = of_host.filter(|_| with_host);
    let mut moved = Vec::new();
    for limit in [of_route, of_host].into_iter().flatten().flat_map(Node::items) {
        if stage(limit) == filter.stage {
            moved.push(entry(limit, migration));
        }
    }
    if moved.is_empty() {
        return None;
    }
    let limits = Node { shape: Shape::List { items: moved }, ..route.clone() };
    if let Some(own) = own {
        let flow = limits.json().to_string();
        migration.edits.add(file, &own, "rate_limits", |indent| emit(&limits, indent), &flow);
        return None;
    }
    let domain = config.map(|config| config.text_of("domain").to_owned()).unwrap_or_default();
    Some(Fresh { filter: filter.name.to_owned(), domain, limits })
}

/// An entry of the route table as an entry of a filter's own.
fn entry(limit: &Node, migration: &mut Migration) -> Node {
    for (field, why) in [
        ("disable_key", "disable_key is gone: a module reads no runtime keys"),
        ("hits_addend", "hits_addend is gone: the built-in ignored it in a route table"),
    ] {
        if let Some(node) = limit.field(field) {
            migration.remark(node, why);
        }
    }
    let gone = ["stage", "disable_key", "hits_addend"];
    let kept =
        limit.entries().iter().filter(|(key, _)| !gone.iter().any(|name| key.is_named(name)));
    Node { shape: Shape::Map { entries: kept.cloned().collect(), flow: false }, ..limit.clone() }
}

/// Adds per-route configurations to a route.
fn put(file: &File, route: &Node, fresh: &[Fresh], migration: &mut Migration) {
    if let Some(configs) = route.field("typed_per_filter_config") {
        for one in fresh {
            let name = quoted(&one.filter);
            migration.edits.add(file, configs, &name, |indent| one.block(indent), &one.flow());
        }
        return;
    }
    let block = |indent: usize| {
        let entry = |one: &Fresh| {
            let inner = " ".repeat(indent + 2);
            format!("{}:\n{inner}{}", quoted(&one.filter), one.block(indent + 2))
        };
        let entries: Vec<String> = fresh.iter().map(entry).collect();
        entries.join(&format!("\n{}", " ".repeat(indent)))
    };
    let entry = |one: &Fresh| format!("{}: {}", quoted(&one.filter), one.flow());
    let flow = fresh.iter().map(entry).collect::<Vec<_>>().join(", ");
    if !fresh.is_empty() {
        migration.edits.add(file, route, "typed_per_filter_config", block, &format!("{{{flow}}}"));
    }
}

impl Fresh {
    fn message() -> String {
        quoted(&format!("{TYPE}{}", Kind::RateLimit.message(Level::Route)))
    }

    /// The configuration as block YAML, each line after the first behind `indent` blanks.
    fn block(&self, indent: usize) -> String {
        let (outer, inner) = (" ".repeat(indent), " ".repeat(indent + 2));
        let mut text = String::new();
        for (name, value) in &head(Kind::RateLimit, Level::Route) {
            let name = if name.starts_with('@') { quoted(name) } else { (*name).to_owned() };
            text.push_str(&format!("{name}: {value}\n{outer}"));
        }
        text.push_str(&format!("filter_config:\n{inner}\"@type\": {}\n{inner}", Self::message()));
        if !self.domain.is_empty() {
            text.push_str(&format!("domain: {}\n{inner}", quoted(&self.domain)));
        }
        text.push_str(&format!("rate_limits:\n{inner}{}", emit(&self.limits, indent + 2)));
        text
    }

    /// The configuration in one line of JSON.
    fn flow(&self) -> String {
        let head = head(Kind::RateLimit, Level::Route);
        let fields: Vec<String> =
            head.iter().map(|(name, value)| format!("{}: {value}", quoted(name))).collect();
        let domain = if self.domain.is_empty() {
            String::new()
        } else {
            format!("\"domain\": {}, ", quoted(&self.domain))
        };
        format!(
            "{{{}, \"filter_config\": {{\"@type\": {}, {domain}\"rate_limits\": {}}}}}",
            fields.join(", "),
            Self::message(),
            self.limits.json()
        )
    }
}

/// JSON's quotes, which YAML reads alike.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
