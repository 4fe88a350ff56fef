//! Envoy's callbacks, resolved once when the library is loaded.

use std::ffi::CStr;
use std::sync::OnceLock;

use super::bindings::newer::Newer;
use super::bindings::required::Required;
use crate::envoy::version::EnvoyVersion;

/// The callbacks of the running Envoy.
pub(super) struct Table {
    /// Those that every supported Envoy has.
    pub(super) required: Required,
    /// Those that came later: each is an error where this Envoy lacks it.
    pub(super) newer: Newer,
    /// By the callbacks that it has.
    pub(super) version: EnvoyVersion,
}

static TABLE: OnceLock<Result<Table, String>> = OnceLock::new();

/// Resolves the callbacks in the running process.
///
/// # Errors
/// The name of the first required callback that is missing.
pub(super) fn resolve() -> Result<&'static Table, &'static str> {
    TABLE.get_or_init(load).as_ref().map_err(String::as_str)
}

/// The callbacks, if this library runs in an Envoy. Every hook does.
pub(super) fn table() -> Option<&'static Table> {
    TABLE.get().and_then(|table| table.as_ref().ok())
}

fn load() -> Result<Table, String> {
    let this = || libloading::Library::from(libloading::os::unix::Library::this());
    // SAFETY: the names and signatures in the headers are Envoy's, checked against each supported
    // version, and the executable stays mapped as long as the process lives.
    let required = unsafe { Required::from_library(this()) }.map_err(|error| error.to_string())?;
    // SAFETY: as above; missing callbacks stay errors in their fields.
    let newer = unsafe { Newer::from_library(this()) }.map_err(|error| error.to_string())?;
    let version = if newer.envoy_dynamic_module_callback_log_v2.is_ok() {
        EnvoyVersion::V1_40
    } else if has(c"envoy_dynamic_module_callback_get_log_level") {
        EnvoyVersion::V1_39
    } else {
        EnvoyVersion::V1_38
    };
    Ok(Table { required, newer, version })
}

/// Whether Envoy has a callback of this name.
fn has(name: &CStr) -> bool {
    let this = libloading::os::unix::Library::this();
    // SAFETY: the address is looked at and not used: its type does not matter.
    unsafe { this.get::<*const ()>(name.to_bytes_with_nul()) }.is_ok()
}
