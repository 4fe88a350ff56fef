//! Envoy's runtime, which it tells on its main thread alone.

use super::buffer::lend;
use super::table::table;
use crate::api::runtime::{RuntimeReader, refresh};

/// The event of a configuration's scheduler by which the runtime is read again.
pub(super) const REFRESH: u64 = u64::MAX;

/// The running Envoy, inside of a hook on its main thread.
struct MainThread;

impl RuntimeReader for MainThread {
    fn number(&self, key: &str, otherwise: u64) -> u64 {
        let read = table().map(|table| &table.newer.envoy_dynamic_module_callback_get_runtime_int);
        let Some(Ok(read)) = read else { return otherwise };
        // SAFETY: this is the main thread; the text outlives the call.
        unsafe { read(lend(key.as_bytes()), otherwise) }
    }

    fn truth(&self, key: &str, otherwise: bool) -> bool {
        let read = table().map(|table| &table.newer.envoy_dynamic_module_callback_get_runtime_bool);
        let Some(Ok(read)) = read else { return otherwise };
        // SAFETY: as above.
        unsafe { read(lend(key.as_bytes()), otherwise) }
    }
}

/// Reads the values that somebody looks at; whether there is any. In a hook on the main thread.
pub(super) fn read() -> bool {
    refresh(&MainThread)
}
