//! The README says what there is.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use callout_common::testing::Bench;
use callout_ratelimit::RateLimit;

const README: &str = include_str!("../README.md");
const LEAST: &str = r#"{"domain": "d", "rate_limit_service": {"grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}}}"#;

#[test]
fn the_table_of_statistics_is_what_the_filter_defines() {
    let bench = Bench::<RateLimit>::new("ratelimit", LEAST).unwrap();
    let mut defined: Vec<&str> =
        bench.metric_names().iter().map(|name| name.strip_prefix("ratelimit.").unwrap()).collect();
    let (_, section) = README.split_once("## Statistics").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut documented: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    defined.sort_unstable();
    documented.sort_unstable();
    assert_eq!(documented, defined);
}
