// Made by bindgen from the C header of the same name: see tests/bindings.rs.
use super::types::*;

pub struct Newer {
    __library: ::libloading::Library,
    pub envoy_dynamic_module_callback_log_v2: Result<
        unsafe extern "C" fn(
            level: envoy_dynamic_module_type_log_level,
            message: envoy_dynamic_module_type_module_buffer,
            source_file: envoy_dynamic_module_type_module_buffer,
            line: u32,
        ),
        ::libloading::Error,
    >,
    pub envoy_dynamic_module_callback_http_set_dynamic_metadata_struct: Result<
        unsafe extern "C" fn(
            filter: *mut ::std::os::raw::c_void,
            name_space: envoy_dynamic_module_type_module_buffer,
            serialized_struct: envoy_dynamic_module_type_module_buffer,
        ),
        ::libloading::Error,
    >,
    pub envoy_dynamic_module_callback_http_set_dynamic_typed_metadata: Result<
        unsafe extern "C" fn(
            filter: *mut ::std::os::raw::c_void,
            name_space: envoy_dynamic_module_type_module_buffer,
            serialized_any: envoy_dynamic_module_type_module_buffer,
        ) -> bool,
        ::libloading::Error,
    >,
    pub envoy_dynamic_module_callback_http_get_typed_metadata: Result<
        unsafe extern "C" fn(
            filter: *mut ::std::os::raw::c_void,
            source: envoy_dynamic_module_type_metadata_source,
            name_space: envoy_dynamic_module_type_module_buffer,
            type_url: *mut envoy_dynamic_module_type_envoy_buffer,
            value: *mut envoy_dynamic_module_type_envoy_buffer,
        ) -> bool,
        ::libloading::Error,
    >,
    pub envoy_dynamic_module_callback_get_runtime_int: Result<
        unsafe extern "C" fn(
            key: envoy_dynamic_module_type_module_buffer,
            otherwise: u64,
        ) -> u64,
        ::libloading::Error,
    >,
    pub envoy_dynamic_module_callback_get_runtime_bool: Result<
        unsafe extern "C" fn(
            key: envoy_dynamic_module_type_module_buffer,
            otherwise: bool,
        ) -> bool,
        ::libloading::Error,
    >,
}
impl Newer {
    pub unsafe fn new<P>(path: P) -> Result<Self, ::libloading::Error>
    where
        P: AsRef<::std::ffi::OsStr>,
    {
        let path = path.as_ref();
        let library = unsafe { ::libloading::Library::new(path) }?;
        unsafe { Self::from_library(library) }
    }
    pub unsafe fn from_library<L>(library: L) -> Result<Self, ::libloading::Error>
    where
        L: Into<::libloading::Library>,
    {
        let __library = library.into();
        let envoy_dynamic_module_callback_log_v2 = unsafe {
            __library.get(b"envoy_dynamic_module_callback_log_v2\0")
        }
            .map(|sym| *sym);
        let envoy_dynamic_module_callback_http_set_dynamic_metadata_struct = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_set_dynamic_metadata_struct\0")
        }
            .map(|sym| *sym);
        let envoy_dynamic_module_callback_http_set_dynamic_typed_metadata = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_set_dynamic_typed_metadata\0")
        }
            .map(|sym| *sym);
        let envoy_dynamic_module_callback_http_get_typed_metadata = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_typed_metadata\0")
        }
            .map(|sym| *sym);
        let envoy_dynamic_module_callback_get_runtime_int = unsafe {
            __library.get(b"envoy_dynamic_module_callback_get_runtime_int\0")
        }
            .map(|sym| *sym);
        let envoy_dynamic_module_callback_get_runtime_bool = unsafe {
            __library.get(b"envoy_dynamic_module_callback_get_runtime_bool\0")
        }
            .map(|sym| *sym);
        Ok(Newer {
            __library,
            envoy_dynamic_module_callback_log_v2,
            envoy_dynamic_module_callback_http_set_dynamic_metadata_struct,
            envoy_dynamic_module_callback_http_set_dynamic_typed_metadata,
            envoy_dynamic_module_callback_http_get_typed_metadata,
            envoy_dynamic_module_callback_get_runtime_int,
            envoy_dynamic_module_callback_get_runtime_bool,
        })
    }
    pub unsafe fn envoy_dynamic_module_callback_log_v2(
        &self,
        level: envoy_dynamic_module_type_log_level,
        message: envoy_dynamic_module_type_module_buffer,
        source_file: envoy_dynamic_module_type_module_buffer,
        line: u32,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_log_v2
                .as_ref()
                .expect(
                    "Expected function, got error.",
                ))(level, message, source_file, line)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_dynamic_metadata_struct(
        &self,
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        serialized_struct: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_set_dynamic_metadata_struct
                .as_ref()
                .expect(
                    "Expected function, got error.",
                ))(filter, name_space, serialized_struct)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_dynamic_typed_metadata(
        &self,
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        serialized_any: envoy_dynamic_module_type_module_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_set_dynamic_typed_metadata
                .as_ref()
                .expect(
                    "Expected function, got error.",
                ))(filter, name_space, serialized_any)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_typed_metadata(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        type_url: *mut envoy_dynamic_module_type_envoy_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_typed_metadata
                .as_ref()
                .expect(
                    "Expected function, got error.",
                ))(filter, source, name_space, type_url, value)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_get_runtime_int(
        &self,
        key: envoy_dynamic_module_type_module_buffer,
        otherwise: u64,
    ) -> u64 {
        unsafe {
            (self
                .envoy_dynamic_module_callback_get_runtime_int
                .as_ref()
                .expect("Expected function, got error."))(key, otherwise)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_get_runtime_bool(
        &self,
        key: envoy_dynamic_module_type_module_buffer,
        otherwise: bool,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_get_runtime_bool
                .as_ref()
                .expect("Expected function, got error."))(key, otherwise)
        }
    }
}
