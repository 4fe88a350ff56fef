//! Bodies that go piece by piece.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

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
                Action::Send { what: OutboundMessage::Piece { bytes, .. }, .. } => {
                    self.asked.push_back(bytes.to_vec());
                }
                Action::Send { what: OutboundMessage::Headers { .. }, .. } => {}
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
                Action::Wakeup(_) => self.nudged = true,
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
        let (actions, stance) = machine.data(
            REQUEST,
            Data { end, trailers: false, total, limit, backlog: false, bytes: || bytes },
        );
        self.do_all(machine, actions);
        if matches!(stance, PieceStatus::Flush(_)) {
            assert!(self.held && !end, "a flush needs a hold, and is no end");
            self.out.append(&mut self.kept);
        }
        match stance {
            PieceStatus::Pass => {
                assert!(!self.held);
                self.out.extend_from_slice(piece);
            }
            PieceStatus::Hold(StopMode::NoBuffer) | PieceStatus::Flush(StopMode::NoBuffer) => {
                self.held = true
            }
            PieceStatus::Hold(_) | PieceStatus::Flush(_) => {
                self.held = true;
                self.kept.extend_from_slice(piece);
            }
            PieceStatus::Discard | PieceStatus::Release => {
                panic!("nothing was replaced or skipped")
            }
        }
        self.over = end;
    }
}

#[derive(Debug, Clone)]
enum Beat {
    Piece(Vec<u8>),
    Answer(Option<Vec<u8>>),
    Wakeup,
}

fn beats() -> impl Strategy<Value = Vec<Beat>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..6);
    let beat = prop_oneof![
        bytes().prop_map(Beat::Piece),
        proptest::option::of(bytes()).prop_map(Beat::Answer),
        Just(Beat::Wakeup),
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
    let actions = machine.gathered(REQUEST, Bytes::new);
    envoy.do_all(&mut machine, actions);
    assert_eq!(envoy.asked, [b"gh".to_vec()]);
    envoy.piece(&mut machine, b"i", true, 100);
    assert_eq!(envoy.asked.len(), 2);
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
    assert!(actions.is_empty() && matches!(stance, PieceStatus::Hold(_)));
    assert!(machine.answer(headers_ok()).contains(&Action::Release(REQUEST)));
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
        envoy.held = matches!(stance, PieceStatus::Hold(_));
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
                Beat::Wakeup if std::mem::take(&mut envoy.nudged) => {
                    let actions = machine.woken(REQUEST);
                    envoy.do_all(&mut machine, actions);
                }
                Beat::Wakeup if std::mem::take(&mut envoy.gathers) => {
                    let actions = machine.gathered(REQUEST, Bytes::new);
                    envoy.do_all(&mut machine, actions);
                }
                Beat::Wakeup => {}
            }
        }
        if waiting {
            // All of it came before the headers' answer: that is one buffered message.
            return Ok(());
        }
        while !envoy.asked.is_empty() || std::mem::take(&mut envoy.nudged) {
            if envoy.asked.is_empty() {
                let actions = machine.woken(REQUEST);
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
