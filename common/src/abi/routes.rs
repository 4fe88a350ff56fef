//! The per-route configurations that this library has made and Envoy has not destroyed.
//!
//! Envoy finds a route's configuration by the filter's name and hands over whatever module made it.
//! So a pointer from Envoy is only a key here, and never followed: what is not found was made by
//! another module.

use core::ffi::c_void;
use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use crate::envoy::route_config::RouteConfig;

/// A key is the address of its own byte, so no other allocation of the process has it.
struct Entry {
    _key: Box<u8>,
    route: RouteConfig,
}

static LIVE: LazyLock<RwLock<HashMap<usize, Entry>>> = LazyLock::new(RwLock::default);

/// Keeps `route`; the key goes to Envoy.
pub(super) fn keep(route: RouteConfig) -> *const c_void {
    let key = Box::new(0_u8);
    let pointer: *const u8 = &raw const *key;
    let entry = Entry { _key: key, route };
    LIVE.write().unwrap_or_else(PoisonError::into_inner).insert(pointer.addr(), entry);
    pointer.cast()
}

/// The configuration of this key; one of nobody's when the key is another module's.
pub(super) fn find(key: *const c_void) -> RouteConfig {
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    live.get(&key.addr()).map_or_else(RouteConfig::foreign, |entry| entry.route.clone())
}

/// Envoy is done with this key. The configuration may be dropped on any thread: it is Send and Sync.
pub(super) fn forget(key: *const c_void) {
    // Dropped when the lock is free again.
    let _entry = LIVE.write().unwrap_or_else(PoisonError::into_inner).remove(&key.addr());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_found_until_it_is_destroyed() {
        let key = keep(RouteConfig::new("ours"));
        let other = keep(RouteConfig::new("another"));
        assert_ne!(key, other);
        assert_eq!(*find(key).downcast::<&str>().unwrap(), "ours");
        forget(key);
        assert!(find(key).downcast::<&str>().is_none());
        assert_eq!(*find(other).downcast::<&str>().unwrap(), "another");
        forget(other);
    }

    #[test]
    fn a_pointer_of_unknown_shape_is_nobodys_and_is_not_followed() {
        for address in [1_usize, 8, usize::MAX] {
            let pointer = core::ptr::without_provenance(address);
            assert!(find(pointer).downcast::<&str>().is_none());
            forget(pointer);
        }
    }
}
