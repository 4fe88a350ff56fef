//! Several filters of this library in one chain, over Envoy's one buffer: whatever the order in which
//! pieces, answers and events come, each byte comes out once, in order, as all processors decided.

use std::collections::VecDeque;
use std::time::Duration;

use callout_common::Direction;
use callout_common::testing::{ChainBench, Router};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proptest::prelude::*;
use prost::Message;
use proto::body_mutation::Mutation;
use proto::processing_request::Request as Part;
use proto::processing_response::Response as Reply;
use serde_json::json;

use super::Event;
use crate::ExtProc;

const MODES: [&str; 5] =
    ["NONE", "BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED"];

/// One exchange through a chain.
#[derive(Debug, Clone)]
struct Case {
    /// The modes, nearest to the sender first.
    modes: Vec<&'static str>,
    direction: Direction,
    pieces: Vec<usize>,
    end: End,
    limit: u64,
    router: Router,
    /// What happens next, again and again.
    dice: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    /// With the last piece.
    Piece,
    /// With a piece without bytes.
    Empty,
    Trailers,
}

/// A chain and its processors. Each adds its own number to each byte, so that a byte that was shown twice,
/// or passed a filter, has another value.
struct World {
    chain: ChainBench<ExtProc>,
    asked: Vec<VecDeque<proto::ProcessingRequest>>,
    to_come: VecDeque<(Vec<u8>, bool)>,
    trailers: bool,
}

impl World {
    fn new(case: &Case) -> Self {
        let configs: Vec<String> = case.modes.iter().map(|mode| config(mode)).collect();
        let chain = ChainBench::new("extproc", &configs, case.direction, case.limit, case.router);
        let mut pieces: VecDeque<_> =
            bodies(&case.pieces).into_iter().map(|piece| (piece, false)).collect();
        let trailers = matches!(case.end, End::Trailers);
        match (case.end, pieces.back_mut()) {
            (End::Piece, Some((_, end))) => *end = true,
            (End::Trailers, _) => {}
            _ => pieces.push_back((Vec::new(), true)),
        }
        let world = Self {
            chain: chain.unwrap(),
            asked: vec![VecDeque::new(); case.modes.len()],
            to_come: pieces,
            trailers,
        };
        world.chain.headers(&[(":method", "POST"), (":path", "/"), (":authority", "a")]);
        world
    }

    fn listen(&mut self) {
        self.chain.wait(Duration::ZERO);
        for (place, asked) in self.asked.iter_mut().enumerate() {
            for message in self.chain.messages(place) {
                asked.push_back(proto::ProcessingRequest::decode(message).unwrap());
            }
        }
    }

    /// The peer sends more, if Envoy reads.
    fn more(&mut self) -> bool {
        if !self.chain.reads_on() {
            return false;
        }
        if let Some((piece, end)) = self.to_come.pop_front() {
            self.chain.body(&piece, end);
            return true;
        }
        let trailers = std::mem::take(&mut self.trailers);
        if trailers {
            self.chain.trailers(&[("t", "1")]);
        }
        trailers
    }

    /// The processor at `place` answers what it was asked first.
    fn answer(&mut self, place: usize, duplex: bool) -> bool {
        let Some(request) = self.asked[place].pop_front() else { return false };
        self.chain.send(place, Event::Answer(Box::new(answer(1 << place, duplex, &request))));
        true
    }

    fn step(&mut self, modes: &[&str], die: u8) -> bool {
        let (kind, place) = (die % 3, usize::from(die / 3) % modes.len());
        let done = match kind {
            0 => self.more(),
            1 => self.answer(place, modes[place].starts_with("FULL")),
            _ => self.chain.fire(place),
        };
        self.listen();
        done
    }
}

fn config(mode: &str) -> String {
    let trailers = if mode.starts_with("FULL") { "SEND" } else { "SKIP" };
    json!({
        "grpc_service": {"envoy_grpc": {"cluster_name": "processor"}},
        "message_timeout": "10s",
        "processing_mode": {
            "request_body_mode": mode, "response_body_mode": mode,
            "request_trailer_mode": trailers, "response_trailer_mode": trailers,
        },
    })
    .to_string()
}

/// Pieces of these lengths, no two neighbours alike.
fn bodies(lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut n = 0_usize;
    let mut byte = || {
        n += 1;
        u8::try_from((n * 7 + n / 251) % 251).unwrap()
    };
    lengths.iter().map(|length| (0..*length).map(|_| byte()).collect()).collect()
}

fn answer(by: u8, duplex: bool, request: &proto::ProcessingRequest) -> proto::ProcessingResponse {
    let body = |body: &proto::HttpBody| {
        let bytes: Vec<u8> = body.body.iter().map(|byte| byte.wrapping_add(by)).collect();
        let mutation = if duplex {
            Mutation::StreamedResponse(proto::StreamedBodyResponse {
                body: bytes,
                end_of_stream: body.end_of_stream,
                ..Default::default()
            })
        } else {
            Mutation::Body(bytes)
        };
        let body_mutation = Some(proto::BodyMutation { mutation: Some(mutation) });
        let common = proto::CommonResponse { body_mutation, ..Default::default() };
        proto::BodyResponse { response: Some(common) }
    };
    let response = match request.request.as_ref().unwrap() {
        Part::RequestHeaders(_) => Reply::RequestHeaders(proto::HeadersResponse::default()),
        Part::ResponseHeaders(_) => Reply::ResponseHeaders(proto::HeadersResponse::default()),
        Part::RequestBody(piece) => Reply::RequestBody(body(piece)),
        Part::ResponseBody(piece) => Reply::ResponseBody(body(piece)),
        Part::RequestTrailers(_) => Reply::RequestTrailers(proto::TrailersResponse::default()),
        Part::ResponseTrailers(_) => Reply::ResponseTrailers(proto::TrailersResponse::default()),
    };
    proto::ProcessingResponse { response: Some(response), ..Default::default() }
}

fn run(case: &Case) -> Result<(), TestCaseError> {
    let mut world = World::new(case);
    world.listen();
    for die in &case.dice {
        world.step(&case.modes, *die);
    }
    // Whatever is left, in turn, until nothing moves any more.
    for _ in 0..50 {
        let mut moved = true;
        while moved {
            moved = false;
            for die in 0..u8::try_from(3 * case.modes.len()).unwrap() {
                moved |= world.step(&case.modes, die);
            }
        }
        if world.chain.arrived().ends > 0 {
            break;
        }
        world.chain.wait(Duration::from_secs(1));
    }
    prop_assert_eq!(world.chain.broken(), Vec::<String>::new());
    let added = case.modes.iter().enumerate().filter(|(_, mode)| **mode != "NONE");
    let added: u8 = added.map(|(place, _)| 1_u8 << place).sum();
    let sent = bodies(&case.pieces).concat();
    let expected: Vec<u8> = sent.iter().map(|byte| byte.wrapping_add(added)).collect();
    let arrived = world.chain.arrived();
    prop_assert_eq!((arrived.ends, arrived.late), (1, 0));
    prop_assert!(
        arrived.body == expected,
        "{} of {} bytes, the first other at {:?}",
        arrived.body.len(),
        expected.len(),
        arrived.body.iter().zip(&expected).position(|(got, wanted)| got != wanted)
    );
    if let Some(again) = world.chain.again() {
        prop_assert!(again == expected, "{} bytes would be sent again", again.len());
    }
    Ok(())
}

fn case(
    modes: impl Strategy<Value = Vec<&'static str>>,
    limit: u64,
) -> impl Strategy<Value = Case> {
    let end = prop_oneof![Just(End::Piece), Just(End::Empty), Just(End::Trailers)];
    let pieces = proptest::collection::vec(1..40_usize, 1..12);
    let dice = proptest::collection::vec(any::<u8>(), 0..300);
    let direction = prop_oneof![
        Just((Direction::Request, Router::Passes)),
        Just((Direction::Request, Router::Keeps)),
        Just((Direction::Response, Router::Passes))
    ];
    (modes, direction, pieces, end, dice).prop_map(
        move |(modes, (direction, router), pieces, end, dice)| Case {
            modes,
            direction,
            pieces,
            end,
            limit,
            router,
            dice,
        },
    )
}

fn modes(from: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(from), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streamed_bodies_come_out_whole(case in case(modes(&MODES[3..4]), 1 << 20)) {
        run(&case)?;
    }

    #[test]
    fn bodies_in_any_modes_come_out_whole(case in case(modes(&MODES), 1 << 20)) {
        run(&case)?;
    }

    #[test]
    fn bodies_over_the_buffer_limit_come_out_whole(case in case(modes(&MODES[3..]), 64)) {
        run(&case)?;
    }
}
