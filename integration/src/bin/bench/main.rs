//! `cargo bench-envoy`: our filters beside Envoy's own, in one run: the same Envoy, service, upstream
//! and load, in turn and in several rounds. Prints medians, and ratios to the built-in filter.
//! `BENCHMARKS.md` says how to read them.
#![allow(clippy::print_stdout, reason = "its output is what this program is for")]

mod lanes;
mod measure;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callout_integration::client::Request;
use callout_integration::envoy::Bootstrap;
use callout_integration::services::Services;
use callout_integration::tools;
use lanes::{Lane, NO_FILTER, Suite, answering, quiet};
use measure::{Sample, load, median};
use serde_json::json;

struct Settings {
    suite: Suite,
    rounds: usize,
    length: Duration,
    connections: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let settings = settings()?;
    let wrk = tools::find("wrk", "wrk")?;
    let services = Services::start(answering()).await?;
    let answering = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}});
    let mut upstream = Bootstrap::new(1, Vec::new());
    upstream.routes = vec![answering];
    let upstream = quiet(&upstream).await?;
    let mut lanes = settings.suite.lanes(upstream.port(), services.port()).await?;
    for lane in &lanes {
        // The first may still pass where all others are refused.
        Request::get("/").send(lane.envoy.port()).await;
        let response = Request::get("/").send(lane.envoy.port()).await;
        ensure!(response.status == lane.status, "{} answers {}", lane.name, response.status);
    }
    for round in 1..=settings.rounds {
        for lane in &mut lanes {
            let sample = load(&wrk, lane, settings.length, settings.connections).await?;
            println!("round {round}: {:<34} {:>8.0} requests/s", lane.name, sample.rate);
            lane.samples.push(sample);
        }
    }
    println!("\n{}", report(&lanes)?);
    Ok(())
}

fn settings() -> Result<Settings> {
    let mut settings = Settings {
        suite: Suite::Calls,
        rounds: 5,
        length: Duration::from_secs(3),
        connections: 64,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .context("usage: [--suite NAME] [--rounds N] [--seconds N] [--connections N]")?;
        match name.as_str() {
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

/// Medians of all rounds as a Markdown table. A ratio is the median of the rounds' own ratios: what
/// disturbs one round disturbs all of its lanes.
fn report(lanes: &[Lane]) -> Result<String> {
    let of = |lane: &Lane, value: fn(&Sample) -> f64| {
        median(lane.samples.iter().map(value).collect()).context("no samples")
    };
    let ratio = |lane: &Lane, other: &Lane, value: fn(&Sample) -> f64| {
        let rounds = lane.samples.iter().zip(&other.samples);
        median(rounds.map(|(one, other)| value(one) / value(other)).collect()).context("no samples")
    };
    let named = |name: &str| lanes.iter().find(|lane| lane.name == name);
    let bare = named(NO_FILTER).context("nothing to compare with")?;
    let mut table = String::from(
        "| | requests/s | p50 ms | p99 ms | Envoy CPU µs/request | memory MB | rate of no filter | rate of built-in | CPU of built-in |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for lane in lanes {
        let ratios = match lane.baseline.as_deref().and_then(named) {
            Some(other) => format!(
                "{:.2} | {:.2}",
                ratio(lane, other, |s| s.rate)?,
                ratio(lane, other, |s| s.cpu_us)?
            ),
            None => " | ".to_owned(),
        };
        table += &format!(
            "| {} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} | {:.2} | {ratios} |\n",
            lane.name,
            of(lane, |s| s.rate)?,
            of(lane, |s| s.p50_ms)?,
            of(lane, |s| s.p99_ms)?,
            of(lane, |s| s.cpu_us)?,
            of(lane, |s| s.memory_mb)?,
            ratio(lane, bare, |s| s.rate)?,
        );
    }
    Ok(table)
}
