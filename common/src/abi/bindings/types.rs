// Made by bindgen from the C header of the same name: see tests/bindings.rs.

#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct envoy_dynamic_module_type_envoy_buffer {
    pub ptr: *const ::std::os::raw::c_char,
    pub length: usize,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of envoy_dynamic_module_type_envoy_buffer",
    ][::std::mem::size_of::<envoy_dynamic_module_type_envoy_buffer>() - 16usize];
    [
        "Alignment of envoy_dynamic_module_type_envoy_buffer",
    ][::std::mem::align_of::<envoy_dynamic_module_type_envoy_buffer>() - 8usize];
    [
        "Offset of field: envoy_dynamic_module_type_envoy_buffer::ptr",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_envoy_buffer, ptr) - 0usize];
    [
        "Offset of field: envoy_dynamic_module_type_envoy_buffer::length",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_envoy_buffer, length) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct envoy_dynamic_module_type_module_buffer {
    pub ptr: *const ::std::os::raw::c_char,
    pub length: usize,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of envoy_dynamic_module_type_module_buffer",
    ][::std::mem::size_of::<envoy_dynamic_module_type_module_buffer>() - 16usize];
    [
        "Alignment of envoy_dynamic_module_type_module_buffer",
    ][::std::mem::align_of::<envoy_dynamic_module_type_module_buffer>() - 8usize];
    [
        "Offset of field: envoy_dynamic_module_type_module_buffer::ptr",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_module_buffer, ptr) - 0usize];
    [
        "Offset of field: envoy_dynamic_module_type_module_buffer::length",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_module_buffer, length) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct envoy_dynamic_module_type_envoy_http_header {
    pub key_ptr: *const ::std::os::raw::c_char,
    pub key_length: usize,
    pub value_ptr: *const ::std::os::raw::c_char,
    pub value_length: usize,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of envoy_dynamic_module_type_envoy_http_header",
    ][::std::mem::size_of::<envoy_dynamic_module_type_envoy_http_header>() - 32usize];
    [
        "Alignment of envoy_dynamic_module_type_envoy_http_header",
    ][::std::mem::align_of::<envoy_dynamic_module_type_envoy_http_header>() - 8usize];
    [
        "Offset of field: envoy_dynamic_module_type_envoy_http_header::key_ptr",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_envoy_http_header, key_ptr)
        - 0usize];
    [
        "Offset of field: envoy_dynamic_module_type_envoy_http_header::key_length",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_envoy_http_header, key_length)
        - 8usize];
    [
        "Offset of field: envoy_dynamic_module_type_envoy_http_header::value_ptr",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_envoy_http_header, value_ptr)
        - 16usize];
    [
        "Offset of field: envoy_dynamic_module_type_envoy_http_header::value_length",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_envoy_http_header, value_length)
        - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct envoy_dynamic_module_type_module_http_header {
    pub key_ptr: *const ::std::os::raw::c_char,
    pub key_length: usize,
    pub value_ptr: *const ::std::os::raw::c_char,
    pub value_length: usize,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of envoy_dynamic_module_type_module_http_header",
    ][::std::mem::size_of::<envoy_dynamic_module_type_module_http_header>() - 32usize];
    [
        "Alignment of envoy_dynamic_module_type_module_http_header",
    ][::std::mem::align_of::<envoy_dynamic_module_type_module_http_header>() - 8usize];
    [
        "Offset of field: envoy_dynamic_module_type_module_http_header::key_ptr",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_module_http_header, key_ptr)
        - 0usize];
    [
        "Offset of field: envoy_dynamic_module_type_module_http_header::key_length",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_module_http_header, key_length)
        - 8usize];
    [
        "Offset of field: envoy_dynamic_module_type_module_http_header::value_ptr",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_module_http_header, value_ptr)
        - 16usize];
    [
        "Offset of field: envoy_dynamic_module_type_module_http_header::value_length",
    ][::std::mem::offset_of!(envoy_dynamic_module_type_module_http_header, value_length)
        - 24usize];
};
pub const envoy_dynamic_module_type_http_header_type_RequestHeader: envoy_dynamic_module_type_http_header_type = 0;
pub const envoy_dynamic_module_type_http_header_type_RequestTrailer: envoy_dynamic_module_type_http_header_type = 1;
pub const envoy_dynamic_module_type_http_header_type_ResponseHeader: envoy_dynamic_module_type_http_header_type = 2;
pub const envoy_dynamic_module_type_http_header_type_ResponseTrailer: envoy_dynamic_module_type_http_header_type = 3;
pub type envoy_dynamic_module_type_http_header_type = ::std::os::raw::c_uint;
pub const envoy_dynamic_module_type_http_body_type_ReceivedRequestBody: envoy_dynamic_module_type_http_body_type = 0;
pub const envoy_dynamic_module_type_http_body_type_BufferedRequestBody: envoy_dynamic_module_type_http_body_type = 1;
pub const envoy_dynamic_module_type_http_body_type_ReceivedResponseBody: envoy_dynamic_module_type_http_body_type = 2;
pub const envoy_dynamic_module_type_http_body_type_BufferedResponseBody: envoy_dynamic_module_type_http_body_type = 3;
pub type envoy_dynamic_module_type_http_body_type = ::std::os::raw::c_uint;
pub const envoy_dynamic_module_type_log_level_Trace: envoy_dynamic_module_type_log_level = 0;
pub const envoy_dynamic_module_type_log_level_Debug: envoy_dynamic_module_type_log_level = 1;
pub const envoy_dynamic_module_type_log_level_Info: envoy_dynamic_module_type_log_level = 2;
pub const envoy_dynamic_module_type_log_level_Warn: envoy_dynamic_module_type_log_level = 3;
pub const envoy_dynamic_module_type_log_level_Error: envoy_dynamic_module_type_log_level = 4;
pub type envoy_dynamic_module_type_log_level = ::std::os::raw::c_uint;
pub const envoy_dynamic_module_type_metrics_result_Success: envoy_dynamic_module_type_metrics_result = 0;
pub const envoy_dynamic_module_type_metrics_result_MetricNotFound: envoy_dynamic_module_type_metrics_result = 1;
pub const envoy_dynamic_module_type_metrics_result_InvalidLabels: envoy_dynamic_module_type_metrics_result = 2;
pub const envoy_dynamic_module_type_metrics_result_Frozen: envoy_dynamic_module_type_metrics_result = 3;
pub type envoy_dynamic_module_type_metrics_result = ::std::os::raw::c_uint;
pub const envoy_dynamic_module_type_metadata_source_Dynamic: envoy_dynamic_module_type_metadata_source = 0;
pub const envoy_dynamic_module_type_metadata_source_Route: envoy_dynamic_module_type_metadata_source = 1;
pub const envoy_dynamic_module_type_metadata_source_Cluster: envoy_dynamic_module_type_metadata_source = 2;
pub const envoy_dynamic_module_type_metadata_source_Host: envoy_dynamic_module_type_metadata_source = 3;
pub const envoy_dynamic_module_type_metadata_source_HostLocality: envoy_dynamic_module_type_metadata_source = 4;
pub type envoy_dynamic_module_type_metadata_source = ::std::os::raw::c_uint;
pub const envoy_dynamic_module_type_http_callout_init_result_Success: envoy_dynamic_module_type_http_callout_init_result = 0;
pub const envoy_dynamic_module_type_http_callout_init_result_MissingRequiredHeaders: envoy_dynamic_module_type_http_callout_init_result = 1;
pub const envoy_dynamic_module_type_http_callout_init_result_ClusterNotFound: envoy_dynamic_module_type_http_callout_init_result = 2;
pub const envoy_dynamic_module_type_http_callout_init_result_DuplicateCalloutId: envoy_dynamic_module_type_http_callout_init_result = 3;
pub const envoy_dynamic_module_type_http_callout_init_result_CannotCreateRequest: envoy_dynamic_module_type_http_callout_init_result = 4;
pub type envoy_dynamic_module_type_http_callout_init_result = ::std::os::raw::c_uint;
pub const envoy_dynamic_module_type_http_filter_stream_reset_reason_LocalReset: envoy_dynamic_module_type_http_filter_stream_reset_reason = 0;
pub const envoy_dynamic_module_type_http_filter_stream_reset_reason_LocalRefusedStreamReset: envoy_dynamic_module_type_http_filter_stream_reset_reason = 1;
pub type envoy_dynamic_module_type_http_filter_stream_reset_reason = ::std::os::raw::c_uint;
pub type envoy_dynamic_module_type_attribute_id = u32;
