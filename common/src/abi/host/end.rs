//! The calls that can re-enter the filter or end the stream: for the runner alone.

use super::{AbiHost, body_number, required};
use crate::abi::bindings::types::{
    envoy_dynamic_module_type_http_filter_stream_reset_reason_LocalReset as LOCAL_RESET,
    envoy_dynamic_module_type_module_http_header as ModuleHeader,
};
use crate::abi::buffer::{lend, lend_header};
use crate::abi::table::table;
use crate::envoy::host::{HostEnd, HostRead};
use crate::envoy::reply::{Reply, ReplyPart};
use crate::envoy::types::Direction;
use crate::envoy::types::{Body, Map};
use crate::envoy::version::EnvoyVersion;
use crate::http::arrival::Arrival;

fn lend_all(lines: &[(String, Vec<u8>)]) -> Vec<ModuleHeader> {
    lines.iter().map(|(name, value)| lend_header(name, value)).collect()
}

impl HostEnd for AbiHost {
    fn append_body(&mut self, direction: Direction, bytes: &[u8]) {
        if let Some(required) = required() {
            // SAFETY: see `AbiHost`; Envoy copies the lent bytes. It may answer and end the stream in
            // here, and touches nothing of it afterwards.
            unsafe {
                required.envoy_dynamic_module_callback_http_append_body(
                    self.0,
                    body_number(Body::buffered(direction)),
                    lend(bytes),
                );
            }
        }
    }

    fn drain_body(&mut self, body: Body) {
        if let Some(required) = required() {
            // SAFETY: see `AbiHost`; Envoy drains no more than there is.
            unsafe {
                required.envoy_dynamic_module_callback_http_drain_body(
                    self.0,
                    body_number(body),
                    usize::MAX,
                );
            }
        }
    }

    fn set_buffer_limit(&mut self, limit: u64) {
        if let Some(required) = required() {
            // SAFETY: see `AbiHost`.
            unsafe { required.envoy_dynamic_module_callback_http_set_buffer_limit(self.0, limit) };
        }
    }

    fn send_reply(&mut self, reply: &Reply) {
        let Some(required) = required() else { return };
        // Envoy's own would be OK.
        let arrived = Arrival::of(|name| self.header(Map::Request, name, 0));
        let grpc_status = (arrived != Arrival::Plain).then(|| reply.grpc_code().to_string());
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
            ReplyPart::Trailers(lines) => self.end_with_trailers(lines),
        }
    }

    fn marks_both_directions(&self) -> bool {
        table().is_some_and(|table| table.version < EnvoyVersion::V1_39)
    }

    fn end_with_trailers(&mut self, lines: &[(String, Vec<u8>)]) {
        let Some(required) = required() else { return };
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
