//! The deployments in `examples`: each Envoy configuration is loaded and started in every version, and
//! has no finding. For Kubernetes it is what the control plane makes of the manifests.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use callout_integration::envoy::{Options, merge};
use callout_integration::modules;
use callout_integration::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples")
}

/// The documents of a YAML file.
fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(examples().join(file)).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// The libraries under the names that a release gives them.
fn released() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let library = format!("libcallout_{}", kind.name());
        let built = modules::dir().unwrap().join(format!("{library}.so"));
        let name = format!("{library}-{}.so", env!("CARGO_PKG_VERSION"));
        std::os::unix::fs::symlink(built, dir.path().join(name)).unwrap();
    }
    dir
}

/// Checks a configuration with the tool and starts it in every Envoy; the last one is asked for `path`.
async fn runs(name: &str, mut config: Value, path: &str, status: u16) {
    let dir = released();
    let file = dir.path().join("envoy.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_callout"))
        .args(["check", "--deny-warnings"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{name}: {said}");
    for port in ["/admin", "/static_resources/listeners/0"] {
        let at = format!("{port}/address/socket_address");
        config.pointer_mut(&at).unwrap()["address"] = json!("127.0.0.1");
        config.pointer_mut(&at).unwrap()["port_value"] = json!(0);
    }
    for version in Version::ALL {
        let options = Options { modules: Some(dir.path().to_owned()), ..Options::default() };
        let envoy = Envoy::start_whole(version, &config, options).await.unwrap();
        let answer = Request::get(path).send(envoy.port()).await;
        assert_eq!(answer.status, status, "{name} {version}: {}", envoy.log());
        assert!(!envoy.log().contains("deprecated"), "{name} {version}: {}", envoy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_in_a_container_refuses_while_nobody_answers_and_is_healthy() {
    let config = documents("docker/envoy.yaml").remove(0);
    runs("docker", config.clone(), "/health", 200).await;
    runs("docker", config, "/", 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_in_compose_refuses_while_the_policy_engine_is_down() {
    runs("compose", documents("compose/envoy.yaml").remove(0), "/", 403).await;
}

/// A proxy as a control plane configures it: `filters` before the router, `route` on the only route.
fn proxy(filters: &[Value], route: Value, clusters: &[&str]) -> Value {
    let mut bootstrap = Bootstrap::new(1, filters.to_vec());
    bootstrap.routes[0] = merge(bootstrap.routes[0].clone(), route);
    let mut config = bootstrap.whole("/dev/null");
    for name in clusters {
        config["static_resources"]["clusters"].as_array_mut().unwrap().push(json!({
            "name": name,
            "type": "STATIC",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
        }));
    }
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_for_envoy_gateway_becomes_a_filter_that_a_route_switches_on() {
    let manifests = documents("envoy-gateway/callouts.yaml");
    let of = |kind: &str| manifests.iter().find(|m| m["kind"] == kind).unwrap();
    let module = &of("EnvoyProxy")["spec"]["dynamicModules"][0];
    let policy = &of("EnvoyExtensionPolicy")["spec"]["dynamicModule"][0];
    assert_eq!(module["name"], policy["name"]);
    let path = module.pointer("/source/local/path").unwrap().as_str().unwrap();
    let library = Path::new(path).file_name().unwrap().to_str().unwrap();
    let built = modules::dir().unwrap().join("libcallout_authz.so");
    assert_eq!(library, format!("libcallout_authz-{}.so", env!("CARGO_PKG_VERSION")));
    // JSON in a StringValue, the library by its path, off until a route says otherwise.
    let filter = json!({
        "name": "envoyextensionpolicy/default/authz/dynamicmodule/0",
        "disabled": true,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {
                "do_not_close": module["doNotClose"],
                "module": {"local": {"filename": built}},
            },
            "filter_name": policy["filterName"],
            "filter_config": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": policy["config"].to_string(),
            },
        },
    });
    let route = json!({"typed_per_filter_config": {
        "envoyextensionpolicy/default/authz/dynamicmodule/0": {
            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {},
        },
    }});
    runs("envoy-gateway", proxy(&[filter], route, &[]), "/", 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_patches_for_istio_become_filters() {
    for (file, cluster, status) in [
        ("istio/sidecar.yaml", "outbound|9001||authz.default.svc.cluster.local", 403),
        // A limit that nobody counts lets requests pass, here to an upstream that is not there.
        ("istio/gateway.yaml", "outbound|8081||ratelimit.default.svc.cluster.local", 503),
    ] {
        let manifests = documents(file);
        let patch = manifests.iter().find(|m| m["kind"] == "EnvoyFilter").unwrap();
        let filter = patch.pointer("/spec/configPatches/0/patch/value").unwrap().clone();
        runs(file, proxy(&[filter], json!({}), &[cluster]), "/", status).await;
    }
}

#[test]
fn every_file_of_a_folder_is_told_of_and_names_the_version_that_is_built() {
    let version = env!("CARGO_PKG_VERSION");
    for folder in ["compose", "docker", "systemd", "envoy-gateway", "istio"] {
        let dir = examples().join(folder);
        assert!(dir.join("README.md").exists(), "{folder}");
        let index = std::fs::read_to_string(examples().join("README.md")).unwrap();
        assert!(index.contains(&format!("({folder})")), "{folder}");
        for file in dir.read_dir().unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for (_, rest) in text
                .match_indices("callouts-for-envoy:")
                .map(|(at, name)| (at, &text[at + name.len()..]))
            {
                assert!(rest.starts_with(version), "{folder}: {}", rest.lines().next().unwrap());
            }
        }
    }
}
