//! Every message, enum, field name, number, type, label and oneof of ours is Envoy's own, as the
//! crate envoy-types ships it, save what came with Envoy 1.40, which is listed here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use std::path::PathBuf;
use std::process::Command;

use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};

/// What Envoy 1.40 has and envoy-types 0.7.7, made from an older API, lacks.
const NEW_IN_1_40: &[&str] = &[
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz.clear_route_cache_headers = 34: repeated string",
    "envoy.service.ratelimit.v3.RateLimitResponse.RateLimit.unit_multiplier = 4: optional google.protobuf.UInt32Value",
    "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride.unit_multiplier = 3: optional google.protobuf.UInt32Value",
];

/// Envoy's own API, compiled from the .proto files inside the crate envoy-types.
fn envoy_pool(files: &[String]) -> DescriptorPool {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata = Command::new(cargo)
        .args(["metadata", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata.stdout).expect("cargo metadata");
    let manifest = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("envoy-types is a development dependency");
    let root = PathBuf::from(manifest).parent().unwrap().join("proto");
    let includes: Vec<PathBuf> = [
        "data-plane-api",
        "xds",
        "googleapis",
        "protoc-gen-validate",
        "cel-spec/proto",
        "client_model",
        "opentelemetry-proto",
    ]
    .iter()
    .map(|folder| root.join(folder))
    .collect();
    let set = protox::compile(files, &includes).expect("Envoy's own files compile");
    DescriptorPool::from_file_descriptor_set(set).unwrap()
}

fn describe(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        prost_reflect::Kind::Message(message) => message.full_name().to_owned(),
        prost_reflect::Kind::Enum(kind) => kind.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let label = if field.is_map() {
        "map"
    } else if field.is_list() {
        "repeated"
    } else if field.supports_presence() {
        "optional"
    } else {
        "single"
    };
    let oneof =
        field.containing_oneof().map(|oneof| format!(" in {}", oneof.name())).unwrap_or_default();
    format!("{} = {}: {label} {kind}{oneof}", field.full_name(), field.number())
}

fn compare(
    ours: &MessageDescriptor,
    envoy: &DescriptorPool,
    differences: &mut Vec<String>,
) -> usize {
    let Some(theirs) = envoy.get_message_by_name(ours.full_name()) else {
        differences.push(format!("Envoy has no message {}", ours.full_name()));
        return 0;
    };
    let mut compared = 0;
    for field in ours.fields() {
        let mine = describe(&field);
        let theirs = theirs.get_field(field.number()).map(|field| describe(&field));
        if theirs.as_deref() != Some(&mine) && !NEW_IN_1_40.contains(&mine.as_str()) {
            differences.push(format!("ours:   {mine}\n  Envoy: {theirs:?}"));
        }
        compared += 1;
    }
    compared
}

#[test]
fn every_field_and_enum_value_is_as_in_envoys_own_api() {
    let ours = DescriptorPool::decode(callout_protos::FILE_DESCRIPTOR_SET).unwrap();
    let files: Vec<String> = ours
        .files()
        .map(|file| file.name().to_owned())
        .filter(|name| !name.starts_with("google/protobuf/"))
        .collect();
    let envoy = envoy_pool(&files);
    let mut differences = Vec::new();
    let mut fields = 0;
    for message in ours.all_messages().filter(|m| !m.full_name().starts_with("google.protobuf.")) {
        fields += compare(&message, &envoy, &mut differences);
    }
    for kind in ours.all_enums().filter(|e| !e.full_name().starts_with("google.protobuf.")) {
        let theirs = envoy.get_enum_by_name(kind.full_name());
        for value in kind.values() {
            let same = theirs
                .as_ref()
                .and_then(|theirs| theirs.get_value(value.number()))
                .is_some_and(|theirs| theirs.name() == value.name());
            if !same {
                differences.push(format!("enum value {} = {}", value.full_name(), value.number()));
            }
            fields += 1;
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(fields > 500, "only {fields} fields and values were compared");
}

#[test]
fn the_services_have_envoys_methods() {
    let ours = DescriptorPool::decode(callout_protos::FILE_DESCRIPTOR_SET).unwrap();
    let files: Vec<String> =
        ours.services().map(|service| service.parent_file().name().to_owned()).collect();
    let envoy = envoy_pool(&files);
    assert_eq!(ours.services().count(), 3);
    for service in ours.services() {
        let theirs = envoy.get_service_by_name(service.full_name()).unwrap();
        for method in service.methods() {
            let theirs = theirs.methods().find(|m| m.name() == method.name()).unwrap();
            assert_eq!(method.input().full_name(), theirs.input().full_name());
            assert_eq!(method.output().full_name(), theirs.output().full_name());
            assert_eq!(method.is_client_streaming(), theirs.is_client_streaming());
            assert_eq!(method.is_server_streaming(), theirs.is_server_streaming());
        }
    }
}
