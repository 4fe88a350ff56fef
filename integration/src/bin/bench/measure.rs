//! One measurement: wrk drives an Envoy, and the kernel says what that cost it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::lanes::Lane;

/// What one round of load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// User and system time of the Envoy process for one request.
    pub(crate) cpu_us: f64,
    /// Resident memory of the Envoy process afterwards.
    pub(crate) memory_mb: f64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// The same again and again.
    OnePath,
    /// So many of a hundred requests are the same, the others new.
    Mixed {
        /// Of a hundred.
        repeated: u32,
    },
    /// The same with a body.
    Body {
        /// Its length.
        bytes: usize,
    },
}

impl Load {
    /// wrk's script for it, under a name that no earlier load had.
    fn script(self, name: &str) -> Option<String> {
        let repeated = match self {
            Self::OnePath => return None,
            Self::Mixed { repeated } => repeated,
            Self::Body { bytes } => {
                return Some(format!(
                    "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {bytes})\n"
                ));
            }
        };
        // 37 is prime to 100, so that the two kinds alternate.
        Some(format!(
            r#"local count = 0
local repeated
init = function()
  repeated = wrk.format("GET", "/a/path?with=query")
end
request = function()
  count = count + 1
  if (count * 37) % 100 < {repeated} then return repeated end
  return wrk.format("GET", "/a/path/{name}/" .. count)
end
"#
        ))
    }
}

/// Drives the Envoy of `lane` for so long.
pub(crate) async fn load(
    wrk: &Path,
    lane: &Lane,
    length: Duration,
    connections: u32,
) -> Result<Sample> {
    let pid = lane.envoy.pid().context("Envoy has ended")?;
    let script = lane.envoy.dir().join("load.lua");
    let name = format!("{}-{}", lane.samples.len(), lane.envoy.port());
    let mut command = Command::new(wrk);
    if let Some(text) = lane.load.script(&name) {
        std::fs::write(&script, text)?;
        command.arg("-s").arg(&script);
    }
    let before = cpu_seconds(pid)?;
    let output = command
        .args(["-t", "1", "--latency"])
        .args(["-c", &connections.to_string(), "-d", &format!("{}s", length.as_secs())])
        .args(["-H", "x-a: 1", "-H", "x-b: 2", "-H", "accept: */*", "-H", "user-agent: wrk"])
        .args(["-H", &format!("authorization: Bearer {}", "t".repeat(200))])
        .arg(format!("http://127.0.0.1:{}/a/path?with=query", lane.envoy.port()))
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "wrk failed: {text}");
    let failures = text.contains("Non-2xx");
    ensure!(!failures || lane.status != 200, "some requests failed:\n{text}");
    let after = cpu_seconds(pid)?;
    let requests = field(&text, |line| line.contains("requests in").then_some(line))
        .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .context("wrk counts no requests")?;
    let rate = after_label(&text, "Requests/sec:").context("wrk gives no rate")?;
    Ok(Sample {
        rate: rate.parse()?,
        p50_ms: milliseconds(after_label(&text, "50%").context("wrk gives no median")?)?,
        p99_ms: milliseconds(after_label(&text, "99%").context("wrk gives no p99")?)?,
        cpu_us: (after - before) * 1e6 / requests,
        memory_mb: resident_mb(pid)?,
    })
}

fn field<'a>(text: &'a str, pick: impl Fn(&'a str) -> Option<&'a str>) -> Option<&'a str> {
    text.lines().find_map(|line| pick(line.trim()))
}

fn after_label<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    field(text, |line| line.strip_prefix(label)).map(str::trim)
}

/// wrk writes a time with its unit.
fn milliseconds(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    anyhow::bail!("no time: {text}")
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> Result<f64> {
    // The kernel's clock ticks for user space: 100 a second on every Linux we know of.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, which may hold anything, ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')').context("no such process")?;
    let ticks: f64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

fn resident_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = after_label(&status, "VmRSS:").context("no such process")?;
    Ok(kilobytes.trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// The value below which `part` of all lie.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place among a few rounds"
)]
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrks_numbers_are_read() {
        let text =
            "  50%    1.50ms\n  99%  900.00us\n  100 requests in 3.00s\nRequests/sec:  33.3\n";
        assert_eq!(after_label(text, "Requests/sec:"), Some("33.3"));
        assert_eq!(milliseconds(after_label(text, "50%").unwrap()).unwrap(), 1.5);
        assert_eq!(milliseconds(after_label(text, "99%").unwrap()).unwrap(), 0.9);
        assert!(milliseconds("fast").is_err());
    }

    #[test]
    fn quantiles_are_taken_of_the_sorted_values() {
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(vec![4.0, 1.0, 2.0, 3.0], 0.25), Some(2.0));
        assert_eq!(quantile(vec![1.0], 0.75), Some(1.0));
        assert_eq!(quantile(Vec::new(), 0.5), None);
    }
}
