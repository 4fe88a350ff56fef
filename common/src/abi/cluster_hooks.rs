//! The hooks of a configuration's streams to clusters. Envoy calls them on the main thread.

use core::ffi::c_void;

use super::bindings::types::{
    envoy_dynamic_module_type_envoy_buffer as EnvoyBuffer,
    envoy_dynamic_module_type_envoy_http_header as EnvoyHeader,
};
use super::buffer::{borrow, borrow_all, borrow_header};
use super::cluster_host::AbiClusterHost;
use super::objects::{Config, guard};
use super::runtime;
use crate::cluster_streams::ClusterStreamManager;
use crate::envoy::cluster::ClusterError;
use crate::envoy::types::Header;

/// Runs `hook` on the desk of `config`.
fn with_desk(config: *const c_void, hook: impl FnOnce(&ClusterStreamManager)) {
    guard((), || {
        // SAFETY: `config` is what `config_new` returned, and Envoy calls no hook of a configuration
        // while or after destroying it.
        let config = unsafe { &*config.cast::<Config>() };
        if let Some(desk) = config.cluster_streams() {
            hook(desk);
        }
    });
}

/// The lines of a map that Envoy hands to a hook.
///
/// # Safety
/// `lines` has to point to `count` lines, which stay with their bytes until the hook returns.
unsafe fn header_lines<'a>(lines: *const EnvoyHeader, count: usize) -> Vec<Header<'a>> {
    // SAFETY: the caller's promise.
    let lines = unsafe { borrow_all(lines, count) };
    // SAFETY: as above.
    lines.iter().map(|line| unsafe { borrow_header(line) }).collect()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    c: *mut c_void,
    m: *const c_void,
    event: u64,
) {
    if event == runtime::REFRESH {
        guard((), || {
            runtime::read();
        });
        return;
    }
    with_desk(m, |desk| desk.scheduled(&mut AbiClusterHost::new(c), event));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_headers(
    _c: *mut c_void,
    m: *const c_void,
    stream: u64,
    lines: *const EnvoyHeader,
    count: usize,
    end: bool,
) {
    with_desk(m, |desk| {
        // SAFETY: Envoy's lines stay until the hook returns (F14).
        let lines = unsafe { header_lines(lines, count) };
        desk.headers(stream, &lines, end);
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_data(
    c: *mut c_void,
    m: *const c_void,
    stream: u64,
    chunks: *const EnvoyBuffer,
    count: usize,
    end: bool,
) {
    with_desk(m, |desk| {
        // SAFETY: Envoy's chunks stay until the hook returns (F14).
        let chunks = unsafe { borrow_all(chunks, count) };
        // SAFETY: as above.
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| unsafe { borrow(*chunk) }).collect();
        desk.data(&mut AbiClusterHost::new(c), stream, &chunks, end);
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_trailers(
    _c: *mut c_void,
    m: *const c_void,
    stream: u64,
    lines: *const EnvoyHeader,
    count: usize,
) {
    with_desk(m, |desk| {
        // SAFETY: Envoy's lines stay until the hook returns (F14).
        let lines = unsafe { header_lines(lines, count) };
        desk.trailers(stream, &lines);
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_complete(
    _c: *mut c_void,
    m: *const c_void,
    stream: u64,
) {
    with_desk(m, |desk| desk.ended(stream, ClusterError::Reset));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_reset(
    _c: *mut c_void,
    m: *const c_void,
    stream: u64,
    _reason: u32,
) {
    with_desk(m, |desk| desk.ended(stream, ClusterError::Reset));
}
