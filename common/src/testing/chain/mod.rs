//! [`ChainBench`]: the streams of several filters in one chain, without Envoy.

mod manager;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::runtime::{Builder, Runtime};

pub use self::manager::Arrived;
use self::manager::{Manager, Piece, Seat, Shared};
use super::FakeHost;
use super::host::Committed;
use crate::api::config::{ConfigError, RawConfig};
use crate::cluster_streams::{ClusterStreams, Command, ResponseSender};
use crate::envoy::types::{Direction, Map};
use crate::filter::stats::Setup;
use crate::filter::{Filter, HttpStream};
use crate::runner::{AnyStream, Runner, RunnerStats};
use crate::tasks::mailbox::{Mailbox, Message};
use crate::tasks::runtime;

/// Bytes before a message of gRPC.
const PREFIX: usize = 5;

/// What is behind the last filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// It hands on what it gets.
    Passes,
    /// It keeps a copy in Envoy's buffer, too, to send it again; over the buffer limit it gives that up.
    Keeps,
}

/// The streams of several filters in one chain, in one direction. What they send to services is kept; the
/// services say what a test has them say.
pub struct ChainBench<F: Filter> {
    manager: Rc<Manager>,
    runners: Vec<Rc<Runner<F>>>,
    services: Vec<Service>,
    runtime: Runtime,
}

/// What a filter sends to its service.
struct Service {
    mailbox: Mailbox<Command>,
    committed: Committed,
    bytes: BytesMut,
    /// They wait for ever.
    waiting: Vec<ResponseSender>,
}

impl Service {
    /// The messages that have come, whole ones alone.
    fn messages(&mut self) -> Vec<Bytes> {
        while let Some(event) = self.committed.take() {
            for mail in self.mailbox.drain(event) {
                match mail {
                    Message::Event(Command::Open(_, opening, caller)) => {
                        self.bytes.extend(opening.body);
                        self.waiting.push(caller);
                    }
                    Message::Event(Command::Send(_, bytes, _)) => self.bytes.extend(bytes),
                    Message::Event(Command::Reset(_)) | Message::Lost(_) | Message::TryAgain => {}
                }
            }
        }
        let mut messages = Vec::new();
        loop {
            let mut head = self.bytes.get(1..PREFIX).unwrap_or_default();
            let length = if head.len() == 4 { head.get_u32() as usize } else { usize::MAX };
            if length > self.bytes.len().saturating_sub(PREFIX) {
                return messages;
            }
            self.bytes.advance(PREFIX);
            messages.push(self.bytes.split_to(length).freeze());
        }
    }
}

impl<F: Filter> ChainBench<F> {
    /// A chain of the filters that `configs` make, in the order in which `direction` reaches them. The
    /// buffer limit is `limit` bytes.
    ///
    /// # Errors
    /// What a filter refuses.
    pub fn new(
        name: &str,
        configs: &[String],
        direction: Direction,
        limit: u64,
        router: Router,
    ) -> Result<Self, ConfigError> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| ConfigError::without_path(error.to_string()))?;
        let (mut seats, mut runners, mut services) = (Vec::new(), Vec::new(), Vec::new());
        for config in configs {
            let mut host = FakeHost { buffer_limit: limit, ..FakeHost::default() };
            let sent = Committed::default();
            let mailbox = Mailbox::new(Box::new(sent.clone()));
            let clusters = ClusterStreams::new(mailbox.outbox());
            let mut setup = Setup::new(&mut host.metrics, name, clusters);
            let stats = RunnerStats::define(&mut setup)?;
            let filter = F::configure(RawConfig::new(config.as_bytes()), &mut setup)?;
            let runner = Rc::new(Runner::new(Arc::new(filter), stats));
            let stream: Rc<dyn AnyStream> = Rc::<Runner<F>>::clone(&runner);
            host.stream = Some(Rc::downgrade(&stream));
            let committed = host.committed.clone();
            seats.push(Seat {
                stream,
                host: RefCell::new(host),
                committed,
                state: Cell::default(),
            });
            runners.push(runner);
            services.push(Service {
                mailbox,
                committed: sent,
                bytes: BytesMut::new(),
                waiting: Vec::new(),
            });
        }
        let router_keeps = router == Router::Keeps;
        let shared = RefCell::new(Shared { router_keeps, ..Shared::default() });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let manager = Rc::new(Manager { direction, seats, shared, limit });
        for (place, seat) in manager.seats.iter().enumerate() {
            let weak = Rc::downgrade(&manager);
            seat.host.borrow_mut().chain = Some((weak, place));
        }
        Ok(Self { manager, runners, services, runtime })
    }

    /// Sends headers with a body behind them. Those of the request are there in both directions.
    pub fn headers(&self, lines: &[(&str, &str)]) {
        let _guard = runtime::use_here(self.runtime.handle());
        for seat in &self.manager.seats {
            let mut host = seat.host.borrow_mut();
            host.set_map(Map::Request, lines);
            if self.manager.direction == Direction::Response {
                host.set_map(Map::Response, &[(":status", "200")]);
            }
        }
        self.manager.headers(0, false);
    }

    /// Sends a piece of the body; `end` with the last.
    pub fn body(&self, piece: &[u8], end: bool) {
        let _guard = runtime::use_here(self.runtime.handle());
        self.manager.shared.borrow_mut().complete = end;
        self.manager.data(0, Piece::Own(piece.to_vec()), end);
    }

    /// Ends the body with trailers.
    pub fn trailers(&self, lines: &[(&str, &str)]) {
        let _guard = runtime::use_here(self.runtime.handle());
        let map = match self.manager.direction {
            Direction::Request => Map::RequestTrailers,
            Direction::Response => Map::ResponseTrailers,
        };
        for seat in &self.manager.seats {
            seat.host.borrow_mut().set_map(map, lines);
        }
        {
            let mut shared = self.manager.shared.borrow_mut();
            (shared.complete, shared.trailers) = (true, true);
        }
        self.manager.trailers(0);
    }

    /// Whether Envoy reads on: the buffer is within its limit.
    #[must_use]
    pub fn reads_on(&self) -> bool {
        self.buffered() <= self.manager.limit
    }

    /// Bytes in the buffer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.manager.shared.borrow().buffer.as_ref().map_or(0, Vec::len)
    }

    /// The messages that the filter at `place` sent since the last time; work off the worker sends them, so
    /// [`ChainBench::wait`] comes before.
    pub fn messages(&mut self, place: usize) -> Vec<Bytes> {
        self.services.get_mut(place).map(Service::messages).unwrap_or_default()
    }

    /// Sends an event to the stream of the filter at `place`; [`ChainBench::fire`] brings it there.
    pub fn send(&self, place: usize, event: <F::Stream as HttpStream>::Event) {
        if let Some(runner) = self.runners.get(place) {
            self.manager.with(place, |_, host| {
                // A stream that has ended needs none.
                let _ = runner.outbox(host).send(event);
            });
        }
    }

    /// Fires what was sent to the stream of the filter at `place`; `false` when there is nothing.
    pub fn fire(&self, place: usize) -> bool {
        let event = self.manager.seats.get(place).and_then(|seat| seat.committed.take());
        let Some(event) = event else { return false };
        let _guard = runtime::use_here(self.runtime.handle());
        self.manager.with(place, |stream, host| stream.scheduled(host, event));
        true
    }

    /// Lets so much virtual time pass, and work off the worker run.
    pub fn wait(&self, time: Duration) {
        self.runtime.block_on(async {
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// What the router would send again; `None` when it keeps nothing.
    #[must_use]
    pub fn again(&self) -> Option<Vec<u8>> {
        let shared = self.manager.shared.borrow();
        shared.router_keeps.then(|| shared.buffer.clone().unwrap_or_default())
    }

    /// What came out behind the last filter.
    #[must_use]
    pub fn arrived(&self) -> Arrived {
        self.manager.shared.borrow().arrived.clone()
    }

    /// Replies and resets of the filters, in words.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let of = |seat: &Seat| {
            let host = seat.host.borrow();
            let replies = host.replies.iter().map(|reply| reply.details_str().to_owned());
            replies.chain(host.resets.iter().cloned()).collect::<Vec<_>>()
        };
        self.manager.seats.iter().flat_map(of).collect()
    }
}

impl<F: Filter> std::fmt::Debug for ChainBench<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainBench").field("arrived", &self.arrived()).finish_non_exhaustive()
    }
}
