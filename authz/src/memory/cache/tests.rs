use callout_common::Reply;
use callout_common::http::mutation::{Mutation, Op};
use proptest::prelude::*;

use super::*;
use crate::decide::edits::Edits;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> CacheSettings {
    CacheSettings {
        ttl: 10 * SECOND,
        denied_ttl: 2 * SECOND,
        stale_while_revalidate: 3 * SECOND,
        stale_if_error: 60 * SECOND,
        jitter_percent: 0,
        max_bytes: 1 << 20,
        max_entry_bytes: 4096,
    }
}

impl Origin {
    /// A decision that was asked for and made then.
    fn at(made: Instant) -> Self {
        Self { asked: made, made, route: None }
    }
}

fn judged(verdict: Verdict) -> Decision {
    Decision::new(verdict, None)
}

fn sets(name: &str, value: &str) -> Edits {
    Edits { request: vec![Mutation::new(Op::Set, name, value)], ..Edits::default() }
}

fn allow() -> Arc<Decision> {
    Arc::new(judged(Verdict::Allow(Edits::default())))
}

fn deny(reply: Reply) -> Arc<Decision> {
    Arc::new(judged(Verdict::Deny { reply, dropped: 0 }))
}

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

/// What an age in seconds finds, and whether it stands in for a silent service.
fn at(cache: &Cache, made: Instant, seconds: u32) -> (&'static str, bool) {
    let now = made + seconds * SECOND;
    let found = match cache.find(&key(1), now) {
        Found::Fresh(_) => "fresh",
        Found::Stale(_) => "stale",
        Found::Miss => "nothing",
    };
    (found, cache.get_stale_if_error(&key(1), now).is_some())
}

#[test]
fn an_allow_is_fresh_then_stale_then_stands_in_and_then_is_gone() {
    let (cache, made) = (Cache::new(settings()), Instant::now());
    assert_eq!(at(&cache, made, 0), ("nothing", false));
    assert_eq!(cache.keep(key(1), allow(), Origin::at(made), 0), Kept::Yes);
    assert_eq!(at(&cache, made, 9), ("fresh", true));
    assert_eq!(at(&cache, made, 10), ("stale", true));
    assert_eq!(at(&cache, made, 13), ("nothing", true));
    assert_eq!(at(&cache, made, 69), ("nothing", true));
    assert_eq!(at(&cache, made, 70), ("nothing", false));
}

#[test]
fn a_denial_is_never_stale() {
    let (cache, made) = (Cache::new(settings()), Instant::now());
    assert_eq!(cache.keep(key(1), deny(Reply::new(403)), Origin::at(made), 0), Kept::Yes);
    assert_eq!(at(&cache, made, 1), ("fresh", false));
    assert_eq!(at(&cache, made, 2), ("nothing", false));
}

#[test]
fn a_denial_takes_the_place_of_an_allow_even_where_denials_are_not_kept() {
    let cache = Cache::new(CacheSettings { denied_ttl: Duration::ZERO, ..settings() });
    let made = Instant::now();
    cache.keep(key(1), allow(), Origin::at(made), 0);
    assert_eq!(cache.keep(key(1), deny(Reply::new(403)), Origin::at(made), 0), Kept::No);
    assert_eq!(at(&cache, made, 1), ("nothing", false));
}

#[test]
fn what_is_of_the_moment_or_of_one_client_is_not_kept() {
    let life = |judged: &Decision| life(&settings(), judged, 0);
    for status in [429, 302, 500, 503] {
        assert_eq!(life(&deny(Reply::new(status))), None, "{status}");
    }
    assert_eq!(life(&deny(Reply::new(401).header("set-cookie", b"a"))), None);
    assert_eq!(life(&deny(Reply::new(401))), Some(2 * SECOND));
    let cookie = sets("set-cookie", "a");
    assert_eq!(life(&judged(Verdict::Allow(cookie))), None);
    for verdict in [
        Verdict::Pass,
        Verdict::Invalid { denied: false },
        Verdict::Refuse { reply: Reply::new(403), dropped: 0 },
    ] {
        assert_eq!(life(&judged(verdict)), None);
    }
}

#[test]
fn a_decision_that_is_too_large_is_not_kept_and_what_was_there_is_forgotten() {
    let (cache, made) = (Cache::new(settings()), Instant::now());
    cache.keep(key(1), allow(), Origin::at(made), 0);
    let large = deny(Reply::new(403).body(vec![b'x'; 5000]));
    assert_eq!(cache.keep(key(1), large, Origin::at(made), 0), Kept::TooLarge);
    assert_eq!(at(&cache, made, 0), ("nothing", false));
}

#[test]
fn all_entries_together_stay_within_the_bound() {
    let cache = Cache::new(CacheSettings { max_bytes: 64 << 10, ..settings() });
    for number in 0..2000_u32 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        cache.keep(Key::from_bytes(bytes), allow(), Origin::at(Instant::now()), 0);
    }
    cache.store.run_pending_tasks();
    assert!(cache.store.weighted_size() <= 64 << 10, "{}", cache.store.weighted_size());
    assert!(cache.store.entry_count() > 50);
}

/// Pages that this process has in memory, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
#[cfg(target_os = "linux")]
fn entries_are_weighed_by_the_memory_that_they_take() {
    let cache = Cache::new(CacheSettings { max_bytes: 1 << 30, ..settings() });
    let before = resident();
    for number in 0..60_000_u32 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        bytes[4..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
        let value = std::collections::HashMap::from([("user".to_owned(), "somebody".into())]);
        let decision = Decision {
            metadata: Some(callout_protos::pbjson_types::Struct { fields: value }),
            ..judged(Verdict::Allow(sets("x-user", "somebody")))
        };
        cache.keep(Key::from_bytes(bytes), Arc::new(decision), Origin::at(Instant::now()), 0);
    }
    cache.store.run_pending_tasks();
    let took = resident().saturating_sub(before);
    let weighed = usize::try_from(cache.store.weighted_size()).unwrap();
    // Other tests run beside this one, and what they freed may be used again.
    assert!(took < weighed + (8 << 20), "{took} bytes of memory, weighed as {weighed}");
    assert!(weighed < 60_000 * 2048, "{weighed}");
}

#[test]
fn one_caller_refreshes_at_a_time() {
    let (cache, made) = (Cache::new(settings()), Instant::now());
    cache.keep(key(1), allow(), Origin::at(made), 0);
    let Found::Stale(entry) = cache.find(&key(1), made + 11 * SECOND) else { panic!("not stale") };
    let claim = entry.begin_refresh();
    assert!(claim.is_some() && entry.begin_refresh().is_none());
    drop(claim);
    assert!(entry.begin_refresh().is_some());
}

proptest! {
    #[test]
    fn neither_the_service_nor_chance_lengthens_a_life(
        seconds in prop_oneof![0.0..20.0_f64, Just(f64::MAX)],
        draw in any::<u64>(),
        jitter_percent in 0..=50_u8,
    ) {
        let settings = CacheSettings { jitter_percent, ..settings() };
        let max_age = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let judged =
            Decision { max_age: Some(max_age), ..judged(Verdict::Allow(Edits::default())) };
        let most = max_age.min(settings.ttl);
        let least = most.saturating_sub(most * u32::from(jitter_percent) / 100);
        match life(&settings, &judged, draw) {
            Some(life) => prop_assert!(life <= most && life >= least, "{life:?}"),
            // Half of it is left at least.
            None => prop_assert!(most < Duration::from_nanos(2), "{most:?}"),
        }
    }
}

fn is_kept(cache: &Cache, number: u8) -> bool {
    matches!(cache.find(&key(number), Instant::now()), Found::Fresh(_))
}

#[test]
fn a_purge_forgets_what_it_names() {
    let route = |name: &str| Origin { route: Some(name.to_owned()), ..Origin::at(Instant::now()) };
    let tagged = |tag: &str| {
        let tag = Some(tag.to_owned());
        Arc::new(Decision { tag, ..judged(Verdict::Allow(Edits::default())) })
    };
    let full = || {
        let cache = Cache::new(settings());
        cache.keep(key(1), tagged("user-1"), route("a"), 0);
        cache.keep(key(2), tagged("user-12"), route("b"), 0);
        cache.keep(key(3), allow(), route("b"), 0);
        cache
    };
    for (what, count, kept) in [
        (Purge::All, 3, [false, false, false]),
        (Purge::Route("b".to_owned()), 2, [true, false, false]),
        (Purge::Route("none".to_owned()), 0, [true, true, true]),
        (Purge::Tag("user-1".to_owned()), 2, [false, false, true]),
        (Purge::Tag("user-12".to_owned()), 1, [true, false, true]),
    ] {
        let cache = full();
        assert_eq!(cache.purge(&what, Instant::now()), count, "{what:?}");
        assert_eq!([1, 2, 3].map(|number| is_kept(&cache, number)), kept, "{what:?}");
    }
}

#[test]
fn what_was_asked_before_a_purge_is_not_kept_after_it() {
    let cache = Cache::new(settings());
    let before = Origin::at(Instant::now());
    cache.purge(&Purge::All, Instant::now());
    assert_eq!(cache.keep(key(1), allow(), before, 0), Kept::No);
    assert!(!is_kept(&cache, 1));
    let after = Origin::at(Instant::now() + Duration::from_nanos(1));
    assert_eq!(cache.keep(key(1), allow(), after, 0), Kept::Yes);
}
