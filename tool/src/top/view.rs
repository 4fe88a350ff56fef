//! Two snapshots as a table of what happened between them.

use std::fmt::Write;

use super::stats::{Counted, Instance, Snapshot};

/// The columns and their widths.
const COLUMNS: [(&str, usize); 9] = [
    ("requests/s", 11),
    ("refused/s", 10),
    ("failed/s", 9),
    ("unchecked/s", 12),
    ("saved", 6),
    ("waiting", 8),
    ("p50 ms", 8),
    ("p99 ms", 8),
    ("breaker", 8),
];

/// What happened to one filter's requests between two looks, in requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Row {
    requests: u64,
    /// By the service's decision.
    refused: u64,
    failed: u64,
    /// A failure let them pass.
    unchecked: u64,
    /// Requests that needed no call.
    saved: u64,
    /// Requests of which each would be a call.
    callable: u64,
    breaker_open: Option<u64>,
    causes: Vec<(String, u64)>,
}

impl Row {
    fn between(filter: &str, before: &Counted, now: &Counted) -> Self {
        // A counter that goes down began anew.
        let grown = |name: &str| {
            let count = now.get(name).unwrap_or_default();
            count.checked_sub(before.get(name).unwrap_or_default()).unwrap_or(count)
        };
        let sum = |names: &[&str]| names.iter().map(|name| grown(name)).sum::<u64>();
        let mut causes: Vec<(String, u64)> = now
            .causes
            .iter()
            .map(|(cause, count)| {
                (
                    cause.clone(),
                    count.saturating_sub(before.causes.get(cause).copied().unwrap_or_default()),
                )
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let failed = causes.iter().map(|(_, count)| count).sum();
        let unchecked = grown("failure_mode_allowed");
        let common = Self { failed, unchecked, causes, ..Self::default() };
        match filter {
            "authz" => {
                let requests = sum(&["ok", "denied", "error", "disabled"]);
                let saved = sum(&["cache_hit", "coalesced"]);
                Self { requests, refused: grown("denied"), saved, callable: requests, ..common }
            }
            "ratelimit" => {
                let callable = grown("requests");
                let saved = callable.saturating_sub(grown("rpc"));
                let requests = callable + grown("no_descriptors");
                let breaker_open = Some(grown("breaker_open"));
                Self {
                    requests,
                    refused: grown("over_limit"),
                    saved,
                    callable,
                    breaker_open,
                    ..common
                }
            }
            _ => {
                let requests =
                    sum(&["streams_started", "skipped", "breaker_open", "too_many_streams"]);
                let refused = grown("immediate_responses_sent");
                let breaker_open = Some(grown("breaker_open"));
                let saved = grown("skipped");
                Self { requests, refused, saved, callable: requests, breaker_open, ..common }
            }
        }
    }

    fn cells(&self, now: &Counted, seconds: f64) -> [String; COLUMNS.len()] {
        let rate = |count: u64| format!("{:.1}", as_float(count) / seconds);
        let time = |pick: fn((f64, f64)) -> f64| {
            now.latency.map_or_else(|| "-".to_owned(), |l| format!("{:.2}", pick(l) / 1000.0))
        };
        let saved = match self.callable {
            0 => "-".to_owned(),
            all => format!("{:.0} %", 100.0 * as_float(self.saved) / as_float(all)),
        };
        let breaker = match self.breaker_open {
            None => "-",
            Some(0) => "closed",
            Some(_) => "OPEN",
        };
        [
            rate(self.requests),
            rate(self.refused),
            rate(self.failed),
            rate(self.unchecked),
            saved,
            now.get("in_flight").map_or_else(|| "-".to_owned(), |calls| calls.to_string()),
            time(|(half, _)| half),
            time(|(_, most)| most),
            breaker.to_owned(),
        ]
    }

    /// Whether the cell of a column points to a fault.
    fn is_bad(&self, column: &str) -> bool {
        match column {
            "failed/s" => self.failed > 0,
            "unchecked/s" => self.unchecked > 0,
            "breaker" => self.breaker_open.is_some_and(|open| open > 0),
            _ => false,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "it is shown with one place")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// The table, with colours.
pub(super) fn table(before: &Snapshot, now: &Snapshot, admin: &str) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let mut out = format!("callout top: {admin}, the last {seconds:.1} s\n\n");
    if now.filters.is_empty() {
        out.push_str("This Envoy has no filter of this suite.\n");
        return out;
    }
    let names: Vec<(String, &Instance)> =
        now.filters.keys().map(|instance| (name(instance), instance)).collect();
    let width = names.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max(6);
    let _ = write!(out, "\u{1b}[1m{:width$}", "filter");
    for (title, width) in COLUMNS {
        let _ = write!(out, " {title:>width$}");
    }
    out.push_str("\u{1b}[0m\n");
    for (name, instance) in names {
        let (Some(current), none) = (now.filters.get(instance), Counted::default()) else {
            continue;
        };
        let earlier = before.filters.get(instance).unwrap_or(&none);
        let row = Row::between(&instance.filter, earlier, current);
        let _ = write!(out, "{name:width$}");
        for ((title, width), cell) in COLUMNS.into_iter().zip(row.cells(current, seconds)) {
            let (on, off) =
                if row.is_bad(title) { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
            let _ = write!(out, " {on}{cell:>width$}{off}");
        }
        out.push('\n');
        for (cause, count) in &row.causes {
            let _ =
                writeln!(out, "{:width$}  {count} failed by {cause}: callout explain {cause}", "");
        }
    }
    out.push_str("\nrefused: by the service's decision; unchecked: passed because of a failure; saved: needed no call. q ends\n");
    out
}

fn name(instance: &Instance) -> String {
    if instance.prefix.is_empty() {
        return instance.filter.clone();
    }
    format!("{} {}", instance.filter, instance.prefix)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn snapshot(at: Instant, stats: &[(&str, u64)]) -> Snapshot {
        let stats: Vec<String> = stats
            .iter()
            .map(|(name, value)| {
                format!(r#"{{"name": "dynamicmodulescustom.{name}", "value": {value}}}"#)
            })
            .collect();
        Snapshot::read(&format!(r#"{{"stats": [{}]}}"#, stats.join(",")), at).unwrap()
    }

    fn lines(before: &[(&str, u64)], now: &[(&str, u64)]) -> Vec<String> {
        let at = Instant::now();
        let table =
            table(&snapshot(at, before), &snapshot(at + Duration::from_secs(2), now), "here");
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn rates_are_those_between_the_two_looks() {
        let before = [("authz.ok", 100), ("authz.cache_hit", 40)];
        let now = [
            ("authz.in_flight", 3),
            ("authz.ok", 180),
            ("authz.denied", 20),
            ("authz.cache_hit", 115),
            ("authz.failure_mode_allowed", 2),
            ("authz.call_failed.cause.timeout", 4),
            ("authz.call_failed.cause.reset", 6),
        ];
        let lines = lines(&before, &now);
        assert!(lines[3].starts_with("authz 50.0 10.0 "), "{}", lines[3]);
        assert!(lines[3].contains(" 75 % 3 - - -"), "{}", lines[3]);
        assert_eq!(lines[4], "6 failed by reset: callout explain reset");
        assert_eq!(lines[5], "4 failed by timeout: callout explain timeout");
    }

    #[test]
    fn what_is_saved_and_the_breaker_are_told_by_each_filters_own_counters() {
        let now = [
            ("ratelimit.edge.requests", 100),
            ("ratelimit.edge.rpc", 10),
            ("ratelimit.edge.breaker_open", 2),
            ("extproc.streams_started", 6),
            ("extproc.skipped", 4),
        ];
        let lines = lines(&[], &now);
        assert!(lines[3].starts_with("extproc 5.0 0.0 0.0 0.0 40 % - - - closed"), "{}", lines[3]);
        let open = "ratelimit edge 50.0 0.0 0.0 0.0 90 % - - - \u{1b}[1;31m OPEN\u{1b}[0m";
        assert_eq!(lines[4], open);
    }

    #[test]
    fn counters_that_began_anew_are_not_negative_and_no_filter_is_told() {
        let lines = lines(&[("authz.ok", 1000)], &[("authz.ok", 10)]);
        assert!(lines[3].starts_with("authz 5.0 "), "{}", lines[3]);
        let nothing = table(&snapshot(Instant::now(), &[]), &snapshot(Instant::now(), &[]), "here");
        assert!(nothing.contains("no filter of this suite"));
    }
}
