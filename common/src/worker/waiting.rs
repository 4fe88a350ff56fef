//! The streams of a worker that wait for its work.

use std::rc::Rc;

use crate::envoy::host::WaitingStream;

/// Names a stream. It says nothing once the stream has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamId {
    slot: usize,
    era: u64,
}

#[cfg(all(test, feature = "loom"))]
impl StreamId {
    /// The name of the first stream of all.
    pub(crate) const fn first() -> Self {
        Self { slot: 0, era: 0 }
    }
}

struct Entry {
    era: u64,
    /// Its place in `taken`.
    place: usize,
    stream: Option<Rc<dyn WaitingStream>>,
}

/// All waiting streams of a worker.
#[derive(Default)]
pub(crate) struct WaitingStreams {
    entries: Vec<Entry>,
    free: Vec<usize>,
    taken: Vec<usize>,
    /// The entry of the stream whose scheduler wakes this worker.
    carrier: Option<usize>,
}

impl WaitingStreams {
    /// Adds `stream`. Whether there is no carrier yet, so that it becomes one.
    pub(crate) fn insert(&mut self, stream: Rc<dyn WaitingStream>) -> (StreamId, bool) {
        let place = self.taken.len();
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.entries.push(Entry { era: 0, place, stream: None });
                self.entries.len() - 1
            }
        };
        let mut era = 0;
        if let Some(entry) = self.entries.get_mut(number) {
            (entry.place, entry.stream) = (place, Some(stream));
            era = entry.era;
        }
        self.taken.push(number);
        let carries = self.carrier.is_none();
        if carries {
            self.carrier = Some(number);
        }
        (StreamId { slot: number, era }, carries)
    }

    /// Whether no stream waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// The stream that `stream_id` names, if it has not left.
    pub(crate) fn get(&self, stream_id: StreamId) -> Option<Rc<dyn WaitingStream>> {
        let entry = self.entries.get(stream_id.slot).filter(|entry| entry.era == stream_id.era)?;
        entry.stream.clone()
    }

    /// Removes the stream. If it was the carrier: the next one, if any.
    pub(crate) fn remove(&mut self, stream_id: StreamId) -> Option<Option<Rc<dyn WaitingStream>>> {
        let entry =
            self.entries.get_mut(stream_id.slot).filter(|entry| entry.era == stream_id.era)?;
        entry.era += 1;
        let (place, stream) = (entry.place, entry.stream.take());
        self.taken.swap_remove(place);
        if let Some(moved) = self.taken.get(place).and_then(|moved| self.entries.get_mut(*moved)) {
            moved.place = place;
        }
        self.free.push(stream_id.slot);
        drop(stream);
        if self.carrier != Some(stream_id.slot) {
            return None;
        }
        self.carrier = self.taken.last().copied();
        let next = self.carrier.and_then(|next| self.entries.get(next));
        Some(next.and_then(|entry| entry.stream.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::host::Scheduler;

    struct Nobody;

    impl WaitingStream for Nobody {
        fn scheduler(&self) -> Box<dyn Scheduler> {
            unreachable!("nobody is woken")
        }

        fn deliver(&self) {}
    }

    #[test]
    fn a_id_is_void_once_its_stream_left_though_its_entry_is_taken_again() {
        let mut waiting = WaitingStreams::default();
        let (first, carries) = waiting.insert(Rc::new(Nobody));
        assert!(carries && waiting.get(first).is_some());
        assert!(matches!(waiting.remove(first), Some(None)));
        let (second, carries) = waiting.insert(Rc::new(Nobody));
        assert!(carries && waiting.get(second).is_some() && waiting.get(first).is_none());
        assert!(waiting.remove(first).is_none());
    }

    #[test]
    fn there_is_a_carrier_as_long_as_anybody_waits() {
        let mut waiting = WaitingStreams::default();
        let stream_ids: Vec<_> = (0..4).map(|_| waiting.insert(Rc::new(Nobody)).0).collect();
        assert!(waiting.remove(stream_ids[1]).is_none());
        assert!(matches!(waiting.remove(stream_ids[0]), Some(Some(_))));
        for stream_id in [stream_ids[2], stream_ids[3]] {
            let _ = waiting.remove(stream_id);
        }
        assert!(waiting.taken.is_empty() && waiting.carrier.is_none());
    }
}
