//! The hooks that Envoy calls, exported once for every shared library of the suite. Each is a line
//! into the safe world, behind a guard that no panic passes.

use core::ffi::c_void;
use std::rc::Rc;

use super::bindings::types::envoy_dynamic_module_type_envoy_buffer as EnvoyBuffer;
use super::buffer::borrow;
use super::config_host::AbiConfigHost;
use super::host::AbiHost;
use super::objects::{Config, Stream, guard};
use super::{routes, runtime};
use crate::api::config::ConfigError;
use crate::envoy::host::ConfigHost;
use crate::envoy::types::Direction::{self, Request, Response};
use crate::runner::export::{configure_named, route_named};
use crate::runner::{AnyStream, BodyStatus, HeadersStatus, TrailersStatus};
use crate::runner::{admin, ticks};
use crate::worker;

/// Runs `hook` on a stream and its host. The stream is kept alive meanwhile: before Envoy 1.40 the
/// calls inside may destroy it.
fn with_stream<T>(
    filter: *mut c_void,
    stream: *const c_void,
    fallback: T,
    hook: impl FnOnce(&dyn AnyStream, &mut AbiHost) -> T,
) -> T {
    guard(fallback, || {
        // SAFETY: `stream` is what `http_filter_new` returned, and Envoy calls no hook of a filter
        // after destroying it (F5).
        let stream = unsafe { &*stream.cast::<Stream>() };
        let stream = Rc::clone(stream);
        let mut host = AbiHost::new(filter, Rc::clone(&stream));
        hook(&*stream, &mut host)
    })
}

fn text(bytes: &[u8]) -> Result<&str, ConfigError> {
    std::str::from_utf8(bytes).map_err(|_| ConfigError::field("filter_name", "is no UTF-8"))
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    config: *mut c_void,
    name: EnvoyBuffer,
    bytes: EnvoyBuffer,
) -> *const c_void {
    guard(core::ptr::null(), || {
        // SAFETY: Envoy's buffers are readable and unchanged until the hook returns (F14).
        let name = unsafe { borrow(name) };
        // SAFETY: as above.
        let bytes = unsafe { borrow(bytes) };
        let made = text(name).and_then(|name| {
            let mut host = AbiConfigHost::new(config);
            let filter = configure_named(super::filters(), name, bytes, &mut host)?;
            if !host.validating() {
                admin::register(name, &filter);
                if runtime::read() {
                    ticks::send(&filter, host.scheduler(), runtime::REFRESH);
                }
            }
            Ok(filter)
        });
        match made {
            Ok(filter) => Box::into_raw(Box::<Config>::new(filter)).cast_const().cast(),
            Err(error) => refuse(name, "configuration", &error),
        }
    })
}

/// Logs the one line that says why a configuration is refused.
fn refuse(name: &[u8], what: &str, error: &ConfigError) -> *const c_void {
    let name = match (name, super::filters()) {
        ([], [only]) => only.name().into(),
        _ => String::from_utf8_lossy(name),
    };
    tracing::error!("{name}: {what} refused: {error}");
    core::ptr::null()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(config: *const c_void) {
    guard((), || {
        // SAFETY: made by `config_new`, and Envoy destroys it once, after its last stream (F7).
        let config = unsafe { Box::from_raw(config.cast_mut().cast::<Config>()) };
        if let Some(desk) = config.cluster_streams() {
            desk.close();
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    name: EnvoyBuffer,
    bytes: EnvoyBuffer,
) -> *const c_void {
    guard(core::ptr::null(), || {
        // SAFETY: Envoy's buffers are readable and unchanged until the hook returns (F14).
        let name = unsafe { borrow(name) };
        // SAFETY: as above.
        let bytes = unsafe { borrow(bytes) };
        match text(name).and_then(|name| route_named(super::filters(), name, bytes)) {
            Ok(route) => routes::keep(route),
            Err(error) => refuse(name, "per-route configuration", &error),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(config: *const c_void) {
    guard((), || routes::forget(config));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(
    config: *const c_void,
    _filter: *mut c_void,
) -> *const c_void {
    // Never null, which Envoy before 1.40 would follow.
    // SAFETY: made by `config_new`; Envoy keeps it alive for every filter made from it (F7).
    let config = unsafe { &*config.cast::<Config>() };
    Box::into_raw(Box::<Stream>::new(config.open())).cast_const().cast()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(stream: *const c_void) {
    guard((), || {
        // SAFETY: made by `http_filter_new`, and Envoy destroys it once. A hook further up the stack
        // has its own reference.
        let stream = unsafe { Box::from_raw(stream.cast_mut().cast::<Stream>()) };
        stream.destroy();
    });
}

fn on_headers(filter: *mut c_void, stream: *const c_void, direction: Direction, end: bool) -> u32 {
    let hold = HeadersStatus::StopIteration;
    with_stream(filter, stream, hold, |s, host| s.headers(host, direction, end)) as u32
}

fn on_body(filter: *mut c_void, stream: *const c_void, direction: Direction, end: bool) -> u32 {
    let hold = BodyStatus::StopIterationAndWatermark;
    with_stream(filter, stream, hold, |s, host| s.body(host, direction, end)) as u32
}

fn on_trailers(filter: *mut c_void, stream: *const c_void, direction: Direction) -> u32 {
    let hold = TrailersStatus::StopIteration;
    with_stream(filter, stream, hold, |s, host| s.trailers(host, direction)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    f: *mut c_void,
    m: *const c_void,
    end: bool,
) -> u32 {
    on_headers(f, m, Request, end)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    f: *mut c_void,
    m: *const c_void,
    end: bool,
) -> u32 {
    on_body(f, m, Request, end)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    f: *mut c_void,
    m: *const c_void,
) -> u32 {
    on_trailers(f, m, Request)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    f: *mut c_void,
    m: *const c_void,
    end: bool,
) -> u32 {
    on_headers(f, m, Response, end)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_body(
    f: *mut c_void,
    m: *const c_void,
    end: bool,
) -> u32 {
    on_body(f, m, Response, end)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_trailers(
    f: *mut c_void,
    m: *const c_void,
) -> u32 {
    on_trailers(f, m, Response)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
    f: *mut c_void,
    m: *const c_void,
    event: u64,
) {
    with_stream(f, m, (), |stream, host| {
        if worker::is_turn(event) {
            worker::turn(event);
        } else {
            stream.scheduled(host, event);
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
    f: *mut c_void,
    m: *const c_void,
) {
    with_stream(f, m, (), |stream, host| stream.complete(host));
}

// The rest is mandatory for Envoy and unused here: the suite's streams to clusters belong to
// configurations, not to requests, and it has no terminal filter.

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_callout_done(
    _f: *mut c_void,
    _m: *const c_void,
    _id: u64,
    _result: u32,
    _headers: *mut c_void,
    _header_count: usize,
    _chunks: *mut c_void,
    _chunk_count: usize,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_headers(
    _f: *mut c_void,
    _m: *const c_void,
    _id: u64,
    _headers: *mut c_void,
    _header_count: usize,
    _end: bool,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_data(
    _f: *mut c_void,
    _m: *const c_void,
    _id: u64,
    _chunks: *const c_void,
    _chunk_count: usize,
    _end: bool,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_trailers(
    _f: *mut c_void,
    _m: *const c_void,
    _id: u64,
    _trailers: *mut c_void,
    _trailer_count: usize,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_complete(
    _f: *mut c_void,
    _m: *const c_void,
    _id: u64,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_reset(
    _f: *mut c_void,
    _m: *const c_void,
    _id: u64,
    _reason: u32,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(
    _f: *mut c_void,
    _m: *const c_void,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(
    _f: *mut c_void,
    _m: *const c_void,
) {
}
