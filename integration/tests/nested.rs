//! Metadata that Envoy does not hand to modules: what our own filters wrote, and what `set_filter_state` in
//! front lays open.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::prelude::*;
use callout_integration::services::message;

const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.";

/// Envoy's own filter that puts what `format` stands for into the filter state.
fn in_front(key: &str, format: &str) -> Value {
    json!({"name": "callout.state", "typed_config": {
        "@type": format!("{TYPE}set_filter_state.v3.Config"),
        "on_request_headers": [{
            "object_key": key,
            "factory_key": "envoy.string",
            "format_string": {
                "text_format_source": {"inline_string": format}, "omit_empty_values": true,
            },
            "skip_if_empty": true,
        }],
    }})
}

/// Envoy's own filter that writes `value` into the dynamic metadata.
fn written(namespace: &str, value: &Value) -> Value {
    json!({"name": "set_metadata", "typed_config": {
        "@type": format!("{TYPE}set_metadata.v3.Config"),
        "metadata": [{"metadata_namespace": namespace, "value": value}],
    }})
}

struct Gateway {
    envoy: Envoy,
    services: Services,
    _upstream: Upstream,
}

async fn gateway(
    version: Version,
    script: Script,
    filters: impl Fn(u16) -> Vec<Value>,
    route_metadata: Value,
) -> Gateway {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let mut bootstrap = Bootstrap::new(upstream.port(), filters(services.port()));
    bootstrap.routes[0]["metadata"] = json!({"filter_metadata": route_metadata});
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    Gateway { envoy, services, _upstream: upstream }
}

impl Gateway {
    async fn get(&self) -> u16 {
        Request::get("/").send(self.envoy.port()).await.status
    }

    /// What the services were asked, under this field.
    fn asked(&self, field: &str) -> Vec<Value> {
        let asked = self.services.asked();
        asked.iter().filter_map(|message| message.get(field).cloned()).collect()
    }
}

fn limits(path: &Value) -> Value {
    json!([{"actions": [{"metadata": {
        "descriptor_key": "user",
        "metadata_key": {"key": "envoy.filters.http.ext_authz", "path": path},
    }}]}])
}

/// Authorino's way: the authorizer writes who it is, the rate limit counts them.
#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_reads_what_the_authorizer_wrote() {
    let allow = json!({"status": {}, "dynamicMetadata": {
        "ext_auth_data": {"username": "john", "groups": [{"name": "admins"}]},
    }});
    let username = json!([{"key": "ext_auth_data"}, {"key": "username"}]);
    let group = json!([{"key": "ext_auth_data"}, {"key": "groups"}, {"index": 0}, {"key": "name"}]);
    for version in Version::ALL {
        for (path, value) in [(&username, "john"), (&group, "admins")] {
            let reply = allow.clone();
            let script =
                Script::default().check(move |_, _| std::future::ready(Ok(message(reply.clone()))));
            let filters = |port| {
                let fields = json!({"rate_limits": limits(path)});
                // The message has places in lists since Envoy 1.40.
                let limit = Kind::RateLimit.module_with(json!({}), fields, port);
                vec![Kind::Authz.module(json!({}), port), limit]
            };
            let gateway = gateway(version, script, filters, json!({})).await;
            assert_eq!(gateway.get().await, 200, "{version}");
            let asked = gateway.asked("descriptors");
            let entries = &asked[0][0]["entries"];
            assert_eq!(entries[0]["value"], value, "{version}");
            assert_eq!(gateway.envoy.stat("ratelimit.unreadable_metadata").await, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_in_front_lays_open_is_read() {
    let payload = json!({"user": {"name": "john", "roles": ["a", {"b": null}]}, "flat": 1});
    let route = json!({"ns": {"deep": {"k": [[1]]}}});
    let authz = json!({
        "metadata_context_namespaces": ["jwt"],
        "route_metadata_context_namespaces": ["ns"],
    });
    for version in Version::ALL {
        let filters = |port| {
            vec![
                written("jwt", &payload),
                in_front("callout.dynamic_metadata.jwt", "%DYNAMIC_METADATA(jwt)%"),
                in_front("callout.route_metadata.ns", "%METADATA(ROUTE:ns)%"),
                Kind::Authz.module(authz.clone(), port),
            ]
        };
        let gateway = gateway(version, Script::default(), filters, route.clone()).await;
        assert_eq!(gateway.get().await, 200, "{version}");
        let asked = &gateway.asked("attributes")[0];
        let told = |field: &str, namespace: &str| asked[field]["filterMetadata"][namespace].clone();
        let mut expected = payload.clone();
        expected["flat"] = json!(1.0);
        assert_eq!(told("metadataContext", "jwt"), expected, "{version}");
        assert_eq!(
            told("routeMetadataContext", "ns"),
            json!({"deep": {"k": [[1.0]]}}),
            "{version}"
        );
        assert_eq!(gateway.envoy.stat("authz.unreadable_metadata").await, 0, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_lays_open_is_counted_and_the_log_says_what_to_add() {
    let authz = json!({"metadata_context_namespaces": ["jwt"]});
    let limits = json!([{
        "actions": [{"generic_key": {"descriptor_value": "all"}}],
        "limit": {"dynamic_metadata": {"metadata_key": {"key": "jwt", "path": [{"key": "user"}]}}},
    }]);
    let filters = |port| {
        vec![
            written("jwt", &json!({"user": {"name": "john"}})),
            Kind::Authz.module(authz.clone(), port),
            Kind::RateLimit.module(json!({"rate_limits": limits}), port),
        ]
    };
    let gateway = gateway(Version::LATEST, Script::default(), filters, json!({})).await;
    assert_eq!(gateway.get().await, 200);
    for kind in ["authz", "ratelimit"] {
        assert_eq!(gateway.envoy.stat(&format!("{kind}.unreadable_metadata")).await, 1, "{kind}");
    }
    let log = gateway.envoy.log();
    let warned = log.lines().find(|line| line.contains("put in front:"));
    assert!(warned.is_some_and(|line| line.contains("%DYNAMIC_METADATA(jwt)%")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_comes_out_of_the_metadata() {
    let value = json!({"limits": {"gold": {"requests_per_unit": 42, "unit": "HOUR"}}});
    let limits = json!([{
        "actions": [{"generic_key": {"descriptor_value": "all"}}],
        "limit": {"dynamic_metadata": {"metadata_key": {
            "key": "tenants", "path": [{"key": "limits"}, {"key": "gold"}],
        }}},
    }]);
    for version in Version::ALL {
        let filters = |port| {
            vec![
                written("tenants", &value),
                in_front("callout.dynamic_metadata.tenants", "%DYNAMIC_METADATA(tenants)%"),
                Kind::RateLimit.module(json!({"rate_limits": limits}), port),
            ]
        };
        let gateway = gateway(version, Script::default(), filters, json!({})).await;
        assert_eq!(gateway.get().await, 200, "{version}");
        let limit = &gateway.asked("descriptors")[0][0]["limit"];
        assert_eq!(*limit, json!({"requestsPerUnit": 42, "unit": "HOUR"}), "{version}");
    }
}

/// The certificate of a TLS client comes the same way.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_what_the_filter_in_front_puts_there() {
    for version in Version::ALL {
        let filters = |port| {
            vec![
                in_front("callout.peer_certificate", "%REQ(x-certificate)%"),
                Kind::Authz.module(json!({"include_peer_certificate": true}), port),
            ]
        };
        let gateway = gateway(version, Script::default(), filters, json!({})).await;
        let request = Request::get("/").header("x-certificate", "-----BEGIN%20CERTIFICATE-----");
        assert_eq!(request.send(gateway.envoy.port()).await.status, 200, "{version}");
        assert_eq!(gateway.get().await, 200, "{version}");
        let asked = gateway.asked("attributes");
        let certificate = &asked[0]["source"]["certificate"];
        assert_eq!(*certificate, "-----BEGIN%20CERTIFICATE-----", "{version}");
        assert!(asked[1]["source"].get("certificate").is_none(), "{version}");
        assert_eq!(gateway.envoy.stat("authz.unreadable_metadata").await, 0, "{version}");
    }
}

/// What Envoy Gateway asks for by default.
#[tokio::test(flavor = "multi_thread")]
async fn all_metadata_of_a_route_is_an_attribute() {
    let route = json!({"a": {"deep": {"k": "v"}}, "b": {"flat": "w"}});
    let fields = json!({"request_attributes": ["xds.route_metadata"]});
    for version in Version::ALL {
        let filters = |port| {
            vec![
                in_front("callout.route_metadata.a", "%METADATA(ROUTE:a)%"),
                Kind::ExtProc.module(fields.clone(), port),
            ]
        };
        let gateway = gateway(version, Script::default(), filters, route.clone()).await;
        assert_eq!(gateway.get().await, 200, "{version}");
        let attributes = &gateway.asked("attributes")[0]["envoy.filters.http.ext_proc"];
        let text = attributes["xds.route_metadata"].as_str().unwrap();
        for part in ["filter_metadata", "struct_value", r#""v""#, r#""w""#] {
            assert!(text.contains(part), "{version}: {text}");
        }
        assert_eq!(gateway.envoy.stat("extproc.unreadable_metadata").await, 0, "{version}");
    }
}
