//! What is read of a stream.

use super::{AbiHost, body_number, map_number, newer, required, source_number};
use crate::abi::bindings::required::Required;
use crate::abi::bindings::types::{
    envoy_dynamic_module_type_attribute_id as AttributeId,
    envoy_dynamic_module_type_envoy_buffer as EnvoyBuffer,
    envoy_dynamic_module_type_envoy_http_header as EnvoyHeader,
};
use crate::abi::buffer::{borrow, borrow_header, empty, lend};
use crate::abi::{metadata, routes, span};
use crate::envoy::attributes::Attribute;
use crate::envoy::host::HostRead;
use crate::envoy::route_config::RouteConfig;
use crate::envoy::types::Direction;
use crate::envoy::types::{Body, Header, Level, Map, MetadataSource, MetadataValue};
use crate::http::trace::SpanIds;

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
}

impl HostRead for AbiHost {
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
            // SAFETY: the capacity is `count`, and Envoy has written that many lines (F16).
            unsafe { lines.set_len(count) };
        }
        lines
            .iter()
            // SAFETY: Envoy's bytes stay until the next setter (F14), which needs `&mut self`.
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
            // SAFETY: the capacity is `count`, and Envoy has written that many chunks (F16).
            unsafe { chunks.set_len(count) };
        }
        // SAFETY: Envoy's bytes stay until the body is changed (F14), which needs `&mut self`.
        chunks.into_iter().map(|chunk| unsafe { borrow(chunk) }).collect()
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
        metadata::read(self.0, source_number(source), namespace, key)
    }

    fn metadata_keys(&self, source: MetadataSource, namespace: &str) -> Vec<Vec<u8>> {
        metadata::keys(self.0, source_number(source), namespace)
    }

    fn metadata_namespaces(&self, source: MetadataSource) -> Vec<Vec<u8>> {
        metadata::namespaces(self.0, source_number(source))
    }

    fn reads_typed_metadata(&self) -> bool {
        newer().is_some_and(|n| n.envoy_dynamic_module_callback_http_get_typed_metadata.is_ok())
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

    fn span_ids(&self) -> Option<SpanIds> {
        // SAFETY: see `AbiHost`.
        let span =
            unsafe { required()?.envoy_dynamic_module_callback_http_get_active_span(self.0) };
        span::ids(span)
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

    fn log_enabled(&self, level: Level) -> bool {
        crate::envoy::log::Sink::enabled(&crate::abi::log::EnvoyLog, level)
    }

    fn route_config(&self) -> Option<RouteConfig> {
        // SAFETY: see `AbiHost`.
        let route = unsafe {
            required()?.envoy_dynamic_module_callback_get_most_specific_route_config(self.0)
        };
        (!route.is_null()).then(|| routes::find(route))
    }
}
