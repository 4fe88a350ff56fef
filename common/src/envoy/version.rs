//! Which Envoy this library runs in, where the built-in filters of one version differ from those of
//! another.

use std::sync::OnceLock;

static RUNNING: OnceLock<EnvoyVersion> = OnceLock::new();

/// A version of Envoy, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnvoyVersion {
    /// 1.38.
    V1_38,
    /// 1.39.
    V1_39,
    /// 1.40 or newer.
    V1_40,
}

impl EnvoyVersion {
    /// The version of the Envoy that has loaded this library; the newest where none has, as in tests.
    #[must_use]
    pub fn running() -> Self {
        RUNNING.get().copied().unwrap_or(Self::V1_40)
    }

    /// Says once, as the library is loaded, which one it is.
    pub(crate) fn is_running(self) {
        RUNNING.get_or_init(|| self);
    }
}
