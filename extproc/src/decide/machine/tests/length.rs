//! `content-length`: what the processor says of it goes on only when somebody has compared it.

use super::*;

const RESTORED: Action = Action::RestoreLength(REQUEST);

/// The place of one action among others.
fn place(actions: &[Action], wanted: &Action) -> Option<usize> {
    actions.iter().position(|action| action == wanted)
}

fn restored_before_release(actions: &[Action]) -> bool {
    let (restored, released) =
        (place(actions, &RESTORED), place(actions, &Action::Release(REQUEST)));
    restored.is_some() && released.is_some() && restored < released
}

fn reset() -> Result<(), Failure> {
    Err(Failure::Call(CallError::Reset(String::new())))
}

#[test]
fn a_message_without_a_body_keeps_the_length_that_it_came_with() {
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, true);
    assert!(restored_before_release(&machine.answer(headers_ok())));
    // Trailers alone are no body either.
    let mut machine = Machine::new(buffered());
    machine.headers(REQUEST, false);
    trailers(&mut machine, REQUEST);
    assert!(restored_before_release(&machine.answer(headers_ok())));
}

#[test]
fn a_body_that_is_never_answered_goes_with_the_length_that_it_came_with() {
    let open = Settings { failure_mode_allow: true, ..buffered() };
    let ends: [fn(&mut Machine) -> Vec<Action>; 3] = [
        |machine| machine.closed(Ok(())),
        |machine| machine.closed(reset()),
        |machine| {
            let number = machine.request.number;
            machine.deadline(REQUEST, number)
        },
    ];
    for (index, end) in ends.iter().enumerate() {
        let mut machine = Machine::new(open.clone());
        machine.headers(REQUEST, false);
        machine.answer(headers_ok());
        data(&mut machine, REQUEST, true);
        assert!(restored_before_release(&end(&mut machine)), "{index}");
    }
    // The processor leaves while the body is still coming.
    let mut machine = Machine::new(open);
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, false);
    assert!(restored_before_release(&machine.closed(Ok(()))));
}

#[test]
fn a_body_that_is_not_shown_goes_with_the_length_that_it_came_with() {
    let body_limit = Some(BodyLimit { bytes: 1, over: OverflowPolicy::Skip });
    let mut machine = Machine::new(Settings { body_limit, ..buffered() });
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    let (actions, stance) = data(&mut machine, REQUEST, false);
    assert!(actions.contains(&RESTORED) && stance == PieceStatus::Release);
    // The same when it is there before the headers' answer.
    let mut machine = Machine::new(Settings { body_limit, ..buffered() });
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, true);
    assert!(restored_before_release(&machine.answer(headers_ok())));
}

#[test]
fn a_length_that_was_compared_with_the_new_body_stays() {
    let modes = Modes { request_trailers: true, ..buffered().modes };
    let mut machine = Machine::new(Settings { modes, ..settings() });
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    data(&mut machine, REQUEST, false);
    trailers(&mut machine, REQUEST);
    let body = r#"{"requestBody": {"response": {"bodyMutation": {"body": "TkVX"}}}}"#;
    assert!(machine.answer(answer(body)).contains(&Action::CheckLength(REQUEST)));
    let actions = machine.closed(Ok(()));
    assert!(released(&actions) && !actions.contains(&RESTORED));
}

#[test]
fn where_the_configuration_lets_the_processor_set_it_a_failure_takes_it_back_while_headers_wait() {
    let settings = |mode| Settings {
        modes: Modes { request_body: mode, request_trailers: true, ..Modes::default() },
        allow_content_length_header: true,
        send_body_without_waiting: mode == BodyMode::Streamed,
        failure_mode_allow: true,
        ..settings()
    };
    let mut machine = Machine::new(settings(BodyMode::Streamed));
    machine.headers(REQUEST, false);
    data(&mut machine, REQUEST, false);
    assert!(!released(&machine.answer(headers_ok())));
    assert!(restored_before_release(&machine.closed(reset())));
    for mode in [BodyMode::Streamed, BodyMode::Duplex] {
        let mut machine = Machine::new(settings(mode));
        machine.headers(REQUEST, true);
        assert!(restored_before_release(&machine.answer(headers_ok())), "{mode:?}");
        // What has left can't be taken back.
        let mut machine = Machine::new(settings(mode));
        machine.headers(REQUEST, false);
        assert!(released(&machine.answer(headers_ok())), "{mode:?}");
        data(&mut machine, REQUEST, false);
        assert!(!machine.closed(Ok(())).contains(&RESTORED), "{mode:?}");
    }
}
