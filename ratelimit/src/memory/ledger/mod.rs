//! What is known of each set of descriptors, shared by the workers: hits that are paid for, and
//! refusals that still hold. It never makes a worker wait: what it can't look up at once is asked.

mod account;
mod claim;
#[cfg(all(test, feature = "loom"))]
mod model;
mod quota;
mod shared;

#[cfg(not(feature = "loom"))]
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
#[cfg(feature = "loom")]
use loom::sync::Mutex;

use account::LeaseState;
pub(crate) use account::{Admission, BackgroundCall, Batch, CachedResponse};
pub(crate) use quota::Quota;

use crate::memory::key::Key;
use crate::memory::table::{Part, Room};

/// Parts of the table, with a lock each.
const PARTS: usize = 16;
/// An account that nobody used for so long may go.
const IDLE: Duration = Duration::from_secs(60);

/// How calls are saved, the most careful way first.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
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
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
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
pub(crate) struct LeaseConfig {
    pub(crate) mode: Mode,
    pub(crate) server: Server,
    /// How far all proxies together may be off, in percent of the limit.
    pub(crate) max_error_percent: u32,
    pub(crate) expected_proxies: u32,
    /// The longest that a refusal is believed.
    pub(crate) max_refusal: Duration,
}

/// What the next request of an account is to do.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) turn: Admission,
    pub(crate) errand: Option<BackgroundCall>,
    /// The limit that the service told of last.
    pub(crate) quota: Option<Quota>,
}

/// Why nothing is known of a set of descriptors: it is asked about as if there were no ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It can't be looked up at once.
    Busy,
    /// There is no room for another account.
    Full,
}

/// All accounts.
#[derive(Debug)]
pub(crate) struct LeaseTable {
    parts: [Mutex<Part<LeaseState>>; PARTS],
}

impl LeaseTable {
    /// A ledger of so much room.
    pub(crate) fn new(room: Room) -> Self {
        let room = Room { entries: room.entries.div_ceil(PARTS), bytes: room.bytes / PARTS };
        Self { parts: std::array::from_fn(|_| Mutex::new(Part::new(room))) }
    }

    /// What the next request is to do.
    pub(crate) fn turn(
        &self,
        key: Key,
        now: Instant,
        terms: &LeaseConfig,
    ) -> Result<Next, Unknown> {
        let part = self.parts.get(key.part_of(PARTS)).ok_or(Unknown::Busy)?;
        let mut part = match part.try_lock() {
            Ok(part) => part,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return Err(Unknown::Busy),
        };
        part.with_or(
            key,
            now,
            || LeaseState::new(now),
            |account| {
                let (turn, errand) = account.turn(now, terms);
                Next { turn, errand, quota: account.quota() }
            },
        )
        .ok_or(Unknown::Full)
    }

    /// The service answered a call for `hits`, of which `spent` are spent already.
    pub(crate) fn answered(
        &self,
        key: Key,
        answer: &RateLimitResponse,
        (hits, spent): (u64, u64),
        (sent, now): (Instant, Instant),
        terms: &LeaseConfig,
    ) {
        self.with(key, now, |account| account.answered(answer, hits, spent, sent, now, terms));
    }

    /// What is owed, to be reported now.
    pub(crate) fn take_unreported(&self, key: Key, now: Instant) -> u64 {
        self.with(key, now, LeaseState::take_unreported).unwrap_or_default()
    }

    /// A report of so many hits failed.
    pub(crate) fn restore_unreported(&self, key: Key, hits: u64, now: Instant) {
        self.with(key, now, |account| account.restore_unreported(hits));
    }

    /// Off the worker, where waiting for a lock is no harm.
    fn with<T>(
        &self,
        key: Key,
        now: Instant,
        work: impl FnOnce(&mut LeaseState) -> T,
    ) -> Option<T> {
        let part = self.parts.get(key.part_of(PARTS))?;
        part.lock().unwrap_or_else(PoisonError::into_inner).with(key, now, work)
    }
}
