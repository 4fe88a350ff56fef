//! Bodies whose end does not come as it should, and those that have none.

use super::*;

/// A piece that is not the last, with trailers that are there already.
fn last_piece(machine: &mut Machine, bytes: &'static [u8]) -> (Vec<Action>, PieceStatus) {
    let total = bytes.len();
    let bytes = || Bytes::from_static(bytes);
    let data = Data { end: false, trailers: true, total, limit: 99, backlog: false, bytes };
    machine.data(REQUEST, data)
}

fn waits(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Gather(REQUEST, _)))
}

fn body_ok() -> proto::ProcessingResponse {
    answer(r#"{"requestBody": {}}"#)
}

#[test]
fn a_body_whose_end_is_kept_back_is_shown_when_nothing_more_comes() {
    for answered_first in [true, false] {
        let mut machine = Machine::new(buffered());
        machine.headers(REQUEST, false);
        if answered_first {
            machine.answer(headers_ok());
        }
        data(&mut machine, REQUEST, false);
        // The last piece may well be empty.
        assert!(waits(&last_piece(&mut machine, b"").0));
        let mut actions = machine.gathered(REQUEST, Bytes::new);
        if !answered_first {
            assert!(actions.is_empty());
            actions = machine.answer(headers_ok());
        }
        assert_eq!(sent(&actions), [OutboundMessage::Body { end: false }], "{answered_first}");
        // A late hook is no news.
        assert!(trailers(&mut machine, REQUEST).0.is_empty());
        assert!(released(&machine.answer(body_ok())));
    }
}

#[test]
fn an_end_that_is_told_in_time_is_not_assumed() {
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    assert!(waits(&last_piece(&mut machine, b"ab").0));
    assert_eq!(sent(&trailers(&mut machine, REQUEST).0), [OutboundMessage::Body { end: false }]);
    assert!(machine.gathered(REQUEST, Bytes::new).is_empty());
}

#[test]
fn what_comes_after_an_assumed_end_does_not_pass_unseen() {
    for answered in [true, false] {
        let open = Settings { failure_mode_allow: true, ..buffered() };
        let mut machine = Machine::new(open);
        machine.headers(REQUEST, false);
        machine.answer(headers_ok());
        last_piece(&mut machine, b"ab");
        machine.gathered(REQUEST, Bytes::new);
        if answered {
            machine.answer(body_ok());
        }
        let (actions, stance) = data(&mut machine, REQUEST, false);
        assert_eq!(reply(&actions), Some((500, "ext_proc_body_after_its_end")), "{answered}");
        assert!(matches!(stance, PieceStatus::Hold(_)));
    }
}

#[test]
fn in_duplex_nothing_goes_on_with_trailers_that_the_processor_has_not_seen() {
    let modes =
        Modes { request_body: BodyMode::Duplex, request_trailers: true, ..Modes::default() };
    let mut machine = Machine::new(Settings { modes, ..settings() });
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, false);
    last_piece(&mut machine, b"");
    assert!(!released(&machine.answer(headers_ok())));
    let output = r#"{"requestBody": {"response": {"bodyMutation": {"streamedResponse": {"body": "QUI="}}}}}"#;
    assert!(!released(&machine.answer(answer(output))));
    assert_eq!(sent(&machine.gathered(REQUEST, Bytes::new)), [OutboundMessage::Trailers]);
    let actions = machine.answer(answer(r#"{"requestTrailers": {}}"#));
    assert!(actions.contains(&Action::AppendBody(REQUEST, b"AB".to_vec())) && released(&actions));
}

#[test]
fn in_streamed_mode_nothing_is_let_go_inside_the_hook_of_the_last_piece() {
    let modes =
        Modes { request_headers: false, request_body: BodyMode::Streamed, ..Modes::default() };
    let mut machine = Machine::new(Settings { modes, ..settings() });
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, false);
    data(&mut machine, REQUEST, false);
    machine.answer(body_ok());
    assert_eq!(last_piece(&mut machine, b"c").1, PieceStatus::Hold(StopMode::NoBuffer));
}

#[test]
fn a_body_without_an_end_that_would_have_to_be_shown_whole_is_refused() {
    for mode in [BodyMode::Buffered, BodyMode::Partial] {
        for headers in [true, false] {
            let modes = Modes { request_headers: headers, request_body: mode, ..Modes::default() };
            let mut machine =
                Machine::new(Settings { modes, failure_mode_allow: true, ..settings() });
            machine.upgraded(REQUEST);
            let (mut actions, _) = machine.headers(REQUEST, false);
            if headers {
                actions = machine.answer(headers_ok());
            }
            let refused = Some((500, "ext_proc_buffered_body_of_an_upgrade"));
            assert_eq!(reply(&actions), refused, "{mode:?} {headers}");
        }
    }
    // Piece by piece it is no trouble.
    let modes = Modes { request_body: BodyMode::Streamed, ..Modes::default() };
    let mut machine = Machine::new(Settings { modes, ..settings() });
    machine.upgraded(REQUEST);
    machine.headers(REQUEST, false);
    assert!(released(&machine.answer(headers_ok())));
}

#[test]
fn an_override_to_duplex_may_stand_alone_before_the_headers_answer() {
    let alone = r#"{"modeOverride": {"requestBodyMode": "FULL_DUPLEX_STREAMED", "requestTrailerMode": "SEND"}}"#;
    let mut machine = Machine::new(Settings { allow_mode_override: true, ..settings() });
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, false);
    assert!(machine.answer(answer(alone)).contains(&Action::TakeParked(REQUEST)));
    let piece = OutboundMessage::Piece { bytes: Bytes::from_static(b"ab"), end: false };
    assert_eq!(sent(&machine.stream_taken(REQUEST, Bytes::from_static(b"ab"))), [piece]);
    assert!(!released(&machine.answer(headers_ok())));
    let output = r#"{"requestBody": {"response": {"bodyMutation": {"streamedResponse": {"body": "QUI="}}}}}"#;
    assert!(released(&machine.answer(answer(output))));
    // Not without trailers, nor from a mode that shows the body whole.
    let plain = r#"{"modeOverride": {"requestBodyMode": "FULL_DUPLEX_STREAMED"}}"#;
    for (modes, json) in [(Modes::default(), plain), (buffered().modes, alone)] {
        let settings = Settings { modes, allow_mode_override: true, ..settings() };
        let mut machine = Machine::new(settings);
        machine.headers(REQUEST, false);
        assert_eq!(reply(&machine.answer(answer(json))), Some((500, "unhandled_message")));
    }
}

#[test]
fn a_body_that_was_held_back_over_the_limit_before_it_was_to_be_shown_whole_is_refused() {
    let wanted = [(REQUEST, "request", 413), (RESPONSE, "response", 500)];
    for (direction, name, status) in wanted {
        let mut machine = Machine::new(Settings { allow_mode_override: true, ..settings() });
        machine.headers(direction, false);
        let piece = |end| Data {
            end,
            trailers: false,
            total: 9,
            limit: 8,
            backlog: false,
            bytes: || Bytes::from_static(b"too large"),
        };
        machine.data(direction, piece(false));
        let over = answer(&format!(
            r#"{{"{name}Headers": {{}}, "modeOverride": {{"{name}BodyMode": "BUFFERED"}}}}"#
        ));
        let actions = machine.answer(over.clone());
        assert_eq!(reply(&actions).map(|(status, _)| status), Some(status), "{name}");
        // What is there whole is shown whole.
        let mut machine = Machine::new(Settings { allow_mode_override: true, ..settings() });
        machine.headers(direction, false);
        machine.data(direction, piece(true));
        assert_eq!(sent(&machine.answer(over)), [OutboundMessage::Body { end: true }], "{name}");
    }
    // What Envoy was to keep whole from the start it refuses itself.
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, false);
    let bytes = || Bytes::from_static(b"too large");
    let (end, trailers, backlog) = (false, false, false);
    machine.data(REQUEST, Data { end, trailers, total: 9, limit: 8, backlog, bytes });
    assert_eq!(reply(&machine.answer(headers_ok())), None);
}
