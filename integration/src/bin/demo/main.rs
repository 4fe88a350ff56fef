//! `cargo demo`: all three filters in one real Envoy, real requests through them, and a table of
//! what happened. `cargo demo -- --serve` stays up for requests of your own, with a page that
//! shows each as it goes.
#![allow(clippy::print_stdout, reason = "its output is what this program is for")]

mod backends;
mod page;
mod record;
mod steps;
mod table;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use callout_integration::envoy::{Bootstrap, Envoy, Kind, Version};
use callout_integration::services::Services;
use callout_integration::upstream::{Answer, Upstream};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::record::Record;

/// A running demo. Dropping it ends everything.
struct Demo {
    envoy: Envoy,
    services: Services,
    upstream: Upstream,
    record: Record,
    /// The access log, with what the page shows.
    log: NamedTempFile,
}

impl Demo {
    async fn start() -> Result<Self> {
        let record = Record::default();
        let log = NamedTempFile::new()?;
        let services = Services::start(backends::script(&record)).await?;
        let upstream = Upstream::start(Answer::default()).await?;
        let port = services.port();
        let authz = json!({"grpc_service": {"timeout": "0.3s"}});
        let ratelimit = json!({
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "enable_retry_after_header": true,
            "rate_limits": [{"actions": [
                {"request_headers": {"header_name": ":path", "descriptor_key": "path"}},
                {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}},
            ]}],
        });
        let extproc = json!({"processing_mode": {"request_body_mode": "BUFFERED"}});
        let filters = vec![
            Kind::Authz.module(authz, port),
            Kind::RateLimit.module(ratelimit, port),
            Kind::ExtProc.module(extproc, port),
        ];
        let mut bootstrap = Bootstrap::new(upstream.port(), filters);
        bootstrap.hcm = json!({
            "access_log": page::access_log(log.path()),
            "always_set_request_id_in_response": true,
        });
        let envoy = Envoy::start(Version::LATEST, &bootstrap).await?;
        Ok(Self { envoy, services, upstream, record, log })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as stated.
async fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let serve = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--serve"] => true,
        _ => bail!("usage: cargo demo [-- --serve]"),
    };
    let demo = Demo::start().await?;
    println!(
        "Envoy {} with authz, ratelimit and extproc in one chain, on 127.0.0.1:{}\n",
        Version::LATEST,
        demo.envoy.port()
    );
    if serve {
        return serve_until_stopped(demo).await.map(|()| true);
    }
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for step in steps::steps() {
        let outcome = step.run(&demo).await;
        wrong.extend(step.complaints(&outcome));
        rows.push(step.row(&outcome));
    }
    println!("{}", table::render(&steps::HEADINGS, &rows));
    let (status, log) = demo.envoy.stop().await?;
    if !status.success() {
        bail!("Envoy ended with {status}:\n{log}");
    }
    if wrong.is_empty() {
        println!("Everything was as stated: {} requests.", rows.len());
    } else {
        println!("NOT as stated:\n{}", wrong.join("\n"));
    }
    Ok(wrong.is_empty())
}

async fn serve_until_stopped(demo: Demo) -> Result<()> {
    let demo = Arc::new(demo);
    let page = page::serve(Arc::clone(&demo)).await?;
    println!("See each request as it goes:\n  http://127.0.0.1:{page}/\n\nTry:");
    for step in steps::steps() {
        println!("  {}", step.curl(demo.envoy.port()));
    }
    println!("\nCtrl-C ends it all.");
    tokio::signal::ctrl_c().await?;
    println!("\nEnvoy ends.");
    Ok(())
}
