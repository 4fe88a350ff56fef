// Envoy's dynamic-module ABI: the types that the suite uses. Names and numbers are Envoy's.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes that Envoy owns, and bytes that the module owns. Both are passed by value.
typedef struct {
  const char* ptr;
  size_t length;
} envoy_dynamic_module_type_envoy_buffer;
typedef struct {
  const char* ptr;
  size_t length;
} envoy_dynamic_module_type_module_buffer;

// A header line that Envoy owns, and one that the module owns.
typedef struct {
  const char* key_ptr;
  size_t key_length;
  const char* value_ptr;
  size_t value_length;
} envoy_dynamic_module_type_envoy_http_header;
typedef struct {
  const char* key_ptr;
  size_t key_length;
  const char* value_ptr;
  size_t value_length;
} envoy_dynamic_module_type_module_http_header;

typedef enum {
  envoy_dynamic_module_type_http_header_type_RequestHeader,
  envoy_dynamic_module_type_http_header_type_RequestTrailer,
  envoy_dynamic_module_type_http_header_type_ResponseHeader,
  envoy_dynamic_module_type_http_header_type_ResponseTrailer,
} envoy_dynamic_module_type_http_header_type;

typedef enum {
  envoy_dynamic_module_type_http_body_type_ReceivedRequestBody,
  envoy_dynamic_module_type_http_body_type_BufferedRequestBody,
  envoy_dynamic_module_type_http_body_type_ReceivedResponseBody,
  envoy_dynamic_module_type_http_body_type_BufferedResponseBody,
} envoy_dynamic_module_type_http_body_type;

typedef enum {
  envoy_dynamic_module_type_log_level_Trace,
  envoy_dynamic_module_type_log_level_Debug,
  envoy_dynamic_module_type_log_level_Info,
  envoy_dynamic_module_type_log_level_Warn,
  envoy_dynamic_module_type_log_level_Error,
} envoy_dynamic_module_type_log_level;

typedef enum {
  envoy_dynamic_module_type_metrics_result_Success,
  envoy_dynamic_module_type_metrics_result_MetricNotFound,
  envoy_dynamic_module_type_metrics_result_InvalidLabels,
  envoy_dynamic_module_type_metrics_result_Frozen,
} envoy_dynamic_module_type_metrics_result;

typedef enum {
  envoy_dynamic_module_type_metadata_source_Dynamic,
  envoy_dynamic_module_type_metadata_source_Route,
  envoy_dynamic_module_type_metadata_source_Cluster,
  envoy_dynamic_module_type_metadata_source_Host,
  envoy_dynamic_module_type_metadata_source_HostLocality,
} envoy_dynamic_module_type_metadata_source;

typedef enum {
  envoy_dynamic_module_type_http_callout_init_result_Success,
  envoy_dynamic_module_type_http_callout_init_result_MissingRequiredHeaders,
  envoy_dynamic_module_type_http_callout_init_result_ClusterNotFound,
  envoy_dynamic_module_type_http_callout_init_result_DuplicateCalloutId,
  envoy_dynamic_module_type_http_callout_init_result_CannotCreateRequest,
} envoy_dynamic_module_type_http_callout_init_result;

typedef enum {
  envoy_dynamic_module_type_http_filter_stream_reset_reason_LocalReset,
  envoy_dynamic_module_type_http_filter_stream_reset_reason_LocalRefusedStreamReset,
} envoy_dynamic_module_type_http_filter_stream_reset_reason;

// Attributes are numbered in src/attributes.rs.
typedef uint32_t envoy_dynamic_module_type_attribute_id;
