//! The built-in filters as oracle: one scenario, run once through the built-in filter and once
//! through our module with the same configuration; what client, upstream and service saw has to be
//! the same.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::client::{Request, Response};
use crate::envoy::{Bootstrap, Envoy, Form, Kind, Version, merge};
use crate::services::{Script, Services};
use crate::upstream::{Answer, Upstream};

/// Headers whose values change from run to run.
const VARYING: &[&str] = &[
    "date",
    "server",
    "x-request-id",
    "x-envoy-upstream-service-time",
    "x-envoy-expected-rq-timeout-ms",
    "x-forwarded-proto",
    "host",
    "connection",
];

/// A filter that stands beside the one under test, made from the port of services of its own, which
/// allow everything.
pub type Beside = Arc<dyn Fn(u16) -> Value + Send + Sync>;

/// One scenario.
#[derive(Clone)]
pub struct Scenario {
    kind: Kind,
    config: Value,
    route: Option<Value>,
    script: Script,
    upstream: Answer,
    requests: Vec<Request>,
    services_down: bool,
    asked: usize,
    before: Vec<Beside>,
    behind: Vec<Beside>,
    bootstrap: fn(Bootstrap) -> Bootstrap,
}

impl Scenario {
    /// One GET under the least configuration of `kind`, with `config` over it.
    #[must_use]
    pub fn new(kind: Kind, config: Value) -> Self {
        Self {
            kind,
            config,
            route: None,
            script: Script::default(),
            upstream: Answer::default(),
            requests: vec![Request::get("/p?q=1").header("x-a", "1")],
            services_down: false,
            asked: 0,
            before: Vec::new(),
            behind: Vec::new(),
            bootstrap: |bootstrap| bootstrap,
        }
    }

    /// With this per-route configuration.
    #[must_use]
    pub fn route(mut self, config: Value) -> Self {
        self.route = Some(config);
        self
    }

    /// With services that answer so.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// With an upstream that answers so.
    #[must_use]
    pub fn upstream(mut self, answer: Answer) -> Self {
        self.upstream = answer;
        self
    }

    /// With these requests.
    #[must_use]
    pub fn requests(mut self, requests: impl IntoIterator<Item = Request>) -> Self {
        self.requests = requests.into_iter().collect();
        self
    }

    /// With nobody at the service's port.
    #[must_use]
    pub const fn services_down(mut self) -> Self {
        self.services_down = true;
        self
    }

    /// Waits a second for so many calls of the service: what it is told at the end of a stream may
    /// still be on its way.
    #[must_use]
    pub const fn asked(mut self, calls: usize) -> Self {
        self.asked = calls;
        self
    }

    /// With these filters before the one under test and behind it.
    #[must_use]
    pub fn among(mut self, before: Vec<Beside>, behind: Vec<Beside>) -> Self {
        (self.before, self.behind) = (before, behind);
        self
    }

    /// With the rest of Envoy's configuration changed so.
    #[must_use]
    pub const fn bootstrap(mut self, with: fn(Bootstrap) -> Bootstrap) -> Self {
        self.bootstrap = with;
        self
    }

    /// Runs it through the built-in filter and through ours, and compares.
    ///
    /// # Errors
    /// Where the two differ.
    pub async fn same_as_builtin(&self, version: Version) -> Result<()> {
        for (form, differences) in self.differences(version, &[Form::Message, Form::Struct]).await?
        {
            ensure!(
                differences.is_empty(),
                "{version}, as {form:?}, differs from the built-in filter:\n{}",
                differences.join("\n")
            );
        }
        Ok(())
    }

    /// In what our filter, configured in each of `forms`, differs from the built-in one.
    ///
    /// # Errors
    /// When something does not run.
    pub async fn differences(
        &self,
        version: Version,
        forms: &[Form],
    ) -> Result<Vec<(Form, Vec<String>)>> {
        let builtin = self.run_builtin(version).await?;
        ensure!(
            builtin["client"].as_array().is_some_and(|seen| seen.len() == self.requests.len()),
            "the built-in filter was not asked everything"
        );
        let mut all = Vec::new();
        for form in forms {
            let module = self.run_module(version, *form).await?;
            let mut differences = Vec::new();
            differ("", &builtin, &module, &mut differences);
            all.push((*form, differences));
        }
        Ok(all)
    }

    async fn run_module(&self, version: Version, form: Form) -> Result<Value> {
        self.run(version, |port| {
            let mut config = self.kind.config(self.config.clone(), port);
            // The other form has the default.
            if form == Form::Struct {
                config = merge(config, json!({"callout": {"calls": "worker"}}));
            }
            let filter = self.kind.module_raw(form, config);
            (filter, self.route.clone().map(|route| self.kind.module_route(form, route)))
        })
        .await
    }

    async fn run_builtin(&self, version: Version) -> Result<Value> {
        self.run(version, |port| {
            let filter = self.kind.builtin(self.config.clone(), port);
            (filter, self.route.clone().map(|route| self.kind.builtin_route(route)))
        })
        .await
    }

    async fn run(
        &self,
        version: Version,
        filter: impl Fn(u16) -> (Value, Option<Value>),
    ) -> Result<Value> {
        let upstream = Upstream::start(self.upstream.clone()).await?;
        // Bound, but nobody listens: connections are refused, and nobody else gets the port.
        let closed = TcpSocket::new_v4()?;
        closed.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let services = if self.services_down {
            None
        } else {
            Some(Services::start(self.script.clone()).await?)
        };
        let port = match &services {
            Some(services) => services.port(),
            None => closed.local_addr()?.port(),
        };
        let (filter, route) = filter(port);
        let others = Services::start(Script::default()).await?;
        let beside = |filters: &[Beside]| filters.iter().map(|make| make(others.port())).collect();
        let chain: [Vec<Value>; 3] = [beside(&self.before), vec![filter], beside(&self.behind)];
        let mut bootstrap = (self.bootstrap)(Bootstrap::new(upstream.port(), chain.concat()));
        if let Some(route) = route {
            bootstrap = bootstrap.per_route(route);
        }
        let envoy = Envoy::start(version, &bootstrap).await?;
        let mut client = Vec::new();
        for request in &self.requests {
            let response = request.send(envoy.port()).await;
            client.push(json!({
                "status": response.status,
                "headers": lines(&response.headers),
                "body": readable(&response),
                "trailers": lines(&response.trailers),
                "end": format!("{:?}", response.end),
            }));
        }
        if let Some(services) = &services {
            let told = async {
                while services.asked().len() < self.asked {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            // With fewer calls the comparison says what differs.
            let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
        }
        // More calls than those may be on their way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let upstream: Vec<Value> = upstream
            .seen()
            .iter()
            .map(|seen| {
                json!({
                    "method": seen.method, "path": seen.path, "headers": lines(&seen.headers),
                    "body": crate::text(&seen.body), "trailers": lines(&seen.trailers),
                })
            })
            .collect();
        let mut asked: Vec<Value> = services.map(|services| services.asked()).unwrap_or_default();
        asked.iter_mut().for_each(scrub);
        let asked = joined(asked);
        let mut others = others.asked();
        others.iter_mut().for_each(scrub);
        let others = joined(others);
        Ok(json!({"client": client, "upstream": upstream, "service": asked, "others": others}))
    }
}

/// Consecutive pieces of one body as one: where they are cut is a matter of timing.
fn joined(messages: Vec<Value>) -> Vec<Value> {
    let mut joined: Vec<Value> = Vec::new();
    for mut message in messages {
        let Some(kind) =
            ["requestBody", "responseBody"].into_iter().find(|kind| message.get(kind).is_some())
        else {
            joined.push(message);
            continue;
        };
        let bytes = BASE64.decode(message[kind]["body"].as_str().unwrap_or_default());
        let text = crate::text(&bytes.unwrap_or_default());
        let before = joined.last().and_then(|last| last.get(kind)?["body"].as_str());
        message[kind]["body"] = json!(format!("{}{text}", before.unwrap_or_default()));
        if before.is_some() {
            joined.pop();
        }
        joined.push(message);
    }
    joined
}

/// The body; where it is compressed, what it says: where a compressor flushes is a matter of timing.
fn readable(response: &Response) -> String {
    if response.header("content-encoding") != Some("gzip") {
        return response.body_text();
    }
    let mut plain = Vec::new();
    match flate2::read::GzDecoder::new(response.body.as_slice()).read_to_end(&mut plain) {
        Ok(_) => crate::text(&plain),
        Err(error) => format!("{error} in {}", response.body_text()),
    }
}

fn lines(headers: &[(String, String)]) -> Value {
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| !VARYING.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
        .collect();
    lines.sort();
    json!(lines)
}

/// Takes out of a message what changes from run to run.
fn scrub(message: &mut Value) {
    match message {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !VARYING.contains(&name.as_str())
                    && !matches!(name.as_str(), "time" | "id" | "portValue" | ":authority" | "host")
            });
            fields.values_mut().for_each(scrub);
        }
        Value::Array(values) => {
            let varies = |value: &Value| {
                value["key"]
                    .as_str()
                    .is_some_and(|key| VARYING.contains(&key) || key == ":authority")
            };
            values.retain(|value| !varies(value));
            // Header lines: those of one name keep their order.
            if values.iter().all(|value| value.get("key").is_some()) {
                values.sort_by(|a, b| a["key"].as_str().cmp(&b["key"].as_str()));
            }
            values.iter_mut().for_each(scrub);
        }
        _ => {}
    }
}

fn differ(path: &str, builtin: &Value, module: &Value, found: &mut Vec<String>) {
    match (builtin, module) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                let at = format!("{path}.{name}");
                differ(
                    &at,
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}[{index}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("  {path}: built-in {a}, ours {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_at_any_depth() {
        let mut found = Vec::new();
        let (a, b) = (json!({"a": [{"b": 1}], "c": 2}), json!({"a": [{"b": 3}]}));
        differ("", &a, &b, &mut found);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|line| line.contains(".a[0].b: built-in 1, ours 3")));
    }

    #[test]
    fn pieces_of_a_body_are_joined_and_other_messages_part_them() {
        let piece =
            |body: &str, end: bool| json!({"requestBody": {"body": body, "endOfStream": end}});
        let messages =
            vec![piece("YWI=", false), piece("Y2Q=", true), json!({"x": 1}), piece("YWI=", true)];
        let joined = joined(messages);
        assert_eq!(joined.len(), 3);
        assert_eq!(joined[0], piece("abcd", true));
    }
}
