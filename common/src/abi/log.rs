//! Envoy's log.

use super::bindings::types as abi;
use super::buffer::lend;
use super::table::table;
use crate::envoy::log::Sink;
use crate::envoy::types::Level;

/// Writes to Envoy's log, from any thread.
pub(super) struct EnvoyLog;

pub(super) const fn number(level: Level) -> abi::envoy_dynamic_module_type_log_level {
    match level {
        Level::Trace => abi::envoy_dynamic_module_type_log_level_Trace,
        Level::Debug => abi::envoy_dynamic_module_type_log_level_Debug,
        Level::Info => abi::envoy_dynamic_module_type_log_level_Info,
        Level::Warn => abi::envoy_dynamic_module_type_log_level_Warn,
        Level::Error => abi::envoy_dynamic_module_type_log_level_Error,
    }
}

impl Sink for EnvoyLog {
    fn enabled(&self, level: Level) -> bool {
        // SAFETY: takes no pointer and may be called from any thread.
        table().is_some_and(|t| unsafe {
            t.required.envoy_dynamic_module_callback_log_enabled(number(level))
        })
    }

    fn log(&self, level: Level, line: &str) {
        let Some(table) = table() else { return };
        if let Ok(log) = &table.newer.envoy_dynamic_module_callback_log_v2 {
            // SAFETY: Envoy copies the lent bytes during the call; any thread may log.
            unsafe { log(number(level), lend(line.as_bytes()), lend(b"callout"), 0) };
        } else {
            // SAFETY: as above.
            unsafe {
                table
                    .required
                    .envoy_dynamic_module_callback_log(number(level), lend(line.as_bytes()));
            }
        }
    }
}
