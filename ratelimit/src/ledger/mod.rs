//! What is known of each set of descriptors, shared by the workers: hits that are paid for, and
//! refusals that still hold. It never makes a worker wait: what it can't look up at once is asked.

mod account;
mod claim;
#[cfg(all(test, feature = "loom"))]
mod model;
mod quota;
mod shared;

use std::collections::HashMap;
#[cfg(not(feature = "loom"))]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
#[cfg(feature = "loom")]
use loom::sync::Mutex;

use account::Account;
pub(crate) use account::{Batch, Errand, Known, Turn};
pub(crate) use quota::Quota;

/// The ledger's parts, each with its own lock.
const SHARDS: usize = 16;
/// An account that nobody used for so long may go.
const IDLE: Duration = Duration::from_secs(60);

/// How calls are saved, the most careful way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// One call for each request, as the built-in.
    #[default]
    Exact,
    /// A refusal holds until the limit starts anew.
    CacheOverLimit,
    /// Hits are asked for in batches and spent one by one.
    Lease,
    /// Requests are admitted and reported afterwards.
    Async,
}

/// Whose rules of counting hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Server {
    /// Any service.
    #[default]
    Generic,
    /// github.com/envoyproxy/ratelimit.
    EnvoyRatelimit,
    /// github.com/Kuadrant/limitador.
    Limitador,
}

/// The terms under which calls are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) mode: Mode,
    pub(crate) server: Server,
    /// How far all proxies together may be off, in percent of the limit.
    pub(crate) max_error_percent: u32,
    pub(crate) expected_proxies: u32,
    /// The longest that a refusal is believed.
    pub(crate) max_refusal: Duration,
}

/// The name of a set of descriptors, and of what else the service is told with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of a serialized request, sent with these entries of metadata: services may limit by
    /// either.
    pub(crate) fn of(message: &[u8], metadata: &[(&[u8], &[u8])]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            // Where a part ends is hashed, too, so that no two calls look alike.
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(message);
        for (name, value) in metadata {
            part(name);
            part(value);
        }
        Self(*hasher.finalize().as_bytes())
    }

    fn shard(self) -> usize {
        let [first, ..] = self.0;
        usize::from(first) % SHARDS
    }
}

/// What the next request of an account is to do.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) turn: Turn,
    pub(crate) errand: Option<Errand>,
    /// The limit that the service told of last.
    pub(crate) quota: Option<Quota>,
}

type Shard = Mutex<HashMap<Key, Account>>;

/// All accounts.
#[derive(Debug)]
pub(crate) struct Ledger {
    shards: [Shard; SHARDS],
    accounts_per_shard: usize,
}

impl Ledger {
    /// A ledger of `accounts` at most.
    pub(crate) fn new(accounts: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, accounts_per_shard: accounts.div_ceil(SHARDS) }
    }

    /// What the next request is to do; `None` when that can't be said at once, or there is no room
    /// for another account: it asks as if there were no ledger.
    pub(crate) fn turn(&self, key: Key, now: Instant, terms: &Terms) -> Option<Next> {
        let mut accounts = match self.shards.get(key.shard())?.try_lock() {
            Ok(accounts) => accounts,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        if !accounts.contains_key(&key) && accounts.len() >= self.accounts_per_shard {
            accounts.retain(|_, account| now.saturating_duration_since(account.used) < IDLE);
            if accounts.len() >= self.accounts_per_shard {
                return None;
            }
        }
        let account = accounts.entry(key).or_insert_with(|| Account::new(now));
        let (turn, errand) = account.turn(now, terms);
        Some(Next { turn, errand, quota: account.quota() })
    }

    /// The service answered a call for `hits`, of which `spent` are spent already.
    pub(crate) fn answered(
        &self,
        key: Key,
        answer: &Arc<RateLimitResponse>,
        (hits, spent): (u64, u64),
        sent: Instant,
        terms: &Terms,
    ) {
        let now = Instant::now();
        self.with(key, |account| account.answered(answer, hits, spent, sent, now, terms));
    }

    /// What is owed, to be reported now.
    pub(crate) fn bill(&self, key: Key) -> u64 {
        self.with(key, Account::bill).unwrap_or_default()
    }

    /// A report of so many hits failed.
    pub(crate) fn owe_again(&self, key: Key, hits: u64) {
        self.with(key, |account| account.owe_again(hits));
    }

    /// Off the worker, where waiting for a lock is no harm.
    fn with<T>(&self, key: Key, work: impl FnOnce(&mut Account) -> T) -> Option<T> {
        let mut accounts =
            self.shards.get(key.shard())?.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.get_mut(&key).map(work)
    }
}
