//! [`ClusterHost`] over the ABI: one configuration, for the length of one hook.

use core::ffi::c_void;

use super::bindings::types as abi;
use super::buffer::{lend, lend_header};
use super::table::table;
use crate::envoy::cluster::ClusterHost;
use crate::envoy::cluster::{ClusterError, OpenRequest};

/// Envoy's side of a configuration, on the main thread.
///
/// Made at the start of a hook from the configuration pointer that Envoy gave to it, and dropped at
/// its end; neither `Send` nor kept. That is why every call below may use the pointer.
pub(super) struct AbiClusterHost(*mut c_void);

impl AbiClusterHost {
    pub(super) const fn new(config: *mut c_void) -> Self {
        Self(config)
    }
}

impl ClusterHost for AbiClusterHost {
    fn open_stream(&mut self, opening: &OpenRequest) -> Result<u64, ClusterError> {
        let required = &table().ok_or(ClusterError::NotOpened)?.required;
        let mut lines: Vec<_> =
            opening.headers.iter().map(|(name, value)| lend_header(name, value)).collect();
        let mut stream = 0;
        // SAFETY: see `AbiClusterHost`; what is lent and the place for the number outlive the call,
        // and Envoy copies the lent bytes.
        let result = unsafe {
            required.envoy_dynamic_module_callback_http_filter_config_start_http_stream(
                self.0,
                &raw mut stream,
                lend(opening.cluster.as_bytes()),
                lines.as_mut_ptr(),
                lines.len(),
                lend(&opening.body),
                opening.end,
                opening.timeout,
            )
        };
        match result {
            abi::envoy_dynamic_module_type_http_callout_init_result_Success => Ok(stream),
            abi::envoy_dynamic_module_type_http_callout_init_result_ClusterNotFound => {
                Err(ClusterError::NoCluster)
            }
            _ => Err(ClusterError::NotOpened),
        }
    }

    fn send_data(&mut self, stream: u64, bytes: &[u8], end: bool) {
        if let Some(table) = table() {
            // SAFETY: see `AbiClusterHost`; Envoy copies the lent bytes, and knows which streams are
            // gone.
            let _ = unsafe {
                table.required.envoy_dynamic_module_callback_http_filter_config_stream_send_data(
                    self.0,
                    stream,
                    lend(bytes),
                    end,
                )
            };
        }
    }

    fn reset_stream(&mut self, stream: u64) {
        if let Some(table) = table() {
            // SAFETY: see `AbiClusterHost`; Envoy knows which streams are gone.
            unsafe {
                table.required.envoy_dynamic_module_callback_http_filter_config_reset_http_stream(
                    self.0, stream,
                );
            }
        }
    }
}
