//! [`Host`] over the ABI: one stream, for the length of one hook.

use core::ffi::c_void;

use super::bindings::newer::Newer;
use super::bindings::required::Required;
use super::bindings::types::{
    envoy_dynamic_module_type_attribute_id as AttributeId,
    envoy_dynamic_module_type_envoy_buffer as EnvoyBuffer,
    envoy_dynamic_module_type_envoy_http_header as EnvoyHeader,
    envoy_dynamic_module_type_http_filter_stream_reset_reason_LocalReset as LOCAL_RESET,
};
use super::buffer::{borrow, borrow_header, empty, lend, lend_header, nothing};
use super::scheduler::StreamScheduler;
use super::table::table;
use crate::attributes::Attribute;
use crate::decision::Direction;
use crate::export::RouteConfig;
use crate::host::{
    Body, Header, Host, Level, Map, MetadataSource, MetadataValue, MetricId, MetricOp, Scheduler,
};
use crate::reply::{Reply, ReplyPart};

/// Envoy's side of a stream.
///
/// Made at the start of a hook from the filter pointer that Envoy gave to it, and dropped at its
/// end; neither `Send` nor kept. That is why every call below may use the pointer: it is live, and
/// this is its worker. Calls that may end the stream come last in a hook ([`crate::stream`]). After one that
/// lets a direction go on, only a stream that Envoy has not ended meanwhile is looked at again; reads
/// and writes after a reply or a reset are ignored by Envoy (measured for each version), and bodies
/// are not touched then.
pub(super) struct AbiHost(*mut c_void);

impl AbiHost {
    pub(super) const fn new(filter: *mut c_void) -> Self {
        Self(filter)
    }
}

fn required() -> Option<&'static Required> {
    table().map(|table| &table.required)
}

fn newer() -> Option<&'static Newer> {
    table().map(|table| &table.newer)
}

const fn map_number(map: Map) -> u32 {
    match map {
        Map::Request => 0,
        Map::RequestTrailers => 1,
        Map::Response => 2,
        Map::ResponseTrailers => 3,
    }
}

const fn body_number(body: Body) -> u32 {
    match body {
        Body::ReceivedRequest => 0,
        Body::BufferedRequest => 1,
        Body::ReceivedResponse => 2,
        Body::BufferedResponse => 3,
    }
}

const fn source_number(source: MetadataSource) -> u32 {
    match source {
        MetadataSource::Dynamic => 0,
        MetadataSource::Route => 1,
        MetadataSource::Cluster => 2,
        MetadataSource::Host => 3,
        MetadataSource::HostLocality => 4,
    }
}

impl AbiHost {
    fn read_buffer(
        &self,
        read: impl FnOnce(&'static Required, *mut EnvoyBuffer) -> bool,
    ) -> Option<&[u8]> {
        let mut buffer = empty();
        let found = read(required()?, &raw mut buffer);
        // SAFETY: Envoy filled the buffer; its bytes stay until the end of the hook or the next
        // setter, and setters need `&mut self`.
        found.then(|| unsafe { borrow(buffer) })
    }

    fn metadata_number(&self, source: MetadataSource, namespace: &str, key: &str) -> Option<f64> {
        let mut value = 0.0;
        // SAFETY: see `AbiHost`; buffers and the place for the value outlive the call.
        let found = unsafe {
            required()?.envoy_dynamic_module_callback_http_get_metadata_number(
                self.0,
                source_number(source),
                lend(namespace.as_bytes()),
                lend(key.as_bytes()),
                &raw mut value,
            )
        };
        found.then_some(value)
    }

    fn metadata_bool(&self, source: MetadataSource, namespace: &str, key: &str) -> Option<bool> {
        let mut value = false;
        // SAFETY: see `AbiHost`; buffers and the place for the value outlive the call.
        let found = unsafe {
            required()?.envoy_dynamic_module_callback_http_get_metadata_bool(
                self.0,
                source_number(source),
                lend(namespace.as_bytes()),
                lend(key.as_bytes()),
                &raw mut value,
            )
        };
        found.then_some(value)
    }

    /// Whether the request is a gRPC request, for which a local reply needs its own gRPC status:
    /// Envoy would send OK.
    fn is_grpc(&self) -> bool {
        self.header(Map::Request, "content-type", 0).is_some_and(|value| {
            value
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
        })
    }
}

impl Host for AbiHost {
    fn headers(&self, map: Map) -> Vec<Header<'_>> {
        let Some(required) = required() else { return Vec::new() };
        // SAFETY: see `AbiHost`.
        let count = unsafe {
            required.envoy_dynamic_module_callback_http_get_headers_size(self.0, map_number(map))
        };
        let mut lines: Vec<EnvoyHeader> = Vec::with_capacity(count);
        // SAFETY: see `AbiHost`; there is room for the `count` lines that Envoy will write.
        let read = unsafe {
            required.envoy_dynamic_module_callback_http_get_headers(
                self.0,
                map_number(map),
                lines.as_mut_ptr(),
            )
        };
        if read {
            // SAFETY: the capacity is `count`, and Envoy has written that many lines.
            unsafe { lines.set_len(count) };
        }
        lines
            .iter()
            // SAFETY: Envoy's bytes stay until the next setter, which needs `&mut self`.
            .map(|line| unsafe { borrow_header(line) })
            .collect()
    }

    fn header(&self, map: Map, name: &str, index: usize) -> Option<&[u8]> {
        // SAFETY: see `AbiHost`; the count is not asked for.
        self.read_buffer(|required, value| unsafe {
            required.envoy_dynamic_module_callback_http_get_header(
                self.0,
                map_number(map),
                lend(name.as_bytes()),
                value,
                index,
                core::ptr::null_mut(),
            )
        })
    }

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

    fn body_len(&self, body: Body) -> usize {
        // SAFETY: see `AbiHost`.
        required().map_or(0, |required| unsafe {
            required.envoy_dynamic_module_callback_http_get_body_size(self.0, body_number(body))
        })
    }

    fn body(&self, body: Body) -> Vec<&[u8]> {
        let Some(required) = required() else { return Vec::new() };
        // SAFETY: see `AbiHost`.
        let count = unsafe {
            required
                .envoy_dynamic_module_callback_http_get_body_chunks_size(self.0, body_number(body))
        };
        let mut chunks: Vec<EnvoyBuffer> = Vec::with_capacity(count);
        // SAFETY: see `AbiHost`; there is room for the `count` chunks that Envoy will write.
        let read = unsafe {
            required.envoy_dynamic_module_callback_http_get_body_chunks(
                self.0,
                body_number(body),
                chunks.as_mut_ptr(),
            )
        };
        if read {
            // SAFETY: the capacity is `count`, and Envoy has written that many chunks.
            unsafe { chunks.set_len(count) };
        }
        // SAFETY: Envoy's bytes stay until the body is changed, which needs `&mut self`.
        chunks.into_iter().map(|chunk| unsafe { borrow(chunk) }).collect()
    }

    fn append_body(&mut self, body: Body, bytes: &[u8]) -> bool {
        // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
        required().is_some_and(|required| unsafe {
            required.envoy_dynamic_module_callback_http_append_body(
                self.0,
                body_number(body),
                lend(bytes),
            )
        })
    }

    fn drain_body(&mut self, body: Body, count: usize) -> bool {
        // SAFETY: see `AbiHost`; Envoy drains no more than there is.
        required().is_some_and(|required| unsafe {
            required.envoy_dynamic_module_callback_http_drain_body(self.0, body_number(body), count)
        })
    }

    fn received_is_buffered(&self, direction: Direction) -> bool {
        required().is_some_and(|required| match direction {
            // SAFETY: see `AbiHost`.
            Direction::Request => unsafe {
                required.envoy_dynamic_module_callback_http_received_buffered_request_body(self.0)
            },
            // SAFETY: see `AbiHost`.
            Direction::Response => unsafe {
                required.envoy_dynamic_module_callback_http_received_buffered_response_body(self.0)
            },
        })
    }

    fn buffer_limit(&self) -> u64 {
        // SAFETY: see `AbiHost`.
        required().map_or(0, |required| unsafe {
            required.envoy_dynamic_module_callback_http_get_buffer_limit(self.0)
        })
    }

    fn set_buffer_limit(&mut self, limit: u64) {
        if let Some(required) = required() {
            // SAFETY: see `AbiHost`.
            unsafe { required.envoy_dynamic_module_callback_http_set_buffer_limit(self.0, limit) };
        }
    }

    fn attribute_str(&self, attribute: Attribute) -> Option<&[u8]> {
        // SAFETY: see `AbiHost`.
        self.read_buffer(|required, value| unsafe {
            required.envoy_dynamic_module_callback_http_filter_get_attribute_string(
                self.0,
                attribute as AttributeId,
                value,
            )
        })
    }

    fn attribute_int(&self, attribute: Attribute) -> Option<u64> {
        let mut value = 0;
        // SAFETY: see `AbiHost`; the place for the value outlives the call.
        let found = unsafe {
            required()?.envoy_dynamic_module_callback_http_filter_get_attribute_int(
                self.0,
                attribute as AttributeId,
                &raw mut value,
            )
        };
        found.then_some(value)
    }

    fn attribute_bool(&self, attribute: Attribute) -> Option<bool> {
        let mut value = false;
        // SAFETY: see `AbiHost`; the place for the value outlives the call.
        let found = unsafe {
            required()?.envoy_dynamic_module_callback_http_filter_get_attribute_bool(
                self.0,
                attribute as AttributeId,
                &raw mut value,
            )
        };
        found.then_some(value)
    }

    fn cluster_name(&self) -> Option<&[u8]> {
        self.read_buffer(|required, name| {
            // SAFETY: see `AbiHost`; there is room for the buffer.
            unsafe { required.envoy_dynamic_module_callback_http_get_cluster_name(self.0, name) }
        })
    }

    fn worker_index(&self) -> u32 {
        // SAFETY: see `AbiHost`.
        required().map_or(0, |required| unsafe {
            required.envoy_dynamic_module_callback_http_filter_get_worker_index(self.0)
        })
    }

    fn metadata(
        &self,
        source: MetadataSource,
        namespace: &str,
        key: &str,
    ) -> Option<MetadataValue> {
        // The ABI does not say of what kind a value is; strings are by far the most common.
        // SAFETY: see `AbiHost`.
        let text = self.read_buffer(|required, value| unsafe {
            required.envoy_dynamic_module_callback_http_get_metadata_string(
                self.0,
                source_number(source),
                lend(namespace.as_bytes()),
                lend(key.as_bytes()),
                value,
            )
        });
        if let Some(text) = text {
            return Some(MetadataValue::String(text.to_vec()));
        }
        if let Some(number) = self.metadata_number(source, namespace, key) {
            return Some(MetadataValue::Number(number));
        }
        self.metadata_bool(source, namespace, key).map(MetadataValue::Bool)
    }

    fn metadata_keys(&self, source: MetadataSource, namespace: &str) -> Vec<Vec<u8>> {
        let Some(required) = required() else { return Vec::new() };
        // SAFETY: see `AbiHost`.
        let count = unsafe {
            required.envoy_dynamic_module_callback_http_get_metadata_keys_count(
                self.0,
                source_number(source),
                lend(namespace.as_bytes()),
            )
        };
        if count == 0 {
            return Vec::new();
        }
        let mut keys: Vec<EnvoyBuffer> = Vec::with_capacity(count);
        // SAFETY: see `AbiHost`; there is room for the `count` keys that Envoy will write.
        let read = unsafe {
            required.envoy_dynamic_module_callback_http_get_metadata_keys(
                self.0,
                source_number(source),
                lend(namespace.as_bytes()),
                keys.as_mut_ptr(),
            )
        };
        if read {
            // SAFETY: the capacity is `count`, and Envoy has written that many keys.
            unsafe { keys.set_len(count) };
        }
        // SAFETY: Envoy's bytes stay until the metadata is changed, which needs `&mut self`.
        keys.into_iter().map(|key| unsafe { borrow(key) }.to_vec()).collect()
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

    fn typed_metadata(
        &self,
        source: MetadataSource,
        namespace: &str,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let get = newer().map(|n| &n.envoy_dynamic_module_callback_http_get_typed_metadata);
        let Some(Ok(get)) = get else { return None };
        let (mut url, mut value) = (empty(), empty());
        // SAFETY: see `AbiHost`; the places for the buffers outlive the call.
        let found = unsafe {
            get(
                self.0,
                source_number(source),
                lend(namespace.as_bytes()),
                &raw mut url,
                &raw mut value,
            )
        };
        found.then(|| {
            // SAFETY: Envoy filled the buffer; it is copied at once.
            let url = unsafe { borrow(url) }.to_vec();
            // SAFETY: as above.
            let value = unsafe { borrow(value) }.to_vec();
            (url, value)
        })
    }

    fn filter_state(&self, key: &str) -> Option<Vec<u8>> {
        // SAFETY: see `AbiHost`.
        let typed = self.read_buffer(|required, value| unsafe {
            required.envoy_dynamic_module_callback_http_get_filter_state_typed(
                self.0,
                lend(key.as_bytes()),
                value,
            )
        });
        typed.map(<[u8]>::to_vec)
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
            MetricOp::Record(value) => {
                (required.envoy_dynamic_module_callback_http_filter_record_histogram_value, value)
            }
        };
        let mut labels: Vec<_> = labels.iter().map(|label| lend(label.as_bytes())).collect();
        // SAFETY: see `AbiHost`; the labels outlive the call.
        let _ = unsafe { change(self.0, id.0, labels.as_mut_ptr(), labels.len(), by) };
    }

    fn log_enabled(&self, level: Level) -> bool {
        crate::log::Sink::enabled(&super::log::EnvoyLog, level)
    }

    fn clear_route_cache(&mut self) {
        if let Some(required) = required() {
            // SAFETY: see `AbiHost`; the stream has not ended, and it is a downstream filter chain.
            unsafe { required.envoy_dynamic_module_callback_http_clear_route_cache(self.0) };
        }
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

    fn route_config(&self) -> Option<RouteConfig> {
        // SAFETY: see `AbiHost`.
        let route = unsafe {
            required()?.envoy_dynamic_module_callback_get_most_specific_route_config(self.0)
        };
        // SAFETY: not null, it is what this library's `per_route_config_new` returned, and the route
        // that is selected now keeps it alive during the hook.
        unsafe { route.cast::<RouteConfig>().as_ref() }.cloned()
    }

    fn scheduler(&mut self) -> Box<dyn Scheduler> {
        Box::new(StreamScheduler::new(self.0))
    }

    fn send_reply(&mut self, reply: &Reply) {
        let Some(required) = required() else { return };
        let grpc_status = self.is_grpc().then(|| reply.grpc_code().to_string());
        let mut lines: Vec<_> =
            reply.headers().iter().map(|(name, value)| lend_header(name, value)).collect();
        if let Some(status) = &grpc_status {
            lines.push(lend_header("grpc-status", status.as_bytes()));
        }
        // SAFETY: see `AbiHost`; lines, body and details outlive the call. Nothing of the stream is
        // touched afterwards.
        unsafe {
            required.envoy_dynamic_module_callback_http_send_response(
                self.0,
                u32::from(reply.status()),
                lines.as_mut_ptr(),
                lines.len(),
                lend(reply.body_bytes()),
                lend(reply.details_str().as_bytes()),
            );
        }
    }

    fn send_part(&mut self, part: &ReplyPart) {
        let Some(required) = required() else { return };
        let lend_all = |lines: &[(String, Vec<u8>)]| -> Vec<_> {
            lines.iter().map(|(name, value)| lend_header(name, value)).collect()
        };
        match part {
            ReplyPart::Headers { reply, end } => {
                let status = reply.status().to_string();
                let mut lines = vec![lend_header(":status", status.as_bytes())];
                lines.extend(lend_all(reply.headers()));
                // SAFETY: see `AbiHost`; Envoy copies the lent lines.
                unsafe {
                    required.envoy_dynamic_module_callback_http_send_response_headers(
                        self.0,
                        lines.as_mut_ptr(),
                        lines.len(),
                        *end,
                    );
                }
            }
            // SAFETY: see `AbiHost`; Envoy copies the lent bytes.
            ReplyPart::Data { bytes, end } => unsafe {
                required.envoy_dynamic_module_callback_http_send_response_data(
                    self.0,
                    lend(bytes),
                    *end,
                );
            },
            ReplyPart::Trailers(lines) => {
                let mut lines = lend_all(lines);
                // SAFETY: see `AbiHost`; Envoy copies the lent lines.
                unsafe {
                    required.envoy_dynamic_module_callback_http_send_response_trailers(
                        self.0,
                        lines.as_mut_ptr(),
                        lines.len(),
                    );
                }
            }
        }
    }

    fn resume(&mut self, direction: Direction) {
        let Some(required) = required() else { return };
        match direction {
            // SAFETY: see `AbiHost`; the runner resumes only what it holds.
            Direction::Request => unsafe {
                required.envoy_dynamic_module_callback_http_filter_continue_decoding(self.0);
            },
            // SAFETY: as above: a held response exists.
            Direction::Response => unsafe {
                required.envoy_dynamic_module_callback_http_filter_continue_encoding(self.0);
            },
        }
    }

    fn reset(&mut self, details: &str) {
        if let Some(required) = required() {
            // SAFETY: see `AbiHost`. Nothing of the stream is touched afterwards.
            unsafe {
                required.envoy_dynamic_module_callback_http_filter_reset_stream(
                    self.0,
                    LOCAL_RESET,
                    lend(details.as_bytes()),
                );
            }
        }
    }
}
