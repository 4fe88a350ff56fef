//! What a hook may change: nothing of it re-enters the filter.

use std::rc::Rc;

use super::{AbiHost, map_number, newer, required};
use crate::abi::buffer::{lend, nothing};
use crate::abi::scheduler::StreamScheduler;
use crate::abi::span;
use crate::abi::waiting_stream::AbiWaitingStream;
use crate::envoy::host::{ChildSpan, HostWrite, Scheduler, WaitingStream};
use crate::envoy::types::{Map, MetadataValue, MetricId, MetricOp};

impl HostWrite for AbiHost {
    fn set_header(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
        required().is_some_and(|required| unsafe {
            required.envoy_dynamic_module_callback_http_set_header(
                self.0,
                map_number(map),
                lend(name.as_bytes()),
                lend(value),
            )
        })
    }

    fn add_header(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
        required().is_some_and(|required| unsafe {
            required.envoy_dynamic_module_callback_http_add_header(
                self.0,
                map_number(map),
                lend(name.as_bytes()),
                lend(value),
            )
        })
    }

    fn remove_header(&mut self, map: Map, name: &str) -> bool {
        // SAFETY: see `AbiHost`; a null value asks Envoy to remove.
        required().is_some_and(|required| unsafe {
            required.envoy_dynamic_module_callback_http_set_header(
                self.0,
                map_number(map),
                lend(name.as_bytes()),
                nothing(),
            )
        })
    }

    fn set_metadata(&mut self, namespace: &str, key: &str, value: &MetadataValue) -> bool {
        let Some(required) = required() else { return false };
        let (namespace, key) = (lend(namespace.as_bytes()), lend(key.as_bytes()));
        match value {
            // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
            MetadataValue::Number(number) => unsafe {
                required.envoy_dynamic_module_callback_http_set_dynamic_metadata_number(
                    self.0, namespace, key, *number,
                );
            },
            // SAFETY: as above.
            MetadataValue::String(text) => unsafe {
                required.envoy_dynamic_module_callback_http_set_dynamic_metadata_string(
                    self.0,
                    namespace,
                    key,
                    lend(text),
                );
            },
            // SAFETY: as above.
            MetadataValue::Bool(truth) => unsafe {
                required.envoy_dynamic_module_callback_http_set_dynamic_metadata_bool(
                    self.0, namespace, key, *truth,
                );
            },
            MetadataValue::List(_)
            | MetadataValue::Object(_)
            | MetadataValue::Null
            | MetadataValue::Unreadable => return false,
        }
        true
    }

    fn merge_metadata(&mut self, namespace: &str, serialized_struct: &[u8]) -> bool {
        let merge =
            newer().map(|n| &n.envoy_dynamic_module_callback_http_set_dynamic_metadata_struct);
        let Some(Ok(merge)) = merge else { return false };
        // SAFETY: see `AbiHost`; Envoy parses the lent bytes during the call.
        unsafe { merge(self.0, lend(namespace.as_bytes()), lend(serialized_struct)) };
        true
    }

    fn set_typed_metadata(&mut self, namespace: &str, serialized_any: &[u8]) -> bool {
        let set = newer().map(|n| &n.envoy_dynamic_module_callback_http_set_dynamic_typed_metadata);
        let Some(Ok(set)) = set else { return false };
        // SAFETY: see `AbiHost`; Envoy parses the lent bytes during the call.
        unsafe { set(self.0, lend(namespace.as_bytes()), lend(serialized_any)) }
    }

    fn set_filter_state(&mut self, key: &str, value: &[u8]) -> bool {
        // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
        required().is_some_and(|required| unsafe {
            required.envoy_dynamic_module_callback_http_set_filter_state_bytes(
                self.0,
                lend(key.as_bytes()),
                lend(value),
            )
        })
    }

    fn metric(&mut self, id: MetricId, labels: &[&str], op: MetricOp) {
        let Some(required) = required() else { return };
        let (change, by) = match op {
            MetricOp::Count(by) => {
                (required.envoy_dynamic_module_callback_http_filter_increment_counter, by)
            }
            MetricOp::Raise(by) => {
                (required.envoy_dynamic_module_callback_http_filter_increment_gauge, by)
            }
            MetricOp::Lower(by) => {
                (required.envoy_dynamic_module_callback_http_filter_decrement_gauge, by)
            }
            MetricOp::Set(value) => {
                (required.envoy_dynamic_module_callback_http_filter_set_gauge, value)
            }
            MetricOp::Record(value) => {
                (required.envoy_dynamic_module_callback_http_filter_record_histogram_value, value)
            }
        };
        let mut labels: Vec<_> = labels.iter().map(|label| lend(label.as_bytes())).collect();
        // SAFETY: see `AbiHost`; the labels outlive the call.
        let _ = unsafe { change(self.0, id.0, labels.as_mut_ptr(), labels.len(), by) };
    }

    fn clear_route_cache(&mut self) {
        if let Some(required) = required() {
            // SAFETY: see `AbiHost`; the stream has not ended, and it is a downstream filter chain.
            unsafe { required.envoy_dynamic_module_callback_http_clear_route_cache(self.0) };
        }
    }

    fn set_override_host(&mut self, host: &str, strict: bool) -> bool {
        // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
        required().is_some_and(|required| unsafe {
            required.envoy_dynamic_module_callback_http_set_upstream_override_host(
                self.0,
                lend(host.as_bytes()),
                strict,
            )
        })
    }

    fn tag_span(&mut self, key: &str, value: &str) {
        let Some(required) = required() else { return };
        // SAFETY: see `AbiHost`.
        let span = unsafe { required.envoy_dynamic_module_callback_http_get_active_span(self.0) };
        if !span.is_null() {
            // SAFETY: Envoy's span lives as long as the stream; the bytes are copied.
            unsafe {
                required.envoy_dynamic_module_callback_http_span_set_tag(
                    span,
                    lend(key.as_bytes()),
                    lend(value.as_bytes()),
                );
            }
        }
    }

    fn child_span(&mut self, operation: &str) -> Option<Box<dyn ChildSpan>> {
        span::Child::of_active(self.0, operation).map(|child| Box::new(child) as Box<dyn ChildSpan>)
    }

    fn add_custom_flag(&mut self, flag: &str) {
        let Some(required) = required() else { return };
        // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
        unsafe {
            required
                .envoy_dynamic_module_callback_http_add_custom_flag(self.0, lend(flag.as_bytes()));
        }
    }

    fn scheduler(&mut self) -> Box<dyn Scheduler> {
        Box::new(StreamScheduler::new(self.0))
    }

    fn waiting_stream(&self) -> Option<Rc<dyn WaitingStream>> {
        Some(Rc::new(AbiWaitingStream::new(self.0, Rc::clone(&self.1))))
    }
}
