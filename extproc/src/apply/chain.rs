//! What the filters of this library that process one stream know of each other.
//!
//! Envoy has one buffer per direction for all filters. What a filter lets go from an event takes along
//! whatever lies there, whoever put it there, and once Envoy has seen the peer's end, it goes on as the
//! end of the body, even while a filter in front still holds pieces of it. So each filter has to know
//! whether another one has pieces in the buffer, and whether the peer's end has come.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use callout_common::{Direction, Outbox};

use crate::call::event::{Context, Event};

/// The name of the chain in the filter state, where the other filters find it.
const KEY: &str = "callout.extproc.chain";

thread_local! {
    /// The chains of this worker, by their numbers.
    static CHAINS: RefCell<HashMap<u64, Weak<Chain>>> = RefCell::default();
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// The filters of one stream. A stream stays on its worker.
#[derive(Debug)]
pub(crate) struct Chain {
    number: u64,
    shared: RefCell<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    members: Vec<Outbox<Event>>,
    /// How many of them hold the end of the request.
    ends_held: usize,
    request: Way,
    response: Way,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// A filter has seen the peer's end.
    ended: bool,
    /// The members in the order in which the direction reaches them, with the bytes that each has in
    /// Envoy's buffer.
    kept: Vec<(usize, usize)>,
    /// Bytes there that are nobody's of them: a filter of another kind, or the router, keeps them.
    foreign: usize,
}

/// Whose bytes lie in Envoy's buffer before and after those of a filter: the oldest come first, and
/// they are the farthest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Of those of filters behind, what no filter of this library keeps there.
    pub(crate) foreign: usize,
    /// Of filters behind.
    pub(crate) behind: usize,
    /// Of filters in front.
    pub(crate) front: usize,
}

impl Shared {
    const fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

/// One filter's place in a chain.
#[derive(Debug)]
pub(crate) struct Member {
    chain: Rc<Chain>,
    index: usize,
    holds_end: bool,
}

impl Member {
    /// Joins the stream's chain; begins one if `begin`.
    pub(crate) fn join(cx: &mut Context<'_>, begin: bool) -> Option<Self> {
        let chain = find(cx).or_else(|| begin.then(|| found(cx)))?;
        let outbox = cx.outbox();
        let mut shared = chain.shared.borrow_mut();
        let index = shared.members.len();
        shared.members.push(outbox);
        drop(shared);
        Some(Self { chain, index, holds_end: false })
    }

    /// The headers of this direction have come: those in front have had them before.
    pub(crate) fn reached(&self, direction: Direction) {
        let mut shared = self.chain.shared.borrow_mut();
        let way = shared.way(direction);
        if way.kept.iter().all(|(index, _)| *index != self.index) {
            way.kept.push((self.index, 0));
        }
    }

    /// The end of this direction has come.
    pub(crate) fn ended(&self, direction: Direction) {
        self.chain.shared.borrow_mut().way(direction).ended = true;
    }

    /// Whether a filter has seen the end of this direction.
    pub(crate) fn has_ended(&self, direction: Direction) -> bool {
        self.chain.shared.borrow_mut().way(direction).ended
    }

    /// This filter holds the end of the request, or does not. Whether any does, if that changed.
    pub(crate) fn holds_end(&mut self, held: bool) -> Option<bool> {
        if std::mem::replace(&mut self.holds_end, held) == held {
            return None;
        }
        let mut shared = self.chain.shared.borrow_mut();
        let before = shared.ends_held;
        shared.ends_held = if held { before + 1 } else { before.saturating_sub(1) };
        let (before, now) = (before > 0, shared.ends_held > 0);
        (before != now).then_some(now)
    }

    /// Whose bytes lie where. `buffered` is the length of Envoy's buffer, where it holds nothing that
    /// comes just now.
    pub(crate) fn share(&self, direction: Direction, buffered: Option<usize>) -> Share {
        let mut shared = self.chain.shared.borrow_mut();
        let way = shared.way(direction);
        let (mut front, mut own, mut deeper) = (0, 0, 0);
        let mut passed = false;
        for (index, bytes) in &way.kept {
            if *index == self.index {
                (own, passed) = (*bytes, true);
            } else if passed {
                deeper += bytes;
            } else {
                front += bytes;
            }
        }
        if let Some(buffered) = buffered {
            way.foreign = buffered.saturating_sub(front + own + deeper);
        }
        Share { foreign: way.foreign, behind: way.foreign + deeper, front }
    }

    /// Whether no other of these filters is behind this one.
    pub(crate) fn is_last(&self, direction: Direction) -> bool {
        let mut shared = self.chain.shared.borrow_mut();
        shared.way(direction).kept.last().is_none_or(|(index, _)| *index == self.index)
    }

    /// So many bytes in Envoy's buffer are nobody's of these filters.
    pub(crate) fn set_foreign(&self, direction: Direction, bytes: usize) {
        self.chain.shared.borrow_mut().way(direction).foreign = bytes;
    }

    /// So many bytes of this filter lie in Envoy's buffer by now. When there are none any more, the
    /// others may go on.
    pub(crate) fn keeps(&self, direction: Direction, bytes: usize) {
        let mut shared = self.chain.shared.borrow_mut();
        let way = shared.way(direction);
        let own = way.kept.iter_mut().find(|(index, _)| *index == self.index);
        let Some((_, kept)) = own else { return };
        let before = std::mem::replace(kept, bytes);
        if before == 0 || bytes > 0 {
            return;
        }
        for (index, member) in shared.members.iter().enumerate() {
            if index != self.index {
                // One that has ended waits for nothing.
                let _ = member.send(Event::Settle);
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.keeps(Direction::Request, 0);
        self.keeps(Direction::Response, 0);
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // At the end of a worker its map may be gone already.
        let _ = CHAINS.try_with(|chains| chains.borrow_mut().remove(&self.number));
    }
}

fn find(cx: &Context<'_>) -> Option<Rc<Chain>> {
    let number = cx.filter_state(KEY)?;
    let number: u64 = std::str::from_utf8(&number).ok()?.parse().ok()?;
    CHAINS.with(|chains| chains.borrow().get(&number).and_then(Weak::upgrade))
}

fn found(cx: &mut Context<'_>) -> Rc<Chain> {
    let number = NEXT.replace(NEXT.get().wrapping_add(1));
    let chain = Rc::new(Chain { number, shared: RefCell::default() });
    CHAINS.with(|chains| chains.borrow_mut().insert(number, Rc::downgrade(&chain)));
    cx.set_filter_state(KEY, number.to_string().as_bytes());
    chain
}
