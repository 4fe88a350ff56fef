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
