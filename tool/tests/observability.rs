//! The dashboard and the alert rules: a real Prometheus scrapes a real Envoy, every panel has data, and
//! the alert for a dead service fires when the service is dead, and not before.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use callout_integration::envoy::{Options, merge};
use callout_integration::prelude::*;
use callout_integration::tools;
use serde::Deserialize;

fn observability() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("observability")
}

fn text(file: &str) -> String {
    std::fs::read_to_string(observability().join(file)).unwrap()
}

fn yaml(file: &str) -> Value {
    Value::deserialize(serde_norway::Deserializer::from_str(&text(file))).unwrap()
}

/// A Prometheus; dropping it ends it.
struct Prometheus {
    child: std::process::Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes Envoy's admin port each half second, by the project's own files; alerts don't wait.
    fn start(admin: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules: Vec<String> = text("alerts.yml")
            .replace("[5m]", "[4s]")
            .replace("[10m]", "[4s]")
            .lines()
            .filter(|line| !line.trim_start().starts_with("for: "))
            .map(str::to_owned)
            .collect();
        std::fs::write(dir.path().join("alerts.yml"), rules.join("\n")).unwrap();
        let mut config = yaml("prometheus.yml");
        config["global"] = json!({"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"});
        config["scrape_configs"][0]["static_configs"][0]["targets"][0] =
            json!(format!("127.0.0.1:{admin}"));
        std::fs::write(dir.path().join("prometheus.yml"), config.to_string()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let child = Command::new(tools::find("prometheus", "prometheus").unwrap())
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port, _dir: dir }
    }

    /// The samples that a query has now, by their labels.
    async fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = Request::get(&format!("/api/v1/query?query={encoded}")).send(self.port).await;
        let Ok(json) = serde_json::from_slice::<Value>(&answer.body) else { return Vec::new() };
        assert_ne!(json["status"], "error", "{query}: {json}");
        json.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// The names of the alerts that fire.
    async fn firing(&self) -> Vec<String> {
        let alerts = self.query("ALERTS{alertstate=\"firing\"}").await;
        alerts.iter().map(|a| a["metric"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

/// The queries of every panel, with Grafana's variables filled in.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("dashboard.json")).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$__rate_interval", "4s").replace("$prefix", ".*");
            queries.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    queries
}

fn filters(port: u16) -> Vec<Value> {
    let prefix = json!({"stat_prefix": "edge"});
    Kind::ALL
        .map(|kind| match kind {
            Kind::Authz => kind.module_with(
                json!({"coalesce": true, "cache": {"ttl": "1s"}}),
                prefix.clone(),
                port,
            ),
            _ => kind.module(merge(prefix.clone(), json!({})), port),
        })
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_data_and_the_alert_for_a_dead_service_fires_when_it_is_dead() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(Script::default()).await.unwrap();
    let bootstrap = Bootstrap::new(upstream.port(), filters(services.port()));
    let config = merge(bootstrap.whole("/dev/null"), yaml("envoy-stats.yaml"));
    let envoy = Envoy::start_whole(Version::LATEST, &config, Options::default()).await.unwrap();
    let prometheus = Prometheus::start(envoy.admin_port());
    let mut empty = Vec::new();
    let mut live = false;
    for turn in 0..60_u32 {
        for number in 0..10 {
            let path = format!("/{}", turn * 10 + number);
            assert_eq!(Request::get(&path).send(envoy.port()).await.status, 200);
        }
        pause(200).await;
        if turn < 20 {
            continue;
        }
        empty.clear();
        for (title, query) in panels() {
            // Failed calls have no series before the first one.
            let result = prometheus.query(&query).await;
            if result.is_empty() && !query.contains("call_failed") {
                empty.push(format!("{title}: {query}"));
            }
        }
        assert_eq!(prometheus.firing().await, Vec::<String>::new());
        live = empty.is_empty();
        if live {
            break;
        }
    }
    assert!(
        live,
        "panels without data: {empty:#?}\n{}",
        envoy.admin("/stats/prometheus").await.unwrap()
    );
    let labelled =
        prometheus.query("envoy_dynamicmodulescustom_authz_ok{callout_prefix=\"edge\"}").await;
    assert_eq!(labelled.len(), 1);

    drop(services);
    let mut firing = Vec::new();
    for turn in 0..100_u32 {
        for number in 0..5 {
            Request::get(&format!("/dead-{turn}-{number}")).send(envoy.port()).await;
        }
        pause(200).await;
        firing = prometheus.firing().await;
        if firing.contains(&"CalloutAuthzFailing".to_owned()) {
            break;
        }
    }
    assert!(firing.contains(&"CalloutAuthzFailing".to_owned()), "{firing:?}");
    assert!(!firing.contains(&"CalloutFault".to_owned()), "{firing:?}");
    let causes =
        panels().into_iter().find(|(_, query)| query.contains("authz_call_failed")).unwrap();
    let causes = prometheus.query(&causes.1).await;
    assert!(causes.iter().any(|sample| sample["metric"]["cause"] == "connect"), "{causes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alerts_for_requests_that_pass_unchecked_and_for_a_breaker_fire_when_nobody_answers() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    // Nobody listens there.
    let port = 1;
    let open = json!({"stat_prefix": "edge", "failure_mode_allow": true});
    let breaker = json!({"breaker": {"consecutive_failures": 2, "pause": "1s"}});
    let filters = vec![
        Kind::Authz.module(open.clone(), port),
        Kind::RateLimit.module_with(breaker, json!({"stat_prefix": "edge"}), port),
        Kind::ExtProc.module(open, port),
    ];
    let bootstrap = Bootstrap::new(upstream.port(), filters);
    let config = merge(bootstrap.whole("/dev/null"), yaml("envoy-stats.yaml"));
    let envoy = Envoy::start_whole(Version::LATEST, &config, Options::default()).await.unwrap();
    let prometheus = Prometheus::start(envoy.admin_port());
    let wanted = [
        "CalloutAuthzFailsOpen",
        "CalloutRatelimitFailsOpen",
        "CalloutExtprocFailsOpen",
        "CalloutBreakerOpen",
    ];
    let mut firing = Vec::new();
    for turn in 0..150_u32 {
        for number in 0..5 {
            let path = format!("/{turn}-{number}");
            assert_eq!(Request::get(&path).send(envoy.port()).await.status, 200);
        }
        pause(200).await;
        firing = prometheus.firing().await;
        if wanted.iter().all(|name| firing.iter().any(|fires| fires == name)) {
            break;
        }
    }
    for name in wanted {
        assert!(firing.iter().any(|fires| fires == name), "{name}: {firing:?}");
    }
    for name in ["CalloutFault", "CalloutOverload", "CalloutAuthzSlow"] {
        assert!(!firing.iter().any(|fires| fires == name), "{name}: {firing:?}");
    }
}

#[test]
fn each_alert_fires_when_it_should_and_no_other() {
    let promtool = tools::find("promtool", "prometheus").unwrap();
    let ended = Command::new(promtool)
        .current_dir(observability())
        .args(["test", "rules", "alerts_test.yml"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    for rule in yaml("alerts.yml")["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert!(text("alerts_test.yml").contains(&format!("\"{name}\"")), "{name} is not tried");
    }
}
