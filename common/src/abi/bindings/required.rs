// Made by bindgen from the C header of the same name: see tests/bindings.rs.
use super::types::*;

pub struct Required {
    __library: ::libloading::Library,
    pub envoy_dynamic_module_callback_log: unsafe extern "C" fn(
        level: envoy_dynamic_module_type_log_level,
        message: envoy_dynamic_module_type_module_buffer,
    ),
    pub envoy_dynamic_module_callback_log_enabled: unsafe extern "C" fn(
        level: envoy_dynamic_module_type_log_level,
    ) -> bool,
    pub envoy_dynamic_module_callback_is_validation_mode: unsafe extern "C" fn() -> bool,
    pub envoy_dynamic_module_callback_http_filter_config_define_counter: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        name: envoy_dynamic_module_type_module_buffer,
        label_names: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        id: *mut usize,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_filter_config_define_gauge: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        name: envoy_dynamic_module_type_module_buffer,
        label_names: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        id: *mut usize,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_filter_config_define_histogram: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        name: envoy_dynamic_module_type_module_buffer,
        label_names: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        id: *mut usize,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_filter_increment_counter: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_filter_increment_gauge: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_filter_decrement_gauge: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_filter_set_gauge: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_filter_record_histogram_value: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result,
    pub envoy_dynamic_module_callback_http_get_header: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
        index: usize,
        count: *mut usize,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_headers_size: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
    ) -> usize,
    pub envoy_dynamic_module_callback_http_get_headers: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        headers: *mut envoy_dynamic_module_type_envoy_http_header,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_add_header: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_set_header: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_body_size: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
    ) -> usize,
    pub envoy_dynamic_module_callback_http_get_body_chunks_size: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
    ) -> usize,
    pub envoy_dynamic_module_callback_http_get_body_chunks: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
        chunks: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_append_body: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
        bytes: envoy_dynamic_module_type_module_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_drain_body: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
        count: usize,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_received_buffered_request_body: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_received_buffered_response_body: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_buffer_limit: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ) -> u64,
    pub envoy_dynamic_module_callback_http_set_buffer_limit: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        limit: u64,
    ),
    pub envoy_dynamic_module_callback_http_send_response: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        status: u32,
        headers: *mut envoy_dynamic_module_type_module_http_header,
        header_count: usize,
        body: envoy_dynamic_module_type_module_buffer,
        details: envoy_dynamic_module_type_module_buffer,
    ),
    pub envoy_dynamic_module_callback_http_send_response_headers: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        headers: *mut envoy_dynamic_module_type_module_http_header,
        header_count: usize,
        end_of_stream: bool,
    ),
    pub envoy_dynamic_module_callback_http_send_response_data: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        data: envoy_dynamic_module_type_module_buffer,
        end_of_stream: bool,
    ),
    pub envoy_dynamic_module_callback_http_send_response_trailers: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        trailers: *mut envoy_dynamic_module_type_module_http_header,
        trailer_count: usize,
    ),
    pub envoy_dynamic_module_callback_http_filter_continue_decoding: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ),
    pub envoy_dynamic_module_callback_http_filter_continue_encoding: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ),
    pub envoy_dynamic_module_callback_http_filter_reset_stream: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        reason: envoy_dynamic_module_type_http_filter_stream_reset_reason,
        details: envoy_dynamic_module_type_module_buffer,
    ),
    pub envoy_dynamic_module_callback_http_clear_route_cache: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ),
    pub envoy_dynamic_module_callback_http_filter_scheduler_new: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ) -> *mut ::std::os::raw::c_void,
    pub envoy_dynamic_module_callback_http_filter_scheduler_commit: unsafe extern "C" fn(
        scheduler: *mut ::std::os::raw::c_void,
        event_id: u64,
    ),
    pub envoy_dynamic_module_callback_http_filter_scheduler_delete: unsafe extern "C" fn(
        scheduler: *mut ::std::os::raw::c_void,
    ),
    pub envoy_dynamic_module_callback_http_filter_config_scheduler_new: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
    ) -> *mut ::std::os::raw::c_void,
    pub envoy_dynamic_module_callback_http_filter_config_scheduler_commit: unsafe extern "C" fn(
        scheduler: *mut ::std::os::raw::c_void,
        event_id: u64,
    ),
    pub envoy_dynamic_module_callback_http_filter_config_scheduler_delete: unsafe extern "C" fn(
        scheduler: *mut ::std::os::raw::c_void,
    ),
    pub envoy_dynamic_module_callback_http_filter_config_start_http_stream: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        stream_id: *mut u64,
        cluster: envoy_dynamic_module_type_module_buffer,
        headers: *mut envoy_dynamic_module_type_module_http_header,
        header_count: usize,
        body: envoy_dynamic_module_type_module_buffer,
        end_of_stream: bool,
        timeout_milliseconds: u64,
    ) -> envoy_dynamic_module_type_http_callout_init_result,
    pub envoy_dynamic_module_callback_http_filter_config_stream_send_data: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        stream_id: u64,
        data: envoy_dynamic_module_type_module_buffer,
        end_of_stream: bool,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_filter_config_reset_http_stream: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        stream_id: u64,
    ),
    pub envoy_dynamic_module_callback_http_filter_get_attribute_string: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: envoy_dynamic_module_type_attribute_id,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_filter_get_attribute_int: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: envoy_dynamic_module_type_attribute_id,
        value: *mut u64,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_filter_get_attribute_bool: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        id: envoy_dynamic_module_type_attribute_id,
        value: *mut bool,
    ) -> bool,
    pub envoy_dynamic_module_callback_get_most_specific_route_config: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ) -> *const ::std::os::raw::c_void,
    pub envoy_dynamic_module_callback_http_filter_get_worker_index: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ) -> u32,
    pub envoy_dynamic_module_callback_http_get_cluster_name: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        name: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_set_upstream_override_host: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        host: envoy_dynamic_module_type_module_buffer,
        strict: bool,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_add_custom_flag: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        flag: envoy_dynamic_module_type_module_buffer,
    ),
    pub envoy_dynamic_module_callback_http_set_dynamic_metadata_number: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: f64,
    ),
    pub envoy_dynamic_module_callback_http_set_dynamic_metadata_string: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ),
    pub envoy_dynamic_module_callback_http_set_dynamic_metadata_bool: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: bool,
    ),
    pub envoy_dynamic_module_callback_http_get_metadata_number: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut f64,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_string: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_bool: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut bool,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_keys_count: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
    ) -> usize,
    pub envoy_dynamic_module_callback_http_get_metadata_keys: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        keys: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_namespaces_count: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
    ) -> usize,
    pub envoy_dynamic_module_callback_http_get_metadata_namespaces: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        namespaces: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_list_size: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        size: *mut usize,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_list_number: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        index: usize,
        value: *mut f64,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_list_string: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        index: usize,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_metadata_list_bool: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        index: usize,
        value: *mut bool,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_set_filter_state_bytes: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_filter_state_bytes: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_filter_state_typed: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_get_active_span: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
    ) -> *mut ::std::os::raw::c_void,
    pub envoy_dynamic_module_callback_http_span_set_tag: unsafe extern "C" fn(
        span: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ),
    pub envoy_dynamic_module_callback_http_span_get_trace_id: unsafe extern "C" fn(
        span: *mut ::std::os::raw::c_void,
        id: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_span_get_span_id: unsafe extern "C" fn(
        span: *mut ::std::os::raw::c_void,
        id: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool,
    pub envoy_dynamic_module_callback_http_span_spawn_child: unsafe extern "C" fn(
        filter: *mut ::std::os::raw::c_void,
        span: *mut ::std::os::raw::c_void,
        operation: envoy_dynamic_module_type_module_buffer,
    ) -> *mut ::std::os::raw::c_void,
    pub envoy_dynamic_module_callback_http_child_span_finish: unsafe extern "C" fn(
        child: *mut ::std::os::raw::c_void,
    ),
    pub envoy_dynamic_module_callback_bootstrap_extension_register_admin_handler: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        path: envoy_dynamic_module_type_module_buffer,
        help: envoy_dynamic_module_type_module_buffer,
        removable: bool,
        mutates_server_state: bool,
    ) -> bool,
    pub envoy_dynamic_module_callback_bootstrap_extension_admin_set_response: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_module_buffer,
    ),
    pub envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete: unsafe extern "C" fn(
        config: *mut ::std::os::raw::c_void,
    ),
}
impl Required {
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
        let envoy_dynamic_module_callback_log = unsafe {
            __library.get(b"envoy_dynamic_module_callback_log\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_log_enabled = unsafe {
            __library.get(b"envoy_dynamic_module_callback_log_enabled\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_is_validation_mode = unsafe {
            __library.get(b"envoy_dynamic_module_callback_is_validation_mode\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_define_counter = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_config_define_counter\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_define_gauge = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_config_define_gauge\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_define_histogram = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_config_define_histogram\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_increment_counter = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_increment_counter\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_increment_gauge = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_filter_increment_gauge\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_decrement_gauge = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_filter_decrement_gauge\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_set_gauge = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_filter_set_gauge\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_record_histogram_value = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_record_histogram_value\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_header = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_header\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_headers_size = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_headers_size\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_headers = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_headers\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_add_header = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_add_header\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_set_header = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_set_header\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_body_size = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_body_size\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_body_chunks_size = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_body_chunks_size\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_body_chunks = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_body_chunks\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_append_body = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_append_body\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_drain_body = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_drain_body\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_received_buffered_request_body = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_received_buffered_request_body\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_received_buffered_response_body = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_received_buffered_response_body\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_buffer_limit = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_buffer_limit\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_set_buffer_limit = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_set_buffer_limit\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_send_response = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_send_response\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_send_response_headers = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_send_response_headers\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_send_response_data = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_send_response_data\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_send_response_trailers = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_send_response_trailers\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_continue_decoding = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_continue_decoding\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_continue_encoding = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_continue_encoding\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_reset_stream = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_filter_reset_stream\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_clear_route_cache = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_clear_route_cache\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_scheduler_new = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_filter_scheduler_new\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_scheduler_commit = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_scheduler_commit\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_scheduler_delete = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_scheduler_delete\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_scheduler_new = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_config_scheduler_new\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_scheduler_commit = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_config_scheduler_commit\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_scheduler_delete = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_config_scheduler_delete\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_start_http_stream = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_config_start_http_stream\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_stream_send_data = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_config_stream_send_data\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_config_reset_http_stream = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_filter_config_reset_http_stream\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_get_attribute_string = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_get_attribute_string\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_get_attribute_int = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_get_attribute_int\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_get_attribute_bool = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_get_attribute_bool\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_get_most_specific_route_config = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_get_most_specific_route_config\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_filter_get_worker_index = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_filter_get_worker_index\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_cluster_name = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_cluster_name\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_set_upstream_override_host = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_set_upstream_override_host\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_add_custom_flag = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_add_custom_flag\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_set_dynamic_metadata_number = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_set_dynamic_metadata_number\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_set_dynamic_metadata_string = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_set_dynamic_metadata_string\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_set_dynamic_metadata_bool = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_set_dynamic_metadata_bool\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_number = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_metadata_number\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_string = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_metadata_string\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_bool = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_metadata_bool\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_keys_count = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_get_metadata_keys_count\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_keys = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_metadata_keys\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_namespaces_count = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_http_get_metadata_namespaces_count\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_namespaces = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_get_metadata_namespaces\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_list_size = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_metadata_list_size\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_list_number = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_get_metadata_list_number\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_list_string = unsafe {
            __library
                .get(b"envoy_dynamic_module_callback_http_get_metadata_list_string\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_metadata_list_bool = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_metadata_list_bool\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_set_filter_state_bytes = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_set_filter_state_bytes\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_filter_state_bytes = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_filter_state_bytes\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_filter_state_typed = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_filter_state_typed\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_get_active_span = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_get_active_span\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_span_set_tag = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_span_set_tag\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_span_get_trace_id = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_span_get_trace_id\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_span_get_span_id = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_span_get_span_id\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_span_spawn_child = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_span_spawn_child\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_http_child_span_finish = unsafe {
            __library.get(b"envoy_dynamic_module_callback_http_child_span_finish\0")
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_bootstrap_extension_register_admin_handler = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_bootstrap_extension_register_admin_handler\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_bootstrap_extension_admin_set_response = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_bootstrap_extension_admin_set_response\0",
                )
        }
            .map(|sym| *sym)?;
        let envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete = unsafe {
            __library
                .get(
                    b"envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete\0",
                )
        }
            .map(|sym| *sym)?;
        Ok(Required {
            __library,
            envoy_dynamic_module_callback_log,
            envoy_dynamic_module_callback_log_enabled,
            envoy_dynamic_module_callback_is_validation_mode,
            envoy_dynamic_module_callback_http_filter_config_define_counter,
            envoy_dynamic_module_callback_http_filter_config_define_gauge,
            envoy_dynamic_module_callback_http_filter_config_define_histogram,
            envoy_dynamic_module_callback_http_filter_increment_counter,
            envoy_dynamic_module_callback_http_filter_increment_gauge,
            envoy_dynamic_module_callback_http_filter_decrement_gauge,
            envoy_dynamic_module_callback_http_filter_set_gauge,
            envoy_dynamic_module_callback_http_filter_record_histogram_value,
            envoy_dynamic_module_callback_http_get_header,
            envoy_dynamic_module_callback_http_get_headers_size,
            envoy_dynamic_module_callback_http_get_headers,
            envoy_dynamic_module_callback_http_add_header,
            envoy_dynamic_module_callback_http_set_header,
            envoy_dynamic_module_callback_http_get_body_size,
            envoy_dynamic_module_callback_http_get_body_chunks_size,
            envoy_dynamic_module_callback_http_get_body_chunks,
            envoy_dynamic_module_callback_http_append_body,
            envoy_dynamic_module_callback_http_drain_body,
            envoy_dynamic_module_callback_http_received_buffered_request_body,
            envoy_dynamic_module_callback_http_received_buffered_response_body,
            envoy_dynamic_module_callback_http_get_buffer_limit,
            envoy_dynamic_module_callback_http_set_buffer_limit,
            envoy_dynamic_module_callback_http_send_response,
            envoy_dynamic_module_callback_http_send_response_headers,
            envoy_dynamic_module_callback_http_send_response_data,
            envoy_dynamic_module_callback_http_send_response_trailers,
            envoy_dynamic_module_callback_http_filter_continue_decoding,
            envoy_dynamic_module_callback_http_filter_continue_encoding,
            envoy_dynamic_module_callback_http_filter_reset_stream,
            envoy_dynamic_module_callback_http_clear_route_cache,
            envoy_dynamic_module_callback_http_filter_scheduler_new,
            envoy_dynamic_module_callback_http_filter_scheduler_commit,
            envoy_dynamic_module_callback_http_filter_scheduler_delete,
            envoy_dynamic_module_callback_http_filter_config_scheduler_new,
            envoy_dynamic_module_callback_http_filter_config_scheduler_commit,
            envoy_dynamic_module_callback_http_filter_config_scheduler_delete,
            envoy_dynamic_module_callback_http_filter_config_start_http_stream,
            envoy_dynamic_module_callback_http_filter_config_stream_send_data,
            envoy_dynamic_module_callback_http_filter_config_reset_http_stream,
            envoy_dynamic_module_callback_http_filter_get_attribute_string,
            envoy_dynamic_module_callback_http_filter_get_attribute_int,
            envoy_dynamic_module_callback_http_filter_get_attribute_bool,
            envoy_dynamic_module_callback_get_most_specific_route_config,
            envoy_dynamic_module_callback_http_filter_get_worker_index,
            envoy_dynamic_module_callback_http_get_cluster_name,
            envoy_dynamic_module_callback_http_set_upstream_override_host,
            envoy_dynamic_module_callback_http_add_custom_flag,
            envoy_dynamic_module_callback_http_set_dynamic_metadata_number,
            envoy_dynamic_module_callback_http_set_dynamic_metadata_string,
            envoy_dynamic_module_callback_http_set_dynamic_metadata_bool,
            envoy_dynamic_module_callback_http_get_metadata_number,
            envoy_dynamic_module_callback_http_get_metadata_string,
            envoy_dynamic_module_callback_http_get_metadata_bool,
            envoy_dynamic_module_callback_http_get_metadata_keys_count,
            envoy_dynamic_module_callback_http_get_metadata_keys,
            envoy_dynamic_module_callback_http_get_metadata_namespaces_count,
            envoy_dynamic_module_callback_http_get_metadata_namespaces,
            envoy_dynamic_module_callback_http_get_metadata_list_size,
            envoy_dynamic_module_callback_http_get_metadata_list_number,
            envoy_dynamic_module_callback_http_get_metadata_list_string,
            envoy_dynamic_module_callback_http_get_metadata_list_bool,
            envoy_dynamic_module_callback_http_set_filter_state_bytes,
            envoy_dynamic_module_callback_http_get_filter_state_bytes,
            envoy_dynamic_module_callback_http_get_filter_state_typed,
            envoy_dynamic_module_callback_http_get_active_span,
            envoy_dynamic_module_callback_http_span_set_tag,
            envoy_dynamic_module_callback_http_span_get_trace_id,
            envoy_dynamic_module_callback_http_span_get_span_id,
            envoy_dynamic_module_callback_http_span_spawn_child,
            envoy_dynamic_module_callback_http_child_span_finish,
            envoy_dynamic_module_callback_bootstrap_extension_register_admin_handler,
            envoy_dynamic_module_callback_bootstrap_extension_admin_set_response,
            envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete,
        })
    }
    pub unsafe fn envoy_dynamic_module_callback_log(
        &self,
        level: envoy_dynamic_module_type_log_level,
        message: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe { (self.envoy_dynamic_module_callback_log)(level, message) }
    }
    pub unsafe fn envoy_dynamic_module_callback_log_enabled(
        &self,
        level: envoy_dynamic_module_type_log_level,
    ) -> bool {
        unsafe { (self.envoy_dynamic_module_callback_log_enabled)(level) }
    }
    pub unsafe fn envoy_dynamic_module_callback_is_validation_mode(&self) -> bool {
        unsafe { (self.envoy_dynamic_module_callback_is_validation_mode)() }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        &self,
        config: *mut ::std::os::raw::c_void,
        name: envoy_dynamic_module_type_module_buffer,
        label_names: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        id: *mut usize,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_define_counter)(
                config,
                name,
                label_names,
                label_count,
                id,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
        &self,
        config: *mut ::std::os::raw::c_void,
        name: envoy_dynamic_module_type_module_buffer,
        label_names: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        id: *mut usize,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_define_gauge)(
                config,
                name,
                label_names,
                label_count,
                id,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_define_histogram(
        &self,
        config: *mut ::std::os::raw::c_void,
        name: envoy_dynamic_module_type_module_buffer,
        label_names: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        id: *mut usize,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_define_histogram)(
                config,
                name,
                label_names,
                label_count,
                id,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_increment_counter(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_increment_counter)(
                filter,
                id,
                label_values,
                label_count,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_increment_gauge(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_increment_gauge)(
                filter,
                id,
                label_values,
                label_count,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_decrement_gauge(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_decrement_gauge)(
                filter,
                id,
                label_values,
                label_count,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_set_gauge(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_set_gauge)(
                filter,
                id,
                label_values,
                label_count,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_record_histogram_value(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: usize,
        label_values: *mut envoy_dynamic_module_type_module_buffer,
        label_count: usize,
        value: u64,
    ) -> envoy_dynamic_module_type_metrics_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_record_histogram_value)(
                filter,
                id,
                label_values,
                label_count,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_header(
        &self,
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
        index: usize,
        count: *mut usize,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_header)(
                filter,
                map,
                key,
                value,
                index,
                count,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_headers_size(
        &self,
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
    ) -> usize {
        unsafe {
            (self.envoy_dynamic_module_callback_http_get_headers_size)(filter, map)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_headers(
        &self,
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        headers: *mut envoy_dynamic_module_type_envoy_http_header,
    ) -> bool {
        unsafe {
            (self.envoy_dynamic_module_callback_http_get_headers)(filter, map, headers)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_add_header(
        &self,
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) -> bool {
        unsafe {
            (self.envoy_dynamic_module_callback_http_add_header)(filter, map, key, value)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_header(
        &self,
        filter: *mut ::std::os::raw::c_void,
        map: envoy_dynamic_module_type_http_header_type,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) -> bool {
        unsafe {
            (self.envoy_dynamic_module_callback_http_set_header)(filter, map, key, value)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_body_size(
        &self,
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
    ) -> usize {
        unsafe { (self.envoy_dynamic_module_callback_http_get_body_size)(filter, body) }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_body_chunks_size(
        &self,
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
    ) -> usize {
        unsafe {
            (self.envoy_dynamic_module_callback_http_get_body_chunks_size)(filter, body)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_body_chunks(
        &self,
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
        chunks: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_body_chunks)(
                filter,
                body,
                chunks,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_append_body(
        &self,
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
        bytes: envoy_dynamic_module_type_module_buffer,
    ) -> bool {
        unsafe {
            (self.envoy_dynamic_module_callback_http_append_body)(filter, body, bytes)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_drain_body(
        &self,
        filter: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_http_body_type,
        count: usize,
    ) -> bool {
        unsafe {
            (self.envoy_dynamic_module_callback_http_drain_body)(filter, body, count)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_received_buffered_request_body(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_received_buffered_request_body)(
                filter,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_received_buffered_response_body(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_received_buffered_response_body)(
                filter,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_buffer_limit(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) -> u64 {
        unsafe { (self.envoy_dynamic_module_callback_http_get_buffer_limit)(filter) }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_buffer_limit(
        &self,
        filter: *mut ::std::os::raw::c_void,
        limit: u64,
    ) {
        unsafe {
            (self.envoy_dynamic_module_callback_http_set_buffer_limit)(filter, limit)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_send_response(
        &self,
        filter: *mut ::std::os::raw::c_void,
        status: u32,
        headers: *mut envoy_dynamic_module_type_module_http_header,
        header_count: usize,
        body: envoy_dynamic_module_type_module_buffer,
        details: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_send_response)(
                filter,
                status,
                headers,
                header_count,
                body,
                details,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_send_response_headers(
        &self,
        filter: *mut ::std::os::raw::c_void,
        headers: *mut envoy_dynamic_module_type_module_http_header,
        header_count: usize,
        end_of_stream: bool,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_send_response_headers)(
                filter,
                headers,
                header_count,
                end_of_stream,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_send_response_data(
        &self,
        filter: *mut ::std::os::raw::c_void,
        data: envoy_dynamic_module_type_module_buffer,
        end_of_stream: bool,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_send_response_data)(
                filter,
                data,
                end_of_stream,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_send_response_trailers(
        &self,
        filter: *mut ::std::os::raw::c_void,
        trailers: *mut envoy_dynamic_module_type_module_http_header,
        trailer_count: usize,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_send_response_trailers)(
                filter,
                trailers,
                trailer_count,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_continue_decoding(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) {
        unsafe {
            (self.envoy_dynamic_module_callback_http_filter_continue_decoding)(filter)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_continue_encoding(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) {
        unsafe {
            (self.envoy_dynamic_module_callback_http_filter_continue_encoding)(filter)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_reset_stream(
        &self,
        filter: *mut ::std::os::raw::c_void,
        reason: envoy_dynamic_module_type_http_filter_stream_reset_reason,
        details: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_reset_stream)(
                filter,
                reason,
                details,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_clear_route_cache(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) {
        unsafe { (self.envoy_dynamic_module_callback_http_clear_route_cache)(filter) }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_scheduler_new(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) -> *mut ::std::os::raw::c_void {
        unsafe { (self.envoy_dynamic_module_callback_http_filter_scheduler_new)(filter) }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
        &self,
        scheduler: *mut ::std::os::raw::c_void,
        event_id: u64,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_scheduler_commit)(
                scheduler,
                event_id,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_scheduler_delete(
        &self,
        scheduler: *mut ::std::os::raw::c_void,
    ) {
        unsafe {
            (self.envoy_dynamic_module_callback_http_filter_scheduler_delete)(scheduler)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_scheduler_new(
        &self,
        config: *mut ::std::os::raw::c_void,
    ) -> *mut ::std::os::raw::c_void {
        unsafe {
            (self.envoy_dynamic_module_callback_http_filter_config_scheduler_new)(config)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
        &self,
        scheduler: *mut ::std::os::raw::c_void,
        event_id: u64,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_scheduler_commit)(
                scheduler,
                event_id,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_scheduler_delete(
        &self,
        scheduler: *mut ::std::os::raw::c_void,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_scheduler_delete)(
                scheduler,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_start_http_stream(
        &self,
        config: *mut ::std::os::raw::c_void,
        stream_id: *mut u64,
        cluster: envoy_dynamic_module_type_module_buffer,
        headers: *mut envoy_dynamic_module_type_module_http_header,
        header_count: usize,
        body: envoy_dynamic_module_type_module_buffer,
        end_of_stream: bool,
        timeout_milliseconds: u64,
    ) -> envoy_dynamic_module_type_http_callout_init_result {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_start_http_stream)(
                config,
                stream_id,
                cluster,
                headers,
                header_count,
                body,
                end_of_stream,
                timeout_milliseconds,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_stream_send_data(
        &self,
        config: *mut ::std::os::raw::c_void,
        stream_id: u64,
        data: envoy_dynamic_module_type_module_buffer,
        end_of_stream: bool,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_stream_send_data)(
                config,
                stream_id,
                data,
                end_of_stream,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_config_reset_http_stream(
        &self,
        config: *mut ::std::os::raw::c_void,
        stream_id: u64,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_config_reset_http_stream)(
                config,
                stream_id,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: envoy_dynamic_module_type_attribute_id,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_get_attribute_string)(
                filter,
                id,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_get_attribute_int(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: envoy_dynamic_module_type_attribute_id,
        value: *mut u64,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_get_attribute_int)(
                filter,
                id,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_get_attribute_bool(
        &self,
        filter: *mut ::std::os::raw::c_void,
        id: envoy_dynamic_module_type_attribute_id,
        value: *mut bool,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_filter_get_attribute_bool)(
                filter,
                id,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_get_most_specific_route_config(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) -> *const ::std::os::raw::c_void {
        unsafe {
            (self.envoy_dynamic_module_callback_get_most_specific_route_config)(filter)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_filter_get_worker_index(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) -> u32 {
        unsafe {
            (self.envoy_dynamic_module_callback_http_filter_get_worker_index)(filter)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_cluster_name(
        &self,
        filter: *mut ::std::os::raw::c_void,
        name: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self.envoy_dynamic_module_callback_http_get_cluster_name)(filter, name)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_upstream_override_host(
        &self,
        filter: *mut ::std::os::raw::c_void,
        host: envoy_dynamic_module_type_module_buffer,
        strict: bool,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_set_upstream_override_host)(
                filter,
                host,
                strict,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_add_custom_flag(
        &self,
        filter: *mut ::std::os::raw::c_void,
        flag: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe {
            (self.envoy_dynamic_module_callback_http_add_custom_flag)(filter, flag)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_dynamic_metadata_number(
        &self,
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: f64,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_set_dynamic_metadata_number)(
                filter,
                name_space,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_dynamic_metadata_string(
        &self,
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_set_dynamic_metadata_string)(
                filter,
                name_space,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_dynamic_metadata_bool(
        &self,
        filter: *mut ::std::os::raw::c_void,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: bool,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_set_dynamic_metadata_bool)(
                filter,
                name_space,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_number(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut f64,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_number)(
                filter,
                source,
                name_space,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_string(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_string)(
                filter,
                source,
                name_space,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_bool(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut bool,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_bool)(
                filter,
                source,
                name_space,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_keys_count(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
    ) -> usize {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_keys_count)(
                filter,
                source,
                name_space,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_keys(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        keys: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_keys)(
                filter,
                source,
                name_space,
                keys,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_namespaces_count(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
    ) -> usize {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_namespaces_count)(
                filter,
                source,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_namespaces(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        namespaces: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_namespaces)(
                filter,
                source,
                namespaces,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_list_size(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        size: *mut usize,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_list_size)(
                filter,
                source,
                name_space,
                key,
                size,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_list_number(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        index: usize,
        value: *mut f64,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_list_number)(
                filter,
                source,
                name_space,
                key,
                index,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_list_string(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        index: usize,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_list_string)(
                filter,
                source,
                name_space,
                key,
                index,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_metadata_list_bool(
        &self,
        filter: *mut ::std::os::raw::c_void,
        source: envoy_dynamic_module_type_metadata_source,
        name_space: envoy_dynamic_module_type_module_buffer,
        key: envoy_dynamic_module_type_module_buffer,
        index: usize,
        value: *mut bool,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_metadata_list_bool)(
                filter,
                source,
                name_space,
                key,
                index,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        &self,
        filter: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_set_filter_state_bytes)(
                filter,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
        &self,
        filter: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_filter_state_bytes)(
                filter,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_filter_state_typed(
        &self,
        filter: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_get_filter_state_typed)(
                filter,
                key,
                value,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_get_active_span(
        &self,
        filter: *mut ::std::os::raw::c_void,
    ) -> *mut ::std::os::raw::c_void {
        unsafe { (self.envoy_dynamic_module_callback_http_get_active_span)(filter) }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_span_set_tag(
        &self,
        span: *mut ::std::os::raw::c_void,
        key: envoy_dynamic_module_type_module_buffer,
        value: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe {
            (self.envoy_dynamic_module_callback_http_span_set_tag)(span, key, value)
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_span_get_trace_id(
        &self,
        span: *mut ::std::os::raw::c_void,
        id: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe { (self.envoy_dynamic_module_callback_http_span_get_trace_id)(span, id) }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_span_get_span_id(
        &self,
        span: *mut ::std::os::raw::c_void,
        id: *mut envoy_dynamic_module_type_envoy_buffer,
    ) -> bool {
        unsafe { (self.envoy_dynamic_module_callback_http_span_get_span_id)(span, id) }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_span_spawn_child(
        &self,
        filter: *mut ::std::os::raw::c_void,
        span: *mut ::std::os::raw::c_void,
        operation: envoy_dynamic_module_type_module_buffer,
    ) -> *mut ::std::os::raw::c_void {
        unsafe {
            (self
                .envoy_dynamic_module_callback_http_span_spawn_child)(
                filter,
                span,
                operation,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_http_child_span_finish(
        &self,
        child: *mut ::std::os::raw::c_void,
    ) {
        unsafe { (self.envoy_dynamic_module_callback_http_child_span_finish)(child) }
    }
    pub unsafe fn envoy_dynamic_module_callback_bootstrap_extension_register_admin_handler(
        &self,
        config: *mut ::std::os::raw::c_void,
        path: envoy_dynamic_module_type_module_buffer,
        help: envoy_dynamic_module_type_module_buffer,
        removable: bool,
        mutates_server_state: bool,
    ) -> bool {
        unsafe {
            (self
                .envoy_dynamic_module_callback_bootstrap_extension_register_admin_handler)(
                config,
                path,
                help,
                removable,
                mutates_server_state,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_bootstrap_extension_admin_set_response(
        &self,
        config: *mut ::std::os::raw::c_void,
        body: envoy_dynamic_module_type_module_buffer,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_bootstrap_extension_admin_set_response)(
                config,
                body,
            )
        }
    }
    pub unsafe fn envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(
        &self,
        config: *mut ::std::os::raw::c_void,
    ) {
        unsafe {
            (self
                .envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete)(
                config,
            )
        }
    }
}
