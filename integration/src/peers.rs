//! Services that nobody here wrote: third-party engines and SDKs, each behind a small shell of our
//! own in `integration/peers`.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use limitador::RateLimiter;
use limitador::limit::{Limit, Predicate};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::pypi;
use crate::services::{Script, message};

/// gRPC's own server and Envoy's messages.
const GRPC: &str =
    "grpcio==1.76.0\nprotobuf==7.36.2\ntyping_extensions==4.16.0\nxds-protos==1.85.0\n";
const REGO: &str = "regopy==1.5.2\n";
const SDK: &str = "grpcio-health-checking==1.76.0\nenvoy-extproc-sdk==0.1.1\n";

/// The rate limit service of limitador: `limit` requests in `seconds` for each value of the
/// descriptors' key `key`. As limitador's own server it tells of the limit in headers, never in
/// `statuses`.
///
/// # Panics
/// When `key` is no name.
#[must_use]
pub fn limitador(key: &str, limit: u64, seconds: u64) -> Script {
    let variable = format!("descriptors[0].{key}");
    let variable = variable.try_into().unwrap_or_else(|_| panic!("no name: {key}"));
    let engine = RateLimiter::new(1000);
    engine.add_limit(Limit::new("d", limit, seconds, Vec::<Predicate>::new(), vec![variable]));
    let engine = Arc::new(engine);
    Script::default().limit(move |request, _| std::future::ready(counted(&engine, &request)))
}

fn counted(
    engine: &RateLimiter,
    request: &RateLimitRequest,
) -> Result<RateLimitResponse, tonic::Status> {
    let entries = request.descriptors.iter().map(|descriptor| {
        let entries = descriptor.entries.iter();
        entries.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    });
    let mut context = limitador::limit::Context::default();
    context.list_binding("descriptors".to_owned(), entries.collect());
    let hits = request.hits_addend.max(1).into();
    let result = engine
        .check_rate_limited_and_update(&request.domain.clone().into(), &context, hits)
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut headers = Vec::new();
    if let Some(counter) = result.counters.first() {
        let reset = counter.expires_in().unwrap_or_default().as_secs();
        for (name, value) in [
            (
                "X-RateLimit-Limit",
                format!("{}, {0};w={}", counter.max_value(), counter.window().as_secs()),
            ),
            ("X-RateLimit-Remaining", counter.remaining().unwrap_or_default().to_string()),
            ("X-RateLimit-Reset", reset.to_string()),
        ] {
            headers.push(json!({"key": name, "value": value}));
        }
    }
    let code = if result.limited { "OVER_LIMIT" } else { "OK" };
    Ok(message(json!({"overallCode": code, "responseHeadersToAdd": headers})))
}

/// A running service; it ends with its handle.
#[derive(Debug)]
pub struct Peer {
    port: u16,
    _child: Child,
}

impl Peer {
    /// An authorization service that decides by a Rego policy (the engine is rego-cpp).
    ///
    /// # Errors
    /// When its packages can't be fetched, or it does not start.
    pub async fn rego() -> Result<Self> {
        let packages = pypi::installed("peer-rego", &format!("{GRPC}{REGO}"))?;
        Self::start(&packages, "rego_authz.py").await
    }

    /// An external processor on the SDK envoy-extproc-sdk: it answers `x-deny` itself, and tells the
    /// upstream the path and the hash of the body, and the client its length.
    ///
    /// # Errors
    /// When its packages can't be fetched, or it does not start.
    pub async fn extproc_sdk() -> Result<Self> {
        let packages = pypi::installed("peer-extproc-sdk", &format!("{GRPC}{SDK}"))?;
        Self::start(&packages, "sdk_extproc.py").await
    }

    /// The port that it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    async fn start(packages: &Path, shell: &str) -> Result<Self> {
        let shells = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut child = Command::new("python3")
            .arg(shells.join(shell))
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {shell}"))?;
        let output = child.stdout.take().context("it has no output")?;
        // The shell says its port when it listens.
        let first = BufReader::new(output).lines().next_line().await?;
        match first.and_then(|line| line.parse().ok()) {
            Some(port) => Ok(Self { port, _child: child }),
            None => bail!("{shell} did not start: {:?}", child.wait().await?),
        }
    }
}
