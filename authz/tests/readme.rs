//! The README says what there is.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use callout_authz::Authz;
use callout_common::testing::{Bench, documented_metrics};

const LEAST: &str = r#"{"grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}}"#;

#[test]
fn the_table_of_statistics_is_what_the_filter_defines() {
    let bench = Bench::<Authz>::new("authz", LEAST).unwrap();
    assert_eq!(documented_metrics(include_str!("../README.md")), bench.metric_names("authz"));
}
