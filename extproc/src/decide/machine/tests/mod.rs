//! Tables and properties of the machine.

mod beyond;
mod duplex;
mod endings;
mod length;
mod random;
mod streaming;

use callout_common::grpc::{CallError, Failure};
use callout_common::{Direction, StopMode};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::processing_response::Response;

use std::time::Duration;

use callout_common::Reply;

use super::*;

const REQUEST: Direction = Direction::Request;
const RESPONSE: Direction = Direction::Response;

fn settings() -> Settings {
    Settings {
        modes: Modes::default(),
        failure_mode_allow: false,
        status_on_error: 500,
        message_timeout: Duration::from_millis(200),
        max_message_timeout: Duration::ZERO,
        allow_mode_override: false,
        allowed_override_modes: Vec::new(),
        disable_immediate_response: false,
        route_cache: RouteCache::Default,
        allow_content_length_header: false,
        observability: false,
        send_body_without_waiting: false,
        body_limit: None,
        stall_timeout: None,
        on_error: OnError::new(),
        chunking: None,
    }
}

fn buffered() -> Settings {
    let modes = Modes { request_body: BodyMode::Buffered, ..Modes::default() };
    Settings { modes, ..settings() }
}

fn answer(json: &str) -> proto::ProcessingResponse {
    serde_json::from_str(json).unwrap()
}

fn data(machine: &mut Machine, direction: Direction, end: bool) -> (Vec<Action>, PieceStatus) {
    let bytes = || Bytes::from_static(b"ab");
    machine.data(
        direction,
        Data { end, trailers: false, total: 2, limit: 1 << 20, backlog: false, bytes },
    )
}

fn trailers(machine: &mut Machine, direction: Direction) -> (Vec<Action>, PieceStatus) {
    machine.trailers(direction, Bytes::new)
}

fn headers_ok() -> proto::ProcessingResponse {
    answer(r#"{"requestHeaders": {}}"#)
}

fn sent(actions: &[Action]) -> Vec<OutboundMessage> {
    let what = |action: &Action| match action {
        Action::Send { what, .. } => Some(what.clone()),
        _ => None,
    };
    actions.iter().filter_map(what).collect()
}

fn released(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Release(_)))
}

fn reply(actions: &[Action]) -> Option<(u16, &str)> {
    actions.iter().find_map(|action| match action {
        Action::Reply(reply) => Some((reply.status(), reply.details_str())),
        _ => None,
    })
}

fn response(response: Response) -> proto::ProcessingResponse {
    proto::ProcessingResponse { response: Some(response), ..Default::default() }
}

#[test]
fn headers_are_held_until_their_answer() {
    let mut machine = Machine::new(settings());
    let (actions, stance) = machine.headers(REQUEST, false);
    assert_eq!(sent(&actions), [OutboundMessage::Headers { end: false }]);
    assert_eq!(stance, PieceStatus::Hold(StopMode::Watermark));
    assert_eq!(data(&mut machine, REQUEST, false).1, PieceStatus::Hold(StopMode::Watermark));
    assert!(released(&machine.answer(headers_ok())));
    assert_eq!(data(&mut machine, REQUEST, true), (Vec::new(), PieceStatus::Pass));
}

#[test]
fn a_buffered_body_goes_when_it_is_whole_and_headers_wait_for_its_answer() {
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, false);
    assert!(!released(&machine.answer(headers_ok())));
    assert_eq!(
        data(&mut machine, REQUEST, false),
        (Vec::new(), PieceStatus::Hold(StopMode::Buffer))
    );
    assert_eq!(sent(&data(&mut machine, REQUEST, true).0), [OutboundMessage::Body { end: true }]);
    let actions = machine
        .answer(answer(r#"{"requestBody": {"response": {"bodyMutation": {"body": "TkVX"}}}}"#));
    assert!(actions.contains(&Action::ReplaceBody(REQUEST, b"NEW".to_vec())));
    assert!(actions.contains(&Action::CheckLength(REQUEST)) && released(&actions));
}

#[test]
fn a_body_that_is_whole_before_the_header_answer_goes_with_it() {
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, true);
    assert_eq!(sent(&machine.answer(headers_ok())), [OutboundMessage::Body { end: true }]);
}

#[test]
fn trailers_follow_the_body_and_end_it_without_end_of_stream() {
    let modes = Modes { request_trailers: true, ..buffered().modes };
    let mut machine = Machine::new(Settings { modes, ..settings() });
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, false);
    assert_eq!(sent(&trailers(&mut machine, REQUEST).0), [OutboundMessage::Body { end: false }]);
    let actions = machine.answer(answer(r#"{"requestBody": {}}"#));
    assert_eq!((sent(&actions), released(&actions)), (vec![OutboundMessage::Trailers], false));
    assert!(released(&machine.answer(answer(r#"{"requestTrailers": {}}"#))));
}

#[test]
fn replacing_at_the_headers_swallows_the_rest_of_the_body() {
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, false);
    let actions = machine.answer(answer(
        r#"{"requestHeaders": {"response": {"status": "CONTINUE_AND_REPLACE", "bodyMutation": {"body": "Tg=="}}}}"#,
    ));
    assert!(released(&actions) && actions.contains(&Action::DropContentLength(REQUEST)));
    assert_eq!(data(&mut machine, REQUEST, false).1, PieceStatus::Discard);
    assert_eq!(trailers(&mut machine, REQUEST).1, PieceStatus::Pass);
}

#[test]
fn a_deadline_counts_only_for_the_message_it_was_set_for() {
    let mut machine = Machine::new(settings());
    machine.headers(REQUEST, true);
    assert!(machine.deadline(REQUEST, 7).is_empty());
    machine.answer(headers_ok());
    assert!(machine.deadline(REQUEST, 1).is_empty());
    machine.headers(RESPONSE, true);
    let actions = machine.deadline(RESPONSE, 1);
    assert_eq!(reply(&actions), Some((504, "ext_proc_error_per-message_timeout_exceeded")));
}

#[test]
fn failures_follow_the_failure_mode_but_refused_edits_and_our_own_losses_never_open() {
    let open = Settings { failure_mode_allow: true, ..settings() };
    let failed = |settings: &Settings, failure: Failure| {
        let mut machine = Machine::new(settings.clone());
        machine.headers(REQUEST, true);
        machine.closed(Err(failure))
    };
    let status = Failure::Call(CallError::Status { code: 14, message: "a b".to_owned() });
    assert_eq!(
        reply(&failed(&settings(), status.clone())),
        Some((500, "ext_proc_error_gRPC_error_14{a_b}"))
    );
    assert!(released(&failed(&open, status)));
    assert!(reply(&failed(&open, Failure::Lost)).is_some());
    assert!(reply(&failed(&open, Failure::Call(CallError::Overload))).is_some());
    let mut machine = Machine::new(open);
    machine.headers(REQUEST, true);
    assert_eq!(reply(&machine.rejected("why")), Some((500, "why")));
}

#[test]
fn an_answer_that_nobody_waits_for_is_spurious_and_a_clean_close_is_not() {
    let mut machine = Machine::new(settings());
    machine.headers(REQUEST, true);
    let actions = machine.answer(answer(r#"{"responseHeaders": {}}"#));
    assert_eq!(reply(&actions), Some((500, "spurious_message")));
    let mut machine = Machine::new(settings());
    machine.headers(REQUEST, true);
    assert!(released(&machine.closed(Ok(()))));
    assert_eq!(machine.headers(RESPONSE, true), (Vec::new(), PieceStatus::Pass));
}

#[test]
fn more_time_is_granted_once_for_a_message_and_within_the_bound() {
    let settings = Settings { max_message_timeout: Duration::from_secs(3), ..settings() };
    let mut machine = Machine::new(settings);
    machine.headers(REQUEST, true);
    let more = |time: &str| answer(&format!(r#"{{"overrideMessageTimeout": "{time}"}}"#));
    assert_eq!(machine.answer(more("4s")), [Action::Count(Stat::MoreTimeIgnored)]);
    let granted = machine.answer(more("2s"));
    assert!(granted.contains(&Action::Count(Stat::MoreTime)));
    assert_eq!(machine.answer(more("2s")), [Action::Count(Stat::MoreTimeIgnored)]);
    assert!(machine.deadline(REQUEST, 1).is_empty());
    assert!(reply(&machine.deadline(REQUEST, 2)).is_some());
}

#[test]
fn an_override_that_leaves_a_body_mode_out_switches_it_off() {
    let settings = Settings { allow_mode_override: true, ..buffered() };
    let mut machine = Machine::new(settings);
    machine.headers(REQUEST, false);
    let actions = machine.answer(answer(
        r#"{"requestHeaders": {}, "modeOverride": {"responseHeaderMode": "SKIP"}}"#,
    ));
    assert!(released(&actions));
    assert_eq!(machine.headers(RESPONSE, true), (Vec::new(), PieceStatus::Pass));
}

#[test]
fn an_immediate_response_is_taken_at_any_time_unless_it_is_switched_off() {
    let immediate = || answer(r#"{"immediateResponse": {"status": {"code": "Forbidden"}}}"#);
    let mut machine = Machine::new(settings());
    machine.headers(REQUEST, true);
    machine.answer(headers_ok());
    let actions = machine.answer(immediate());
    assert!(actions.iter().any(|action| matches!(action, Action::Immediate(_))));
    let mut machine = Machine::new(Settings { disable_immediate_response: true, ..settings() });
    machine.headers(REQUEST, true);
    let details = "unhandled_immediate_response_due_to_config_disabled_it";
    assert_eq!(reply(&machine.answer(immediate())), Some((500, details)));
}

#[test]
fn an_override_leaves_what_is_under_way_as_it_is() {
    let modes = Modes { request_body: BodyMode::Streamed, ..Modes::default() };
    let mut machine = Machine::new(Settings { modes, allow_mode_override: true, ..settings() });
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, false);
    machine.headers(RESPONSE, false);
    let over = r#"{"responseHeaders": {}, "modeOverride": {"requestBodyMode": "FULL_DUPLEX_STREAMED", "responseBodyMode": "BUFFERED"}}"#;
    machine.answer(answer(over));
    assert_eq!(machine.modes().request_body, BodyMode::Streamed);
    assert_eq!(machine.modes().response_body, BodyMode::Buffered);
}
