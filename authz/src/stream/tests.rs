use callout_common::Direction;
use callout_common::envoy::attributes::Attribute;
use callout_common::envoy::types::{Map, MetadataSource, MetadataValue};
use callout_common::testing::{Bench, Progress};

use crate::Authz;

const NAMESPACE: &str = "jwt";

/// A stream of a filter with these fields beside its service.
fn bench(fields: &str) -> Bench<Authz> {
    let service = r#""grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}"#;
    let mut bench = Bench::new("authz", &format!("{{{service}{fields}}}")).unwrap();
    bench.host.texts.insert(Attribute::XdsRouteName, b"r".to_vec());
    bench
}

fn with_metadata(mut bench: Bench<Authz>, key: &str, value: MetadataValue) -> Bench<Authz> {
    let place = (MetadataSource::Dynamic, NAMESPACE.to_owned(), key.to_owned());
    bench.host.metadata.insert(place, value);
    bench
}

fn get(bench: &mut Bench<Authz>) -> Progress {
    let lines = [(":method", "GET"), (":path", "/p"), (":authority", "h")];
    bench.headers(Direction::Request, &lines, true)
}

const CACHED: &str =
    r#", "metadata_context_namespaces": ["jwt"], "callout": {"cache": {"ttl": "10s"}}"#;

#[test]
fn a_request_whose_metadata_can_not_be_read_shares_no_decision_and_is_counted() {
    let mut bench = with_metadata(bench(CACHED), "payload", MetadataValue::Unreadable);
    assert_eq!(get(&mut bench), Progress::No);
    assert_eq!(bench.host.metric_value("cache_bypassed"), 1);
    assert_eq!(bench.host.metric_value("cache_miss"), 0);
    assert_eq!(bench.host.metric_value("unreadable_metadata"), 1);
}

#[test]
fn metadata_that_can_be_read_leaves_a_request_its_key() {
    let list = MetadataValue::List(vec![MetadataValue::String(b"a".to_vec())]);
    let mut bench = with_metadata(bench(CACHED), "roles", list);
    get(&mut bench);
    assert_eq!(bench.host.metric_value("cache_miss"), 1);
    assert_eq!(bench.host.metric_value("unreadable_metadata"), 0);
}

#[test]
fn what_the_calls_metadata_quotes_and_nobody_can_read_makes_a_request_uncacheable() {
    let fields = r#", "callout": {"cache": {"ttl": "10s"}}"#;
    let service = r#""grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}, "initial_metadata": [{"key": "x-a", "value": "%DYNAMIC_METADATA(jwt:payload)%"}]}"#;
    let mut bench = Bench::new("authz", &format!("{{{service}{fields}}}")).unwrap();
    bench.host.texts.insert(Attribute::XdsRouteName, b"r".to_vec());
    let mut bench = with_metadata(bench, "payload", MetadataValue::Unreadable);
    get(&mut bench);
    assert_eq!(bench.host.metric_value("cache_bypassed"), 1);
    assert_eq!(bench.host.metric_value("unreadable_metadata"), 1);
}

#[test]
fn an_empty_context_is_no_key() {
    let key = r#", "callout": {"cache": {"ttl": "10s", "key": {"context": true}}}"#;
    let mut bench = bench(key);
    get(&mut bench);
    assert_eq!(bench.host.metric_value("cache_bypassed"), 1);
}

#[test]
fn a_chosen_key_of_headers_does_not_look_at_metadata() {
    let fields = r#", "metadata_context_namespaces": ["jwt"], "callout": {"cache": {"ttl": "10s", "key": {"headers": [":path"]}}}"#;
    let fields = fields.replace(":path", "x-user");
    let mut bench = with_metadata(bench(&fields), "payload", MetadataValue::Unreadable);
    let lines = [(":method", "GET"), (":path", "/p"), (":authority", "h"), ("x-user", "a")];
    bench.headers(Direction::Request, &lines, true);
    assert_eq!(bench.host.metric_value("cache_miss"), 1);
    assert_eq!(bench.host.metric_value("unreadable_metadata"), 1);
}

#[test]
fn unreadable_metadata_fails_closed_where_that_is_asked_for_whatever_the_failure_mode() {
    for cache in ["", r#", "cache": {"ttl": "10s"}"#] {
        let fields = format!(
            r#", "metadata_context_namespaces": ["jwt"], "failure_mode_allow": true, "status_on_error": {{"code": 503}}, "callout": {{"on_unreadable_metadata": "fail"{cache}}}"#
        );
        let mut bench = with_metadata(bench(&fields), "payload", MetadataValue::Unreadable);
        assert_eq!(get(&mut bench), Progress::No);
        assert_eq!(bench.host.replies.first().map(callout_common::Reply::status), Some(503));
        assert_eq!(bench.host.metric_value("error"), 1);
        assert_eq!(bench.host.metric_value("unreadable_metadata"), 1);
        let outcome = (MetadataSource::Dynamic, "callout.authz".to_owned(), "cause".to_owned());
        let cause = MetadataValue::String(b"unreadable_metadata".to_vec());
        assert_eq!(bench.host.metadata.get(&outcome), Some(&cause));
        assert!(!bench.fire(), "nobody was asked");
        let mut bench = self::bench(&fields);
        assert_eq!(get(&mut bench), Progress::No);
        assert!(bench.host.replies.is_empty(), "what can be read is asked about");
        assert!(bench.host.text(Map::Request, ":path").is_some());
    }
}

const BODY: &str = r#", "with_request_body": {"max_request_bytes": 100}"#;

/// Whether the service is asked at once about a request with these headers beside its own.
fn asks_at_once(fields: &[(&str, &str)]) -> bool {
    let mut bench = bench(BODY);
    let mut lines = fields.to_vec();
    lines.extend([(":method", "POST"), (":path", "/p"), (":authority", "h")]);
    bench.headers(Direction::Request, &lines, false);
    bench.host.metric_value("in_flight") > 0
}

#[test]
fn a_body_is_waited_for_unless_envoy_upgrades_the_request() {
    let upgrade = |kind| [("connection", "keep-alive, Upgrade"), ("upgrade", kind)];
    assert!(!asks_at_once(&[]));
    assert!(!asks_at_once(&[("upgrade", "x")]));
    assert!(!asks_at_once(&[("upgrade", "websocket")]));
    assert!(!asks_at_once(&[("upgrade", "x"), ("connection", "keep-alive")]));
    assert!(asks_at_once(&upgrade("websocket")) && asks_at_once(&upgrade("SPDY/3.1")));
    assert!(asks_at_once(&[(":method", "CONNECT")]));
}

#[test]
fn the_body_of_a_request_to_upgrade_ends_where_its_length_says() {
    let mut bench = bench(BODY);
    let lines = [
        (":method", "POST"),
        (":path", "/p"),
        (":authority", "h"),
        ("connection", "upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("content-length", "6"),
    ];
    assert_eq!(bench.headers(Direction::Request, &lines, false), Progress::No);
    bench.body(Direction::Request, b"att", false);
    assert_eq!(bench.host.metric_value("in_flight"), 0);
    bench.body(Direction::Request, b"ack", false);
    assert_eq!(bench.host.metric_value("in_flight"), 1);
}
