//! What the rounds came to, as a table.

use anyhow::{Context, Result};

use crate::lanes::{Lane, NO_FILTER};
use crate::measure::{Sample, quantile};

/// Medians of all rounds as a Markdown table. A ratio is the median of the rounds' own ratios, with
/// their quartiles: what disturbs one round disturbs all of its lanes.
pub(crate) fn table(lanes: &[Lane]) -> Result<String> {
    let of = |lane: &Lane, value: fn(&Sample) -> f64| {
        quantile(lane.samples.iter().map(value).collect(), 0.5).context("no samples")
    };
    let named = |name: &str| lanes.iter().find(|lane| lane.name == name);
    let bare = named(NO_FILTER).context("nothing to compare with")?;
    let mut table = String::from(
        "| | requests/s | p50 ms | p99 ms | Envoy CPU µs/request | memory MB | rate of no filter | rate of built-in | CPU of built-in | p50 of built-in | p99 of built-in |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut lanes: Vec<_> = lanes.iter().collect();
    lanes.sort_by_key(|lane| lane.place);
    for lane in lanes {
        let ratios = match lane.baseline.as_deref().and_then(named) {
            Some(other) => format!(
                "{} | {} | {} | {}",
                ratio(lane, other, |s| s.rate)?,
                ratio(lane, other, |s| s.cpu_us)?,
                ratio(lane, other, |s| s.p50_ms)?,
                ratio(lane, other, |s| s.p99_ms)?,
            ),
            None => " | | | ".to_owned(),
        };
        table += &format!(
            "| {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.0} | {} | {ratios} |\n",
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

fn ratio(lane: &Lane, other: &Lane, value: fn(&Sample) -> f64) -> Result<String> {
    let rounds = lane.samples.iter().zip(&other.samples);
    let ratios: Vec<f64> = rounds.map(|(one, other)| value(one) / value(other)).collect();
    let at = |part| quantile(ratios.clone(), part).context("no samples");
    Ok(format!("{:.2} ({:.2}–{:.2})", at(0.5)?, at(0.25)?, at(0.75)?))
}
