use serde_json::{Value as Json, json};

use super::*;

const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";

fn migrated(text: &str) -> (Json, Migrated) {
    let migrated = migrate(&File::parse(text).unwrap());
    let json = File::parse(&migrated.text).unwrap().documents[0].json();
    (json, migrated)
}

/// A manager in blocks, as people write it; `host` and `route` are further fields.
fn manager(filter: &str, host: &str, route: &str) -> String {
    let text = format!(
        r#"
"@type": {TYPES}.network.http_connection_manager.v3.HttpConnectionManager
http_filters:
- name: limits # ours
  typed_config:
    "@type": {TYPES}.http.ratelimit.v3.RateLimit
    domain: d{filter}
- name: router
route_config:
  virtual_hosts:
  - name: h{host}
    routes:
    - match: {{prefix: /}}
      # what holds for all{route}
"#
    );
    text
}

fn limit(value: &str) -> String {
    format!("{{actions: [{{generic_key: {{descriptor_value: {value}}}}}]}}")
}

const ROUTE: &str = "/route_config/virtual_hosts/0/routes/0";

/// The limits of the only route afterwards, by their values, and the remarks.
fn folded(filter: &str, host: &str, route: &str) -> (Vec<Json>, Vec<String>) {
    let block = manager(filter, host, route);
    let (json, migrated) = migrated(&block);
    // The same in braces comes to the same.
    let flow = File::parse(&block).unwrap().documents[0].json().to_string();
    assert_eq!(self::migrated(&flow).0, json, "{block}\n{}", migrated.text);
    assert!(json.pointer("/route_config/virtual_hosts/0/rate_limits").is_none());
    let route = json.pointer(ROUTE).unwrap();
    assert!(route.pointer("/route/rate_limits").is_none());
    assert!(route.pointer("/route/include_vh_rate_limits").is_none());
    let limits = route.pointer("/typed_per_filter_config/limits/filter_config/rate_limits");
    let value = |limit: &Json| {
        assert!(limit.get("stage").is_none() && limit.get("disable_key").is_none());
        limit.pointer("/actions/0/generic_key/descriptor_value").unwrap().clone()
    };
    let limits = limits.and_then(Json::as_array).cloned().unwrap_or_default();
    let remarks = migrated.remarks.into_iter().map(|remark| remark.text).collect();
    (limits.iter().map(value).collect(), remarks)
}

fn action(fields: &str) -> String {
    format!("\n      route:\n        cluster: c\n{fields}")
}

#[test]
fn a_filter_and_its_route_are_wrapped_and_the_rest_stays_to_the_letter() {
    let text = format!(
        r#"# head
http_filters:
  - name: az   # first
    typed_config:
      "@type": {TYPES}.http.ext_authz.v3.ExtAuthz
      # the service
      grpc_service:
        envoy_grpc: {{cluster_name: "off"}}
  - {{name: "on", typed_config: {{"@type": {TYPES}.http.ext_proc.v3.ExternalProcessor, stat_prefix: y}}}}
virtual_hosts:
- name: 'no'
  metadata: {{filter_metadata: {{ns: {{a: "on", b: yes, c: 1.50, d: 012}}}}}}
  typed_per_filter_config:
    az:
      "@type": {TYPES}.http.ext_authz.v3.ExtAuthzPerRoute
      disabled: true
"#
    );
    let wanted = format!(
        r#"# head
http_filters:
  - name: az   # first
    typed_config:
      "@type": "{TYPES}.http.dynamic_modules.v3.DynamicModuleFilter"
      dynamic_module_config: {{"name": "callout_authz", "do_not_close": true}}
      filter_name: "authz"
      filter_config:
        "@type": {TYPES}.http.ext_authz.v3.ExtAuthz
        # the service
        grpc_service:
          envoy_grpc: {{cluster_name: "off"}}
  - {{name: "on", typed_config: {{"@type": "{TYPES}.http.dynamic_modules.v3.DynamicModuleFilter", "dynamic_module_config": {{"name": "callout_extproc", "do_not_close": true}}, "filter_name": "extproc", "filter_config": {{"@type": {TYPES}.http.ext_proc.v3.ExternalProcessor, stat_prefix: y}}}}}}
virtual_hosts:
- name: 'no'
  metadata: {{filter_metadata: {{ns: {{a: "on", b: yes, c: 1.50, d: 012}}}}}}
  typed_per_filter_config:
    az:
      "@type": "{TYPES}.http.dynamic_modules.v3.DynamicModuleFilterPerRoute"
      dynamic_module_config: {{"name": "callout_authz", "do_not_close": true}}
      filter_name: "authz"
      filter_config:
        "@type": {TYPES}.http.ext_authz.v3.ExtAuthzPerRoute
        disabled: true
"#
    );
    let migrated = migrate(&File::parse(&text).unwrap());
    assert_eq!(migrated.text, wanted);
    assert_eq!((migrated.wrapped, migrated.remarks.len()), (3, 0));
    // What is a module already stays.
    assert_eq!(migrate(&File::parse(&wanted).unwrap()).text, wanted);
}

#[test]
fn words_that_yaml_1_1_reads_as_booleans_stay_what_they_are() {
    for word in ["\"on\"", "\"off\"", "'no'", "\"y\"", "on", "012", "1e3", "\"a: b\"", "\"é\\n\""]
    {
        let route = action(&format!("        rate_limits: [{}]", limit(word)));
        let (limits, _) = folded("", "", &route);
        let plain = File::parse(word).unwrap().documents[0].json();
        assert_eq!(limits, [plain], "{word}");
    }
}

#[test]
fn a_routes_limits_come_first_and_its_hosts_where_it_has_none_or_asks_for_them() {
    let host = format!("\n    rate_limits:\n    - {}", limit("host"));
    let with = |route: &str| folded("", &host, route).0;
    let own = format!("        rate_limits: [{}]", limit("route"));
    assert_eq!(with(&action(&own)), ["route"]);
    assert_eq!(with(&action("")), ["host"]);
    let both = action(&format!("        include_vh_rate_limits: true\n{own}"));
    assert_eq!(with(&both), ["route", "host"]);
    let option = |option: &str| {
        format!(
            "\n      typed_per_filter_config:\n        limits:\n          \"@type\": {TYPES}.http.ratelimit.v3.RateLimitPerRoute\n          vh_rate_limits: {option}"
        )
    };
    assert_eq!(with(&format!("{}{}", action(&own), option("INCLUDE"))), ["route", "host"]);
    assert_eq!(with(&format!("{}{}", action(""), option("IGNORE"))), Vec::<Json>::new());
    let beaten = action("        include_vh_rate_limits: true");
    assert_eq!(with(&format!("{beaten}{}", option("IGNORE"))), ["host"]);
}

#[test]
fn only_limits_of_the_filters_stage_are_its_own() {
    let staged = "{stage: 1, actions: [{generic_key: {descriptor_value: a}}]}";
    let route = action(&format!("        rate_limits: [{staged}, {}]", limit("b")));
    assert_eq!(folded("", "", &route).0, ["b"]);
    assert_eq!(folded("\n    stage: 1", "", &route).0, ["a"]);
}

#[test]
fn two_filters_have_one_map_of_configurations() {
    let text = format!(
        r#"http_filters:
- name: one
  typed_config: {{"@type": {TYPES}.http.ratelimit.v3.RateLimit, domain: a}}
- name: two
  typed_config: {{"@type": {TYPES}.http.ratelimit.v3.RateLimit, domain: b, stage: 1}}
route_config:
  virtual_hosts:
  - name: h
    routes:
    - route:
        rate_limits:
        - {}
        - {{stage: 1, actions: [{{remote_address: {{}}}}]}}
        cluster: c
"#,
        limit("x")
    );
    let (json, migrated) = migrated(&text);
    let configs = json.pointer(&format!("{ROUTE}/typed_per_filter_config")).unwrap();
    assert_eq!(configs.as_object().unwrap().len(), 2, "{}", migrated.text);
    let of = |name: &str| configs.pointer(&format!("/{name}/filter_config/rate_limits")).unwrap();
    assert_eq!(of("two"), &json!([{"actions": [{"remote_address": {}}]}]));
    assert_eq!(of("one").as_array().unwrap().len(), 1);
    assert_eq!(json.pointer(&format!("{ROUTE}/route")).unwrap(), &json!({"cluster": "c"}));
}

#[test]
fn messages_that_are_there_already_keep_their_domain() {
    let config = |blanks: &str| {
        format!(
            "\n{blanks}typed_per_filter_config:\n{blanks}  limits:\n{blanks}    \"@type\": {TYPES}.http.ratelimit.v3.RateLimitPerRoute\n{blanks}    domain: other"
        )
    };
    let own = format!("        rate_limits: [{}]", limit("a"));
    for (host, route) in [
        (config("    "), action(&own)),
        (String::new(), format!("{}{}", action(&own), config("      "))),
    ] {
        let (json, _) = migrated(&manager("", &host, &route));
        let at = format!("{ROUTE}/typed_per_filter_config/limits/filter_config");
        let message = json.pointer(&at).unwrap();
        assert_eq!(message["domain"], "other");
        assert_eq!(message["rate_limits"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn what_can_not_be_carried_over_is_said() {
    let odd = "{disable_key: k, hits_addend: {number: 2}, actions: [{generic_key: {descriptor_value: a}}]}";
    let (_, remarks) = folded("", "", &action(&format!("        rate_limits: [{odd}]")));
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    let own = format!("\n    rate_limits: [{}]", limit("own"));
    let host = format!("\n    rate_limits: [{}]", limit("host"));
    let (limits, remarks) = folded(&own, &host, &action(""));
    assert!(limits.is_empty() && remarks[0].contains("never read"), "{remarks:?}");
    let table = format!("virtual_hosts:\n- name: h\n  rate_limits: [{}]\n", limit("a"));
    let (_, lone) = migrated(&table);
    assert_eq!((lone.text, lone.remarks.len()), (table, 1));
}

#[test]
fn a_filter_from_a_control_plane_is_told_by_its_new_type() {
    let text = format!("config_discovery: {{type_urls: [{TYPES}.http.ext_authz.v3.ExtAuthz]}}\n");
    let (json, migrated) = migrated(&text);
    let url = json.pointer("/config_discovery/type_urls/0").unwrap().as_str().unwrap();
    assert!(url.ends_with("dynamic_modules.v3.DynamicModuleFilter"));
    assert_eq!(migrated.remarks.len(), 1);
}
