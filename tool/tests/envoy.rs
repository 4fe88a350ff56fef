//! The tool against real Envoys: what it writes is loaded, and what it says of a configuration is what
//! Envoy does with it.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use callout_integration::envoy::{Form, merge};
use callout_integration::prelude::*;

const GATEWAY: &str = include_str!("gateway.yaml");

fn callout(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_callout"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(dir: &Path, name: &str, content: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrated_gateway_loads_in_every_envoy_with_its_comments_and_without_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let migrated = callout(&["migrate", "--strict"], GATEWAY);
    let errors = text(&migrated.stderr);
    assert!(migrated.status.success() && errors.is_empty(), "{errors}");
    let new = text(&migrated.stdout);
    for comment in GATEWAY.lines().filter_map(|line| line.split_once('#').map(|(_, text)| text)) {
        // Limits move, and with them go the comments among them.
        let moved = [" and path", " of the whole host", " attempts by address"].contains(&comment);
        assert!(moved || new.contains(comment), "{comment}");
    }
    let (old, new) = (file(dir.path(), "old.yaml", GATEWAY), file(dir.path(), "new.yaml", &new));
    for version in Version::ALL {
        for path in [&old, &new] {
            let outcome = Envoy::validate_file(version, path).await.unwrap();
            assert!(outcome.status.success(), "{version}: {}", outcome.log);
            assert!(path == &old || !outcome.log.contains("deprecated"), "{}", outcome.log);
        }
    }
    let checked = callout(&["check", "--deny-warnings", new.to_str().unwrap()], "");
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_a_route_table_are_asked_about_as_before_once_carried_over() {
    let limit = |value: &str| json!({"actions": [{"generic_key": {"descriptor_value": value}}]});
    let route = |path: &str, fields: Value| {
        let action = merge(json!({"cluster": "upstream"}), fields);
        json!({"match": {"prefix": path}, "route": action})
    };
    let mut staged = limit("other stage");
    staged["stage"] = json!(3);
    let table = json!({"name": "routes", "virtual_hosts": [{
        "name": "host", "domains": ["*"], "rate_limits": [limit("host")],
        "routes": [
            route("/own", json!({"rate_limits": [limit("route"), staged]})),
            route("/both", json!({"rate_limits": [limit("route")], "include_vh_rate_limits": true})),
            route("/", json!({})),
        ],
    }]});
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(Script::default()).await.unwrap();
    let mut fields = Kind::RateLimit.by_cluster();
    fields["rate_limits"] = Value::Null;
    let builtin = Kind::RateLimit.builtin(fields, services.port());
    let mut before = Bootstrap::new(upstream.port(), vec![builtin]);
    before.service = Some(services.port());
    before.hcm = json!({"route_config": table});

    let migrated = callout(&["migrate", "--strict"], &before.whole("/dev/null").to_string());
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let migrated: Value = serde_json::from_slice(&migrated.stdout).unwrap();
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = migrated.pointer(manager).unwrap();
    let mut after = Bootstrap::new(upstream.port(), Vec::new());
    after.service = Some(services.port());
    after.hcm = json!({
        "route_config": manager["route_config"], "http_filters": manager["http_filters"],
    });
    let mut asked = Vec::new();
    for bootstrap in [before, after] {
        let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
        let earlier = services.asked().len();
        for path in ["/own", "/both", "/neither"] {
            assert_eq!(Request::get(path).send(envoy.port()).await.status, 200);
        }
        asked.push(services.asked()[earlier..].to_vec());
    }
    assert_eq!(asked[0].len(), 3);
    assert_eq!(asked[0], asked[1]);
}

#[test]
fn a_migration_of_what_was_migrated_changes_nothing() {
    let once = text(&callout(&["migrate"], GATEWAY).stdout);
    assert_eq!(text(&callout(&["migrate"], &once).stdout), once);
}

#[test]
fn a_diff_touches_no_line_that_stays() {
    let diff = text(&callout(&["migrate", "--diff"], GATEWAY).stdout);
    assert!(diff.starts_with("--- standard input\n+++ migrated\n"), "{diff}");
    assert!(!diff.contains("-                    words:"), "{diff}");
    assert!(diff.contains("+              filter_name: \"authz\""), "{diff}");
}

/// Configurations that Envoy loads or refuses; the tool has to say which.
fn judged() -> Vec<(Kind, Form, Value)> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for form in [Form::Message, Form::Struct, Form::Text, Form::TypedStruct] {
            all.push((kind, form, kind.config(json!({}), 1)));
        }
        for fields in [
            json!({"stat_prefix": 5}),
            json!({"nope": 1}),
            json!({"callout": {"nope": 1}}),
            json!({"stat_prefix": null, "status_on_error": {"code": "forbidden"}}),
            json!({"status_on_error": {"code": 299}}),
        ] {
            all.push((kind, Form::Struct, kind.config(fields, 1)));
        }
    }
    for fields in [
        json!({"include_peer_certificate": true}),
        json!({"transport_api_version": "v3"}),
        json!({"transport_api_version": "V2"}),
        json!({"with_request_body": {"max_request_bytes": "8192"}}),
        json!({"with_request_body": {"max_request_bytes": 0}}),
        json!({"callout": {"cache": {"ttl": "1s"}}}),
        json!({"callout": {"cache": {"ttl": "0s"}}}),
        json!({"grpc_service": {"timeout": "250ms"}}),
    ] {
        all.push((Kind::Authz, Form::Struct, Kind::Authz.config(fields, 1)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_says_of_every_configuration_what_envoy_does_with_it() {
    let (mut loaded, mut refused) = (0, 0);
    for (kind, form, config) in judged() {
        let bootstrap = Bootstrap::new(1, vec![kind.module_raw(form, config.clone())]);
        let outcome = Envoy::validate(Version::LATEST, &bootstrap, Vec::new()).await.unwrap();
        let checked = callout(&["check", "-"], &bootstrap.whole("/dev/null").to_string());
        let said = text(&checked.stdout);
        let loads = outcome.status.success();
        assert_eq!(checked.status.success(), loads, "{config}\n{said}\n{}", outcome.log);
        if loads {
            loaded += 1;
        } else {
            refused += 1;
            // The same words, too.
            let reason = said.trim().rsplit_once("filter ").unwrap().1.split_once(": ").unwrap().1;
            assert!(outcome.log.contains(reason), "{reason}\n{}", outcome.log);
        }
    }
    assert!(loaded >= 10 && refused >= 10, "{loaded} {refused}");
}

#[test]
fn a_word_is_explained_and_an_unknown_one_is_an_error() {
    let explained =
        callout(&["explain", "dynamicmodulescustom.authz.call_failed.cause.timeout"], "");
    assert!(text(&explained.stdout).contains("What to do: "), "{}", text(&explained.stdout));
    let unknown = callout(&["explain", "timeuot"], "");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("did you mean `timeout`?"));
}

#[test]
fn the_version_has_a_revision() {
    let version = text(&callout(&["--version"], "").stdout);
    assert!(version.starts_with("callout 0.") && version.contains('('), "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_of_a_running_envoy_tells_what_its_filters_do() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(Script::default()).await.unwrap();
    let port = services.port();
    let kept = json!({"cache": {"ttl": "60s"}});
    let filters = vec![
        Kind::Authz.module_with(kept, json!({"stat_prefix": "edge"}), port),
        Kind::ExtProc.module(json!({"failure_mode_allow": true}), 1),
    ];
    let envoy =
        Envoy::start(Version::LATEST, &Bootstrap::new(upstream.port(), filters)).await.unwrap();
    let admin = format!("127.0.0.1:{}", envoy.admin_port());
    let top = std::thread::spawn(move || {
        text(&callout(&["top", "--once", "--interval", "3", "--admin", &admin], "").stdout)
    });
    for _ in 0..20 {
        pause(200).await;
        assert_eq!(Request::get("/").send(envoy.port()).await.status, 200);
    }
    let said = top.join().unwrap();
    let row = |name: &str| -> Vec<String> {
        let line = said.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no row {name}: {said}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    // filter, prefix, requests, refused, failed, unchecked, saved
    let authz = row("authz edge");
    assert_ne!(authz[2], "0.0", "{said}");
    assert_eq!((authz[4].as_str(), authz[5].as_str()), ("0.0", "0.0"), "{said}");
    assert!(authz[6].parse::<u32>().unwrap() >= 80, "{said}");
    // Nobody listens at its target: what passes is unchecked, and the cause is told.
    let extproc = row("extproc");
    assert_ne!(extproc[3], "0.0", "{said}");
    assert!(said.contains("failed by connect: callout explain connect"), "{said}");
}

#[test]
fn the_view_of_an_envoy_that_is_not_there_is_an_error() {
    let ended = callout(&["top", "--once", "--admin", "127.0.0.1:1"], "");
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("127.0.0.1:1"), "{}", text(&ended.stderr));
}
