use super::*;

fn limit(value: &str) -> Value {
    json!({"actions": [{"generic_key": {"descriptor_value": value}}]})
}

fn staged(value: &str, stage: u64) -> Value {
    let mut limit = limit(value);
    limit["stage"] = json!(stage);
    limit
}

fn builtin(fields: &Value) -> Value {
    let mut config = json!({
        "@type": format!("{TYPE}{FILTER}"),
        "domain": "d",
        "rate_limit_service": {"grpc_service": {"envoy_grpc": {"cluster_name": "rls"}}},
    });
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    json!({"name": "limits", "typed_config": config})
}

fn bootstrap(fields: &Value, host: &Value) -> Value {
    json!({
        "static_resources": {
            "listeners": [{"filter_chains": [{"filters": [{"typed_config": {
                "@type": format!("{TYPE}{MANAGER}"),
                "stat_prefix": "in",
                "http_filters": [builtin(fields), {"name": "router"}],
                "route_config": {"virtual_hosts": [host]},
            }}]}]}],
        },
    })
}

const IN: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

/// The limits of the only route afterwards, by their values, and the remarks.
fn folded(fields: &Value, host_limits: Value, mut route: Value) -> (Vec<String>, Vec<String>) {
    route["match"] = json!({"prefix": "/"});
    let host = json!({"name": "h", "rate_limits": host_limits, "routes": [route]});
    let Migrated { config, remarks } = migrate(bootstrap(fields, &host));
    let manager = config.pointer(IN).unwrap();
    let host = manager.pointer("/route_config/virtual_hosts/0").unwrap();
    assert!(host.get("rate_limits").is_none());
    let route = host.pointer("/routes/0").unwrap();
    assert!(route.pointer("/route/rate_limits").is_none());
    let limits = route
        .pointer("/typed_per_filter_config/limits/filter_config/rate_limits")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let value = |limit: &Value| {
        assert!(limit.get("stage").is_none() && limit.get("disable_key").is_none());
        limit.pointer("/actions/0/generic_key/descriptor_value").unwrap().as_str().unwrap().into()
    };
    (limits.iter().map(value).collect(), remarks)
}

fn limits(host_limits: Value, route: Value) -> Vec<String> {
    folded(&json!({}), host_limits, route).0
}

fn per_route(fields: &Value) -> Value {
    let mut config = fields.clone();
    config["@type"] = json!(format!("{TYPE}{PER_ROUTE}"));
    json!({"limits": config})
}

#[test]
fn the_filter_becomes_a_module_with_the_old_message() {
    let host = json!({"name": "h", "routes": []});
    let Migrated { config, remarks } = migrate(bootstrap(&json!({"stage": 1}), &host));
    let filter = config.pointer(&format!("{IN}/http_filters/0")).unwrap();
    assert_eq!(filter["name"], "limits");
    let module = &filter["typed_config"];
    assert!(is(module, DYNAMIC));
    assert_eq!(module["filter_name"], "ratelimit");
    let message = &module["filter_config"];
    assert!(is(message, FILTER));
    let service = message.pointer("/rate_limit_service/grpc_service").unwrap();
    assert_eq!(service, &json!({"envoy_grpc": {"cluster_name": "rls"}}));
    assert_eq!(config.pointer(&format!("{IN}/http_filters/1/name")).unwrap(), "router");
    assert!(remarks.is_empty(), "{remarks:?}");
}

#[test]
fn a_routes_limits_come_first_and_its_hosts_where_it_has_none_or_asks_for_them() {
    let host = json!([limit("host")]);
    let with = |fields: Value| limits(host.clone(), fields);
    assert_eq!(with(json!({"route": {"rate_limits": [limit("route")]}})), ["route"]);
    assert_eq!(with(json!({"route": {}})), ["host"]);
    let both = json!({"route": {"rate_limits": [limit("route")], "include_vh_rate_limits": true}});
    assert_eq!(with(both), ["route", "host"]);
    let include = per_route(&json!({"vh_rate_limits": "INCLUDE"}));
    let both =
        json!({"route": {"rate_limits": [limit("route")]}, "typed_per_filter_config": include});
    assert_eq!(with(both), ["route", "host"]);
    let ignore = per_route(&json!({"vh_rate_limits": "IGNORE"}));
    assert!(with(json!({"route": {}, "typed_per_filter_config": ignore})).is_empty());
    let ignore = per_route(&json!({"vh_rate_limits": "IGNORE"}));
    let beaten =
        json!({"route": {"include_vh_rate_limits": true}, "typed_per_filter_config": ignore});
    assert_eq!(with(beaten), ["host"]);
}

#[test]
fn only_limits_of_the_filters_stage_are_its_own() {
    let route = json!({"route": {"rate_limits": [staged("a", 1), limit("b")]}});
    assert_eq!(limits(json!([]), route.clone()), ["b"]);
    assert_eq!(folded(&json!({"stage": 1}), json!([]), route).0, ["a"]);
}

#[test]
fn what_can_not_be_carried_over_is_said() {
    let mut odd = limit("a");
    odd["disable_key"] = json!("k");
    odd["hits_addend"] = json!({"number": 2});
    let (_, remarks) = folded(&json!({}), json!([]), json!({"route": {"rate_limits": [odd]}}));
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    let own = json!({"rate_limits": [limit("own")]});
    let (limits, remarks) = folded(&own, json!([limit("host")]), json!({"route": {}}));
    assert!(limits.is_empty() && remarks[0].contains("never read"), "{remarks:?}");
}

#[test]
fn messages_that_are_there_already_are_wrapped_and_keep_their_domain() {
    let domain = per_route(&json!({"domain": "other"}));
    let host = json!({"name": "h", "typed_per_filter_config": domain.clone(), "routes": [
        {"route": {"rate_limits": [limit("a")]}, "typed_per_filter_config": domain},
    ]});
    let Migrated { config, .. } = migrate(bootstrap(&json!({}), &host));
    let host = config.pointer(&format!("{IN}/route_config/virtual_hosts/0")).unwrap();
    let at_host = host.pointer("/typed_per_filter_config/limits").unwrap();
    assert!(is(at_host, &format!("{DYNAMIC}PerRoute")));
    assert_eq!(at_host.pointer("/filter_config/domain").unwrap(), "other");
    let at_route = host.pointer("/routes/0/typed_per_filter_config/limits/filter_config").unwrap();
    assert_eq!(at_route["domain"], "other");
    assert_eq!(at_route["rate_limits"], json!([limit("a")]));
}
