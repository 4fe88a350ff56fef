//! What Envoy's filter manager does with a body: there is one buffer for all filters, a filter that lets a
//! held direction go on hands the whole of it to those behind, and once the peer's end is there, that is
//! the last piece.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::super::FakeHost;
use super::super::host::{Behind, Committed};
use crate::envoy::attributes::Attribute;
use crate::envoy::types::{Body, Direction};
use crate::runner::{AnyStream, BodyStatus, HeadersStatus, TrailersStatus};

/// What came out behind the last filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The headers.
    pub headers: bool,
    /// The body so far.
    pub body: Vec<u8>,
    /// How often its end came, with a piece or as trailers.
    pub ends: usize,
    /// Bytes that came after the end.
    pub late: usize,
}

/// A filter's place in the chain.
pub(super) struct Seat {
    pub(super) stream: Rc<dyn AnyStream>,
    /// Lent out while the filter runs.
    pub(super) host: RefCell<FakeHost>,
    pub(super) committed: Committed,
    pub(super) state: Cell<Iteration>,
}

/// How far the iteration has come at one filter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Iteration {
    stopped: bool,
    headers_gone: bool,
    ended: bool,
    /// What makes a module's second "go on" nothing.
    continuing: bool,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) buffer: Option<Vec<u8>>,
    /// The peer's end is there.
    pub(super) complete: bool,
    pub(super) trailers: bool,
    pub(super) filter_state: HashMap<String, Vec<u8>>,
    pub(super) arrived: Arrived,
    /// The router keeps a copy in the buffer, as it does for retries.
    pub(super) router_keeps: bool,
}

pub(super) struct Manager {
    pub(super) direction: Direction,
    pub(super) seats: Vec<Seat>,
    pub(super) shared: RefCell<Shared>,
    pub(super) limit: usize,
}

/// A piece on its way.
pub(super) enum Piece {
    /// The buffer itself.
    Buffer,
    Own(Vec<u8>),
}

impl Manager {
    /// Runs `call` with the host of the filter at `place`, which has the buffer meanwhile.
    pub(super) fn with<T>(
        &self,
        place: usize,
        call: impl FnOnce(&dyn AnyStream, &mut FakeHost) -> T,
    ) -> Option<T> {
        let seat = self.seats.get(place)?;
        let mut host = seat.host.take();
        assert!(host.chain.is_some(), "a filter was called inside its own call");
        self.lend(&mut host);
        let result = call(&*seat.stream, &mut host);
        self.take_back(&mut host);
        seat.host.replace(host);
        Some(result)
    }

    fn lend(&self, host: &mut FakeHost) {
        let mut shared = self.shared.borrow_mut();
        if let Some(buffer) = shared.buffer.take() {
            host.bodies.insert(Body::buffered(self.direction), buffer);
        }
        host.watermarked.insert(self.direction);
        if shared.arrived.headers {
            host.numbers.insert(Attribute::UpstreamRequestAttemptCount, 1);
        }
        host.filter_state = std::mem::take(&mut shared.filter_state);
    }

    fn take_back(&self, host: &mut FakeHost) {
        let mut shared = self.shared.borrow_mut();
        shared.buffer = host.bodies.remove(&Body::buffered(self.direction));
        shared.filter_state = std::mem::take(&mut host.filter_state);
    }

    fn update(&self, place: usize, change: impl FnOnce(&mut Iteration)) {
        if let Some(seat) = self.seats.get(place) {
            let mut state = seat.state.get();
            change(&mut state);
            seat.state.set(state);
        }
    }

    fn state(&self, place: usize) -> Iteration {
        self.seats.get(place).map(|seat| seat.state.get()).unwrap_or_default()
    }

    fn keep(&self, piece: Piece) {
        if let Piece::Own(bytes) = piece {
            self.shared.borrow_mut().buffer.get_or_insert_default().extend(bytes);
        }
    }

    fn buffered(&self) -> bool {
        self.shared.borrow().buffer.is_some()
    }

    pub(super) fn headers(&self, from: usize, end: bool) {
        for place in from..self.seats.len() {
            self.update(place, |state| state.ended = end);
            let status = self.with(place, |stream, host| stream.headers(host, self.direction, end));
            let passes = status == Some(HeadersStatus::Continue);
            self.update(place, |state| {
                (state.continuing, state.stopped, state.headers_gone) = (passes, !passes, passes);
            });
            if !passes {
                return;
            }
        }
        let mut shared = self.shared.borrow_mut();
        shared.arrived.headers = true;
        shared.arrived.ends += usize::from(end);
    }

    pub(super) fn data(&self, from: usize, mut piece: Piece, end: bool) {
        for place in from..self.seats.len() {
            if self.state(place).ended {
                return;
            }
            let last = end && !self.shared.borrow().trailers;
            self.update(place, |state| state.ended = last);
            let received = Body::received(self.direction);
            let status = self.with(place, |stream, host| {
                match &mut piece {
                    Piece::Buffer => _ = host.aliased.insert(self.direction),
                    Piece::Own(bytes) => _ = host.bodies.insert(received, std::mem::take(bytes)),
                }
                let status = stream.body(host, self.direction, last);
                host.aliased.remove(&self.direction);
                if let (Piece::Own(bytes), Some(left)) = (&mut piece, host.bodies.remove(&received))
                {
                    *bytes = left;
                }
                status
            });
            let stopped = self.state(place).stopped;
            self.update(place, |state| state.continuing = status == Some(BodyStatus::Continue));
            match status {
                Some(BodyStatus::Continue) if stopped => {
                    self.keep(piece);
                    return self.go_on(place);
                }
                Some(BodyStatus::Continue) => {}
                Some(BodyStatus::StopIterationNoBuffer) | None => {
                    self.update(place, |state| state.stopped = true);
                    let mut shared = self.shared.borrow_mut();
                    if shared.complete && !shared.trailers {
                        shared.buffer.get_or_insert_default();
                    }
                    return;
                }
                Some(_) => {
                    self.update(place, |state| state.stopped = true);
                    return self.keep(piece);
                }
            }
        }
        self.arrive(piece, end && !self.shared.borrow().trailers);
    }

    /// A piece has come through all filters, to the router.
    fn arrive(&self, piece: Piece, end: bool) {
        let mut shared = self.shared.borrow_mut();
        let buffered = shared.buffer.as_ref().map_or(0, Vec::len);
        let length = if let Piece::Own(bytes) = &piece { bytes.len() } else { buffered };
        let kept = if matches!(piece, Piece::Own(_)) { buffered } else { 0 };
        shared.router_keeps &= kept + length <= self.limit;
        let keeps = shared.router_keeps;
        let bytes = match piece {
            Piece::Buffer if keeps => shared.buffer.clone().unwrap_or_default(),
            Piece::Buffer => shared.buffer.as_mut().map(std::mem::take).unwrap_or_default(),
            Piece::Own(bytes) => {
                if keeps {
                    shared.buffer.get_or_insert_default().extend_from_slice(&bytes);
                }
                bytes
            }
        };
        let arrived = &mut shared.arrived;
        if arrived.ends > 0 {
            arrived.late += bytes.len();
        }
        arrived.body.extend(bytes);
        arrived.ends += usize::from(end);
    }

    pub(super) fn trailers(&self, from: usize) {
        for place in from..self.seats.len() {
            let status = self.with(place, |stream, host| stream.trailers(host, self.direction));
            let passes = status == Some(TrailersStatus::Continue);
            let stopped = self.state(place).stopped;
            self.update(place, |state| (state.ended, state.continuing) = (true, passes));
            if !passes {
                return self.update(place, |state| state.stopped = true);
            }
            if stopped {
                return self.go_on(place);
            }
        }
        self.shared.borrow_mut().arrived.ends += 1;
    }

    fn go_on(&self, place: usize) {
        let headers_gone = self.state(place).headers_gone;
        self.update(place, |state| (state.stopped, state.headers_gone) = (false, true));
        let (complete, trailers) = {
            let shared = self.shared.borrow();
            (shared.complete, shared.trailers)
        };
        if !headers_gone {
            self.headers(place + 1, complete && !self.buffered() && !trailers);
        }
        if self.buffered() {
            self.data(place + 1, Piece::Buffer, complete && !trailers);
        }
        if trailers {
            self.trailers(place + 1);
        }
    }
}

impl Behind for Manager {
    fn resume(&self, place: usize, host: &mut FakeHost) {
        if self.state(place).continuing {
            return;
        }
        // What the running hook was given stays with it.
        let aliased = host.aliased.remove(&self.direction);
        self.take_back(host);
        self.go_on(place);
        self.lend(host);
        if aliased {
            host.aliased.insert(self.direction);
        }
        self.update(place, |state| state.continuing = true);
    }
}
