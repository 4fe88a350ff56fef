// The callbacks that came after Envoy 1.38. A feature that needs one says so.
#include "types.h"

#define BUF envoy_dynamic_module_type_envoy_buffer
#define MBUF envoy_dynamic_module_type_module_buffer
#define CALLBACK(name) envoy_dynamic_module_callback_##name

// 1.40
void CALLBACK(log_v2)(envoy_dynamic_module_type_log_level level, MBUF message, MBUF source_file, uint32_t line);
// Merges; its result is not to be used.
void CALLBACK(http_set_dynamic_metadata_struct)(void* filter, MBUF name_space, MBUF serialized_struct);
bool CALLBACK(http_set_dynamic_typed_metadata)(void* filter, MBUF name_space, MBUF serialized_any);
bool CALLBACK(http_get_typed_metadata)(void* filter, envoy_dynamic_module_type_metadata_source source, MBUF name_space, BUF* type_url, BUF* value);
// Reads the runtime on the main thread; the default elsewhere.
uint64_t CALLBACK(get_runtime_int)(MBUF key, uint64_t otherwise);
bool CALLBACK(get_runtime_bool)(MBUF key, bool otherwise);
