//! The stream against a host that is data: what hooks and events come to, without Envoy.

use callout_common::grpc::{CallError, Failure};
use callout_common::testing::{Bench, Progress};
use callout_common::{Body, Direction, Map};
use serde_json::{Value, json};

use super::Event;
use crate::ExtProc;

const REQUEST: Direction = Direction::Request;
const RESPONSE: Direction = Direction::Response;
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":path", "/"), (":authority", "a"), ("content-length", "5")];

/// A stream with a processor that says only what a test has it say.
fn bench(fields: Value, callout: Value) -> Bench<ExtProc> {
    let mut config = json!({
        "grpc_service": {"envoy_grpc": {"cluster_name": "processor"}},
        "callout": callout,
    });
    let (Value::Object(config), Value::Object(fields)) = (&mut config, fields) else {
        panic!("not an object");
    };
    config.extend(fields);
    Bench::with_silent_services("extproc", &Value::Object(config.clone()).to_string()).unwrap()
}

fn buffered() -> Value {
    json!({"processing_mode": {"request_body_mode": "BUFFERED"}})
}

/// The processor answers.
fn answer(bench: &mut Bench<ExtProc>, json: Value) {
    let answer = serde_json::from_value(json).unwrap();
    assert!(bench.send(Event::Answer(Box::new(answer))));
    assert!(bench.fire());
}

/// The exchange ends.
fn close(bench: &mut Bench<ExtProc>, result: Result<(), Failure>) {
    assert!(bench.send(Event::Closed(result)));
    assert!(bench.fire());
}

/// An answer to headers that sets one.
fn sets(part: &str, name: &str, value: &str) -> Value {
    let bytes: Vec<u8> = value.bytes().collect();
    let value = callout_protos::pbjson_types::BytesValue { value: bytes.into() };
    let value = serde_json::to_value(value).unwrap();
    let line = json!({"header": {"key": name, "rawValue": value}});
    json!({part: {"response": {"headerMutation": {"setHeaders": [line]}}}})
}

fn replied(bench: &Bench<ExtProc>) -> Option<(u16, &str)> {
    bench.host.replies.last().map(|reply| (reply.status(), reply.details_str()))
}

fn length(bench: &Bench<ExtProc>) -> Option<&str> {
    bench.host.text(Map::Request, "content-length")
}

#[test]
fn headers_are_held_until_the_answer_and_go_as_it_says() {
    let mut bench = bench(json!({}), json!({}));
    assert_eq!(bench.headers(REQUEST, &POST, true), Progress::No);
    answer(&mut bench, sets("requestHeaders", "x-a", "1"));
    assert_eq!(bench.host.resumed, [REQUEST]);
    assert_eq!(bench.host.text(Map::Request, "x-a"), Some("1"));
    assert_eq!(bench.host.metric_value("stream_msgs_received"), 1);
}

#[test]
fn a_buffered_body_is_held_shown_and_replaced() {
    let mut bench = bench(buffered(), json!({}));
    bench.headers(REQUEST, &POST[..3], false);
    answer(&mut bench, json!({"requestHeaders": {}}));
    assert_eq!(bench.body(REQUEST, b"hel", false), Progress::No);
    assert_eq!(bench.body(REQUEST, b"lo", true), Progress::No);
    assert_eq!(bench.host.metric_value("stream_msgs_sent"), 2);
    let replaces = json!({"requestBody": {"response": {"bodyMutation": {"body": "YnllIQ=="}}}});
    answer(&mut bench, replaces);
    assert_eq!(bench.host.resumed, [REQUEST]);
    assert_eq!(bench.host.bodies[&Body::BufferedRequest], b"bye!");
}

#[test]
fn a_processor_that_does_not_answer_in_time_ends_the_request() {
    let mut bench = bench(json!({}), json!({}));
    bench.headers(REQUEST, &POST, true);
    assert!(bench.fire(), "the deadline comes");
    let details = "ext_proc_error_per-message_timeout_exceeded";
    assert_eq!(replied(&bench), Some((504, details)));
    assert_eq!(bench.host.metric_value("message_timeouts"), 1);
}

#[test]
fn an_answer_in_time_leaves_no_deadline_behind_that_matters() {
    let mut bench = bench(json!({}), json!({}));
    bench.headers(REQUEST, &POST, true);
    answer(&mut bench, json!({"requestHeaders": {}}));
    while bench.fire() {}
    assert_eq!((replied(&bench), bench.host.metric_value("message_timeouts")), (None, 0));
}

#[test]
fn a_failure_follows_the_failure_mode_and_a_loss_of_our_own_never_opens() {
    let reset = || Failure::Call(CallError::Reset("gone".to_owned()));
    for (open, failure, passes) in
        [(false, reset(), false), (true, reset(), true), (true, Failure::Lost, false)]
    {
        let mut bench = bench(json!({"failure_mode_allow": open}), json!({}));
        bench.headers(REQUEST, &POST, true);
        close(&mut bench, Err(failure));
        assert_eq!(bench.host.resumed.is_empty(), !passes);
        assert_eq!(replied(&bench).is_none(), passes);
    }
}

#[test]
fn a_length_that_the_processor_said_of_a_body_that_it_never_answered_is_taken_back() {
    let mut bench = bench(buffered(), json!({}));
    bench.headers(REQUEST, &POST, false);
    answer(&mut bench, sets("requestHeaders", "content-length", "3"));
    assert_eq!(length(&bench), Some("3"));
    bench.body(REQUEST, b"hello", true);
    close(&mut bench, Ok(()));
    assert_eq!((bench.host.resumed.as_slice(), length(&bench)), (&[REQUEST][..], Some("5")));
    // None was there before.
    let mut bench = self::bench(buffered(), json!({}));
    bench.headers(REQUEST, &POST[..3], true);
    answer(&mut bench, sets("requestHeaders", "content-length", "3"));
    assert_eq!((bench.host.resumed.as_slice(), length(&bench)), (&[REQUEST][..], None));
}

#[test]
fn a_length_that_is_not_that_of_the_new_body_is_refused() {
    for (said, fits) in [("4", true), ("5", false), ("+4", false), ("4,4", false)] {
        let mut bench = bench(buffered(), json!({}));
        bench.headers(REQUEST, &POST, false);
        answer(&mut bench, sets("requestHeaders", "content-length", said));
        bench.body(REQUEST, b"hello", true);
        let replaces = json!({"requestBody": {"response": {"bodyMutation": {"body": "YnllIQ=="}}}});
        answer(&mut bench, replaces);
        assert_eq!(bench.host.resumed.is_empty(), !fits, "{said}");
        let mismatch = "mismatch_between_content_length_and_the_length_of_the_mutated_body";
        assert_eq!(replied(&bench), (!fits).then_some((500, mismatch)), "{said}");
    }
}

#[test]
fn a_client_that_leaves_leaves_nothing_behind() {
    let mut bench = bench(json!({}), json!({"max_streams": 1}));
    bench.headers(REQUEST, &POST, true);
    assert_eq!(bench.host.metric_value("live_streams"), 1);
    bench.complete();
    assert_eq!(bench.host.metric_value("live_streams"), 0);
    assert_eq!(bench.host.metric_value("streams_closed"), 1);
    assert!(!bench.send(Event::Closed(Ok(()))), "nobody listens any more");
}

#[test]
fn a_reply_to_a_request_that_could_not_be_read_passes_unseen() {
    let mut bench = bench(json!({}), json!({}));
    let status = [(":status", "400")];
    assert_eq!(bench.headers(RESPONSE, &status, true), Progress::Yes);
    assert_eq!(bench.host.metric_value("streams_started"), 0);
}

#[test]
fn an_upgrade_with_a_body_to_be_shown_whole_is_refused_and_one_that_only_says_so_is_not() {
    let upgrade =
        [(":method", "GET"), (":path", "/"), ("upgrade", "x"), ("connection", "a, Upgrade")];
    for (lines, refused) in [(&upgrade[..], true), (&upgrade[..3], false)] {
        let mut bench = bench(buffered(), json!({}));
        bench.headers(REQUEST, lines, false);
        answer(&mut bench, json!({"requestHeaders": {}}));
        let details = Some((500, "ext_proc_buffered_body_of_an_upgrade"));
        assert_eq!(replied(&bench), if refused { details } else { None });
    }
}

#[test]
fn a_path_that_only_looks_like_a_skipped_one_is_not_skipped() {
    let skip = || json!({"skip": {"paths": [{"prefix": "/assets/"}]}});
    for (path, skipped) in [("/assets/a", true), ("/assets/..%2fadmin", false)] {
        let mut bench = bench(json!({}), skip());
        let lines = [(":method", "GET"), (":path", path)];
        let passed = bench.headers(REQUEST, &lines, true) == Progress::Yes;
        assert_eq!((passed, bench.host.metric_value("skipped") == 1), (skipped, skipped), "{path}");
    }
}

#[test]
fn in_duplex_the_output_of_a_piece_goes_as_it_comes_with_the_headers_that_waited() {
    let modes = json!({"processing_mode": {
        "request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND",
    }});
    let mut bench = bench(modes, json!({}));
    bench.headers(REQUEST, &POST[..3], false);
    assert_eq!(bench.body(REQUEST, b"hello", false), Progress::No);
    answer(&mut bench, json!({"requestHeaders": {}}));
    assert!(bench.host.resumed.is_empty(), "the headers wait for the piece's output");
    let output = json!({"requestBody": {"response": {"bodyMutation": {
        "streamedResponse": {"body": "SEVMTE8="},
    }}}});
    answer(&mut bench, output);
    assert_eq!(bench.host.resumed, [REQUEST]);
    assert_eq!(bench.host.bodies[&Body::BufferedRequest], b"HELLO");
}
