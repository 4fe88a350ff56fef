use super::*;

const TYPES: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// A listener with one filter, whose configuration is `config`, and `more` beside the listeners.
fn bootstrap(kind: &str, config: &str, route: &str, more: &str) -> String {
    format!(
        r#"static_resources:
  listeners:
  - name: main
    filter_chains:
    - filters:
      - typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          route_config:
            virtual_hosts:
            - name: all
              routes:
              - match: {{prefix: /a}}{route}
          http_filters:
          - name: f
            typed_config:
              "@type": {TYPES}.dynamic_modules.v3.DynamicModuleFilter
              dynamic_module_config: {{name: callout_{kind}}}
              filter_name: {kind}
              filter_config:
                {config}
{more}"#
    )
}

fn found(text: &str) -> Vec<String> {
    let checked = check_file(&File::parse(text).unwrap());
    checked.findings.iter().map(|finding| anstream_free(&finding.line("f"))).collect()
}

fn anstream_free(line: &str) -> String {
    anstream::adapter::strip_str(line).to_string()
}

const SERVICE: &str = "grpc_service: {google_grpc: {target_uri: \"127.0.0.1:1\", stat_prefix: s}}";

fn message(name: &str, fields: &str) -> String {
    format!("\"@type\": {TYPES}.{name}\n                {fields}")
}

#[test]
fn a_good_configuration_has_no_findings_in_any_form() {
    let json = "{\"grpc_service\": {\"google_grpc\": {\"target_uri\": \"127.0.0.1:1\", \"stat_prefix\": \"s\"}}}";
    for config in [
        message("ext_authz.v3.ExtAuthz", SERVICE),
        format!("{{\"@type\": type.googleapis.com/google.protobuf.Struct, value: {json}}}"),
        format!("{{\"@type\": type.googleapis.com/google.protobuf.StringValue, value: '{json}'}}"),
        format!(
            "{{\"@type\": type.googleapis.com/xds.type.v3.TypedStruct, type_url: a/{}, value: {json}}}",
            Kind::Authz.message(Level::Filter)
        ),
    ] {
        assert_eq!(found(&bootstrap("authz", &config, "", "")), Vec::<String>::new(), "{config}");
    }
}

#[test]
fn a_refusal_has_line_place_and_path() {
    let fields = format!(
        "{SERVICE}\n                with_request_body:\n                  max_request_byte: 5"
    );
    let found = found(&bootstrap("authz", &message("ext_authz.v3.ExtAuthz", &fields), "", ""));
    assert_eq!(
        found,
        [
            "f:23: error: listener main, filter f: at with_request_body.max_request_byte: is not a supported field of BufferSettings, did you mean `max_request_bytes`?"
        ]
    );
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let fields = format!("{SERVICE}\n                charge_cluster_response_stats: true");
    let found = found(&bootstrap("authz", &message("ext_authz.v3.ExtAuthz", &fields), "", ""));
    assert!(
        found.iter().all(|line| line
            .starts_with("f:22: warning: listener main, filter f: charge_cluster_response_stats")),
        "{found:?}"
    );
}

#[test]
fn fields_of_this_suite_in_a_message_are_told_where_they_belong() {
    let fields = format!("{SERVICE}\n                callout: {{coalesce: true}}");
    let found = found(&bootstrap("authz", &message("ext_authz.v3.ExtAuthz", &fields), "", ""));
    assert!(
        found[0].starts_with("f:22: error: ") && found[0].contains("google.protobuf.Struct"),
        "{found:?}"
    );
}

#[test]
fn a_route_is_checked_and_named() {
    let route = format!(
        r#"
                typed_per_filter_config:
                  f:
                    "@type": {TYPES}.dynamic_modules.v3.DynamicModuleFilterPerRoute
                    dynamic_module_config: {{name: callout_authz}}
                    per_route_config_name: authz
                    filter_config: {{"@type": {TYPES}.ext_authz.v3.ExtAuthzPerRoute, check_settings: {{contxt: 1}}}}
                  other:
                    "@type": {TYPES}.dynamic_modules.v3.DynamicModuleFilterPerRoute
                    dynamic_module_config: {{name: callout_authz}}
                    filter_name: authz
                    filter_config: {{"@type": {TYPES}.ext_authz.v3.ExtAuthzPerRoute, disabled: true}}"#
    );
    let config = message("ext_authz.v3.ExtAuthz", SERVICE);
    let found = found(&bootstrap("authz", &config, &route, ""));
    let [old, refused, nobody] = found.as_slice() else { panic!("{found:?}") };
    let place = "listener main, virtual host all, route 0 (/a), filter f: ";
    assert!(old.starts_with(&format!("f:17: warning: {place}per_route_config_name")), "{old}");
    assert!(
        refused.starts_with(&format!("f:18: error: {place}at check_settings.contxt: ")),
        "{refused}"
    );
    assert!(
        nobody.starts_with("f:19: warning: ") && nobody.contains("no filter is called `other`"),
        "{nobody}"
    );
}

#[test]
fn limits_that_a_module_can_not_see_and_limits_that_are_not_there_are_warned_of() {
    let service = format!("domain: d\n                rate_limit_service: {{{SERVICE}}}");
    let config = message("ratelimit.v3.RateLimit", &service);
    let limits =
        "\n                route: {cluster: c, rate_limits: [{actions: [{remote_address: {}}]}]}";
    let seen = found(&bootstrap("ratelimit", &config, limits, ""));
    assert!(
        seen.iter().any(|line| line.contains("f:13: warning") && line.contains("callout migrate")),
        "{seen:?}"
    );
    assert!(seen.iter().any(|line| line.contains("it limits nothing")), "{seen:?}");
    let own =
        format!("{config}\n                rate_limits: [{{actions: [{{remote_address: {{}}}}]}}]");
    assert_eq!(found(&bootstrap("ratelimit", &own, "", "")), Vec::<String>::new());
}

#[test]
fn clusters_have_to_exist_and_to_speak_http_2() {
    let config = message("ext_authz.v3.ExtAuthz", "grpc_service: {envoy_grpc: {cluster_name: az}}");
    let with = |more: &str| found(&bootstrap("authz", &config, "", more));
    assert!(with("")[0].contains("no cluster is called `az`"));
    assert!(with("  clusters: [{name: az}]")[0].contains("does not speak HTTP/2"));
    assert!(with("  clusters: [{name: az, http2_protocol_options: {}}]").is_empty());
    assert!(with("dynamic_resources: {cds_config: {}}").is_empty());
}

#[test]
fn the_wrong_name_or_message_is_told_the_right_one() {
    let wrong = message("ext_proc.v3.ExternalProcessor", SERVICE);
    let text =
        bootstrap("authz", &wrong, "", "").replace("filter_name: authz", "filter_name: auth");
    let found = found(&text);
    assert!(found[0].contains("`auth` is not in this library, `authz` is"), "{found:?}");
    assert!(
        found[1].contains("where envoy.extensions.filters.http.ext_authz.v3.ExtAuthz or"),
        "{found:?}"
    );
}
