//! What the built-in filter has not.

use super::*;

#[test]
fn a_body_over_its_limit_passes_unseen_or_is_refused() {
    let limit = |over| Settings { body_limit: Some(BodyLimit { bytes: 1, over }), ..buffered() };
    // Before the headers' answer.
    let mut machine = Machine::new(limit(OverflowPolicy::Skip));
    machine.headers(REQUEST, false);
    assert!(data(&mut machine, REQUEST, false).0.is_empty());
    let actions = machine.answer(headers_ok());
    assert!(actions.contains(&Action::Count(Stat::BodySkipped)));
    assert!(actions.contains(&Action::Release(REQUEST)));
    assert_eq!(data(&mut machine, REQUEST, true), (Vec::new(), PieceStatus::Pass));
    // After it.
    let mut machine = Machine::new(limit(OverflowPolicy::Skip));
    machine.headers(REQUEST, false);
    machine.answer(headers_ok());
    let (actions, stance) = data(&mut machine, REQUEST, true);
    let skipped = [Action::Count(Stat::BodySkipped), Action::RestoreLength(REQUEST)];
    assert_eq!(actions, skipped);
    assert_eq!(stance, PieceStatus::Release);
    let mut machine = Machine::new(limit(OverflowPolicy::Reject));
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
    assert_eq!(data(&mut machine, REQUEST, true), (Vec::new(), PieceStatus::Pass));
    let mut machine = Machine::new(buffered());
    machine.skip();
    assert_eq!(machine.headers(REQUEST, false), (Vec::new(), PieceStatus::Pass));
    assert_eq!(machine.headers(RESPONSE, true), (Vec::new(), PieceStatus::Pass));
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
