//! Decisions kept for a while, shared by the workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use callout_common::filter::admin::Purge;
use moka::Expiry;
use moka::sync::Cache as Store;

use crate::config::extensions::CacheSettings;
use crate::decide::verdict::{Decision, Verdict};
use crate::memory::key::Key;

/// What an entry costs beside what it points to: its place in the store, with the book-keeping there
/// (about 450 bytes), and itself.
const ENTRY_BYTES: usize = 512 + size_of::<Entry>() + size_of::<Decision>();
/// What a header line costs beside its name and value: its place in a list that may have grown to
/// twice its length, and what the allocator rounds up.
const LINE_BYTES: usize = 128;

/// The decisions of one configuration.
#[derive(Debug)]
pub(crate) struct Cache {
    settings: CacheSettings,
    store: Store<Key, Arc<Entry>>,
    /// When decisions were purged last: what the service was asked before is not kept any more.
    purged: RwLock<Option<Instant>>,
}

/// Where a decision comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// When the service was asked.
    pub(crate) asked: Instant,
    /// When it answered.
    pub(crate) made: Instant,
    /// The name of the request's route.
    pub(crate) route: Option<String>,
}

/// A decision that is kept.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) judged: Arc<Decision>,
    made: Instant,
    /// How long it is fresh.
    life: Duration,
    bytes: usize,
    route: Option<String>,
    /// Somebody asks the service again.
    refreshing: AtomicBool,
}

/// What there is for a key.
#[derive(Debug)]
pub(crate) enum Found {
    /// A decision that holds.
    Fresh(Arc<Entry>),
    /// One that still answers while the service is asked again.
    Stale(Arc<Entry>),
    /// None that answers.
    Miss,
}

/// What became of a decision that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    /// Its kind is not kept, and what was kept under its key is forgotten.
    No,
    /// It is larger than an entry may be; what was kept under its key is forgotten.
    TooLarge,
}

/// What an age means for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    fresh: bool,
    while_revalidating: bool,
    if_error: bool,
}

impl Entry {
    fn use_at(&self, now: Instant, settings: &CacheSettings) -> Use {
        let stale = now.saturating_duration_since(self.made).checked_sub(self.life);
        let allows = matches!(self.judged.verdict, Verdict::Allow(_));
        let within = |bound: Duration| allows && stale.is_some_and(|stale| stale < bound);
        Use {
            fresh: stale.is_none(),
            while_revalidating: within(settings.stale_while_revalidate),
            if_error: stale.is_none() || within(settings.stale_if_error),
        }
    }

    /// The right to ask the service again; `None` while somebody else has it.
    pub(crate) fn begin_refresh(self: &Arc<Self>) -> Option<Claim> {
        (!self.refreshing.swap(true, Ordering::AcqRel)).then(|| Claim(Arc::clone(self)))
    }
}

/// The right to ask the service again about an entry. It ends when this is dropped, in whatever way
/// the asking ended: the next request may ask then, unless another entry is in the place.
#[derive(Debug)]
pub(crate) struct Claim(Arc<Entry>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Release);
    }
}

/// Forgets entries that are of no use any more.
struct Lifetime(CacheSettings);

impl Expiry<Key, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        let stale = if matches!(entry.judged.verdict, Verdict::Allow(_)) {
            self.0.stale_while_revalidate.max(self.0.stale_if_error)
        } else {
            Duration::ZERO
        };
        Some(entry.life.saturating_add(stale))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        entry: &Arc<Entry>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}

impl Cache {
    pub(crate) fn new(settings: CacheSettings) -> Self {
        let store = Store::builder()
            .max_capacity(settings.max_bytes)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes).unwrap_or(u32::MAX))
            .expire_after(Lifetime(settings))
            .build();
        Self { settings, store, purged: RwLock::default() }
    }

    /// What there is for `key`.
    pub(crate) fn find(&self, key: &Key, now: Instant) -> Found {
        let Some(entry) = self.store.get(key) else { return Found::Miss };
        let of_use = entry.use_at(now, &self.settings);
        if of_use.fresh {
            Found::Fresh(entry)
        } else if of_use.while_revalidating {
            Found::Stale(entry)
        } else {
            Found::Miss
        }
    }

    /// The allow that stands in for a service that does not answer.
    pub(crate) fn get_stale_if_error(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        self.store
            .get(key)
            .filter(|entry| matches!(entry.judged.verdict, Verdict::Allow(_)))
            .filter(|entry| entry.use_at(now, &self.settings).if_error)
    }

    /// Keeps a decision of the service's. `draw` shortens its life by chance.
    pub(crate) fn keep(&self, key: Key, judged: Arc<Decision>, origin: Origin, draw: u64) -> Kept {
        // Held until the decision is in its place, so that no purge misses it.
        let purged = self.purged.read().unwrap_or_else(PoisonError::into_inner);
        let Origin { asked, made, route } = origin;
        if purged.is_some_and(|purged| asked <= purged) {
            return Kept::No;
        }
        let Some(life) = life(&self.settings, &judged, draw) else {
            self.store.invalidate(&key);
            return Kept::No;
        };
        let bytes = bytes(&judged) + route.as_ref().map_or(0, String::len);
        if bytes > self.settings.max_entry_bytes {
            self.store.invalidate(&key);
            return Kept::TooLarge;
        }
        let refreshing = AtomicBool::new(false);
        self.store.insert(key, Arc::new(Entry { judged, made, life, bytes, route, refreshing }));
        Kept::Yes
    }

    /// Forgets what an operator asks for, and what is being asked for right now; how many were kept.
    pub(crate) fn purge(&self, what: &Purge, now: Instant) -> u64 {
        let mut purged = self.purged.write().unwrap_or_else(PoisonError::into_inner);
        *purged = Some(now);
        let is_meant = |entry: &Entry| match what {
            Purge::All => true,
            Purge::Route(name) => entry.route.as_ref() == Some(name),
            Purge::Tag(beginning) => {
                entry.judged.tag.as_ref().is_some_and(|tag| tag.starts_with(beginning))
            }
        };
        let meant = self.store.iter().filter(|(_, entry)| is_meant(entry)).map(|(key, _)| *key);
        meant.map(|key| self.store.invalidate(&key)).fold(0, |count, ()| count + 1)
    }

    /// How many decisions are kept, and about how many bytes they take.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.store.run_pending_tasks();
        (self.store.entry_count(), self.store.weighted_size())
    }

    /// The bound of the bytes.
    pub(crate) const fn max_bytes(&self) -> u64 {
        self.settings.max_bytes
    }

    /// Forgets what is kept for `key`.
    pub(crate) fn forget(&self, key: &Key) {
        self.store.invalidate(key);
    }
}

/// How long a decision is fresh; `None` for one that is not kept.
fn life(settings: &CacheSettings, judged: &Decision, draw: u64) -> Option<Duration> {
    let most = match &judged.verdict {
        Verdict::Allow(edits) if !edits.sets_cookie() => settings.ttl,
        // Limits, failures and redirects are of the moment, and a cookie is one client's.
        Verdict::Deny { reply, .. } if matches!(reply.status(), 200..=299 | 400..=499) => {
            let cookie = reply.headers().iter().any(|(name, _)| name == "set-cookie");
            if cookie || reply.status() == 429 {
                return None;
            }
            settings.denied_ttl
        }
        _ => return None,
    };
    let life = judged.max_age.map_or(most, |max_age| max_age.min(most));
    let shortest = life.saturating_sub(life * u32::from(settings.jitter_percent) / 100);
    let span = u64::try_from(life.saturating_sub(shortest).as_nanos()).unwrap_or(u64::MAX);
    let life = life.saturating_sub(Duration::from_nanos(draw % span.max(1)));
    (!life.is_zero()).then_some(life)
}

/// About how many bytes a decision takes.
fn bytes(judged: &Decision) -> usize {
    let lines = |sum: usize, count: usize| sum + count * LINE_BYTES;
    let decision = match &judged.verdict {
        Verdict::Allow(edits) => edits.bytes(LINE_BYTES),
        Verdict::Deny { reply, .. } => {
            let headers = reply.headers();
            let text = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            lines(text, headers.len()) + reply.body_bytes().len()
        }
        _ => 0,
    };
    let metadata = judged.metadata.as_ref().map_or(0, callout_common::filter::metadata::heap_bytes);
    ENTRY_BYTES + decision + metadata + judged.tag.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests;
