//! What holds for any bytes: driven by the fuzz targets, and by random bytes in the tests.

use callout_common::RawConfig;

use crate::config::{Config, Route};
use crate::decide::machine;

/// Hooks, answers and deadlines in any order: the machine owes Envoy nothing in the end, and does
/// nothing in between that it must not.
pub fn machine(bytes: &[u8]) {
    machine::drive(bytes);
}

/// A configuration: read or refused, of the filter and of a route.
pub fn config(bytes: &[u8]) {
    let raw = RawConfig::new(bytes);
    for refused in [Config::read(raw).err(), Route::read(raw).err()].into_iter().flatten() {
        assert!(!refused.to_string().is_empty(), "a refusal says why");
    }
}
