//! Whatever comes, in whatever order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

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
        let mut held = matches!(stance, PieceStatus::Hold(_));
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
                    held |= matches!(stance, PieceStatus::Hold(_));
                    actions
                }
                Input::Trailers => {
                    ended = true;
                    let (actions, stance) = trailers(&mut machine, REQUEST);
                    held |= matches!(stance, PieceStatus::Hold(_));
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
    let drawn: BTreeSet<(String, String)> = include_str!("../mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split_once(" -> "))
        .flat_map(|(from, to)| to.split(", ").map(|to| (from.trim().to_owned(), to.to_owned())))
        .collect();
    // Enough for every common transition to come many times, and for the rare ones to come at all.
    let mut random = StdRng::seed_from_u64(1);
    let mut done = BTreeSet::new();
    for run in 0..400_000 {
        if run >= 40_000 && done == drawn {
            break;
        }
        let bytes: Vec<u8> = (0..60).map(|_| random.random()).collect();
        done.extend(drive(&bytes));
    }
    assert_eq!(drawn, done);
}
