//! Metadata that a rate limit service was to be told and that can't be read.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use callout_common::envoy::types::{MetadataSource, MetadataValue};
use callout_common::testing::{Bench, Progress};
use callout_common::{Direction, Reply};
use callout_ratelimit::RateLimit;

/// A request whose call quotes an object of the metadata, under these fields.
fn asked(fields: &str) -> (Bench<RateLimit>, Progress) {
    let service = r#"{"google_grpc": {"target_uri": "127.0.0.1:1"}, "initial_metadata": [{"key": "x-tenant", "value": "%DYNAMIC_METADATA(jwt:tenant)%"}]}"#;
    let config = format!(
        r#"{{"domain": "d", "rate_limit_service": {{"grpc_service": {service}, "transport_api_version": "V3"}}, "rate_limits": [{{"actions": [{{"generic_key": {{"descriptor_value": "a"}}}}]}}]{fields}}}"#
    );
    let mut bench = Bench::<RateLimit>::new("ratelimit", &config).unwrap();
    bench.host.cluster = Some("c".to_owned());
    let place = (MetadataSource::Dynamic, "jwt".to_owned(), "tenant".to_owned());
    bench.host.metadata.insert(place, MetadataValue::Unreadable);
    let lines = [(":method", "GET"), (":path", "/"), (":authority", "h")];
    let passed = bench.headers(Direction::Request, &lines, true);
    (bench, passed)
}

#[test]
fn it_is_counted_and_left_out_unless_that_is_to_fail() {
    let (bench, passed) = asked("");
    assert_eq!((passed, bench.host.replies.len()), (Progress::No, 0));
    assert_eq!(bench.host.metric_value("unreadable_metadata"), 1);
    assert_eq!(bench.host.metric_value("rpc"), 1);
}

#[test]
fn it_fails_closed_where_that_is_asked_for() {
    let (bench, passed) = asked(r#", "callout": {"on_unreadable_metadata": "fail"}"#);
    assert_eq!(passed, Progress::No);
    assert_eq!(bench.host.replies.iter().map(Reply::status).collect::<Vec<_>>(), [500]);
    assert_eq!(bench.host.metric_value("unreadable_metadata"), 1);
    assert_eq!(bench.host.metric_value("rpc"), 0);
}
