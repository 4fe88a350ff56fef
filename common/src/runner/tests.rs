//! What the runner does with decisions, panics and late events, on a fake host.

use std::sync::Arc;
use std::time::Duration;

use crate::api::config::{ConfigError, RawConfig};
use crate::envoy::reply::{Reply, ReplyPart};
use crate::envoy::types::Direction;
use crate::filter::context::StreamContext;
use crate::filter::decision::{BodyEdit, EventAction, HookStatus, StopMode};
use crate::filter::stats::Setup;
use crate::filter::{Filter, HttpStream, NoRoute, held_end};
use crate::testing::{Bench, Progress};

const REQUEST: Direction = Direction::Request;
const RESPONSE: Direction = Direction::Response;

/// Does what the header `do` says.
struct Puppet;

struct Strings {
    script: String,
    resumed: usize,
    /// The status of the response.
    seen: String,
}

impl Filter for Puppet {
    type Stream = Strings;
    type Route = NoRoute;

    fn configure(_: RawConfig<'_>, _: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn route(_: RawConfig<'_>) -> Result<NoRoute, ConfigError> {
        Ok(NoRoute)
    }

    fn stream(self: &Arc<Self>, _: Option<Arc<NoRoute>>) -> Strings {
        Strings { script: String::new(), resumed: 0, seen: String::new() }
    }
}

impl HttpStream for Strings {
    type Event = &'static str;

    fn request_headers(&mut self, cx: &mut StreamContext<'_, &'static str>, _: bool) -> HookStatus {
        self.script = cx.request().get_str("do").unwrap_or_default().to_owned();
        match self.script.as_str() {
            "pass" => HookStatus::Continue,
            "reply" => HookStatus::Reply(Reply::new(418)),
            "panic" => panic!("asked to"),
            "task panics" => {
                cx.spawn(async { panic!("asked to") });
                HookStatus::Pause(StopMode::AllIteration)
            }
            "hold all" | "panic in event" => {
                cx.after(Duration::from_secs(60), "go");
                HookStatus::Pause(StopMode::AllIteration)
            }
            "hold headers" | "hold and flush" => {
                cx.after(Duration::from_secs(60), "go");
                HookStatus::Pause(StopMode::Buffer)
            }
            "reply later" => {
                cx.after(Duration::from_secs(60), "reply");
                HookStatus::Continue
            }
            "reply later, held" => {
                cx.after(Duration::from_secs(60), "reply");
                HookStatus::Pause(StopMode::AllIteration)
            }
            "grow the request" => {
                cx.after(Duration::from_secs(60), "grow");
                HookStatus::Pause(StopMode::Buffer)
            }
            "hold both" => {
                cx.after(Duration::from_secs(60), "both");
                HookStatus::Pause(StopMode::Buffer)
            }
            "grow the response" | "answer while it is held" => HookStatus::Continue,
            "resume what is not held" => {
                cx.after(Duration::from_secs(60), "both");
                HookStatus::Continue
            }
            other => panic!("unknown script {other}"),
        }
    }

    fn request_body(&mut self, _: &mut StreamContext<'_, &'static str>, _: bool) -> HookStatus {
        if self.script == "hold and flush" {
            HookStatus::Flush(StopMode::NoBuffer)
        } else {
            HookStatus::Continue
        }
    }

    fn resumed(
        &mut self,
        _: &mut StreamContext<'_, &'static str>,
        _: Direction,
    ) -> Option<BodyEdit> {
        self.resumed += 1;
        None
    }

    fn response_headers(
        &mut self,
        cx: &mut StreamContext<'_, &'static str>,
        _: bool,
    ) -> HookStatus {
        assert!(self.script != "panic in response", "asked to");
        self.seen = cx.response().get_str(":status").unwrap_or_default().to_owned();
        match self.script.as_str() {
            "grow the response" => {
                cx.after(Duration::from_secs(60), "grow the response");
                HookStatus::Pause(StopMode::Buffer)
            }
            "hold both" => HookStatus::Pause(StopMode::Buffer),
            _ => HookStatus::Continue,
        }
    }

    fn response_body(&mut self, cx: &mut StreamContext<'_, &'static str>, _: bool) -> HookStatus {
        match self.script.as_str() {
            "grow the response" | "grow the request" | "hold both" => HookStatus::Continue,
            "answer while it is held" => {
                cx.after(Duration::from_secs(60), "reply");
                HookStatus::Pause(StopMode::NoBuffer)
            }
            _ => panic!("asked to"),
        }
    }

    fn complete(&mut self, cx: &mut StreamContext<'_, &'static str>) {
        cx.set_filter_state("resumed", self.resumed.to_string().as_bytes());
        cx.set_filter_state("seen", self.seen.as_bytes());
    }

    fn event(
        &mut self,
        _: &mut StreamContext<'_, &'static str>,
        event: &'static str,
    ) -> EventAction {
        assert!(self.script != "panic in event", "asked to");
        match event {
            "go" => EventAction::Request,
            "both" => EventAction::Both,
            "grow" => EventAction::Request.after(vec![
                BodyEdit::Keep(REQUEST, vec![b'x'; 100].into()),
                BodyEdit::Keep(RESPONSE, "too late".into()),
            ]),
            "grow the response" => {
                let long = BodyEdit::Keep(RESPONSE, vec![b'x'; 100].into());
                EventAction::Response.after(vec![long.clone(), long])
            }
            _ => EventAction::Reply(Reply::new(403)),
        }
    }
}

fn bench(script: &str) -> (Bench<Puppet>, Progress) {
    let mut bench = Bench::new("puppet", "").unwrap();
    let passed = bench.headers(REQUEST, &[("do", script)], false);
    (bench, passed)
}

fn statuses(bench: &Bench<Puppet>) -> Vec<u16> {
    bench.host.replies.iter().map(Reply::status).collect()
}

#[test]
fn what_is_held_stays_held_until_the_event_and_is_released_once() {
    for script in ["hold all", "hold headers"] {
        let (mut bench, passed) = bench(script);
        assert_eq!(passed, Progress::No);
        // The filter itself says Continue here.
        assert_eq!(bench.body(REQUEST, b"ab", false), Progress::No);
        assert_eq!(bench.trailers(REQUEST, &[]), Progress::No);
        assert!(bench.host.resumed.is_empty());
        assert!(bench.fire());
        assert_eq!(bench.host.resumed, [REQUEST]);
        assert_eq!(bench.body(REQUEST, b"cd", true), Progress::Yes);
    }
}

#[test]
fn a_flush_lets_go_what_was_held_and_holds_the_piece_at_hand() {
    let (mut bench, _) = bench("hold and flush");
    assert_eq!(bench.body(REQUEST, b"ab", false), Progress::No);
    assert_eq!(bench.host.resumed, [REQUEST]);
    assert!(bench.fire());
    assert_eq!(bench.host.resumed, [REQUEST, REQUEST], "it was held again");
    bench.complete();
    assert_eq!(bench.host.filter_state.get("resumed").unwrap(), b"2");
}

#[test]
fn a_request_waits_for_a_filter_in_front_that_holds_its_end_and_goes_once() {
    let (mut bench, _) = bench("hold all");
    held_end::say(&mut bench.host, true);
    // The event, and two times at which it tries again.
    for _ in 0..3 {
        assert!(bench.fire());
        assert!(bench.host.resumed.is_empty());
    }
    held_end::say(&mut bench.host, false);
    assert!(bench.fire());
    assert_eq!(bench.host.resumed, [REQUEST]);
    assert!(!bench.fire());
}

#[test]
fn one_that_is_let_go_twice_while_it_waits_is_not_let_go_again_when_it_is_held_anew() {
    let (mut bench, _) = bench("hold and flush");
    held_end::say(&mut bench.host, true);
    assert!(bench.send("go") && bench.fire());
    held_end::say(&mut bench.host, false);
    assert!(bench.send("go") && bench.fire());
    assert_eq!(bench.host.resumed, [REQUEST]);
    // What was to try again finds it held by another hook.
    assert_eq!(bench.body(REQUEST, b"ab", false), Progress::No);
    assert!(bench.fire());
    assert_eq!(bench.host.resumed, [REQUEST]);
}

#[test]
fn a_request_that_is_answered_while_it_waits_waits_no_longer() {
    let (mut bench, _) = bench("hold all");
    held_end::say(&mut bench.host, true);
    assert!(bench.fire());
    bench.headers(RESPONSE, &[(":status", "408")], true);
    assert!(bench.fire());
    assert!(!bench.fire(), "nothing tries again");
    assert!(bench.host.resumed.is_empty());
}

#[test]
fn a_request_without_a_body_has_no_end_to_wait_for() {
    let mut bench = Bench::<Puppet>::new("puppet", "").unwrap();
    bench.headers(REQUEST, &[("do", "hold all")], true);
    held_end::say(&mut bench.host, true);
    assert!(bench.fire());
    assert_eq!(bench.host.resumed, [REQUEST]);
}

#[test]
fn a_direction_that_is_not_held_is_never_resumed() {
    let (mut bench, passed) = bench("resume what is not held");
    assert_eq!(passed, Progress::Yes);
    assert!(bench.fire());
    assert!(bench.host.resumed.is_empty());
}

#[test]
fn a_reply_ends_the_stream_for_the_filter() {
    let (mut bench, passed) = bench("reply");
    assert_eq!((passed, statuses(&bench)), (Progress::No, vec![418]));
    assert_eq!(bench.body(REQUEST, b"rest", true), Progress::No);
    // The response that runs now is the reply itself.
    assert_eq!(bench.headers(RESPONSE, &[], true), Progress::Yes);
    assert_eq!(statuses(&bench), [418]);
}

#[test]
fn a_request_that_was_made_grpc_on_its_way_is_answered_as_it_arrived() {
    let transcoded = [
        ("do", "reply"),
        ("content-type", "application/grpc"),
        ("x-envoy-original-method", "GET"),
        ("x-envoy-original-path", "/v1"),
    ];
    let (mut bench, _) = bench("reply");
    assert_eq!(bench.host.replies.len(), 1);
    bench = Bench::new("puppet", "").unwrap();
    assert_eq!(bench.headers(REQUEST, &transcoded, true), Progress::No);
    assert!(bench.host.replies.is_empty());
    let [ReplyPart::Headers { reply, end: true }] = &bench.host.parts[..] else {
        panic!("{:?}", bench.host.parts)
    };
    assert_eq!(reply.status(), 418);
    assert!(reply.headers().contains(&("content-length".to_owned(), b"0".to_vec())));
}

#[test]
fn a_request_that_grows_over_the_limit_is_answered_by_envoy_and_touched_no_more() {
    let (mut bench, _) = bench("grow the request");
    bench.host.buffer_limit = 50;
    assert_eq!(bench.body(REQUEST, b"ab", true), Progress::No);
    assert!(bench.fire());
    assert_eq!(bench.host.others, [413]);
    assert!(bench.host.resumed.is_empty() && bench.host.replies.is_empty());
    assert_eq!(bench.host.filter_state.get("seen").unwrap(), b"413");
    assert_eq!(bench.host.metric_value("panics"), 0);
    assert_eq!(bench.host.metric_value("live_streams"), 0);
}

#[test]
fn a_request_that_grows_within_the_limit_or_under_a_watermark_goes_on() {
    for (limit, gathered) in [(100, true), (0, true), (50, false)] {
        let (mut bench, _) = bench("grow the request");
        bench.host.buffer_limit = limit;
        if gathered {
            assert_eq!(bench.body(REQUEST, b"ab", true), Progress::No);
        }
        assert!(bench.fire());
        assert_eq!(bench.host.resumed, [REQUEST], "{limit}");
        assert!(bench.host.others.is_empty());
    }
}

#[test]
fn a_response_that_grows_over_the_limit_is_replaced_by_envoy_and_touched_no_more() {
    let (mut bench, _) = bench("grow the response");
    bench.host.buffer_limit = 50;
    assert_eq!(bench.headers(RESPONSE, &[(":status", "200")], false), Progress::No);
    assert_eq!(bench.body(RESPONSE, b"ab", true), Progress::No);
    assert!(bench.fire());
    assert_eq!(bench.host.others, [500]);
    assert!(bench.host.resumed.is_empty() && bench.host.resets.is_empty());
    assert_eq!(bench.host.metric_value("panics"), 0);
    assert_eq!(bench.host.metric_value("live_streams"), 0);
}

#[test]
fn an_answer_that_comes_inside_the_resume_can_be_held_and_let_go() {
    for one_mark in [false, true] {
        let (mut bench, _) = bench("hold both");
        bench.host.answer_at_once = Some(404);
        bench.host.one_mark = one_mark;
        assert_eq!(bench.body(REQUEST, b"ab", true), Progress::No);
        assert!(bench.fire());
        // The response was held from inside the first half of "both", and the second half let it go.
        assert_eq!(bench.host.resumed, [REQUEST, RESPONSE], "{one_mark}");
        assert!(bench.host.resets.is_empty());
    }
}

#[test]
fn a_request_that_was_answered_before_it_left_never_leaves() {
    let (mut bench, _) = bench("hold both");
    // Envoy's own answer, which the filter holds.
    assert_eq!(bench.headers(RESPONSE, &[(":status", "408")], true), Progress::No);
    assert!(bench.fire());
    assert_eq!(bench.host.resumed, [RESPONSE]);
}

#[test]
fn a_local_reply_that_is_held_when_the_filter_fails_is_reset() {
    // An earlier filter answers; only the response's hooks run.
    let mut bench = Bench::<Puppet>::new("puppet", "").unwrap();
    assert_eq!(bench.headers(RESPONSE, &[(":status", "403")], false), Progress::Yes);
    assert_eq!(bench.body(RESPONSE, b"no", true), Progress::No);
    assert_eq!(bench.host.resets, ["callout_failed"]);
    let (mut bench, _) = self::bench("answer while it is held");
    assert_eq!(bench.headers(RESPONSE, &[(":status", "200")], false), Progress::Yes);
    assert_eq!(bench.body(RESPONSE, b"x", false), Progress::No);
    assert!(bench.fire());
    assert_eq!(bench.host.resets.len(), 1);
}

#[test]
fn a_panic_before_the_response_is_a_500() {
    for script in ["panic", "task panics", "panic in event"] {
        let (mut bench, passed) = bench(script);
        assert_eq!(passed, Progress::No, "{script}");
        if statuses(&bench).is_empty() {
            assert!(bench.fire(), "{script}");
        }
        assert_eq!(statuses(&bench), [500], "{script}");
        assert_eq!(bench.host.metric_value("panics"), 1, "{script}");
        assert!(bench.host.resumed.is_empty(), "{script}");
    }
}

#[test]
fn a_panic_once_the_response_left_is_a_reset() {
    let (mut bench, _) = bench("pass");
    assert_eq!(bench.headers(RESPONSE, &[(":status", "200")], false), Progress::Yes);
    assert_eq!(bench.body(RESPONSE, b"x", true), Progress::No);
    assert!(bench.host.replies.is_empty());
    assert_eq!(bench.host.resets, ["callout_failed"]);
}

#[test]
fn a_late_reply_spares_somebody_elses_response_but_not_an_exchange_in_flight() {
    let (mut bench, _) = bench("reply later, held");
    // An earlier filter, or Envoy itself, answers while the check is pending.
    bench.headers(RESPONSE, &[(":status", "408")], true);
    assert!(bench.fire());
    assert!(bench.host.replies.is_empty() && bench.host.resets.is_empty());
    let (mut bench, _) = self::bench("reply later");
    bench.headers(RESPONSE, &[(":status", "200")], false);
    assert!(bench.fire());
    assert_eq!(bench.host.resets.len(), 1);
}

#[test]
fn nothing_happens_after_the_end() {
    let (mut bench, _) = bench("hold all");
    assert_eq!(bench.host.metric_value("live_streams"), 1);
    bench.complete();
    assert!(!bench.fire(), "the timer went with the stream");
    assert!(bench.host.resumed.is_empty() && bench.host.replies.is_empty());
    assert_eq!(bench.host.metric_value("live_streams"), 0);
}

#[test]
fn a_route_with_another_filters_configuration_fails_closed() {
    let mut bench = Bench::<Puppet>::new("puppet", "").unwrap().on_foreign_route();
    assert_eq!(bench.headers(REQUEST, &[("do", "pass")], true), Progress::No);
    assert_eq!(statuses(&bench), [500]);
}
