//! Tables and properties of the machine.

use callout_common::grpc::{CallError, Failure};
use callout_common::{Direction, Hold};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proptest::prelude::*;
use proto::processing_response::Response;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::{BTreeSet, VecDeque};
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

fn data(machine: &mut Machine, direction: Direction, end: bool) -> (Vec<Action>, Stance) {
    let bytes = || Bytes::from_static(b"ab");
    machine.data(direction, Data { end, total: 2, limit: 1 << 20, backlog: false, bytes })
}

fn trailers(machine: &mut Machine, direction: Direction) -> (Vec<Action>, Stance) {
    machine.trailers(direction, Bytes::new)
}

fn headers_ok() -> proto::ProcessingResponse {
    answer(r#"{"requestHeaders": {}}"#)
}

fn sent(actions: &[Action]) -> Vec<What> {
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

#[test]
fn headers_are_held_until_their_answer() {
    let mut machine = Machine::new(settings());
    let (actions, stance) = machine.headers(REQUEST, false);
    assert_eq!(sent(&actions), [What::Headers { end: false }]);
    assert_eq!(stance, Stance::Hold(Hold::Watermark));
    assert_eq!(data(&mut machine, REQUEST, false).1, Stance::Hold(Hold::Watermark));
    assert!(released(&machine.answer(headers_ok())));
    assert_eq!(data(&mut machine, REQUEST, true), (Vec::new(), Stance::Pass));
}

#[test]
fn a_buffered_body_goes_when_it_is_whole_and_headers_wait_for_its_answer() {
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, false);
    assert!(!released(&machine.answer(headers_ok())));
    assert_eq!(data(&mut machine, REQUEST, false), (Vec::new(), Stance::Hold(Hold::Buffer)));
    assert_eq!(sent(&data(&mut machine, REQUEST, true).0), [What::Body { end: true }]);
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
    assert_eq!(sent(&machine.answer(headers_ok())), [What::Body { end: true }]);
}

#[test]
fn trailers_follow_the_body_and_end_it_without_end_of_stream() {
    let modes = Modes { request_trailers: true, ..buffered().modes };
    let mut machine = Machine::new(Settings { modes, ..settings() });
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, false);
    assert_eq!(sent(&trailers(&mut machine, REQUEST).0), [What::Body { end: false }]);
    let actions = machine.answer(answer(r#"{"requestBody": {}}"#));
    assert_eq!((sent(&actions), released(&actions)), (vec![What::Trailers], false));
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
    assert_eq!(data(&mut machine, REQUEST, false).1, Stance::Swallow);
    assert_eq!(trailers(&mut machine, REQUEST).1, Stance::Pass);
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
    assert_eq!(machine.headers(RESPONSE, true), (Vec::new(), Stance::Pass));
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
    assert_eq!(machine.headers(RESPONSE, true), (Vec::new(), Stance::Pass));
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

fn duplex() -> Machine {
    let modes =
        Modes { request_body: BodyMode::Duplex, request_trailers: true, ..Modes::default() };
    Machine::new(Settings { modes, failure_mode_allow: true, ..settings() })
}

fn output(body: &str, end: bool) -> proto::ProcessingResponse {
    let output = proto::StreamedBodyResponse {
        body: body.as_bytes().to_vec(),
        end_of_stream: end,
        ..Default::default()
    };
    let mutation = Some(proto::body_mutation::Mutation::StreamedResponse(output));
    let common = proto::CommonResponse {
        body_mutation: Some(proto::BodyMutation { mutation }),
        ..Default::default()
    };
    response(Response::RequestBody(proto::BodyResponse { response: Some(common) }))
}

#[test]
fn in_duplex_pieces_go_to_the_processor_while_the_headers_wait() {
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    let (actions, stance) = data(&mut machine, REQUEST, false);
    assert!(matches!(sent(&actions).as_slice(), [What::Piece { end: false, .. }]));
    assert_eq!(stance, Stance::Hold(Hold::Taken));
    assert!(released(&machine.answer(headers_ok())));
    // The one release is spent: output waits for the next piece, and then for an event.
    assert!(!released(&machine.answer(output("x", false))));
    let (actions, _) = data(&mut machine, REQUEST, false);
    assert!(actions.contains(&Action::Nudge(REQUEST)) && !released(&actions));
    let actions = machine.nudged(REQUEST);
    assert!(actions.contains(&Action::AppendBody(REQUEST, b"x".to_vec())));
    assert!(released(&actions));
}

#[test]
fn in_duplex_what_a_slow_processor_could_not_take_is_taken_when_it_has_room() {
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    let late = Data { end: true, total: 2, limit: 1, backlog: true, bytes: Bytes::new };
    assert_eq!(machine.data(REQUEST, late).1, Stance::Hold(Hold::Watermark));
    // Even while the headers' answer is outstanding.
    assert_eq!(machine.room(), [Action::TakeParked(REQUEST)]);
    let actions = machine.stream_taken(REQUEST, Bytes::from_static(b"ab"));
    assert!(matches!(sent(&actions).as_slice(), [What::Piece { end: true, .. }]));
    assert!(machine.room().is_empty());
    // Nor does the headers' answer let go on what the processor has not seen.
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    let late = Data { end: false, total: 2, limit: 1, backlog: true, bytes: Bytes::new };
    machine.data(REQUEST, late);
    let actions = machine.answer(headers_ok());
    let place = |wanted: &Action| actions.iter().position(|action| action == wanted);
    let taken = place(&Action::TakeParked(REQUEST));
    assert!(taken.is_some() && taken < place(&Action::Release(REQUEST)));
}

#[test]
fn in_duplex_the_end_goes_with_the_processors_own_end() {
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, true);
    assert!(!released(&machine.answer(output("x", false))));
    assert!(released(&machine.answer(output("y", true))));
    assert_eq!(reply(&machine.answer(output("z", false))), None, "open: it is only counted");
}

#[test]
fn in_duplex_a_failure_after_the_first_piece_can_not_be_opened() {
    let failure = || Err(Failure::Call(CallError::Timeout));
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    assert!(released(&machine.closed(failure())));
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, false);
    assert!(reply(&machine.closed(failure())).is_some());
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    let plain = answer(r#"{"requestBody": {"response": {"bodyMutation": {"body": "TkVX"}}}}"#);
    let actions = machine.answer(plain);
    assert!(actions.contains(&Action::Count(Stat::Spurious)));
}

#[derive(Debug, Clone, Copy)]
enum Input {
    Data(bool),
    Trailers,
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    Close,
    Fail,
    Deadline(u64),
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let input = prop_oneof![
        any::<bool>().prop_map(Input::Data),
        Just(Input::Trailers),
        Just(Input::RequestHeaders),
        Just(Input::RequestBody),
        Just(Input::RequestTrailers),
        Just(Input::Close),
        Just(Input::Fail),
        (0..4_u64).prop_map(Input::Deadline),
    ];
    proptest::collection::vec(input, 0..12)
}

fn response(response: Response) -> proto::ProcessingResponse {
    proto::ProcessingResponse { response: Some(response), ..Default::default() }
}

proptest! {
    /// Whatever comes in whatever order: what is held is waited for with a deadline or for more of
    /// the body, a release comes only for what is held, and after a reply nothing happens any more.
    #[test]
    fn nothing_is_held_for_ever_or_released_twice(
        body in any::<bool>(), send_trailers in any::<bool>(), headers in any::<bool>(),
        open in any::<bool>(), inputs in inputs(),
    ) {
        let modes = Modes {
            request_headers: headers,
            request_body: if body { BodyMode::Buffered } else { BodyMode::None },
            request_trailers: send_trailers,
            ..Modes::default()
        };
        let mut machine = Machine::new(Settings { modes, failure_mode_allow: open, ..settings() });
        let (mut actions, stance) = machine.headers(REQUEST, false);
        let mut held = matches!(stance, Stance::Hold(_));
        let (mut ended, mut over) = (false, false);
        let check = |actions: &[Action], held: &mut bool, hook: bool, over: &mut bool| {
            for action in actions {
                prop_assert!(!*over || matches!(action, Action::Count(_)));
                match action {
                    Action::Release(_) => {
                        prop_assert!(*held && !hook);
                        *held = false;
                    }
                    Action::Reply(_) => *over = true,
                    _ => {}
                }
            }
            Ok(())
        };
        check(&actions, &mut held, true, &mut over)?;
        for input in inputs {
            let hook = matches!(input, Input::Data(_) | Input::Trailers);
            if over || (hook && ended) {
                continue;
            }
            actions = match input {
                Input::Data(end) => {
                    ended = end;
                    let (actions, stance) = data(&mut machine, REQUEST, end);
                    held |= matches!(stance, Stance::Hold(_));
                    actions
                }
                Input::Trailers => {
                    ended = true;
                    let (actions, stance) = trailers(&mut machine, REQUEST);
                    held |= matches!(stance, Stance::Hold(_));
                    actions
                }
                Input::RequestHeaders => {
                    machine.answer(response(Response::RequestHeaders(Default::default())))
                }
                Input::RequestBody => {
                    machine.answer(response(Response::RequestBody(Default::default())))
                }
                Input::RequestTrailers => {
                    machine.answer(response(Response::RequestTrailers(Default::default())))
                }
                Input::Close => machine.closed(Ok(())),
                Input::Fail => machine.closed(Err(Failure::Call(CallError::Timeout))),
                Input::Deadline(number) => machine.deadline(REQUEST, number),
            };
            check(&actions, &mut held, hook, &mut over)?;
            if !over {
                prop_assert_eq!(machine.request.held(), held, "{:?}", machine.request.phase);
                if held && ended {
                    prop_assert!(machine.request.phase.outstanding());
                    let number = machine.request.number;
                    prop_assert!(!machine.deadline(REQUEST, number + 1).iter().any(|a| matches!(a, Action::Reply(_))));
                }
            }
        }
    }
}

/// Envoy, as far as a streamed body goes: what it keeps, what went on, and whether it is held.
#[derive(Default)]
struct Envoy {
    kept: Vec<u8>,
    out: Vec<u8>,
    held: bool,
    over: bool,
    /// Pieces at the processor.
    asked: VecDeque<Vec<u8>>,
    /// Bytes of the body that were answered.
    answered: usize,
    nudged: bool,
    /// A timer runs for small pieces.
    gathers: bool,
}

impl Envoy {
    fn do_all(&mut self, machine: &mut Machine, actions: Vec<Action>) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Send { what: What::Piece { bytes, .. }, .. } => {
                    self.asked.push_back(bytes.to_vec());
                }
                Action::Send { what: What::Headers { .. }, .. } => {}
                Action::TakeBody(_) => self.kept.clear(),
                Action::TakeParked(_) => {
                    let bytes = std::mem::take(&mut self.kept).into();
                    for action in machine.stream_taken(REQUEST, bytes).into_iter().rev() {
                        queue.push_front(action);
                    }
                }
                Action::AppendBody(_, bytes) => self.kept.extend(bytes),
                Action::PrependBody(_, bytes) => {
                    self.kept = [bytes, std::mem::take(&mut self.kept)].concat();
                }
                Action::Release(_) => {
                    assert!(self.held, "a release of what is not held");
                    self.held = false;
                    self.out.append(&mut self.kept);
                }
                Action::Nudge(_) => self.nudged = true,
                Action::Gather(..) => self.gathers = true,
                Action::Send { .. } | Action::Reply(_) => panic!("unexpected {action:?}"),
                _ => {}
            }
        }
    }

    fn piece(&mut self, machine: &mut Machine, piece: &[u8], end: bool, limit: usize) {
        assert!(!self.over);
        let bytes: Bytes = [self.kept.as_slice(), piece].concat().into();
        let total = bytes.len();
        let (actions, stance) =
            machine.data(REQUEST, Data { end, total, limit, backlog: false, bytes: || bytes });
        self.do_all(machine, actions);
        if matches!(stance, Stance::Flush(_)) {
            assert!(self.held && !end, "a flush needs a hold, and is no end");
            self.out.append(&mut self.kept);
        }
        match stance {
            Stance::Pass => {
                assert!(!self.held);
                self.out.extend_from_slice(piece);
            }
            Stance::Hold(Hold::Taken) | Stance::Flush(Hold::Taken) => self.held = true,
            Stance::Hold(_) | Stance::Flush(_) => {
                self.held = true;
                self.kept.extend_from_slice(piece);
            }
            Stance::Swallow | Stance::Release => panic!("nothing was replaced or skipped"),
        }
        self.over = end;
    }
}

#[derive(Debug, Clone)]
enum Beat {
    Piece(Vec<u8>),
    Answer(Option<Vec<u8>>),
    Nudge,
}

fn beats() -> impl Strategy<Value = Vec<Beat>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..6);
    let beat = prop_oneof![
        bytes().prop_map(Beat::Piece),
        proptest::option::of(bytes()).prop_map(Beat::Answer),
        Just(Beat::Nudge),
    ];
    proptest::collection::vec(beat, 0..24)
}

#[test]
fn small_pieces_go_together_when_they_are_enough_or_have_waited() {
    let modes =
        Modes { request_headers: false, request_body: BodyMode::Streamed, ..Modes::default() };
    let chunking = Some(Chunking { min_bytes: 5, max_delay: Duration::from_millis(3) });
    let mut machine = Machine::new(Settings { modes, chunking, ..settings() });
    machine.headers(REQUEST, false);
    let mut envoy = Envoy::default();
    for piece in [b"ab", b"cd", b"ef"] {
        envoy.piece(&mut machine, piece, false, 100);
    }
    assert_eq!(envoy.asked, [b"abcdef".to_vec()]);
    answer_one(&mut machine, &mut envoy, None, &mut Vec::new());
    envoy.piece(&mut machine, b"gh", false, 100);
    assert!(envoy.asked.is_empty() && std::mem::take(&mut envoy.gathers));
    let actions = machine.gathered(REQUEST);
    envoy.do_all(&mut machine, actions);
    assert_eq!(envoy.asked, [b"gh".to_vec()]);
    envoy.piece(&mut machine, b"i", true, 100);
    assert_eq!(envoy.asked.len(), 2);
}

#[test]
fn a_body_over_its_limit_passes_unseen_or_is_refused() {
    let limit = |over| Settings { body_limit: Some(BodyLimit { bytes: 1, over }), ..buffered() };
    // Before the headers' answer.
    let mut machine = Machine::new(limit(Over::Skip));
    machine.headers(REQUEST, false);
    assert!(data(&mut machine, REQUEST, false).0.is_empty());
    let actions = machine.answer(headers_ok());
    assert!(actions.contains(&Action::Count(Stat::BodySkipped)));
    assert!(actions.contains(&Action::Release(REQUEST)));
    assert_eq!(data(&mut machine, REQUEST, true), (Vec::new(), Stance::Pass));
    // After it.
    let mut machine = Machine::new(limit(Over::Skip));
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    let (actions, stance) = data(&mut machine, REQUEST, true);
    assert_eq!(actions, [Action::Count(Stat::BodySkipped)]);
    assert_eq!(stance, Stance::Release);
    let mut machine = Machine::new(limit(Over::Reject));
    machine.headers(REQUEST, false);
    let (actions, _) = data(&mut machine, REQUEST, false);
    let refused = |action: &Action| matches!(action, Action::Reply(reply) if reply.status() == 413);
    assert!(actions.iter().any(refused) && machine.answer(headers_ok()).is_empty());
}

#[test]
fn what_the_processor_is_not_to_see_stays_unseen_whatever_it_asks_for() {
    let mut machine = Machine::new(Settings { allow_mode_override: true, ..buffered() });
    assert!(machine.skip_body(REQUEST) && !machine.skip_body(RESPONSE));
    machine.headers(REQUEST, false);
    let more = r#"{"requestHeaders": {}, "modeOverride": {"requestBodyMode": "BUFFERED"}}"#;
    assert!(machine.answer(answer(more)).contains(&Action::Release(REQUEST)));
    assert_eq!(data(&mut machine, REQUEST, true), (Vec::new(), Stance::Pass));
    let mut machine = Machine::new(buffered());
    machine.skip();
    assert_eq!(machine.headers(REQUEST, false), (Vec::new(), Stance::Pass));
    assert_eq!(machine.headers(RESPONSE, true), (Vec::new(), Stance::Pass));
}

#[test]
fn a_silent_processor_is_noticed_in_both_directions_at_once_too() {
    let modes =
        Modes { request_body: BodyMode::Duplex, request_trailers: true, ..Modes::default() };
    let stall = Duration::from_millis(5);
    let mut machine = Machine::new(Settings { modes, stall_timeout: Some(stall), ..settings() });
    let due = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Send { number, within: Some(within), .. } if *within == stall => Some(*number),
            _ => None,
        })
    };
    let (actions, _) = machine.headers(REQUEST, false);
    let first = due(&actions).unwrap();
    machine.answer(headers_ok());
    assert!(machine.deadline(REQUEST, first).is_empty());
    let (actions, _) = data(&mut machine, REQUEST, false);
    let second = due(&actions).unwrap();
    let output =
        r#"{"requestBody": {"response": {"bodyMutation": {"streamedResponse": {"body": ""}}}}}"#;
    machine.answer(answer(output));
    assert!(machine.deadline(REQUEST, second).is_empty());
    let (actions, _) = data(&mut machine, REQUEST, false);
    let third = due(&actions).unwrap();
    assert!(reply(&machine.deadline(REQUEST, third)).is_some());
}

#[test]
fn failures_are_answered_by_their_cause() {
    let own = OnError::from([(Cause::Timeout, Reply::new(503).body("later"))]);
    let mut machine = Machine::new(Settings { on_error: own.clone(), ..settings() });
    machine.headers(REQUEST, true);
    let late = machine.deadline(REQUEST, 1);
    let expected = Reply::new(503).body("later");
    let expected = expected.details("ext_proc_error_per-message_timeout_exceeded");
    assert!(
        late.contains(&Action::Reply(expected)) && late.contains(&Action::Failed(Cause::Timeout))
    );
    let mut machine = Machine::new(Settings { on_error: own, ..settings() });
    machine.headers(REQUEST, true);
    let status = Failure::Call(CallError::Status { code: 13, message: String::new() });
    let actions = machine.closed(Err(status));
    assert!(actions.iter().any(|a| matches!(a, Action::Reply(reply) if reply.status() == 500)));
}

#[test]
fn an_answer_to_the_client_is_whole_or_breaks_off() {
    let part = |json: &str| answer(&format!(r#"{{"streamedImmediateResponse": {json}}}"#));
    let begin = || {
        part(
            r#"{"headersResponse": {"headers": {"headers": [{"key": ":status", "rawValue": "MjAw"}]}}}"#,
        )
    };
    let body = || part(r#"{"bodyResponse": {"body": "YQ=="}}"#);
    let parts =
        |actions: &[Action]| actions.iter().filter(|a| matches!(a, Action::Part(_))).count();
    let open = Settings { failure_mode_allow: true, ..settings() };
    let mut machine = Machine::new(open.clone());
    machine.headers(REQUEST, true);
    assert_eq!(parts(&machine.answer(begin())), 1);
    assert_eq!(parts(&machine.answer(body())), 1);
    assert!(reply(&machine.closed(Ok(()))).is_some());
    // Only in place of the headers' answer, and with the headers first.
    let mut machine = Machine::new(settings());
    machine.headers(REQUEST, true);
    assert_eq!(parts(&machine.answer(body())), 0);
    let mut machine = Machine::new(Settings { modes: buffered().modes, ..open });
    machine.headers(REQUEST, false);
    assert_eq!(parts(&machine.answer(begin())), 0);
}

proptest! {
    /// However pieces and answers meet, and wherever the processing ends: what goes on is what was
    /// answered, then what came, whole and in order, and every release has its hook.
    #[test]
    fn a_streamed_body_arrives_as_it_was_answered(
        headers in any::<bool>(), headers_answer in 0..6_usize, limit in 1..12_usize,
        close_after in proptest::option::of(0..24_usize), beats in beats(),
        gather in proptest::option::of(2..9_usize),
    ) {
        let modes = Modes {
            request_headers: headers, request_body: BodyMode::Streamed, ..Modes::default()
        };
        let max_delay = Duration::from_millis(1);
        let chunking = gather.map(|min_bytes| Chunking { min_bytes, max_delay });
        let mut machine = Machine::new(Settings { modes, chunking, ..settings() });
        let mut envoy = Envoy::default();
        let (actions, stance) = machine.headers(REQUEST, false);
        envoy.held = matches!(stance, Stance::Hold(_));
        envoy.do_all(&mut machine, actions);
        let mut waiting = headers;
        let (mut expected, mut came) = (Vec::new(), Vec::new());
        let last = Beat::Piece(b"end".to_vec());
        let count = beats.len();
        for (index, beat) in beats.into_iter().chain([last]).enumerate() {
            if waiting && index >= headers_answer {
                waiting = false;
                let actions = machine.answer(headers_ok());
                envoy.do_all(&mut machine, actions);
            }
            if close_after == Some(index) {
                let actions = machine.closed(Ok(()));
                envoy.do_all(&mut machine, actions);
                envoy.asked.clear();
                waiting = false;
            }
            match beat {
                Beat::Piece(piece) => {
                    came.extend_from_slice(&piece);
                    envoy.piece(&mut machine, &piece, index == count, limit);
                }
                Beat::Answer(with) => answer_one(&mut machine, &mut envoy, with, &mut expected),
                Beat::Nudge if std::mem::take(&mut envoy.nudged) => {
                    let actions = machine.nudged(REQUEST);
                    envoy.do_all(&mut machine, actions);
                }
                Beat::Nudge if std::mem::take(&mut envoy.gathers) => {
                    let actions = machine.gathered(REQUEST);
                    envoy.do_all(&mut machine, actions);
                }
                Beat::Nudge => {}
            }
        }
        if waiting {
            // All of it came before the headers' answer: that is one buffered message.
            return Ok(());
        }
        while !envoy.asked.is_empty() || std::mem::take(&mut envoy.nudged) {
            if envoy.asked.is_empty() {
                let actions = machine.nudged(REQUEST);
                envoy.do_all(&mut machine, actions);
            } else {
                answer_one(&mut machine, &mut envoy, None, &mut expected);
            }
        }
        prop_assert!(!envoy.held, "held for ever in {:?}", machine.request.phase);
        // What was answered goes as it was answered, the rest as it came.
        expected.extend_from_slice(came.get(envoy.answered..).unwrap_or_default());
        prop_assert_eq!(&envoy.out, &expected);
    }
}

fn answer_one(
    machine: &mut Machine,
    envoy: &mut Envoy,
    with: Option<Vec<u8>>,
    expected: &mut Vec<u8>,
) {
    let Some(original) = envoy.asked.pop_front() else { return };
    envoy.answered += original.len();
    expected.extend_from_slice(with.as_deref().unwrap_or(&original));
    let mutation = with.map(|bytes| proto::BodyMutation {
        mutation: Some(proto::body_mutation::Mutation::Body(bytes)),
    });
    let common = proto::CommonResponse { body_mutation: mutation, ..Default::default() };
    let body = proto::BodyResponse { response: Some(common) };
    let actions = machine.answer(response(Response::RequestBody(body)));
    envoy.do_all(machine, actions);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    /// Any hooks, answers and deadlines in any order: see `drive.rs` for what is asserted.
    #[test]
    fn whatever_comes_in_whatever_order_the_machine_keeps_its_word(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        drive(&bytes);
    }
}

#[test]
fn the_drawing_is_what_the_machine_does() {
    let drawn: BTreeSet<(String, String)> = include_str!("mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split_once(" -> "))
        .flat_map(|(from, to)| to.split(", ").map(|to| (from.trim().to_owned(), to.to_owned())))
        .collect();
    // Enough for every transition to come many times, and always the same.
    let mut random = StdRng::seed_from_u64(1);
    let mut done = BTreeSet::new();
    for _ in 0..40_000 {
        let bytes: Vec<u8> = (0..60).map(|_| random.random()).collect();
        done.extend(drive(&bytes));
    }
    assert_eq!(drawn, done);
}

#[test]
fn what_went_without_waiting_is_not_lost_when_the_headers_get_no_answer() {
    let modes = Modes { request_body: BodyMode::Streamed, ..Modes::default() };
    let early = Settings { modes, send_body_without_waiting: true, ..settings() };
    let mut machine = Machine::new(early.clone());
    machine.headers(REQUEST, false);
    let (actions, _) = data(&mut machine, REQUEST, false);
    assert!(actions.contains(&Action::TakeBody(REQUEST)));
    let actions = machine.closed(Ok(()));
    assert!(actions.contains(&Action::PrependBody(REQUEST, b"ab".to_vec())));
    assert!(actions.contains(&Action::Release(REQUEST)));
    // Trailers without a body wait for the headers' answer, too.
    let mut machine = Machine::new(early);
    machine.headers(REQUEST, false);
    let (actions, stance) = trailers(&mut machine, REQUEST);
    assert!(actions.is_empty() && matches!(stance, Stance::Hold(_)));
    assert!(machine.answer(headers_ok()).contains(&Action::Release(REQUEST)));
}
