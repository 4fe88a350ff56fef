//! Envoy's callbacks, resolved once when the library is loaded.

use core::ffi::c_void;
use std::sync::OnceLock;

use super::bindings::newer::Newer;
use super::bindings::required::Required;

/// The callbacks of the running Envoy.
pub(super) struct Table {
    /// Those that every supported Envoy has.
    pub(super) required: Required,
    /// Those that came later: each is an error where this Envoy lacks it.
    pub(super) newer: Newer,
    /// Envoy is older than 1.39.
    pub(super) before_1_39: bool,
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
    let this = this();
    // SAFETY: the callback is only looked for, not called.
    let came_with_1_39 = unsafe {
        this.get::<*const c_void>(b"envoy_dynamic_module_callback_http_get_header_values\0")
    };
    let before_1_39 = came_with_1_39.is_err();
    Ok(Table { required, newer, before_1_39 })
}
