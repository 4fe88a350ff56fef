//! Every form in which Envoy hands a configuration over says the same: messages, `Struct`s, JSON in a
//! `StringValue` (as Envoy Gateway writes it) and `TypedStruct`s (as Istio does), on every version.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::envoy::Form;
use callout_integration::prelude::*;

/// Fields of a filter and of a route that each form has to bring to the module.
fn fields(kind: Kind) -> (Value, Value) {
    match kind {
        Kind::Authz => (json!({"stat_prefix": "edge"}), json!({"disabled": true})),
        Kind::RateLimit => (
            json!({"stat_prefix": "edge"}),
            json!({"rate_limits": [{"actions": [{"request_headers": {"header_name": "x", "descriptor_key": "k"}}]}]}),
        ),
        Kind::ExtProc => (json!({"stat_prefix": "edge"}), json!({"disabled": true})),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_and_a_route_are_read_alike_in_every_form_on_every_version() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            for form in Form::ALL {
                let upstream = Upstream::start(Answer::default()).await.unwrap();
                let services = Services::start(Script::default()).await.unwrap();
                let (filter, route) = fields(kind);
                let filter = kind.module_raw(form, kind.config(filter, services.port()));
                let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
                bootstrap.routes.insert(
                    0,
                    json!({
                        "match": {"prefix": "/off"},
                        "route": {"cluster": "upstream"},
                        "typed_per_filter_config": kind.module_route(form, route),
                    }),
                );
                let envoy = Envoy::start(version, &bootstrap).await.unwrap();
                let told = format!("{version} {kind:?} {form:?}");
                assert_eq!(Request::get("/off").send(envoy.port()).await.status, 200, "{told}");
                assert_eq!(services.asked().len(), 0, "{told}");
                assert_eq!(Request::get("/").send(envoy.port()).await.status, 200, "{told}");
                assert!(!services.asked().is_empty(), "{told}");
                let log = envoy.log();
                assert!(!log.contains("deprecated"), "{told}: {log}");
            }
        }
    }
}
