//! The statistics of the filters, as Envoy's admin interface tells them.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use crate::envoy::Kind;

/// Where a module's statistics live unless its configuration says otherwise.
const NAMESPACE: &str = "dynamicmodulescustom";

/// One filter of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instance {
    pub(super) filter: String,
    /// Its `stat_prefix`, behind the namespace where that is not the usual one.
    pub(super) prefix: String,
}

/// What one filter has counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    numbers: BTreeMap<String, u64>,
    /// Failed calls by cause.
    pub(super) causes: BTreeMap<String, u64>,
    /// Microseconds that half of the answers took at most, and 99 of 100.
    pub(super) latency: Option<(f64, f64)>,
}

impl Counted {
    /// A counter or a gauge.
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }
}

/// The statistics at one time.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) filters: BTreeMap<Instance, Counted>,
}

impl Snapshot {
    /// Reads what `/stats?format=json` answers.
    pub(super) fn read(text: &str, at: Instant) -> Result<Self> {
        let json: Json = serde_json::from_str(text).context("the statistics are not JSON")?;
        let stats =
            json.get("stats").and_then(Json::as_array).context("there are no statistics")?;
        let mut filters: BTreeMap<Instance, Counted> = BTreeMap::new();
        for stat in stats {
            if let Some(histograms) = stat.pointer("/histograms/computed_quantiles") {
                let quantiles = stat.pointer("/histograms/supported_quantiles");
                for histogram in histograms.as_array().into_iter().flatten() {
                    add_latency(&mut filters, histogram, quantiles);
                }
                continue;
            }
            let Some(name) = stat.get("name").and_then(Json::as_str).and_then(Name::of) else {
                continue;
            };
            let value = stat.get("value").and_then(Json::as_u64).unwrap_or_default();
            let counted = filters.entry(name.instance).or_default();
            match name.cause {
                Some(cause) => counted.causes.insert(cause, value),
                None => counted.numbers.insert(name.leaf, value),
            };
        }
        // Other modules may have parts of these names.
        let own = ["ok", "requests", "streams_started"];
        filters.retain(|_, counted| own.iter().any(|name| counted.numbers.contains_key(*name)));
        Ok(Self { at, filters })
    }
}

/// The name of a statistic, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    instance: Instance,
    leaf: String,
    cause: Option<String>,
}

impl Name {
    /// Of `<namespace>.<filter>.<prefix>.<leaf>`, of counters by cause with `.cause.<cause>` behind.
    fn of(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('.').collect();
        let is_filter = |part: &&str| Kind::ALL.iter().any(|kind| kind.name() == *part);
        let at = parts.iter().skip(1).position(is_filter)? + 1;
        let (namespace, rest) = parts.split_at(at);
        let (filter, rest) = rest.split_first()?;
        let (rest, cause) = match rest {
            [rest @ .., "cause", cause] => (rest, Some((*cause).to_owned())),
            rest => (rest, None),
        };
        let (leaf, prefix) = rest.split_last()?;
        let mut prefix = prefix.join(".");
        if namespace != [NAMESPACE] {
            prefix = format!("{}/{prefix}", namespace.join("."));
        }
        let instance = Instance { filter: (*filter).to_owned(), prefix };
        Some(Self { instance, leaf: (*leaf).to_owned(), cause })
    }
}

fn add_latency(
    filters: &mut BTreeMap<Instance, Counted>,
    histogram: &Json,
    quantiles: Option<&Json>,
) {
    let name = histogram.get("name").and_then(Json::as_str).and_then(Name::of);
    let Some(name) =
        name.filter(|name| ["latency_us", "request_headers_us"].contains(&name.leaf.as_str()))
    else {
        return;
    };
    let at = |quantile: f64| -> Option<f64> {
        let places = quantiles?.as_array()?;
        let place = places.iter().position(|place| place.as_f64() == Some(quantile))?;
        let value = histogram.get("values")?.get(place)?;
        // Of the latest interval, and of all time where nothing happened in it.
        value.get("interval").and_then(Json::as_f64).or_else(|| value.get("cumulative")?.as_f64())
    };
    if let (Some(half), Some(most)) = (at(50.0), at(99.0)) {
        filters.entry(name.instance).or_default().latency = Some((half, most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart() {
        let of = |name: &str| {
            Name::of(name).map(|n| (n.instance.filter, n.instance.prefix, n.leaf, n.cause))
        };
        let told = |filter: &str, prefix: &str, leaf: &str, cause: Option<&str>| {
            Some((filter.to_owned(), prefix.to_owned(), leaf.to_owned(), cause.map(str::to_owned)))
        };
        assert_eq!(of("dynamicmodulescustom.authz.ok"), told("authz", "", "ok", None));
        assert_eq!(of("dynamicmodulescustom.authz.edge.a.ok"), told("authz", "edge.a", "ok", None));
        assert_eq!(
            of("dynamicmodulescustom.extproc.edge.call_failed.cause.timeout"),
            told("extproc", "edge", "call_failed", Some("timeout"))
        );
        assert_eq!(of("mine.ratelimit.ok"), told("ratelimit", "mine/", "ok", None));
        assert_eq!(of("authz.ok"), None);
        assert_eq!(of("cluster.upstream.rq"), None);
    }

    #[test]
    fn percentiles_are_those_of_the_latest_interval() {
        let text = r#"{"stats": [
            {"name": "dynamicmodulescustom.authz.ok", "value": 2},
            {"name": "other.authz.something", "value": 2},
            {"histograms": {"supported_quantiles": [0, 50, 99, 100], "computed_quantiles": [
                {"name": "dynamicmodulescustom.authz.latency_us", "values": [
                    {"interval": null, "cumulative": 1}, {"interval": 250.5, "cumulative": 100},
                    {"interval": null, "cumulative": 9000}, {"interval": 1, "cumulative": 1}]}]}}]}"#;
        let snapshot = Snapshot::read(text, Instant::now()).unwrap();
        let all: Vec<&Counted> = snapshot.filters.values().collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].latency, Some((250.5, 9000.0)));
        assert_eq!(all[0].get("ok"), Some(2));
        assert!(Snapshot::read("nothing", Instant::now()).is_err());
    }
}
