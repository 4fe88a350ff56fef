//! Envoy's dynamic-module ABI. `unsafe` lives in this module only.
//!
//! `hooks` is what Envoy calls, `table` what it offers to be called; `host` and its
//! neighbours turn the one into the traits of [`crate::envoy::host`].
#![allow(unsafe_code, reason = "this is the seam to a C ABI")]

mod admin_hooks;
mod bindings;
mod buffer;
mod cluster_hooks;
mod cluster_host;
mod config_host;
mod hooks;
mod objects;
mod host;
mod kinds;
mod log;
mod metadata;
mod routes;
mod runtime;
mod scheduler;
mod span;
mod waiting_stream;
mod table;

use core::ffi::{CStr, c_char};
use std::sync::OnceLock;

use crate::envoy::version::EnvoyVersion;
use crate::runner::export::Exported;

#[cfg(not(panic = "unwind"))]
compile_error!("panics are caught at the seam to Envoy: build with panic = \"unwind\"");

static FILTERS: OnceLock<&'static [Exported]> = OnceLock::new();

/// Keeps the library's filters for the hooks, and resolves Envoy's callbacks. Returns the ABI
/// version that the running Envoy expects, so that none warns; null, after a line that says why,
/// when Envoy is older than 1.38.
pub fn program_init(filters: &'static [Exported]) -> *const c_char {
    const V1: &CStr = c"v0.1.0";
    const V2: &CStr = c"v0.2.0";
    FILTERS.get_or_init(|| filters);
    match table::resolve() {
        Ok(table) => {
            crate::envoy::log::install(log::EnvoyLog);
            table.version.is_running();
            // 1.40 brought the second version of the ABI.
            let abi = if table.version >= EnvoyVersion::V1_40 { V2 } else { V1 };
            let names: Vec<&str> = filters.iter().map(Exported::name).collect();
            tracing::info!(
                "callout {} {} for the module ABI {}",
                names.join(", "),
                crate::build::version(),
                abi.to_str().unwrap_or_default()
            );
            abi.as_ptr()
        }
        Err(error) => {
            // There is no log to write to when the callbacks are missing.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("callout: needs Envoy 1.38 or newer: {error}\n").as_bytes(),
            );
            core::ptr::null()
        }
    }
}

fn filters() -> &'static [Exported] {
    FILTERS.get().copied().unwrap_or_default()
}
