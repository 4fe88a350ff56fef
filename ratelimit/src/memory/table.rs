//! A bounded map in parts with a lock each. What is full makes room by letting go, one by one and the
//! earliest first, what has nothing to remember; it never throws away what somebody still counts on.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use crate::memory::key::Key;

/// How many places one look for room puts right at most. Each is wrong only because of a use since,
/// so that a use costs one of these steps, and no look costs more than so many.
const STEPS: usize = 16;

/// What a table keeps.
pub(crate) trait Kept {
    /// From when on nothing is lost when it is let go, unless it is used until then.
    fn expires(&self) -> Instant;

    /// Bytes on the heap that belong to it.
    fn heap_bytes(&self) -> usize {
        0
    }

    /// Gives its bytes on the heap back, where there is no room for them.
    fn shed(&mut self) {}
}

/// How much a part of a table may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Room {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

/// One part of a table.
#[derive(Debug)]
pub(crate) struct Part<V> {
    values: HashMap<Key, V>,
    /// One item for each value, with an instant that is no later than when it expires.
    queue: BinaryHeap<Reverse<(Instant, Key)>>,
    room: Room,
    /// The most values that there have been: the room that they took is kept for others.
    peak: usize,
    heap_bytes: usize,
}

impl<V: Kept> Part<V> {
    /// What a value takes beside its bytes on the heap: its place in the map, which may be the least
    /// filled after it has grown (16/7 places for each value, with a byte of control), and in
    /// the queue, which may be half empty.
    const ENTRY_BYTES: usize =
        (size_of::<(Key, V)>() + 1) * 16 / 7 + 2 * size_of::<(Instant, Key)>();

    pub(crate) fn new(room: Room) -> Self {
        let (values, queue) = (HashMap::new(), BinaryHeap::new());
        Self { values, queue, room, peak: 0, heap_bytes: 0 }
    }

    /// Works on the value of `key`, which `make` makes if there is none; `None` when there is no room
    /// for it.
    pub(crate) fn with_or<T>(
        &mut self,
        key: Key,
        now: Instant,
        make: impl FnOnce() -> V,
        work: impl FnOnce(&mut V) -> T,
    ) -> Option<T> {
        if !self.values.contains_key(&key) {
            if !self.fits_another() && !self.make_room(now) {
                return None;
            }
            let value = make();
            self.queue.push(Reverse((value.expires(), key)));
            self.heap_bytes += value.heap_bytes();
            self.values.insert(key, value);
            self.peak = self.peak.max(self.values.len());
        }
        self.with(key, now, work)
    }

    /// Works on the value of `key`, if there is one.
    pub(crate) fn with<T>(
        &mut self,
        key: Key,
        now: Instant,
        work: impl FnOnce(&mut V) -> T,
    ) -> Option<T> {
        let value = self.values.get_mut(&key)?;
        let before = value.heap_bytes();
        let done = work(value);
        let after = value.heap_bytes();
        self.heap_bytes = self.heap_bytes + after - before;
        while after > before && self.bytes() > self.room.bytes && self.make_room(now) {}
        if self.bytes() > self.room.bytes
            && let Entry::Occupied(mut entry) = self.values.entry(key)
        {
            let value = entry.get_mut();
            self.heap_bytes -= value.heap_bytes();
            value.shed();
            self.heap_bytes += value.heap_bytes();
        }
        Some(done)
    }

    /// The bytes that the part takes, or more.
    pub(crate) fn bytes(&self) -> usize {
        self.peak * Self::ENTRY_BYTES + self.heap_bytes
    }

    fn fits_another(&self) -> bool {
        let more = if self.values.len() < self.peak { 0 } else { Self::ENTRY_BYTES };
        self.values.len() < self.room.entries && self.bytes() + more <= self.room.bytes
    }

    /// Lets one value go that has expired, if there is one.
    fn make_room(&mut self, now: Instant) -> bool {
        for _ in 0..STEPS {
            let Some(mut first) = self.queue.peek_mut() else { return false };
            let Reverse((due, key)) = *first;
            if due > now {
                return false;
            }
            match self.values.get(&key).map(V::expires) {
                // It was used since.
                Some(expires) if expires > now => *first = Reverse((expires, key)),
                _ => {
                    std::collections::binary_heap::PeekMut::pop(first);
                    if let Some(value) = self.values.remove(&key) {
                        self.heap_bytes -= value.heap_bytes();
                    }
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
