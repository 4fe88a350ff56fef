//! The route table: its `rate_limits` go into the per-route configuration of the filter whose stage
//! they have, by the rules by which the built-in finds them.

use serde_json::{Value, json};

use super::{PER_ROUTE, Remarks, TYPE, is, is_empty, module, text};

/// A filter that reads the route table.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: String,
    pub(super) stage: u64,
    /// It has limits of its own, and so never read the route table's.
    pub(super) own_limits: bool,
}

/// Carries a `RouteConfiguration` over.
pub(super) fn carry_over(
    table: &mut Value,
    filters: &[Filter],
    place: &str,
    remarks: &mut Remarks,
) {
    for host in list(table, "virtual_hosts") {
        let host_limits = host.get("rate_limits").cloned().unwrap_or_default();
        let host_name = text(host, "name").to_owned();
        let host_configs = per_filter(host, filters);
        for (number, route) in list(host, "routes").enumerate() {
            let place = format!("{place}: virtual host `{host_name}`, route {number}");
            for (filter, host_config) in filters.iter().zip(&host_configs) {
                of_route(route, &host_limits, host_config, filter, &place, remarks);
            }
            if let Some(action) = route.get_mut("route") {
                drop_field(action, "rate_limits");
                drop_field(action, "include_vh_rate_limits");
            }
            for cluster in route
                .pointer_mut("/route/weighted_clusters/clusters")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                wrap_configs(cluster, filters);
            }
            wrap_configs(route, filters);
        }
        drop_field(host, "rate_limits");
        wrap_configs(host, filters);
    }
    wrap_configs(table, filters);
}

/// The limits that the route table gives `filter` on this route.
fn of_route(
    route: &mut Value,
    host_limits: &Value,
    host_config: &Value,
    filter: &Filter,
    place: &str,
    remarks: &mut Remarks,
) {
    let pointer = format!("/typed_per_filter_config/{}", escaped(&filter.name));
    let own_config = route.pointer(&pointer).filter(|config| is(config, PER_ROUTE)).cloned();
    let config = own_config.unwrap_or_else(|| host_config.clone());
    let route_limits = route.pointer("/route/rate_limits").cloned().unwrap_or_default();
    if is_empty(&route_limits) && is_empty(host_limits) {
        return;
    }
    if filter.own_limits || config.get("rate_limits").is_some_and(|limits| !is_empty(limits)) {
        let why =
            "the filter has limits of its own here, so that the route table's were never read";
        remarks.add(place, why);
        return;
    }
    let include = route.pointer("/route/include_vh_rate_limits") == Some(&json!(true));
    let with_host = include
        || match text(&config, "vh_rate_limits") {
            "INCLUDE" => true,
            "IGNORE" => false,
            _ => is_empty(&route_limits),
        };
    let mut limits = Vec::new();
    let host_limits = if with_host { host_limits } else { &Value::Null };
    for limit in [&route_limits, host_limits].into_iter().filter_map(Value::as_array).flatten() {
        if limit.get("stage").and_then(Value::as_u64).unwrap_or_default() == filter.stage {
            limits.push(entry(limit, place, remarks));
        }
    }
    if limits.is_empty() {
        return;
    }
    let mut message = json!({"@type": format!("{TYPE}{PER_ROUTE}"), "rate_limits": limits});
    if let (Some(domain), Some(fields)) = (config.get("domain"), message.as_object_mut()) {
        fields.insert("domain".to_owned(), domain.clone());
    }
    set_config(route, &filter.name, message);
}

/// An entry of the route table as an entry of a filter's own.
fn entry(limit: &Value, place: &str, remarks: &mut Remarks) -> Value {
    let mut entry = limit.clone();
    drop_field(&mut entry, "stage");
    if drop_field(&mut entry, "disable_key") {
        remarks.add(place, "disable_key is gone: a module reads no runtime keys");
    }
    if drop_field(&mut entry, "hits_addend") {
        remarks.add(place, "hits_addend is gone: the built-in ignored it in a route table");
    }
    entry
}

/// The per-route messages of each filter at one level of the table.
fn per_filter(level: &Value, filters: &[Filter]) -> Vec<Value> {
    let of = |filter: &Filter| {
        let config = level.get("typed_per_filter_config")?.get(&filter.name)?;
        is(config, PER_ROUTE).then(|| config.clone())
    };
    filters.iter().map(|filter| of(filter).unwrap_or_default()).collect()
}

/// Wraps the per-route messages at one level of the table.
fn wrap_configs(level: &mut Value, filters: &[Filter]) {
    for filter in filters {
        let config = level
            .get_mut("typed_per_filter_config")
            .and_then(|configs| configs.get_mut(&filter.name))
            .filter(|config| is(config, PER_ROUTE));
        if let Some(config) = config {
            let mut message = config.take();
            // Both steer the limits of the route table, which are gone.
            drop_field(&mut message, "vh_rate_limits");
            drop_field(&mut message, "override_option");
            *config = module(message, "filter_name", "PerRoute");
        }
    }
}

fn set_config(route: &mut Value, name: &str, message: Value) {
    if let Some(fields) = route.as_object_mut() {
        let configs = fields.entry("typed_per_filter_config").or_insert_with(|| json!({}));
        if let Some(configs) = configs.as_object_mut() {
            configs.insert(name.to_owned(), message);
        }
    }
}

fn list<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

fn drop_field(value: &mut Value, field: &str) -> bool {
    value.as_object_mut().is_some_and(|fields| fields.remove(field).is_some())
}

/// A name as a part of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
