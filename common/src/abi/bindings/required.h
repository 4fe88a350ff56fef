// The callbacks that every Envoy since 1.38 has.
#include "types.h"

#define BUF envoy_dynamic_module_type_envoy_buffer
#define MBUF envoy_dynamic_module_type_module_buffer
#define CALLBACK(name) envoy_dynamic_module_callback_##name

// Log, process.
void CALLBACK(log)(envoy_dynamic_module_type_log_level level, MBUF message);
bool CALLBACK(log_enabled)(envoy_dynamic_module_type_log_level level);
bool CALLBACK(is_validation_mode)(void);

// Metrics.
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_config_define_counter)(void* config, MBUF name, MBUF* label_names, size_t label_count, size_t* id);
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_config_define_gauge)(void* config, MBUF name, MBUF* label_names, size_t label_count, size_t* id);
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_config_define_histogram)(void* config, MBUF name, MBUF* label_names, size_t label_count, size_t* id);
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_increment_counter)(void* filter, size_t id, MBUF* label_values, size_t label_count, uint64_t value);
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_increment_gauge)(void* filter, size_t id, MBUF* label_values, size_t label_count, uint64_t value);
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_decrement_gauge)(void* filter, size_t id, MBUF* label_values, size_t label_count, uint64_t value);
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_set_gauge)(void* filter, size_t id, MBUF* label_values, size_t label_count, uint64_t value);
envoy_dynamic_module_type_metrics_result CALLBACK(http_filter_record_histogram_value)(void* filter, size_t id, MBUF* label_values, size_t label_count, uint64_t value);

// Headers and trailers.
bool CALLBACK(http_get_header)(void* filter, envoy_dynamic_module_type_http_header_type map, MBUF key, BUF* value, size_t index, size_t* count);
size_t CALLBACK(http_get_headers_size)(void* filter, envoy_dynamic_module_type_http_header_type map);
bool CALLBACK(http_get_headers)(void* filter, envoy_dynamic_module_type_http_header_type map, envoy_dynamic_module_type_envoy_http_header* headers);
bool CALLBACK(http_add_header)(void* filter, envoy_dynamic_module_type_http_header_type map, MBUF key, MBUF value);
bool CALLBACK(http_set_header)(void* filter, envoy_dynamic_module_type_http_header_type map, MBUF key, MBUF value);

// Bodies.
size_t CALLBACK(http_get_body_size)(void* filter, envoy_dynamic_module_type_http_body_type body);
size_t CALLBACK(http_get_body_chunks_size)(void* filter, envoy_dynamic_module_type_http_body_type body);
bool CALLBACK(http_get_body_chunks)(void* filter, envoy_dynamic_module_type_http_body_type body, BUF* chunks);
bool CALLBACK(http_append_body)(void* filter, envoy_dynamic_module_type_http_body_type body, MBUF bytes);
bool CALLBACK(http_drain_body)(void* filter, envoy_dynamic_module_type_http_body_type body, size_t count);
bool CALLBACK(http_received_buffered_request_body)(void* filter);
bool CALLBACK(http_received_buffered_response_body)(void* filter);
uint64_t CALLBACK(http_get_buffer_limit)(void* filter);
void CALLBACK(http_set_buffer_limit)(void* filter, uint64_t limit);

// Replies and flow.
void CALLBACK(http_send_response)(void* filter, uint32_t status, envoy_dynamic_module_type_module_http_header* headers, size_t header_count, MBUF body, MBUF details);
void CALLBACK(http_send_response_headers)(void* filter, envoy_dynamic_module_type_module_http_header* headers, size_t header_count, bool end_of_stream);
void CALLBACK(http_send_response_data)(void* filter, MBUF data, bool end_of_stream);
void CALLBACK(http_send_response_trailers)(void* filter, envoy_dynamic_module_type_module_http_header* trailers, size_t trailer_count);
void CALLBACK(http_filter_continue_decoding)(void* filter);
void CALLBACK(http_filter_continue_encoding)(void* filter);
void CALLBACK(http_filter_reset_stream)(void* filter, envoy_dynamic_module_type_http_filter_stream_reset_reason reason, MBUF details);
void CALLBACK(http_clear_route_cache)(void* filter);

// Scheduler.
void* CALLBACK(http_filter_scheduler_new)(void* filter);
void CALLBACK(http_filter_scheduler_commit)(void* scheduler, uint64_t event_id);
void CALLBACK(http_filter_scheduler_delete)(void* scheduler);

void* CALLBACK(http_filter_config_scheduler_new)(void* config);
void CALLBACK(http_filter_config_scheduler_commit)(void* scheduler, uint64_t event_id);
void CALLBACK(http_filter_config_scheduler_delete)(void* scheduler);

// Streams to clusters.
envoy_dynamic_module_type_http_callout_init_result CALLBACK(http_filter_config_start_http_stream)(void* config, uint64_t* stream_id, MBUF cluster, envoy_dynamic_module_type_module_http_header* headers, size_t header_count, MBUF body, bool end_of_stream, uint64_t timeout_milliseconds);
bool CALLBACK(http_filter_config_stream_send_data)(void* config, uint64_t stream_id, MBUF data, bool end_of_stream);
void CALLBACK(http_filter_config_reset_http_stream)(void* config, uint64_t stream_id);

// Attributes and route.
bool CALLBACK(http_filter_get_attribute_string)(void* filter, envoy_dynamic_module_type_attribute_id id, BUF* value);
bool CALLBACK(http_filter_get_attribute_int)(void* filter, envoy_dynamic_module_type_attribute_id id, uint64_t* value);
bool CALLBACK(http_filter_get_attribute_bool)(void* filter, envoy_dynamic_module_type_attribute_id id, bool* value);
const void* CALLBACK(get_most_specific_route_config)(void* filter);
uint32_t CALLBACK(http_filter_get_worker_index)(void* filter);
bool CALLBACK(http_get_cluster_name)(void* filter, envoy_dynamic_module_type_envoy_buffer* name);
bool CALLBACK(http_set_upstream_override_host)(void* filter, MBUF host, bool strict);
void CALLBACK(http_add_custom_flag)(void* filter, MBUF flag);

// Metadata.
void CALLBACK(http_set_dynamic_metadata_number)(void* filter, MBUF name_space, MBUF key, double value);
void CALLBACK(http_set_dynamic_metadata_string)(void* filter, MBUF name_space, MBUF key, MBUF value);
void CALLBACK(http_set_dynamic_metadata_bool)(void* filter, MBUF name_space, MBUF key, bool value);
bool CALLBACK(http_get_metadata_number)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, MBUF key, double* value);
bool CALLBACK(http_get_metadata_string)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, MBUF key, BUF* value);
bool CALLBACK(http_get_metadata_bool)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, MBUF key, bool* value);
size_t CALLBACK(http_get_metadata_keys_count)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space);
bool CALLBACK(http_get_metadata_keys)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, BUF* keys);
size_t CALLBACK(http_get_metadata_namespaces_count)(void* filter, envoy_dynamic_module_type_metadata_source source);
bool CALLBACK(http_get_metadata_namespaces)(void* filter, envoy_dynamic_module_type_metadata_source source, BUF* namespaces);
bool CALLBACK(http_get_metadata_list_size)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, MBUF key, size_t* size);
bool CALLBACK(http_get_metadata_list_number)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, MBUF key, size_t index, double* value);
bool CALLBACK(http_get_metadata_list_string)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, MBUF key, size_t index, BUF* value);
bool CALLBACK(http_get_metadata_list_bool)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, MBUF key, size_t index, bool* value);

// Filter state.
bool CALLBACK(http_set_filter_state_bytes)(void* filter, MBUF key, MBUF value);
bool CALLBACK(http_get_filter_state_bytes)(void* filter, MBUF key, BUF* value);
bool CALLBACK(http_get_filter_state_typed)(void* filter, MBUF key, BUF* value);

// Tracing.
void* CALLBACK(http_get_active_span)(void* filter);
void CALLBACK(http_span_set_tag)(void* span, MBUF key, MBUF value);
// Their texts are Envoy's until the next of these calls on the same thread.
bool CALLBACK(http_span_get_trace_id)(void* span, BUF* id);
bool CALLBACK(http_span_get_span_id)(void* span, BUF* id);
// A child belongs to the module until it is finished, which ends its life.
void* CALLBACK(http_span_spawn_child)(void* filter, void* span, MBUF operation);
void CALLBACK(http_child_span_finish)(void* child);

// The bootstrap extension; main thread alone. Envoy serves nothing before it is told that the extension is ready.
bool CALLBACK(bootstrap_extension_register_admin_handler)(void* config, MBUF path, MBUF help, bool removable, bool mutates_server_state);
void CALLBACK(bootstrap_extension_admin_set_response)(void* config, MBUF body);
void CALLBACK(bootstrap_extension_config_signal_init_complete)(void* config);
