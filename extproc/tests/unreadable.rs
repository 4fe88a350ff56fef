//! Metadata that a processor was to be told and that can't be read.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use callout_common::envoy::types::{MetadataSource, MetadataValue};
use callout_common::testing::{Bench, Progress};
use callout_common::{Direction, Reply};
use callout_extproc::ExtProc;

/// A request with an object in the metadata that the processor is to be told, under these fields.
fn asked(fields: &str) -> (Bench<ExtProc>, Progress) {
    let config = format!(
        r#"{{"grpc_service": {{"google_grpc": {{"target_uri": "127.0.0.1:1"}}}}, "failure_mode_allow": true, "metadata_options": {{"forwarding_namespaces": {{"untyped": ["jwt"]}}}}{fields}}}"#
    );
    let mut bench = Bench::<ExtProc>::new("extproc", &config).unwrap();
    let place = (MetadataSource::Dynamic, "jwt".to_owned(), "payload".to_owned());
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
    assert_eq!(bench.host.metric_value("stream_msgs_sent"), 1);
}

#[test]
fn it_fails_closed_where_that_is_asked_for_whatever_the_failure_mode() {
    let (bench, passed) = asked(r#", "callout": {"on_unreadable_metadata": "fail"}"#);
    assert_eq!(passed, Progress::No);
    assert_eq!(bench.host.replies.iter().map(Reply::status).collect::<Vec<_>>(), [500]);
    assert_eq!(bench.host.metric_value("unreadable_metadata"), 1);
    assert_eq!(bench.host.metric_value("stream_msgs_sent"), 0);
}
