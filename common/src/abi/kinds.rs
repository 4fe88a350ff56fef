//! What kind of value a place in the metadata had when it was last read. The interface has a getter
//! for each kind and none that tells the kind; a getter of the wrong kind writes a line into Envoy's
//! log. So the getter that fitted last is tried first, and a place that never held anything but
//! objects is not asked again for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// A kind of value that has a getter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Number,
    Bool,
}

/// In the order in which they are tried at a new place: the most common first.
const KINDS: [Kind; 3] = [Kind::String, Kind::Number, Kind::Bool];

/// Places that are remembered; beyond that, all are forgotten.
const PLACES: usize = 4096;
/// How long a place that held an object is not asked again.
const FIRST_REST: Duration = Duration::from_millis(100);
/// The longest such time, after many objects and nothing else.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// A key of a namespace, or the elements of the list there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    source: u32,
    namespace: &'a [u8],
    key: &'a [u8],
    element: bool,
}

impl<'a> Place<'a> {
    pub(super) const fn new(
        source: u32,
        namespace: &'a [u8],
        key: &'a [u8],
        element: bool,
    ) -> Self {
        Self { source, namespace, key, element }
    }
}

/// What came of reading a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// There is this value.
    Value(T),
    /// There is a value of another kind.
    Other,
    /// There is nothing.
    Absent,
}

/// What is known of a place.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// It held this last.
    Kind(Kind),
    /// It never held anything but objects, and is not asked again before `until`.
    Object { until: Instant, rest: Duration },
}

/// What one worker knows.
#[derive(Debug, Default)]
struct Memory {
    hasher: RandomState,
    places: HashMap<u64, Known>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Reads `place` by `get`, a getter of one kind, with as few of them as this worker's memory allows.
/// `present` says whether there is any value.
pub(super) fn remembered<T>(
    place: Place<'_>,
    now: impl Fn() -> Instant,
    present: impl Fn() -> bool,
    get: impl Fn(Kind) -> Option<T>,
) -> Read<T> {
    MEMORY
        .try_with(|memory| memory.borrow_mut().read(place, &now, &present, &get))
        // The thread is about to end, and its memory is gone.
        .unwrap_or_else(|_| Memory::default().read(place, &now, &present, &get))
}

impl Memory {
    fn read<T>(
        &mut self,
        place: Place<'_>,
        now: impl Fn() -> Instant,
        present: impl Fn() -> bool,
        get: impl Fn(Kind) -> Option<T>,
    ) -> Read<T> {
        let Place { source, namespace, key, element } = place;
        let id = self.hasher.hash_one((source, namespace, key, element));
        let known = self.places.get(&id).copied();
        let last = match known {
            Some(Known::Kind(kind)) => Some(kind),
            _ => None,
        };
        if let Some(value) = last.and_then(&get) {
            return Read::Value(value);
        }
        if !present() {
            return Read::Absent;
        }
        if let Some(Known::Object { until, .. }) = known
            && now() < until
        {
            return Read::Other;
        }
        let others = KINDS.into_iter().filter(|kind| Some(*kind) != last);
        let found = others.into_iter().find_map(|kind| get(kind).map(|value| (kind, value)));
        if let Some((kind, value)) = found {
            self.keep(id, Known::Kind(kind));
            return Read::Value(value);
        }
        // Where a value was ever read, no later one may be missed.
        if last.is_none() {
            let rest = match known {
                Some(Known::Object { rest, .. }) => (rest * 2).min(LONGEST_REST),
                _ => FIRST_REST,
            };
            let now = now();
            self.keep(id, Known::Object { until: now.checked_add(rest).unwrap_or(now), rest });
        }
        Read::Other
    }

    fn keep(&mut self, id: u64, known: Known) {
        if self.places.len() >= PLACES && !self.places.contains_key(&id) {
            self.places.clear();
        }
        self.places.insert(id, known);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PLACE: Place<'_> = Place::new(0, b"n", b"k", false);

    /// Reads a place that holds a value of `kind`, or an object; whether it was found, and how many
    /// getters did not fit.
    fn read(memory: &mut Memory, now: Instant, kind: Option<Kind>) -> (bool, usize) {
        read_at(memory, PLACE, now, kind)
    }

    fn read_at(
        memory: &mut Memory,
        place: Place<'_>,
        now: Instant,
        kind: Option<Kind>,
    ) -> (bool, usize) {
        let wrong = Cell::new(0);
        let get = |asked| {
            if Some(asked) == kind {
                return Some(());
            }
            wrong.set(wrong.get() + 1);
            None
        };
        let read = memory.read(place, || now, || true, get);
        assert_ne!(read, Read::Absent);
        (read == Read::Value(()), wrong.get())
    }

    #[test]
    fn a_value_whose_kind_stays_is_misread_the_first_time_only() {
        for kind in KINDS {
            let (mut memory, now) = (Memory::default(), Instant::now());
            assert!(read(&mut memory, now, Some(kind)).0);
            for _ in 0..10 {
                assert_eq!(read(&mut memory, now, Some(kind)), (true, 0), "{kind:?}");
            }
        }
    }

    #[test]
    fn places_are_told_apart() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        read(&mut memory, now, Some(Kind::Bool));
        for place in [
            Place { source: 1, ..PLACE },
            Place { namespace: b"nk", key: b"", ..PLACE },
            Place { key: b"k2", ..PLACE },
            Place { element: true, ..PLACE },
        ] {
            assert_eq!(read_at(&mut memory, place, now, Some(Kind::String)), (true, 0));
        }
    }

    #[test]
    fn an_object_is_asked_about_ever_more_rarely() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let wrong: usize = (0..60_000)
            .map(|milli| read(&mut memory, start + Duration::from_millis(milli), None).1)
            .sum();
        assert!((3..=33).contains(&wrong), "{wrong}");
    }

    #[test]
    fn where_a_value_was_ever_read_no_value_is_missed_among_objects() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        assert!(read(&mut memory, now, Some(Kind::String)).0);
        for _ in 0..10 {
            assert!(!read(&mut memory, now, None).0);
            assert!(read(&mut memory, now, Some(Kind::Number)).0);
        }
    }

    #[test]
    fn a_place_that_stops_holding_objects_is_found_out() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        for milli in 0..10_000 {
            read(&mut memory, start + Duration::from_millis(milli), None);
        }
        let later = start + Duration::from_secs(10) + LONGEST_REST;
        assert!(read(&mut memory, later, Some(Kind::String)).0);
        assert_eq!(read(&mut memory, later, Some(Kind::String)), (true, 0));
    }

    #[test]
    fn an_absent_value_is_not_taken_for_an_object() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        for _ in 0..3 {
            let read = memory.read(PLACE, || now, || false, |_| None::<()>);
            assert_eq!(read, Read::Absent);
        }
        assert!(read(&mut memory, now, Some(Kind::String)).0);
        assert_eq!(memory.read(PLACE, || now, || false, |_| None::<()>), Read::Absent);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        for number in 0..3 * PLACES {
            let key = number.to_le_bytes();
            read_at(&mut memory, Place { key: &key, ..PLACE }, now, Some(Kind::String));
            assert!(memory.places.len() <= PLACES);
        }
    }
}
