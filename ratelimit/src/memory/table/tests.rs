use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A value that lasts until an instant, with bytes on the heap.
#[derive(Debug)]
struct Lasting {
    until: Instant,
    bytes: Vec<u8>,
}

impl Kept for Lasting {
    fn expires(&self) -> Instant {
        self.until
    }

    fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn shed(&mut self) {
        self.bytes = Vec::new();
    }
}

fn key(number: usize) -> Key {
    Key::of(&number.to_le_bytes(), &[])
}

fn part(entries: usize, bytes: usize) -> Part<Lasting> {
    Part::new(Room { entries, bytes })
}

/// Whether a value that lasts for `seconds` finds, or has, its place at `now`.
fn enter(part: &mut Part<Lasting>, number: usize, now: Instant, seconds: u64) -> bool {
    let until = now + Duration::from_secs(seconds);
    let make = || Lasting { until, bytes: Vec::new() };
    part.with_or(key(number), now, make, |value| value.until = value.until.max(until)).is_some()
}

#[test]
fn a_full_part_lets_go_what_has_nothing_to_remember_and_nothing_else() {
    let now = Instant::now();
    let mut part = part(3, usize::MAX);
    assert!(enter(&mut part, 0, now, 10) && enter(&mut part, 1, now, 20));
    assert!(enter(&mut part, 2, now, 30));
    assert!(!enter(&mut part, 3, now, 10), "nothing may go");
    // The first was used since: the second goes.
    let later = now + Duration::from_secs(21);
    part.with(key(0), later, |value| value.until = later + Duration::from_secs(60)).unwrap();
    assert!(enter(&mut part, 3, later, 10));
    assert!(part.with(key(1), later, |_| ()).is_none());
    assert!(part.with(key(0), later, |_| ()).is_some());
    assert!(!enter(&mut part, 4, later, 10));
}

#[test]
fn one_look_for_room_takes_no_more_than_so_many_steps() {
    let now = Instant::now();
    let mut part = part(10_000, usize::MAX);
    for number in 0..10_000 {
        enter(&mut part, number, now, 1);
    }
    // All but the last are used again.
    let later = now + Duration::from_secs(2);
    for number in 0..9_999 {
        enter(&mut part, number, later, 60);
    }
    let misplaced =
        |part: &Part<Lasting>| part.queue.iter().filter(|Reverse((due, _))| *due <= later).count();
    let mut before = misplaced(&part);
    let mut found = enter(&mut part, 10_000, later, 60);
    while !found {
        let after = misplaced(&part);
        assert!(before - after <= STEPS, "{} steps", before - after);
        before = after;
        found = enter(&mut part, 10_000, later, 60);
    }
    assert!(part.with(key(9_999), later, |_| ()).is_none());
}

#[test]
fn bytes_that_do_not_fit_are_shed_and_the_value_stays() {
    let now = Instant::now();
    let room = 2 * Part::<Lasting>::ENTRY_BYTES + 100;
    let mut part = part(100, room);
    assert!(enter(&mut part, 0, now, 60) && enter(&mut part, 1, now, 60));
    assert!(!enter(&mut part, 2, now, 60), "there are bytes for two");
    part.with(key(0), now, |value| value.bytes = vec![0; 80]).unwrap();
    part.with(key(1), now, |value| value.bytes = vec![0; 80]).unwrap();
    assert_eq!(part.with(key(0), now, |value| value.bytes.len()), Some(80));
    assert_eq!(part.with(key(1), now, |value| value.bytes.len()), Some(0));
    // Bytes that may go make room.
    let later = now + Duration::from_secs(61);
    part.with(key(1), later, |value| {
        value.until = later + Duration::from_secs(60);
        value.bytes = vec![0; 80];
    });
    assert_eq!(part.with(key(1), later, |value| value.bytes.len()), Some(80));
    assert!(part.with(key(0), later, |_| ()).is_none());
}

proptest! {
    #[test]
    fn the_bounds_hold_and_the_books_are_right(
        uses in prop::collection::vec((0..40_usize, 0..20_u64, 0..5_u64, 0..200_usize), 1..300),
    ) {
        let mut now = Instant::now();
        let (entries, bytes) = (20, 20 * Part::<Lasting>::ENTRY_BYTES + 1000);
        let mut part = part(entries, bytes);
        for (number, lasts, passes, heap) in uses {
            now += Duration::from_secs(passes);
            let known: Vec<usize> = (0..40)
                .filter(|number| {
                    part.values.get(&key(*number)).is_some_and(|value| value.until > now)
                })
                .collect();
            if enter(&mut part, number, now, lasts) {
                part.with(key(number), now, |value| value.bytes = vec![0; heap]);
            }
            for number in known {
                prop_assert!(part.values.contains_key(&key(number)), "{number} is forgotten");
            }
            let heap: usize = part.values.values().map(Kept::heap_bytes).sum();
            prop_assert_eq!(part.heap_bytes, heap);
            prop_assert_eq!(part.queue.len(), part.values.len());
            prop_assert!(part.values.len() <= entries && part.bytes() <= bytes);
        }
    }
}
