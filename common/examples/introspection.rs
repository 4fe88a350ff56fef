//! A request passes when an authorization server says that its bearer token is active (RFC 7662). The
//! server is one of Envoy's clusters, so that TLS, load balancing and health checks are Envoy's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callout_common::{
    ConfigError, Edits, Gate, Gated, Histogram, HttpClient, LabelledCounter, Reply, RequestHead,
    Setup, Verdict,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The cluster of the authorization server.
    cluster: String,
    /// The path of its introspection endpoint.
    path: String,
    /// How long it may take.
    #[serde(default = "half_a_second", deserialize_with = "callout_common::serde_duration")]
    timeout: Duration,
}

const fn half_a_second() -> Duration {
    Duration::from_millis(500)
}

/// Of a route.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    /// The scope that a token needs there.
    scope: String,
}

/// What the server says of a token.
#[derive(serde::Deserialize)]
struct Token {
    active: bool,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    scope: String,
}

struct Introspection {
    server: HttpClient,
    path: String,
    verdicts: LabelledCounter,
    latency_us: Histogram,
}

impl Introspection {
    /// What the server says of `token`, or why it says nothing.
    async fn ask(&self, token: &str) -> Result<Token, String> {
        let form: String = form_encoded(token);
        let request = http::Request::post(&self.path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(Bytes::from(format!("token={form}")))
            .map_err(|error| error.to_string())?;
        let answer = self.server.send(request).await.map_err(|error| error.to_string())?;
        if answer.status() != 200 {
            return Err(format!("status {}", answer.status()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| error.to_string())
    }
}

/// Every byte that is not plain as `%` and two digits.
fn form_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded =
        |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encoded).collect()
}

impl Gate for Introspection {
    type Config = Config;
    type Route = Route;

    fn configure(config: Config, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        if !config.path.starts_with('/') {
            return Err(ConfigError::field("path", "must begin with /"));
        }
        Ok(Self {
            server: setup.clusters().http(&config.cluster).timeout(config.timeout).limit(64 << 10),
            path: config.path,
            verdicts: setup.labelled_counter("verdicts", "verdict")?,
            latency_us: setup.histogram("latency_us")?,
        })
    }

    async fn check(&self, request: RequestHead, route: Option<Arc<Route>>) -> Verdict {
        let verdict = |name: &str| {
            request.count_labelled(self.verdicts, name);
            request.tell("verdict", name);
        };
        let token = request.header("authorization").and_then(|line| line.strip_prefix("Bearer "));
        let Some(token) = token else {
            verdict("no_token");
            return Reply::new(401)
                .header("www-authenticate", b"Bearer")
                .details("no_token")
                .into();
        };
        let since = Instant::now();
        let said = self.ask(token).await;
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        request.record(self.latency_us, took);
        match said {
            Ok(token) if !token.active => {
                verdict("inactive");
                let challenge = b"Bearer error=\"invalid_token\"";
                Reply::new(401).header("www-authenticate", challenge).details("inactive").into()
            }
            Ok(token) if route.is_some_and(|r| !token.scope.split(' ').any(|s| s == r.scope)) => {
                verdict("scope");
                Reply::new(403).details("scope").into()
            }
            Ok(token) => {
                verdict("allowed");
                Verdict::Allow(Edits::default().set("x-subject", token.sub).remove("authorization"))
            }
            Err(error) => {
                // Nobody knows: the request is refused.
                tracing::warn!(error, "introspection failed");
                verdict("failed");
                Reply::new(503).details("introspection_failed").into()
            }
        }
    }
}

callout_common::export!("introspection" => Gated<Introspection>);
