//! The configuration messages read proto3 JSON as Envoy writes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use callout_protos::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use callout_protos::envoy::extensions::filters::http::ext_proc::v3::ExternalProcessor;
use callout_protos::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use serde_json::{from_value, json};

#[test]
fn both_spellings_durations_wrappers_and_enums_are_read() {
    let snake: ExtAuthz = from_value(json!({
        "grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}, "timeout": "0.25s"},
        "failure_mode_allow": true, "transport_api_version": "V3", "status_on_error": {"code": "ServiceUnavailable"},
        "enable_dynamic_metadata_ingestion": false,
    }))
    .unwrap();
    let camel: ExtAuthz = from_value(json!({
        "grpcService": {"googleGrpc": {"targetUri": "127.0.0.1:1"}, "timeout": "0.250s"},
        "failureModeAllow": true, "transportApiVersion": "V3", "statusOnError": {"code": 503},
        "enableDynamicMetadataIngestion": false,
    }))
    .unwrap();
    assert_eq!(snake, camel);
    assert_eq!(snake.enable_dynamic_metadata_ingestion.map(|b| b.value), Some(false));
}

#[test]
fn numbers_may_come_as_strings() {
    let limit: RateLimit =
        from_value(json!({"domain": "d", "stage": "3", "timeout": "1s"})).unwrap();
    assert_eq!(limit.stage, 3);
}

#[test]
fn an_unknown_field_is_an_error_that_names_it() {
    let error = from_value::<ExternalProcessor>(json!({"grpc_servce": {}})).unwrap_err();
    assert!(error.to_string().contains("grpc_servce"), "{error}");
}
