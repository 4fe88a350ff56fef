//! Services that nobody here wrote: third-party engines and SDKs, each behind a small shell of our
//! own in `integration/peers`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::pypi;

/// gRPC's own server and Envoy's messages.
const GRPC: &str =
    "grpcio==1.76.0\nprotobuf==7.36.2\ntyping_extensions==4.16.0\nxds-protos==1.85.0\n";
const REGO: &str = "regopy==1.5.2\n";

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
