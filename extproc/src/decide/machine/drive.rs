//! Drives the machine by a string of bytes: which configuration, and then which hooks, answers and
//! deadlines, in any order that Envoy and a processor may bring. Whatever they are, what the machine
//! owes to Envoy is asserted after each.

use std::collections::BTreeSet;
use std::time::Duration;

use callout_common::StopMode;
use callout_common::grpc::{CallError, Failure};
use callout_protos::envoy::service::ext_proc::v3::ProcessingResponse;

use super::{
    Action, BodyLimit, BodyMode, Bytes, Chunking, Data, Direction, Machine, Modes, OutboundMessage,
    OverflowPolicy, Phase, PieceStatus, RouteCache, Settings,
};

const LIMIT: usize = 8;
/// Bytes of a piece that has some.
const PIECE: usize = 3;

/// Where a side was, and where it went.
pub(crate) type Transitions = BTreeSet<(String, String)>;

/// Runs the machine through `bytes`, and then to its end.
pub(crate) fn drive(bytes: &[u8]) -> Transitions {
    let mut dice = Dice(bytes);
    let mut run = Run::new(settings(&mut dice));
    while !dice.0.is_empty() {
        run.step(&mut dice);
    }
    run.out();
    run.transitions
}

/// Decisions, byte by byte; zeros when there are no more.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn roll(&mut self, sides: u8) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                first % sides
            }
            None => 0,
        }
    }

    fn coin(&mut self) -> bool {
        self.roll(2) == 1
    }
}

fn settings(dice: &mut Dice<'_>) -> Settings {
    let body = |dice: &mut Dice<'_>| match dice.roll(5) {
        0 => BodyMode::None,
        1 => BodyMode::Buffered,
        2 => BodyMode::Partial,
        3 => BodyMode::Streamed,
        _ => BodyMode::Duplex,
    };
    let mut modes = Modes {
        request_headers: dice.coin(),
        response_headers: dice.coin(),
        request_body: body(dice),
        response_body: body(dice),
        request_trailers: dice.coin(),
        response_trailers: dice.coin(),
    };
    modes.request_trailers |= modes.request_body == BodyMode::Duplex;
    modes.response_trailers |= modes.response_body == BodyMode::Duplex;
    let over = if dice.coin() { OverflowPolicy::Skip } else { OverflowPolicy::Reject };
    Settings {
        modes,
        failure_mode_allow: dice.coin(),
        status_on_error: 500,
        message_timeout: Duration::from_millis(200),
        max_message_timeout: Duration::from_secs(1),
        allow_mode_override: dice.coin(),
        allowed_override_modes: Vec::new(),
        disable_immediate_response: false,
        route_cache: RouteCache::Default,
        allow_content_length_header: dice.roll(8) == 1,
        observability: dice.roll(8) == 1,
        send_body_without_waiting: dice.coin(),
        body_limit: dice.coin().then_some(BodyLimit { bytes: 5, over }),
        stall_timeout: Some(Duration::from_secs(1)),
        on_error: Default::default(),
        chunking: dice
            .coin()
            .then_some(Chunking { min_bytes: 5, max_delay: Duration::from_millis(1) }),
    }
}

/// What Envoy knows of one direction.
#[derive(Default)]
struct Way {
    headers: bool,
    ended: bool,
    held: bool,
    /// Bytes that Envoy keeps.
    kept: usize,
}

struct Run {
    machine: Machine,
    request: Way,
    response: Way,
    deadlines: Vec<(Direction, u64)>,
    nudges: Vec<Direction>,
    gathers: Vec<Direction>,
    /// Nothing more may be sent.
    half_closed: bool,
    /// The request was answered.
    over: bool,
    transitions: Transitions,
}

const BOTH: [Direction; 2] = [Direction::Request, Direction::Response];

impl Run {
    fn new(settings: Settings) -> Self {
        Self {
            machine: Machine::new(settings),
            request: Way::default(),
            response: Way::default(),
            deadlines: Vec::new(),
            nudges: Vec::new(),
            gathers: Vec::new(),
            half_closed: false,
            over: false,
            transitions: Transitions::new(),
        }
    }

    fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    fn step(&mut self, dice: &mut Dice<'_>) {
        let direction = if dice.coin() { Direction::Response } else { Direction::Request };
        match dice.roll(12) {
            0..=2 => {
                let (piece, end) = match dice.roll(8) {
                    0 => (0, false),
                    1 | 2 => (PIECE, true),
                    _ => (PIECE, false),
                };
                self.data(direction, piece, end, dice.roll(6) == 1);
            }
            3 => self.trailers(direction),
            4..=7 => {
                let answer = answer(direction, dice);
                self.event(|machine| machine.answer(answer));
            }
            8 => {
                let number = u64::from(dice.roll(6));
                self.event(|machine| machine.deadline(direction, number));
            }
            9 => self.timers(),
            10 => self.event(Machine::room),
            _ => match dice.roll(6) {
                0 => self.event(|machine| machine.closed(Ok(()))),
                1 => self.event(|machine| {
                    machine.closed(Err(Failure::Call(CallError::Reset(String::new()))))
                }),
                2 => self.event(|machine| machine.rejected("rejected")),
                _ => self.headers(direction, dice.roll(4) == 1),
            },
        }
    }

    /// Headers come once, and those of the response after those of the request.
    fn headers(&mut self, direction: Direction, end: bool) {
        let early = direction == Direction::Response && !self.request.headers;
        if self.over || early || self.way(direction).headers {
            return;
        }
        let way = self.way(direction);
        (way.headers, way.ended) = (true, end);
        self.hook(direction, None, |machine| machine.headers(direction, end));
    }

    fn open(&mut self, direction: Direction) -> bool {
        if !self.way(direction).headers {
            self.headers(direction, false);
        }
        let over = self.over;
        let way = self.way(direction);
        way.headers && !way.ended && !over
    }

    fn data(&mut self, direction: Direction, piece: usize, end: bool, backlog: bool) {
        if !self.open(direction) {
            return;
        }
        let way = self.way(direction);
        if way.kept > LIMIT && !end {
            // Envoy does not read on.
            return;
        }
        way.ended = end;
        let total = way.kept + piece;
        let bytes = move || Bytes::from(vec![b'x'; total]);
        let trailers = !end && backlog && piece == 0;
        let data = Data { end, trailers, total, limit: LIMIT, backlog, bytes };
        self.hook(direction, Some(piece), |machine| machine.data(direction, data));
    }

    fn trailers(&mut self, direction: Direction) {
        if !self.open(direction) {
            return;
        }
        let way = self.way(direction);
        way.ended = true;
        let kept = way.kept;
        self.hook(direction, None, |machine| {
            machine.trailers(direction, move || Bytes::from(vec![b'x'; kept]))
        });
    }

    /// Everything that the machine asked to be woken for, but deadlines.
    fn timers(&mut self) {
        for direction in std::mem::take(&mut self.nudges) {
            self.event(|machine| machine.woken(direction));
        }
        for direction in std::mem::take(&mut self.gathers) {
            let kept = self.way(direction).kept;
            self.event(|machine| machine.gathered(direction, || vec![b'x'; kept].into()));
        }
    }

    fn names(&self) -> [String; 2] {
        [&self.machine.request, &self.machine.response].map(|side| name(side.phase))
    }

    fn note(&mut self, before: [String; 2]) {
        for (before, after) in before.into_iter().zip(self.names()) {
            if before != after {
                self.transitions.insert((before, after));
            }
        }
    }

    fn event(&mut self, event: impl FnOnce(&mut Machine) -> Vec<Action>) {
        if self.over {
            return;
        }
        let before = self.names();
        let actions = event(&mut self.machine);
        self.apply(actions, None);
        self.note(before);
    }

    fn hook(
        &mut self,
        direction: Direction,
        piece: Option<usize>,
        hook: impl FnOnce(&mut Machine) -> (Vec<Action>, PieceStatus),
    ) {
        let before = self.names();
        let (actions, stance) = hook(&mut self.machine);
        // The piece at hand is Envoy's to keep, unless it is taken.
        let taken = actions.iter().any(|action| matches!(action, Action::TakeBody(_)));
        self.apply(actions, Some(direction));
        self.note(before);
        if self.over {
            return;
        }
        let ended = self.way(direction).ended;
        let goes = matches!(stance, PieceStatus::Release | PieceStatus::Flush(_));
        assert!(!(goes && self.machine.side(direction).unchecked_length));
        let way = self.way(direction);
        match stance {
            PieceStatus::Pass => assert!(!way.held, "{direction:?} passes while it is held"),
            PieceStatus::Discard => assert!(!way.held && piece.is_some()),
            PieceStatus::Release => (way.held, way.kept) = (false, 0),
            PieceStatus::Flush(_) => {
                assert!(
                    way.held && piece.is_some() && !ended,
                    "a flush needs a hold, and is no end"
                );
                way.kept = 0;
            }
            PieceStatus::Hold(_) => way.held = true,
        }
        if !taken && matches!(stance, PieceStatus::Hold(_) | PieceStatus::Flush(_)) {
            way.kept += piece.unwrap_or_default();
            // Envoy refuses what is over the limit of a body that it is to keep whole.
            self.over |= stance == PieceStatus::Hold(StopMode::Buffer) && way.kept > LIMIT;
        }
    }

    fn apply(&mut self, actions: Vec<Action>, hook: Option<Direction>) {
        for action in actions {
            let harmless =
                matches!(action, Action::Count(_) | Action::HalfClose | Action::Failed(_));
            assert!(!self.over || harmless, "{action:?} after the answer");
            match action {
                Action::Send { direction, what, number, within } => {
                    assert!(!self.half_closed, "{what:?} on a closed half");
                    if let OutboundMessage::Piece { bytes, .. } = what {
                        assert!(bytes.len() <= LIMIT + 3 * PIECE, "{} bytes", bytes.len());
                    }
                    self.deadlines.extend(within.map(|_| (direction, number)));
                }
                Action::MoreTime { direction, number, .. } => {
                    self.deadlines.push((direction, number));
                }
                Action::Release(direction) => {
                    assert_ne!(hook, Some(direction), "a hook can't let its own direction go");
                    let unchecked = self.machine.side(direction).unchecked_length;
                    assert!(!unchecked, "a length goes on that nobody has compared");
                    let way = self.way(direction);
                    assert!(way.held, "a release of what is not held");
                    (way.held, way.kept) = (false, 0);
                }
                Action::TakeBody(direction) => self.way(direction).kept = 0,
                Action::PutBody(direction, bytes) => self.way(direction).kept = bytes.len(),
                Action::TakeParked(direction) => {
                    let kept = std::mem::take(&mut self.way(direction).kept);
                    let more = self.machine.stream_taken(direction, vec![b'x'; kept].into());
                    self.apply(more, hook);
                }
                Action::AppendBody(direction, bytes) | Action::PrependBody(direction, bytes) => {
                    self.way(direction).kept += bytes.len();
                }
                Action::Wakeup(direction) => self.nudges.push(direction),
                Action::Gather(direction, _) => self.gathers.push(direction),
                Action::HalfClose => self.half_closed = true,
                Action::Reply(_) | Action::Immediate(_) => self.over = true,
                Action::Part(part) => self.over = self.machine.finished && ends(&part),
                Action::Edit { .. }
                | Action::DropContentLength(_)
                | Action::ReplaceBody(..)
                | Action::CheckLength(_)
                | Action::RestoreLength(_)
                | Action::ClearRouteCache
                | Action::Metadata { .. }
                | Action::Count(_)
                | Action::Failed(_) => {}
            }
        }
        for side in [&self.machine.request, &self.machine.response] {
            let waiting = side.pipe.ready.len();
            assert!(waiting <= 64 << 20, "{waiting} bytes wait");
        }
    }

    /// Whatever was: when the rest of the bodies has come and no answer does, nothing stays held.
    fn out(&mut self) {
        for _ in 0..8 {
            for direction in BOTH {
                let way = self.way(direction);
                // What is held back over the limit has more to come, which Envoy does not read.
                if way.headers && !way.ended && way.kept <= LIMIT {
                    self.data(direction, PIECE, true, false);
                }
            }
            self.timers();
            self.event(Machine::room);
            for (direction, number) in std::mem::take(&mut self.deadlines) {
                self.event(|machine| machine.deadline(direction, number));
            }
        }
        let phases = self.names();
        assert!(
            self.over || !(self.request.held || self.response.held),
            "held for ever in {phases:?}"
        );
    }
}

fn ends(part: &super::Part) -> bool {
    match part {
        super::Part::HeadersResponse(headers) => headers.end_of_stream,
        super::Part::BodyResponse(body) => body.end_of_stream,
        super::Part::TrailersResponse(_) => true,
    }
}

/// The name of a phase, as it is drawn.
fn name(phase: Phase) -> String {
    let text = format!("{phase:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// Any answer, fitting or not.
fn answer(direction: Direction, dice: &mut Dice<'_>) -> ProcessingResponse {
    let side = if direction == Direction::Request { "request" } else { "response" };
    let body = match dice.roll(6) {
        0 => r#""bodyMutation": {"body": "eHl6"}"#,
        1 => r#""bodyMutation": {"clearBody": true}"#,
        2 => r#""bodyMutation": {"streamedResponse": {"body": "eHl6"}}"#,
        3 => r#""bodyMutation": {"streamedResponse": {"body": "eA==", "endOfStream": true}}"#,
        _ => "",
    };
    let replaces = r#""status": "CONTINUE_AND_REPLACE", "bodyMutation": {"body": "eHl6"}"#;
    let modes = ["NONE", "BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED"];
    let mode = |dice: &mut Dice<'_>| modes.get(usize::from(dice.roll(5))).copied().unwrap_or("");
    let json = match dice.roll(12) {
        0..=2 => format!(r#"{{"{side}Headers": {{}}}}"#),
        3 => format!(r#"{{"{side}Headers": {{"response": {{{replaces}}}}}}}"#),
        4 => {
            let (request, response) = (mode(dice), mode(dice));
            format!(
                r#"{{"{side}Headers": {{}}, "modeOverride": {{"requestBodyMode": "{request}", "responseBodyMode": "{response}"}}}}"#
            )
        }
        5..=7 => format!(r#"{{"{side}Body": {{"response": {{{body}}}}}}}"#),
        8 => format!(r#"{{"{side}Trailers": {{}}}}"#),
        9 => match dice.roll(4) {
            0 => r#"{"immediateResponse": {}}"#.to_owned(),
            1 => r#"{"overrideMessageTimeout": "0.5s"}"#.to_owned(),
            2 => r#"{"modeOverride": {"requestBodyMode": "FULL_DUPLEX_STREAMED", "requestTrailerMode": "SEND"}}"#.to_owned(),
            _ => "{}".to_owned(),
        },
        10 => r#"{"streamedImmediateResponse": {"headersResponse": {"headers": {"headers": [{"key": ":status", "rawValue": "MjAw"}]}}}}"#.to_owned(),
        _ => match dice.roll(3) {
            0 => r#"{"streamedImmediateResponse": {"trailersResponse": {}}}"#.to_owned(),
            1 => r#"{"streamedImmediateResponse": {"bodyResponse": {"endOfStream": true}}}"#.to_owned(),
            _ => r#"{"streamedImmediateResponse": {"bodyResponse": {"body": "eA=="}}}"#.to_owned(),
        },
    };
    serde_json::from_str(&json).unwrap_or_default()
}
