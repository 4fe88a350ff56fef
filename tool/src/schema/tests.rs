//! The schemas against the readers that they describe.

use std::path::{Path, PathBuf};

use callout_common::RawConfig;
use callout_protos::envoy::extensions::filters::http as proto;
use jsonschema::Validator;
use prost_reflect::Kind as FieldKind;

use super::*;
use crate::check::check_file;
use crate::yaml::File;

fn validator(schema: &Json) -> Validator {
    jsonschema::draft7::new(schema).unwrap()
}

/// Whether the module's own reader takes `fields` for a message of the kind, whatever they mean.
fn is_read(kind: Kind, level: Level, fields: &Json) -> bool {
    let text = fields.to_string();
    let raw = RawConfig::new(text.as_bytes());
    match (kind, level) {
        (Kind::Authz, Level::Filter) => raw.message::<proto::ext_authz::v3::ExtAuthz>().is_ok(),
        (Kind::Authz, Level::Route) => {
            raw.message::<proto::ext_authz::v3::ExtAuthzPerRoute>().is_ok()
        }
        (Kind::RateLimit, Level::Filter) => {
            raw.message::<proto::ratelimit::v3::RateLimit>().is_ok()
        }
        (Kind::RateLimit, Level::Route) => {
            raw.message::<proto::ratelimit::v3::RateLimitPerRoute>().is_ok()
        }
        (Kind::ExtProc, Level::Filter) => {
            raw.message::<proto::ext_proc::v3::ExternalProcessor>().is_ok()
        }
        (Kind::ExtProc, Level::Route) => {
            raw.message::<proto::ext_proc::v3::ExtProcPerRoute>().is_ok()
        }
    }
}

/// Values that some field takes and most don't.
fn values() -> Vec<Json> {
    vec![
        json!(5),
        json!(-1),
        json!(7.0),
        json!(1.5),
        json!(true),
        json!(null),
        json!("text"),
        json!("5"),
        json!("yes"),
        json!("0.25s"),
        json!("v3"),
        json!("DRAFT_VERSION_03"),
        json!({}),
        json!({"nope": 1}),
        json!({"seconds": 1}),
        json!({"value": 1}),
        json!([]),
        json!(["text"]),
        json!([5]),
    ]
}

/// Objects with one field of the message called `name`, or of a message in it.
fn objects(name: &str, depth: usize) -> Vec<Json> {
    let Some(of) = message::described(name) else { return Vec::new() };
    let mut all = vec![json!({"nope": 1})];
    for field in of.fields() {
        for name in [field.name(), field.json_name()] {
            all.extend(values().into_iter().map(|value| json!({name: value})));
        }
        all.push(json!({(format!("{}x", field.name())): 1}));
        let FieldKind::Message(inner) = field.kind() else { continue };
        if depth == 0 || field.is_map() || inner.full_name().starts_with("google.protobuf.") {
            continue;
        }
        for value in objects(inner.full_name(), depth - 1) {
            let value = if field.is_list() { json!([value]) } else { value };
            all.push(json!({(field.name()): value}));
        }
    }
    all
}

#[test]
fn schema_and_reader_agree_on_every_field_and_every_kind_of_value() {
    let (mut taken, mut refused) = (0, 0);
    let mut differ = Vec::new();
    for kind in Kind::ALL {
        for level in [Level::Filter, Level::Route] {
            let schema = validator(&fields(kind, level));
            for object in objects(kind.message(level), 2) {
                let valid = schema.is_valid(&object);
                if valid != is_read(kind, level, &object) {
                    differ.push(format!("{kind:?} {object}: valid is {valid}"));
                }
                if valid { taken += 1 } else { refused += 1 }
            }
        }
    }
    assert!(differ.is_empty(), "{} differ: {:#?}", differ.len(), &differ[..differ.len().min(40)]);
    assert!(taken > 1000 && refused > 1000, "{taken} {refused}");
}

/// What stands under `callout`, and whether it is a configuration.
fn corpus() -> Vec<(Kind, Level, Json, bool)> {
    use Kind::{Authz, ExtProc, RateLimit};
    use Level::{Filter, Route};
    let filter = |kind, callout, good| (kind, Filter, callout, good);
    vec![
        filter(Authz, json!({}), true),
        filter(Authz, json!(null), true),
        filter(
            Authz,
            json!({"cache": {"ttl": "10s", "denied_ttl": "1.5s", "jitter_percent": 50}}),
            true,
        ),
        filter(Authz, json!({"cache": {"ttl": "10s", "jitter_percent": 51}}), false),
        filter(Authz, json!({"cache": {"ttl": "10 s"}}), false),
        filter(Authz, json!({"cache": {}}), false),
        filter(Authz, json!({"cache": {"ttl": "1s", "max_bytes": 65535}}), false),
        filter(
            Authz,
            json!({"cache": {"ttl": "1s", "key": {"headers": ["a"], "omit": ["path"]}}}),
            true,
        ),
        filter(
            Authz,
            json!({"cache": {"ttl": "1s", "key": {"headers": ["a"], "omit": ["host"]}}}),
            false,
        ),
        filter(
            Authz,
            json!({"cache": {"ttl": "1s", "key": {"attributes": ["source.address"]}}}),
            true,
        ),
        filter(
            Authz,
            json!({"cache": {"ttl": "1s", "key": {"attributes": ["source.port"]}}}),
            false,
        ),
        filter(Authz, json!({"coalesce": 1}), false),
        filter(Authz, json!({"status_on_timeout": {"code": "GatewayTimeout"}}), true),
        filter(Authz, json!({"status_on_timeout": {"code": 504}}), true),
        filter(Authz, json!({"status_on_timeout": {"cod": 504}}), false),
        filter(Authz, json!({"on_unreadable_metadata": "fail", "calls": "worker"}), true),
        filter(Authz, json!({"on_unreadable_metadata": "deny"}), false),
        filter(Authz, json!({"header_limits": {"max_headers_count": 0}}), false),
        filter(Authz, json!({"always_ask": true}), false),
        (Authz, Route, json!({"always_ask": true}), true),
        (Authz, Route, json!({"always_ask": "x"}), false),
        (Authz, Route, json!({"coalesce": true}), false),
        filter(
            RateLimit,
            json!({"mode": "lease", "server": "limitador", "max_error_percent": 1}),
            true,
        ),
        filter(RateLimit, json!({"mode": "leased"}), false),
        filter(RateLimit, json!({"max_error_percent": 0}), false),
        filter(RateLimit, json!({"breaker": {"consecutive_failures": 5, "pause": "1s"}}), true),
        filter(RateLimit, json!({"breaker": {"pause": "1s"}}), false),
        filter(RateLimit, json!({"shield": {"multiple": 0}}), false),
        filter(RateLimit, json!({"fallback": {"requests": 1, "window": "1s"}}), true),
        filter(
            RateLimit,
            json!({"rules": [{"descriptor": [{"key": "a", "value": "b"}], "shadow": true}]}),
            true,
        ),
        filter(RateLimit, json!({"rules": [{"descriptor": [], "shadow": true}]}), false),
        filter(
            RateLimit,
            json!({"rules": [{"descriptor": [{"value": "b"}], "shadow": true}]}),
            false,
        ),
        (RateLimit, Route, json!({"mode": "async"}), true),
        (RateLimit, Route, json!({"mode": 1}), false),
        filter(ExtProc, json!({"skip": {"methods": ["GET"], "paths": [{"prefix": "/a"}]}}), true),
        filter(ExtProc, json!({"skip": {"paths": [{"start": "/a"}]}}), false),
        filter(ExtProc, json!({"body_limit": {"bytes": 1, "over": "skip"}}), true),
        filter(ExtProc, json!({"body_limit": {"bytes": 0, "over": "skip"}}), false),
        filter(ExtProc, json!({"body_limit": {"bytes": 1}}), false),
        filter(
            ExtProc,
            json!({"on_error": {"timeout": {"status": {"code": 503}, "headers": {"a": "1"}}}}),
            true,
        ),
        filter(ExtProc, json!({"on_error": {"late": {"status": {"code": 503}}}}), false),
        filter(ExtProc, json!({"chunking": {"min_bytes": 1}}), false),
        (ExtProc, Route, json!({}), true),
        (ExtProc, Route, json!({"skip": {}}), false),
    ]
}

/// A configuration of a module around `callout`.
fn configuration(kind: Kind, level: Level, callout: &Json) -> Json {
    let service = json!({"google_grpc": {"target_uri": "127.0.0.1:1", "stat_prefix": "s"}});
    match (kind, level) {
        (Kind::Authz | Kind::ExtProc, Level::Filter) => {
            json!({"grpc_service": service, "callout": callout})
        }
        (Kind::RateLimit, Level::Filter) => json!({
            "domain": "d", "rate_limit_service": {"grpc_service": service}, "callout": callout,
            "rate_limits": [{"actions": [{"remote_address": {}}]}],
        }),
        (Kind::Authz, Level::Route) => json!({"check_settings": {}, "callout": callout}),
        (Kind::ExtProc, Level::Route) => json!({"overrides": {}, "callout": callout}),
        (Kind::RateLimit, Level::Route) => json!({"domain": "d", "callout": callout}),
    }
}

/// The configuration of a listener around it.
fn wrapped(kind: Kind, level: Level, config: &Json) -> Json {
    json!({"filters": [{"name": "f", "typed_config": {
        "@type": format!("{}{}", crate::envoy::TYPE, level.wrapper()),
        "dynamic_module_config": {"name": format!("callout_{}", kind.name())},
        "filter_name": kind.name(),
        "filter_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": config},
    }}]})
}

fn is_refused(file: &Json) -> bool {
    let checked = check_file(&File::parse(&file.to_string()).unwrap());
    assert_eq!(checked.modules, 1, "{file}");
    checked.findings.iter().any(|finding| finding.severity == crate::check::Severity::Error)
}

#[test]
fn schema_and_module_agree_on_what_stands_under_callout() {
    let whole = validator(&envoy_file());
    for (kind, level, callout, good) in corpus() {
        let config = configuration(kind, level, &callout);
        let file = wrapped(kind, level, &config);
        assert_eq!(!is_refused(&file), good, "the module: {kind:?} {callout}");
        assert_eq!(validator(&fields(kind, level)).is_valid(&config), good, "{kind:?} {callout}");
        assert_eq!(whole.is_valid(&file), good, "in a file: {kind:?} {callout}");
    }
}

#[test]
fn a_file_is_refused_for_what_is_ours_alone() {
    let whole = validator(&envoy_file());
    let config = configuration(Kind::Authz, Level::Filter, &json!({}));
    let mut file = wrapped(Kind::Authz, Level::Filter, &config);
    file["anything"] = json!({"of": ["Envoy's", 1, {"deep": null}]});
    assert!(whole.is_valid(&file));
    let module = "/filters/0/typed_config";
    for (place, value) in [
        ("filter_name", json!("ratelimit")),
        ("filter_config", json!({"@type": "type.googleapis.com/google.protobuf.Duration"})),
        (
            "filter_config",
            json!({"@type": "a/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "callout": {}}),
        ),
        (
            "filter_config",
            json!({"@type": "a/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "nope": {}}),
        ),
        ("filter_config", json!({"@type": "a/google.protobuf.Struct", "value": {"nope": 1}})),
    ] {
        let mut bad = file.clone();
        bad.pointer_mut(module).unwrap()[place] = value;
        assert!(!whole.is_valid(&bad), "{bad}");
    }
    let mut other = file;
    other.pointer_mut(module).unwrap()["dynamic_module_config"]["name"] = json!("coraza");
    other.pointer_mut(module).unwrap()["filter_config"] = json!({"whatever": 1});
    assert!(whole.is_valid(&other));
}

#[test]
fn what_is_told_as_a_default_is_taken() {
    for kind in Kind::ALL {
        let schema = fields(kind, Level::Filter);
        let base = configuration(kind, Level::Filter, &json!({}));
        let mut checked = 0;
        for (name, field) in schema["properties"].as_object().unwrap() {
            let Some(default) = field.get("default") else { continue };
            let mut config = base.clone();
            config[name] = default.clone();
            let file = wrapped(kind, Level::Filter, &config);
            assert!(!is_refused(&file), "{kind:?} {name}: {default}");
            checked += 1;
        }
        assert!(checked > 8, "{kind:?}: {checked}");
    }
}

/// The fields of objects in `schema` that have no description.
fn untold(schema: &Json, path: &str, found: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field.get("description").is_none()
            && field.pointer("/anyOf/0/description").is_none()
            && field.get("default").is_none()
        {
            found.push(path.clone());
        }
        untold(field, &path, found);
        for part in field["anyOf"].as_array().into_iter().flatten() {
            untold(part, &path, found);
        }
    }
}

#[test]
fn every_field_of_a_filter_and_of_its_service_is_described() {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        for level in [Level::Filter, Level::Route] {
            let schema = fields(kind, level);
            untold(&schema, kind.name(), &mut found);
            let service = &schema["definitions"]["envoy.config.core.v3.GrpcService"];
            untold(service, "GrpcService", &mut found);
        }
    }
    found.retain(|path| {
        !path.ends_with(".seconds") && !path.ends_with(".nanos") && !path.ends_with(".value")
    });
    assert_eq!(found, Vec::<String>::new());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

const STORED: &str = "docs/schema.json";

#[test]
fn the_stored_schema_is_the_one_that_is_made() {
    let made = serde_json::to_string_pretty(&envoy_file()).unwrap() + "\n";
    let stored = std::fs::read_to_string(root().join(STORED)).unwrap_or_default();
    assert!(made == stored, "`callout schema > {STORED}` writes it anew");
}

/// Every YAML file of an example that configures one of our modules.
fn examples(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            examples(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.contains("callout_")
                && (text.contains("filter_config") || text.contains("filterName"))
            {
                found.push(path);
            }
        }
    }
}

#[test]
fn every_example_names_its_schema_and_is_valid_by_it() {
    let mut files = Vec::new();
    for dir in ["authz/examples", "ratelimit/examples", "extproc/examples", "examples"] {
        examples(&root().join(dir), &mut files);
    }
    assert!(files.len() >= 9, "{files:?}");
    let whole = validator(&envoy_file());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().next().unwrap();
        let schema = line.strip_prefix("# yaml-language-server: $schema=").unwrap_or_else(|| {
            panic!("{} does not begin with the line for the YAML language server", path.display())
        });
        let named = path.parent().unwrap().join(schema).canonicalize().unwrap();
        assert_eq!(named, root().join(STORED).canonicalize().unwrap(), "{}", path.display());
        let parse = |text: &str| -> Vec<Json> {
            File::parse(text).unwrap().documents.iter().map(crate::yaml::Node::json).collect()
        };
        for document in parse(&text) {
            let errors: Vec<String> = whole.iter_errors(&document).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
        // Each has a service to be reached; with a typo in it no file is valid.
        for (right, wrong) in [("google_grpc:", "gogle_grpc:"), ("envoy_grpc:", "envoy_grcp:")] {
            if text.contains(right) {
                let bad = parse(&text.replace(right, wrong));
                assert!(!bad.iter().all(|d| whole.is_valid(d)), "{}: {wrong}", path.display());
            }
        }
    }
}
