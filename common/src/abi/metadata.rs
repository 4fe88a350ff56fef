//! Metadata, over getters that each take one kind of value and log an error for every other.

use core::ffi::c_void;
use std::time::Instant;

use super::bindings::required::Required;
use super::bindings::types::envoy_dynamic_module_type_envoy_buffer as EnvoyBuffer;
use super::buffer::{borrow, empty, lend};
use super::kinds::{self, Kind, Place, Read};
use super::table::table;
use crate::envoy::types::MetadataValue;

/// One key of the metadata of `filter`'s stream, for the length of a read.
#[derive(Clone, Copy)]
struct Key<'a> {
    required: &'static Required,
    filter: *mut c_void,
    source: u32,
    namespace: &'a [u8],
    key: &'a [u8],
}

/// The value of `key`. `filter` is the pointer of the running hook, on its worker.
pub(super) fn read(
    filter: *mut c_void,
    source: u32,
    namespace: &str,
    key: &str,
) -> Option<MetadataValue> {
    let required = &table()?.required;
    let key =
        Key { required, filter, source, namespace: namespace.as_bytes(), key: key.as_bytes() };
    // Asking for a list is the one question that Envoy never logs as an error.
    if let Some(size) = key.list_size() {
        let elements = (0..size).map(|index| match key.read(Some(index)) {
            Read::Value(value) => Some(value),
            Read::Absent | Read::Other => None,
        });
        let list: Option<Vec<_>> = elements.collect();
        return Some(list.map_or(MetadataValue::Unreadable, MetadataValue::List));
    }
    match key.read(None) {
        Read::Value(value) => Some(value),
        Read::Other => Some(MetadataValue::Unreadable),
        Read::Absent => None,
    }
}

/// The keys of `namespace`; none when it is absent. `filter` as for [`read`].
pub(super) fn keys(filter: *mut c_void, source: u32, namespace: &str) -> Vec<Vec<u8>> {
    let names = table().map(|table| names(&table.required, filter, source, namespace.as_bytes()));
    // SAFETY: Envoy wrote the buffers in the call before; they are copied at once.
    names.into_iter().flatten().map(|name| unsafe { borrow(name) }.to_vec()).collect()
}

/// The namespaces of `source`. `filter` as for [`read`].
pub(super) fn namespaces(filter: *mut c_void, source: u32) -> Vec<Vec<u8>> {
    let Some(required) = table().map(|table| &table.required) else { return Vec::new() };
    // SAFETY: `filter` is live and this is its worker.
    let count = unsafe {
        required.envoy_dynamic_module_callback_http_get_metadata_namespaces_count(filter, source)
    };
    let mut names: Vec<EnvoyBuffer> = Vec::with_capacity(count);
    if count == 0 {
        return Vec::new();
    }
    // SAFETY: as above; there is room for the `count` names that Envoy will write.
    let read = unsafe {
        required.envoy_dynamic_module_callback_http_get_metadata_namespaces(
            filter,
            source,
            names.as_mut_ptr(),
        )
    };
    if read {
        // SAFETY: the capacity is `count`, and Envoy has written that many names (F16).
        unsafe { names.set_len(count) };
    }
    // SAFETY: Envoy wrote the buffers in the call before; they are copied at once.
    names.into_iter().map(|name| unsafe { borrow(name) }.to_vec()).collect()
}

/// The keys of `namespace`, as Envoy holds them: until the metadata is changed.
fn names(
    required: &Required,
    filter: *mut c_void,
    source: u32,
    namespace: &[u8],
) -> Vec<EnvoyBuffer> {
    // SAFETY: `filter` is live and this is its worker ([`keys`]); buffers outlive the call.
    let count = unsafe {
        required.envoy_dynamic_module_callback_http_get_metadata_keys_count(
            filter,
            source,
            lend(namespace),
        )
    };
    let mut names: Vec<EnvoyBuffer> = Vec::with_capacity(count);
    if count == 0 {
        return names;
    }
    // SAFETY: as above; there is room for the `count` keys that Envoy will write.
    let read = unsafe {
        required.envoy_dynamic_module_callback_http_get_metadata_keys(
            filter,
            source,
            lend(namespace),
            names.as_mut_ptr(),
        )
    };
    if read {
        // SAFETY: the capacity is `count`, and Envoy has written that many keys (F16).
        unsafe { names.set_len(count) };
    }
    names
}

impl Key<'_> {
    /// The number, string or truth value of the key, or of an element of its list.
    fn read(&self, element: Option<usize>) -> Read<MetadataValue> {
        let place = Place::new(self.source, self.namespace, self.key, element.is_some());
        let get = |kind| match kind {
            Kind::String => self.string(element).map(MetadataValue::String),
            Kind::Number => self.number(element).map(MetadataValue::Number),
            Kind::Bool => self.truth(element).map(MetadataValue::Bool),
        };
        kinds::remembered(place, Instant::now, || element.is_some() || self.is_present(), get)
    }

    fn is_present(&self) -> bool {
        let names = names(self.required, self.filter, self.source, self.namespace);
        // SAFETY: Envoy wrote the buffers in the call before, and nothing is changed meanwhile.
        names.into_iter().any(|name| unsafe { borrow(name) } == self.key)
    }

    fn list_size(&self) -> Option<usize> {
        let mut size = 0;
        // SAFETY: `filter` is live and this is its worker ([`read`]); buffers and the place for the
        // value outlive the call. The same holds for every call below.
        let found = unsafe {
            self.required.envoy_dynamic_module_callback_http_get_metadata_list_size(
                self.filter,
                self.source,
                lend(self.namespace),
                lend(self.key),
                &raw mut size,
            )
        };
        found.then_some(size)
    }

    fn string(&self, element: Option<usize>) -> Option<Vec<u8>> {
        let Self { required, filter, source, .. } = *self;
        let (namespace, key) = (lend(self.namespace), lend(self.key));
        let mut text = empty();
        let found = match element {
            // SAFETY: see `list_size`.
            None => unsafe {
                required.envoy_dynamic_module_callback_http_get_metadata_string(
                    filter,
                    source,
                    namespace,
                    key,
                    &raw mut text,
                )
            },
            // SAFETY: see `list_size`.
            Some(index) => unsafe {
                required.envoy_dynamic_module_callback_http_get_metadata_list_string(
                    filter,
                    source,
                    namespace,
                    key,
                    index,
                    &raw mut text,
                )
            },
        };
        // SAFETY: Envoy filled the buffer; it is copied at once.
        found.then(|| unsafe { borrow(text) }.to_vec())
    }

    fn number(&self, element: Option<usize>) -> Option<f64> {
        let Self { required, filter, source, .. } = *self;
        let (namespace, key) = (lend(self.namespace), lend(self.key));
        let mut number = 0.0;
        let found = match element {
            // SAFETY: see `list_size`.
            None => unsafe {
                required.envoy_dynamic_module_callback_http_get_metadata_number(
                    filter,
                    source,
                    namespace,
                    key,
                    &raw mut number,
                )
            },
            // SAFETY: see `list_size`.
            Some(index) => unsafe {
                required.envoy_dynamic_module_callback_http_get_metadata_list_number(
                    filter,
                    source,
                    namespace,
                    key,
                    index,
                    &raw mut number,
                )
            },
        };
        found.then_some(number)
    }

    fn truth(&self, element: Option<usize>) -> Option<bool> {
        let Self { required, filter, source, .. } = *self;
        let (namespace, key) = (lend(self.namespace), lend(self.key));
        let mut truth = false;
        let found = match element {
            // SAFETY: see `list_size`.
            None => unsafe {
                required.envoy_dynamic_module_callback_http_get_metadata_bool(
                    filter,
                    source,
                    namespace,
                    key,
                    &raw mut truth,
                )
            },
            // SAFETY: see `list_size`.
            Some(index) => unsafe {
                required.envoy_dynamic_module_callback_http_get_metadata_list_bool(
                    filter,
                    source,
                    namespace,
                    key,
                    index,
                    &raw mut truth,
                )
            },
        };
        found.then_some(truth)
    }
}
