//! Envoy's configuration, as far as both commands have to know it: where our filters and the built-in
//! ones are, and the names of the places.

use crate::yaml::Node;

/// Where Envoy's types live.
pub(crate) const TYPE: &str = "type.googleapis.com/";
const MODULE: &str = "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
pub(crate) const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// One of the three filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Authz,
    #[value(name = "ratelimit")]
    RateLimit,
    #[value(name = "extproc")]
    ExtProc,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Authz, Self::RateLimit, Self::ExtProc];

    /// The name of the filter and of its library, without `callout_`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Authz => "authz",
            Self::RateLimit => "ratelimit",
            Self::ExtProc => "extproc",
        }
    }

    /// The configuration message of the filter, or of its routes.
    pub(crate) const fn message(self, level: Level) -> &'static str {
        match (self, level) {
            (Self::Authz, Level::Filter) => "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            (Self::Authz, Level::Route) => {
                "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
            }
            (Self::RateLimit, Level::Filter) => {
                "envoy.extensions.filters.http.ratelimit.v3.RateLimit"
            }
            (Self::RateLimit, Level::Route) => {
                "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
            }
            (Self::ExtProc, Level::Filter) => {
                "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
            }
            (Self::ExtProc, Level::Route) => {
                "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
            }
        }
    }

    /// The built-in filter whose configuration `message` is.
    pub(crate) fn of_message(message: &str) -> Option<(Self, Level)> {
        let all = Self::ALL.into_iter().flat_map(|kind| Level::ALL.map(|level| (kind, level)));
        all.into_iter().find(|(kind, level)| kind.message(*level) == message)
    }

    /// The filter that a library of this name has: `callout_authz`, `libcallout_authz-0.1.0.so`,
    /// `callout-authz`.
    fn of_library(name: &str) -> Option<Self> {
        let file = name.rsplit('/').next().unwrap_or(name);
        let file = file.strip_prefix("lib").unwrap_or(file);
        let rest = file.strip_prefix("callout_").or_else(|| file.strip_prefix("callout-"))?;
        Self::ALL.into_iter().find(|kind| rest.starts_with(kind.name()))
    }
}

/// Where a configuration holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Filter,
    Route,
}

impl Level {
    const ALL: [Self; 2] = [Self::Filter, Self::Route];

    /// The message by which a module is configured at this level.
    pub(crate) fn wrapper(self) -> String {
        match self {
            Self::Filter => MODULE.to_owned(),
            Self::Route => format!("{MODULE}PerRoute"),
        }
    }
}

/// A configuration of one of our modules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Module<'a> {
    pub(crate) kind: Kind,
    pub(crate) level: Level,
    pub(crate) node: &'a Node,
}

impl<'a> Module<'a> {
    /// The module that `node` configures, if it is one of ours.
    pub(crate) fn of(node: &'a Node) -> Option<Self> {
        let message = node.message();
        let level = Level::ALL.into_iter().find(|level| level.wrapper() == message)?;
        let library = node.field("dynamic_module_config")?;
        let file = library.field("module").and_then(|module| module.field("local"));
        let kind = Kind::of_library(library.text_of("name"))
            .or_else(|| Kind::of_library(file?.text_of("filename")))
            .or_else(|| {
                let remote = library.field("module")?.field("remote")?.field("http_uri")?;
                Kind::of_library(remote.text_of("uri"))
            })?;
        Some(Self { kind, level, node })
    }

    /// The fields of its configuration, in whatever form they are written; `None` for a text.
    pub(crate) fn fields(&self) -> Option<&'a Node> {
        let config = self.node.field("filter_config")?;
        if Kind::of_message(config.message()).is_some() {
            return Some(config);
        }
        config.field("value").filter(|value| value.text().is_none())
    }
}

/// Calls `found` for every value, outermost first, with the names of the places it is in. What it
/// answers tells whether to look inside.
pub(crate) fn walk<'a>(node: &'a Node, found: &mut dyn FnMut(&'a Node, &Place) -> bool) {
    step(node, &Place::default(), found);
}

fn step<'a>(node: &'a Node, place: &Place, found: &mut dyn FnMut(&'a Node, &Place) -> bool) {
    if !found(node, place) {
        return;
    }
    for (key, value) in node.entries() {
        let key = key.text().unwrap_or_default();
        if let crate::yaml::Shape::List { items } = &value.shape {
            for (number, item) in items.iter().enumerate() {
                step(item, &place.inside(key, item, number), found);
            }
        } else {
            step(value, &place.keyed(key), found);
        }
    }
    if let crate::yaml::Shape::List { items } = &node.shape {
        for item in items {
            step(item, place, found);
        }
    }
}

/// The names of the listener, the filter, the route ... that a value belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    parts: Vec<String>,
    /// The next keys are names of filters.
    per_filter: bool,
}

impl Place {
    fn inside(&self, list: &str, item: &Node, number: usize) -> Self {
        let name = item.text_of("name");
        let part = match list {
            "listeners" => format!("listener {name}"),
            "http_filters" | "httpFilters" => format!("filter {name}"),
            "virtual_hosts" | "virtualHosts" => format!("virtual host {name}"),
            "routes" => match matched(item) {
                Some(matched) => format!("route {number} ({matched})"),
                None => format!("route {number}"),
            },
            "clusters" if !name.is_empty() => format!("cluster {name}"),
            _ => return self.clone(),
        };
        let mut parts = self.parts.clone();
        parts.push(part);
        Self { parts, per_filter: false }
    }

    /// This place, and `inner` in it.
    pub(crate) fn with(mut self, inner: &Self) -> Self {
        self.parts.extend(inner.parts.iter().cloned());
        self
    }

    fn keyed(&self, key: &str) -> Self {
        let mut place = self.clone();
        if std::mem::take(&mut place.per_filter) {
            place.parts.push(format!("filter {key}"));
        }
        place.per_filter = matches!(key, "typed_per_filter_config" | "typedPerFilterConfig");
        place
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts.join(", "))
    }
}

/// The path that a route matches.
fn matched(route: &Node) -> Option<&str> {
    let matched = route.field("match")?;
    ["prefix", "path", "path_separated_prefix"]
        .into_iter()
        .find_map(|field| matched.field(field)?.text())
        .or_else(|| matched.field("safe_regex")?.field("regex")?.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::File;

    #[test]
    fn a_library_is_known_by_every_name_it_goes_by() {
        for name in ["callout_authz", "/a/libcallout_authz-0.1.0.so", "callout-authz"] {
            assert_eq!(Kind::of_library(name), Some(Kind::Authz), "{name}");
        }
        assert_eq!(Kind::of_library("coraza"), None);
    }

    #[test]
    fn places_are_named() {
        let text = r#"
static_resources:
  listeners:
  - name: main
    filter_chains: [{filters: [{typed_config: {route_config: {virtual_hosts: [{name: all, routes: [
      {match: {prefix: /a}, typed_per_filter_config: {az: {mark: here}}}]}]}}}]}]
"#;
        let file = File::parse(text).unwrap();
        let mut places = Vec::new();
        walk(&file.documents[0], &mut |node, place| {
            if node.get("mark").is_some() {
                places.push(place.to_string());
            }
            true
        });
        assert_eq!(places, ["listener main, virtual host all, route 0 (/a), filter az"]);
    }
}
