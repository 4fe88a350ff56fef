//! Bytes across the seam.

use core::ptr;

use super::bindings::types::{
    envoy_dynamic_module_type_envoy_buffer as EnvoyBuffer,
    envoy_dynamic_module_type_envoy_http_header as EnvoyHeader,
    envoy_dynamic_module_type_module_buffer as ModuleBuffer,
    envoy_dynamic_module_type_module_http_header as ModuleHeader,
};
use crate::envoy::types::Header;

/// Lends `bytes` for the length of one call; Envoy copies what it keeps.
pub(super) const fn lend(bytes: &[u8]) -> ModuleBuffer {
    ModuleBuffer { ptr: bytes.as_ptr().cast(), length: bytes.len() }
}

/// Lends a header line for the length of one call; Envoy copies it.
pub(super) const fn lend_header(name: &str, value: &[u8]) -> ModuleHeader {
    ModuleHeader {
        key_ptr: name.as_ptr().cast(),
        key_length: name.len(),
        value_ptr: value.as_ptr().cast(),
        value_length: value.len(),
    }
}

/// Lends no bytes at all, which is not the same as empty bytes.
pub(super) const fn nothing() -> ModuleBuffer {
    ModuleBuffer { ptr: ptr::null(), length: 0 }
}

/// A place for Envoy to put a buffer.
pub(super) const fn empty() -> EnvoyBuffer {
    EnvoyBuffer { ptr: ptr::null_mut(), length: 0 }
}

/// The bytes of `buffer`; `(null, 0)` counts as empty.
///
/// # Safety
/// Unless it is null, `buffer` has to point to `length` readable bytes that neither move nor change
/// for `'a`.
pub(super) unsafe fn borrow<'a>(buffer: EnvoyBuffer) -> &'a [u8] {
    // SAFETY: the caller's promise is the one `borrow_parts` asks for.
    unsafe { borrow_parts(buffer.ptr, buffer.length) }
}

/// The header line `line`.
///
/// # Safety
/// As for [`borrow`], for its name and for its value.
pub(super) unsafe fn borrow_header<'a>(line: &EnvoyHeader) -> Header<'a> {
    Header {
        // SAFETY: the caller's promise is the one `borrow_parts` asks for.
        name: unsafe { borrow_parts(line.key_ptr, line.key_length) },
        // SAFETY: as above.
        value: unsafe { borrow_parts(line.value_ptr, line.value_length) },
    }
}

/// The items at `ptr`; a null pointer counts as none.
///
/// # Safety
/// Unless it is null, `ptr` has to point to `count` readable items that neither move nor change for
/// `'a`.
pub(super) unsafe fn borrow_all<'a, T>(ptr: *const T, count: usize) -> &'a [T] {
    if ptr.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: not null, and readable and unchanged for `'a` by the caller's promise.
    unsafe { core::slice::from_raw_parts(ptr, count) }
}

/// The bytes at `ptr`; a null pointer counts as empty.
///
/// # Safety
/// As for [`borrow`].
unsafe fn borrow_parts<'a>(ptr: *const core::ffi::c_char, length: usize) -> &'a [u8] {
    // SAFETY: the caller's promise is the one `borrow_all` asks for.
    unsafe { borrow_all(ptr.cast(), length) }
}
