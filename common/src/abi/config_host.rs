//! [`ConfigHost`] over the ABI.

use core::ffi::c_void;

use super::bindings::types as abi;
use super::buffer::lend;
use super::scheduler::ConfigScheduler;
use super::table::table;
use crate::envoy::host::{ConfigHost, Scheduler};
use crate::envoy::types::{MetricId, MetricKind};

/// Envoy's side of a configuration that is being made.
pub(super) struct AbiConfigHost(*mut c_void);

impl AbiConfigHost {
    /// For `config`, the pointer that the running `config_new` hook was given.
    pub(super) const fn new(config: *mut c_void) -> Self {
        Self(config)
    }
}

impl ConfigHost for AbiConfigHost {
    fn define_metric(&mut self, kind: MetricKind, name: &str, labels: &[&str]) -> Option<MetricId> {
        let required = &table()?.required;
        let define = match kind {
            MetricKind::Counter => {
                required.envoy_dynamic_module_callback_http_filter_config_define_counter
            }
            MetricKind::Gauge => {
                required.envoy_dynamic_module_callback_http_filter_config_define_gauge
            }
            MetricKind::Histogram => {
                required.envoy_dynamic_module_callback_http_filter_config_define_histogram
            }
        };
        let mut labels: Vec<_> = labels.iter().map(|label| lend(label.as_bytes())).collect();
        let mut id = 0;
        // SAFETY: `self.0` is live while its `config_new` hook runs; the buffers and the place for
        // the id outlive the call.
        let result = unsafe {
            define(self.0, lend(name.as_bytes()), labels.as_mut_ptr(), labels.len(), &raw mut id)
        };
        (result == abi::envoy_dynamic_module_type_metrics_result_Success).then_some(MetricId(id))
    }

    fn validating(&self) -> bool {
        // SAFETY: takes no pointer; this is the main thread.
        table().is_some_and(|t| unsafe {
            t.required.envoy_dynamic_module_callback_is_validation_mode()
        })
    }

    fn scheduler(&mut self) -> Box<dyn Scheduler> {
        Box::new(ConfigScheduler::new(self.0))
    }
}
