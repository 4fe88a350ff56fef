//! Values of Envoy's runtime. Envoy tells them on its main thread alone (1.40): they are read there, when a
//! configuration is made and then once a second, and the workers see the latest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::api::config::warn_of_runtime;
use crate::envoy::version::EnvoyVersion;

/// No value.
const ABSENT: u64 = u64::MAX;

/// What Envoy's main thread tells.
pub(crate) trait RuntimeReader {
    /// A whole number; `otherwise` where there is none.
    fn number(&self, key: &str, otherwise: u64) -> u64;
    /// A truth value; `otherwise` where there is none.
    fn truth(&self, key: &str, otherwise: bool) -> bool;
}

/// One value of the runtime.
#[derive(Debug, Clone)]
pub struct RuntimeValue(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    key: String,
    is_truth: bool,
    latest: AtomicU64,
}

/// The values that somebody looks at.
static WATCHED: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

impl RuntimeValue {
    /// The whole number under `key`, for the field at `path` of the filter called `filter`. `None` for an empty
    /// key, and, with a warning, before Envoy 1.40.
    #[must_use]
    pub fn number(key: &str, filter: &str, path: &str) -> Option<Self> {
        Self::watched(key, false, filter, path)
    }

    /// The truth value under `key`; as [`RuntimeValue::number`].
    #[must_use]
    pub fn truth(key: &str, filter: &str, path: &str) -> Option<Self> {
        Self::watched(key, true, filter, path)
    }

    fn watched(key: &str, is_truth: bool, filter: &str, path: &str) -> Option<Self> {
        if key.is_empty() {
            return None;
        }
        if EnvoyVersion::running() < EnvoyVersion::V1_40 {
            warn_of_runtime(filter, path, key);
            return None;
        }
        let slot = Slot { key: key.to_owned(), is_truth, latest: AtomicU64::new(ABSENT) };
        let slot = Arc::new(slot);
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Arc::downgrade(&slot));
        Some(Self(slot))
    }

    /// The latest value; `None` where the runtime has none.
    #[must_use]
    pub fn latest(&self) -> Option<u64> {
        let latest = self.0.latest.load(Ordering::Relaxed);
        (latest != ABSENT).then_some(latest)
    }
}

impl Slot {
    fn read(&self, reader: &dyn RuntimeReader) {
        let latest = if self.is_truth {
            match (reader.truth(&self.key, false), reader.truth(&self.key, true)) {
                // It is whatever was to be said where there is none.
                (false, true) => ABSENT,
                (truth, _) => u64::from(truth),
            }
        } else {
            reader.number(&self.key, ABSENT)
        };
        self.latest.store(latest, Ordering::Relaxed);
    }
}

/// Reads every value that somebody looks at; whether there is any. On the main thread.
pub(crate) fn refresh(reader: &dyn RuntimeReader) -> bool {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain(|slot| slot.strong_count() > 0);
    for slot in watched.iter().filter_map(Weak::upgrade) {
        slot.read(reader);
    }
    !watched.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(Option<u64>);

    impl RuntimeReader for Fake {
        fn number(&self, _: &str, otherwise: u64) -> u64 {
            self.0.unwrap_or(otherwise)
        }
        fn truth(&self, _: &str, otherwise: bool) -> bool {
            self.0.map_or(otherwise, |value| value != 0)
        }
    }

    #[test]
    fn the_latest_value_is_seen_and_its_absence() {
        for is_truth in [false, true] {
            let latest = AtomicU64::new(ABSENT);
            let slot = Arc::new(Slot { key: "k".to_owned(), is_truth, latest });
            let value = RuntimeValue(Arc::clone(&slot));
            for told in [None, Some(0), Some(1), None] {
                slot.read(&Fake(told));
                assert_eq!(value.latest(), told, "{is_truth}");
            }
        }
    }
}
