//! A configuration that can't be honoured is refused when it is loaded, with one line that names
//! the field; an old listener keeps serving.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::envoy::{Form, Options};
use callout_integration::prelude::*;

/// Bytes as a filter's configuration, whatever they say.
fn bytes(base64: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": base64})
}

/// Bad configurations of `kind`, with what the line has to say.
fn bad(kind: Kind) -> Vec<(Value, &'static str)> {
    let config = |fields: Value| kind.module_raw(Form::Struct, kind.config(fields, 1));
    let message = |fields: Value| kind.module_raw(Form::Message, kind.config(fields, 1));
    let (unsupported, names) = match kind {
        Kind::Authz => (json!({"emit_filter_state_stats": true}), "at emit_filter_state_stats: "),
        Kind::RateLimit => (
            json!({"rate_limits": [{"stage": 1, "actions": [{"destination_cluster": {}}]}]}),
            "at rate_limits[0].stage: ",
        ),
        Kind::ExtProc => (
            json!({"processing_mode": {"request_body_mode": "GRPC"}}),
            "at processing_mode.request_body_mode: ",
        ),
    };
    let (missing, service) = match kind {
        Kind::RateLimit => {
            (json!({"rate_limit_service": null}), "at rate_limit_service: is required")
        }
        Kind::Authz | Kind::ExtProc => {
            (json!({"grpc_service": null}), "at grpc_service: is required")
        }
    };
    let (wrong, type_) = match kind {
        Kind::Authz => (json!({"failure_mode_allow": "maybe"}), "at failure_mode_allow: "),
        Kind::RateLimit => (json!({"timeout": true}), "at timeout: "),
        Kind::ExtProc => (json!({"message_timeout": "soon"}), "at message_timeout: "),
    };
    let empty = match kind {
        Kind::RateLimit => "at domain: is required",
        Kind::Authz | Kind::ExtProc => "at grpc_service: is required",
    };
    vec![
        (config(json!({"no_such_field": 1})), "no_such_field"),
        (config(json!({"callout": {"no_such_key": 1}})), "at callout.no_such_key: "),
        (config(wrong), type_),
        (config(missing.clone()), service),
        (message(missing), service),
        (config(unsupported.clone()), names),
        (message(unsupported), names),
        (kind.module_any(json!({"@type": "type.googleapis.com/google.protobuf.Empty"})), empty),
        (kind.module_any(bytes("")), empty),
        (kind.module_any(bytes("/////w==")), "is not a serialized envoy.extensions"),
        // Field 999 of the message.
        (kind.module_any(bytes("uD4B")), "field 999 of "),
        // `{` and nothing more.
        (kind.module_any(bytes("ew==")), "is not valid JSON"),
    ]
}

fn refusals(log: &str, kind: Kind) -> Vec<&str> {
    let start = format!("{}: configuration refused", kind.name());
    log.lines().filter(|line| line.contains(&start)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_ends_the_start_with_one_line_that_names_the_field() {
    for kind in Kind::ALL {
        for (filter, says) in bad(kind) {
            let bootstrap = Bootstrap::new(1, vec![filter]);
            let refused = Envoy::validate(Version::LATEST, &bootstrap, Vec::new()).await.unwrap();
            assert_eq!(refused.status.code(), Some(1), "{says}: {}", refused.log);
            let lines = refusals(&refused.log, kind);
            assert!(
                matches!(lines.as_slice(), [line] if line.contains(says)),
                "{says}: {lines:?}\n{}",
                refused.log
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_of_a_route_is_refused_by_name() {
    for (kind, route, says) in [
        (Kind::Authz, json!({}), "at override: "),
        (Kind::Authz, json!({"check_settings": {"contxt": 1}}), "contxt"),
        (Kind::RateLimit, json!({"rate_limits": [{"actions": []}]}), "at rate_limits[0].actions: "),
        (Kind::ExtProc, json!({"overrides": {"async_mode": true}}), "at overrides.async_mode: "),
    ] {
        for version in Version::ALL {
            let bootstrap = Bootstrap::new(1, vec![kind.module(json!({}), 1)])
                .per_route(kind.module_route(Form::Struct, route.clone()));
            let refused = Envoy::validate(version, &bootstrap, Vec::new()).await.unwrap();
            assert_eq!(refused.status.code(), Some(1), "{version}: {}", refused.log);
            assert!(refused.log.contains(says), "{version} {says}: {}", refused.log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_listener_keeps_serving_when_a_new_one_is_refused() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::default()).await.unwrap();
            let good = kind.module(json!({}), services.port());
            let good = Bootstrap::new(upstream.port(), vec![good]);
            let options = Options { lds: true, ..Options::default() };
            let mut envoy = Envoy::start_with(version, &good, options).await.unwrap();
            assert_eq!(Request::get("/").send(envoy.port()).await.status, 200);
            for (filter, says) in bad(kind) {
                let before = refusals(&envoy.log(), kind).len();
                let bad = Bootstrap::new(upstream.port(), vec![filter]);
                assert!(!envoy.replace_listener(&bad).await.unwrap(), "{version} {says}");
                assert_eq!(refusals(&envoy.log(), kind).len(), before + 1, "{version} {says}");
                let asked = services.asked().len();
                assert_eq!(Request::get("/").send(envoy.port()).await.status, 200, "{version}");
                assert!(services.asked().len() > asked, "{version} {says}: nobody was asked");
            }
        }
    }
}
