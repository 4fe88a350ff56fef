//! `cargo bench-envoy`: our filters beside Envoy's own, in one run: the same Envoy, service, upstream
//! and load, in turn and in several rounds. Prints medians, and ratios to the built-in filter.
//! `BENCHMARKS.md` says how to read them.
#![allow(clippy::print_stdout, reason = "its output is what this program is for")]

mod lanes;
mod measure;
mod pin;
mod report;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callout_integration::client::Request;
use callout_integration::envoy::Bootstrap;
use callout_integration::services::Services;
use callout_integration::tools;
use lanes::{Suite, answering, quiet};
use measure::load;
use pin::Cores;
use serde_json::json;

struct Settings {
    suite: Suite,
    rounds: usize,
    length: Duration,
    connections: u32,
    /// Only lanes whose name holds one of these, unless it is empty.
    only: Vec<String>,
    pin: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let settings = settings()?;
    let cores = settings.pin.then(Cores::choose).transpose()?;
    if let Some(cores) = cores {
        cores.pin_others()?;
    }
    let wrk = tools::find("wrk", "wrk")?;
    let services = Services::start(answering()).await?;
    let answering = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}});
    let mut upstream = Bootstrap::new(1, Vec::new());
    upstream.routes = vec![answering];
    let upstream = quiet(&upstream).await?;
    let only = settings.only;
    let mut lanes = settings.suite.lanes(upstream.port(), services.port(), only).await?;
    for lane in &lanes {
        if let Some(cores) = cores {
            cores.pin_envoy(lane.envoy.pid().context("Envoy has ended")?)?;
        }
        // The first may still pass where all others are refused.
        Request::get("/").send(lane.envoy.port()).await;
        let response = Request::get("/").send(lane.envoy.port()).await;
        ensure!(response.status == lane.status, "{} answers {}", lane.name, response.status);
    }
    for round in 1..=settings.rounds {
        // Forwards and backwards in turn: what drifts within a round drifts for all.
        lanes.reverse();
        for lane in &mut lanes {
            let sample = load(&wrk, lane, settings.length, settings.connections).await?;
            println!("round {round}: {:<34} {:>8.0} requests/s", lane.name, sample.rate);
            lane.samples.push(sample);
        }
    }
    println!("\n{}", report::table(&lanes)?);
    Ok(())
}

fn settings() -> Result<Settings> {
    let mut settings = Settings {
        suite: Suite::Calls,
        rounds: 5,
        length: Duration::from_secs(3),
        connections: 64,
        only: Vec::new(),
        pin: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--pin" {
            settings.pin = true;
            continue;
        }
        let value = arguments.next().context(
            "usage: [--suite NAME] [--lanes PART,PART] [--rounds N] [--seconds N] [--connections N] [--pin]",
        )?;
        match name.as_str() {
            "--lanes" => settings.only = value.split(',').map(str::to_owned).collect(),
            "--suite" => settings.suite = Suite::named(&value)?,
            "--rounds" => settings.rounds = value.parse()?,
            "--seconds" => settings.length = Duration::from_secs(value.parse()?),
            "--connections" => settings.connections = value.parse()?,
            _ => anyhow::bail!("unknown option {name}"),
        }
    }
    ensure!(settings.rounds > 0, "at least one round is needed");
    Ok(settings)
}
