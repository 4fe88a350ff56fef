//! Bodies that go both ways at once.

use super::*;

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

fn appended(actions: &[Action], bytes: &str) -> bool {
    actions.contains(&Action::AppendBody(REQUEST, bytes.as_bytes().to_vec()))
}

#[test]
fn in_duplex_pieces_go_to_the_processor_while_the_headers_wait_and_the_headers_go_with_its_output()
{
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    let (actions, stance) = data(&mut machine, REQUEST, false);
    assert!(matches!(sent(&actions).as_slice(), [OutboundMessage::Piece { end: false, .. }]));
    assert_eq!(stance, PieceStatus::Hold(StopMode::NoBuffer));
    // The one release is kept for the output of the piece.
    assert!(!released(&machine.answer(headers_ok())));
    let actions = machine.answer(output("x", false));
    assert!(appended(&actions, "x") && released(&actions));
    // From then on each output goes as it comes.
    data(&mut machine, REQUEST, false);
    assert!(released(&machine.answer(output("y", false))));
    // Without a piece on its way the headers go at once.
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    assert!(released(&machine.answer(headers_ok())));
    data(&mut machine, REQUEST, false);
    assert!(released(&machine.answer(output("x", false))));
}

#[test]
fn in_duplex_output_without_new_input_goes_with_the_output_of_the_next_piece() {
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, false);
    assert!(released(&machine.answer(output("a", false))));
    assert!(!released(&machine.answer(output("b", false))));
    // The chance that the next piece brings is left to its output, or goes when none comes.
    let (actions, _) = data(&mut machine, REQUEST, false);
    assert!(actions.iter().any(|action| matches!(action, Action::Gather(REQUEST, _))));
    let actions = machine.answer(output("c", false));
    assert!(appended(&actions, "bc") && released(&actions));
    machine.answer(output("d", false));
    data(&mut machine, REQUEST, false);
    let actions = machine.gathered(REQUEST, Bytes::new);
    assert!(appended(&actions, "d") && released(&actions));
}

#[test]
fn in_duplex_pieces_on_their_way_together_share_the_one_chance() {
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, false);
    data(&mut machine, REQUEST, false);
    machine.answer(headers_ok());
    assert!(!released(&machine.answer(output("a", false))));
    let actions = machine.answer(output("b", false));
    assert!(appended(&actions, "ab") && released(&actions));
}

#[test]
fn in_duplex_output_goes_inside_the_hook_of_the_next_piece_while_something_is_held() {
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, false);
    data(&mut machine, REQUEST, false);
    assert!(!released(&machine.answer(output("a", false))));
    let (actions, stance) = data(&mut machine, REQUEST, false);
    let place = |wanted: &Action| actions.iter().position(|action| action == wanted);
    let append = Action::AppendBody(REQUEST, b"a".to_vec());
    assert!(place(&Action::TakeBody(REQUEST)) < place(&append));
    assert_eq!(stance, PieceStatus::Flush(StopMode::NoBuffer));
    // Not at the end, which would go along.
    machine.answer(output("b", false));
    let (actions, stance) = data(&mut machine, REQUEST, true);
    assert_eq!((appended(&actions, "b"), stance), (false, PieceStatus::Hold(StopMode::NoBuffer)));
    let actions = machine.answer(output("c", true));
    assert!(appended(&actions, "bc") && released(&actions));
}

#[test]
fn in_duplex_a_body_and_trailers_that_are_there_before_the_mode_is_go_to_the_processor() {
    let settings = Settings { allow_mode_override: true, ..settings() };
    for (direction, name) in [(REQUEST, "request"), (RESPONSE, "response")] {
        let mut machine = Machine::new(settings.clone());
        machine.headers(direction, false);
        data(&mut machine, direction, false);
        trailers(&mut machine, direction);
        let actions = machine.answer(answer(&format!(
            r#"{{"{name}Headers": {{}}, "modeOverride": {{"{name}BodyMode": "FULL_DUPLEX_STREAMED", "{name}TrailerMode": "SEND"}}}}"#
        )));
        assert!(actions.contains(&Action::TakeParked(direction)) && !released(&actions));
        let actions = machine.stream_taken(direction, Bytes::from_static(b"ab"));
        let piece = OutboundMessage::Piece { bytes: Bytes::from_static(b"ab"), end: false };
        assert_eq!(sent(&actions), [piece, OutboundMessage::Trailers], "{name}");
        assert!(!released(&machine.answer(answer(&format!(
            r#"{{"{name}Body": {{"response": {{"bodyMutation": {{"streamedResponse": {{"body": "QUI="}}}}}}}}}}"#
        )))));
        let actions = machine.answer(answer(&format!(r#"{{"{name}Trailers": {{}}}}"#)));
        assert!(actions.contains(&Action::AppendBody(direction, b"AB".to_vec())));
        assert!(released(&actions));
    }
}

#[test]
fn a_piece_without_bytes_that_is_not_the_last_is_not_shown() {
    let empty = || Data {
        end: false,
        trailers: false,
        total: 0,
        limit: 9,
        backlog: false,
        bytes: Bytes::new,
    };
    for mode in [BodyMode::Streamed, BodyMode::Duplex] {
        let modes = Modes { request_body: mode, request_trailers: true, ..Modes::default() };
        let mut machine = Machine::new(Settings { modes, ..settings() });
        machine.headers(REQUEST, false);
        let (actions, stance) = machine.data(REQUEST, empty());
        assert!(actions.is_empty() && matches!(stance, PieceStatus::Hold(_)), "{mode:?}");
        assert!(released(&machine.answer(headers_ok())), "{mode:?}");
        assert_eq!(machine.data(REQUEST, empty()), (Vec::new(), PieceStatus::Pass), "{mode:?}");
    }
}

#[test]
fn in_duplex_what_a_slow_processor_could_not_take_is_taken_when_it_has_room() {
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    let late =
        Data { end: true, trailers: false, total: 2, limit: 1, backlog: true, bytes: Bytes::new };
    assert_eq!(machine.data(REQUEST, late).1, PieceStatus::Hold(StopMode::Watermark));
    // Even while the headers' answer is outstanding.
    assert_eq!(machine.room(), [Action::TakeParked(REQUEST)]);
    let actions = machine.stream_taken(REQUEST, Bytes::from_static(b"ab"));
    assert!(matches!(sent(&actions).as_slice(), [OutboundMessage::Piece { end: true, .. }]));
    assert!(machine.room().is_empty());
    // Nor does the headers' answer let go on what the processor has not seen.
    let mut machine = duplex();
    machine.headers(REQUEST, false);
    let late =
        Data { end: false, trailers: false, total: 2, limit: 1, backlog: true, bytes: Bytes::new };
    machine.data(REQUEST, late);
    let actions = machine.answer(headers_ok());
    assert!(actions.contains(&Action::TakeParked(REQUEST)) && !released(&actions));
    machine.stream_taken(REQUEST, Bytes::from_static(b"ab"));
    assert!(released(&machine.answer(output("AB", false))));
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
