//! Carries an Envoy configuration over: the built-in rate limit filter becomes this one, and the
//! limits of the route table, which a module can't see, become per-route configurations.

mod routes;

use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/";
const DYNAMIC: &str = "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
const FILTER: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimit";
const PER_ROUTE: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";
const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A configuration that was carried over.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrated {
    /// The new configuration.
    pub config: Value,
    /// What could not be carried over, or not as it was, each with its place.
    pub remarks: Vec<String>,
}

/// What is said about a configuration on the way.
#[derive(Debug, Default)]
struct Remarks(Vec<String>);

impl Remarks {
    fn add(&mut self, place: &str, remark: impl std::fmt::Display) {
        self.0.push(format!("{place}: {remark}"));
    }
}

/// Carries `config` over: a whole bootstrap, a listener, or a connection manager.
#[must_use]
pub fn migrate(mut config: Value) -> Migrated {
    let mut remarks = Remarks::default();
    managers(&mut config, &mut |manager| carry_over(manager, &mut remarks));
    Migrated { config, remarks: remarks.0 }
}

/// Finds the connection managers, wherever they are.
fn managers(value: &mut Value, found: &mut impl FnMut(&mut Value)) {
    if is(value, MANAGER) {
        return found(value);
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| managers(field, found)),
        Value::Array(values) => values.iter_mut().for_each(|value| managers(value, found)),
        _ => {}
    }
}

fn carry_over(manager: &mut Value, remarks: &mut Remarks) {
    let mut filters = manager.get_mut("http_filters").map(Value::take).unwrap_or_default();
    let place = manager.get("stat_prefix").and_then(Value::as_str).unwrap_or("manager").to_owned();
    let mut stages = Vec::new();
    for filter in filters.as_array_mut().into_iter().flatten() {
        let name = text(filter, "name").to_owned();
        let Some(config) = filter.get_mut("typed_config").filter(|config| is(config, FILTER))
        else {
            continue;
        };
        let stage = config.get("stage").and_then(Value::as_u64).unwrap_or_default();
        let own = config.get("rate_limits").is_some_and(|limits| !is_empty(limits));
        stages.push(routes::Filter { name, stage, own_limits: own });
        let message = config.take();
        *config = module(message, "filter_name", "");
    }
    if let (false, Some(fields)) = (filters.is_null(), manager.as_object_mut()) {
        fields.insert("http_filters".to_owned(), filters);
    }
    if stages.is_empty() {
        return;
    }
    if manager.get("rds").is_some() || manager.get("scoped_routes").is_some() {
        remarks.add(&place, "routes that a control plane serves are not seen: give it their files");
    }
    if let Some(table) = manager.get_mut("route_config") {
        routes::carry_over(table, &stages, &place, remarks);
    }
}

/// Wraps a message of the built-in filter for this one.
fn module(message: Value, name_field: &str, suffix: &str) -> Value {
    let mut wrapped = json!({
        "@type": format!("{TYPE}{DYNAMIC}{suffix}"),
        "dynamic_module_config": {"name": "callout_ratelimit", "do_not_close": true},
        "filter_config": message,
    });
    if let Some(fields) = wrapped.as_object_mut() {
        fields.insert(name_field.to_owned(), json!("ratelimit"));
    }
    wrapped
}

fn is(value: &Value, message: &str) -> bool {
    text(value, "@type").strip_prefix(TYPE) == Some(message)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests;
