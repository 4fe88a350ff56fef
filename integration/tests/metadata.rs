//! Metadata that a service is to be told: lists are, and what Envoy hands to no module is counted and
//! may refuse the request. In all three filters.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::envoy::lua;
use callout_integration::prelude::*;

/// Sets in the namespace `m`, by the path: what can be read, an object, or a list with an object.
fn metadata() -> Value {
    lua("function envoy_on_request(h)
           local m = h:streamInfo():dynamicMetadata()
           local path = h:headers():get(':path')
           m:set('m', 'text', 'x')
           m:set('m', 'texts', {'a', 'b'})
           m:set('m', 'numbers', {1, 2.5})
           m:set('m', 'truths', {true, false})
           if path == '/object' then m:set('m', 'payload', {blocked = true}) end
           if path == '/list' then m:set('m', 'payload', {{blocked = true}}) end
         end")
}

/// The fields by which the service is told the namespace `m`.
fn told(kind: Kind) -> Value {
    match kind {
        Kind::Authz => json!({"metadata_context_namespaces": ["m"]}),
        Kind::ExtProc => json!({
            "metadata_options": {"forwarding_namespaces": {"untyped": ["m"]}},
            "processing_mode": {"response_header_mode": "SKIP"},
        }),
        Kind::RateLimit => json!({"rate_limits": [{"actions": [
            {"metadata": {
                "descriptor_key": "role",
                "metadata_key": {"key": "m", "path": [{"key": "texts"}, {"index": 1}]},
                "default_value": "none",
            }},
            {"generic_key": {"descriptor_value": "all"}},
        ]}]}),
    }
}

async fn gateway(version: Version, kind: Kind, callout: &Value, fields: Value) -> Gateway {
    Gateway::start(version, Script::default(), |port| {
        vec![metadata(), kind.module_with(callout.clone(), fields, port)]
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_reach_the_service() {
    let flat = json!({
        "text": "x", "texts": ["a", "b"], "numbers": [1.0, 2.5], "truths": [true, false],
    });
    for version in Version::ALL {
        for (kind, at) in [
            (Kind::Authz, "/attributes/metadataContext/filterMetadata/m"),
            (Kind::ExtProc, "/metadataContext/filterMetadata/m"),
        ] {
            let gateway = gateway(version, kind, &json!({}), told(kind)).await;
            // The same at each request, whatever is remembered of the kinds of values.
            for n in 0..3 {
                assert_eq!(
                    gateway.send(Request::get("/p")).await.status,
                    200,
                    "{version} {kind:?}"
                );
                let asked = gateway.services.asked();
                assert_eq!(asked[n].pointer(at), Some(&flat), "{version} {kind:?}: {}", asked[n]);
            }
            let unreadable = format!("{}.unreadable_metadata", kind.name());
            assert_eq!(gateway.envoy.stat(&unreadable).await, 0, "{version} {kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_a_list_is_a_descriptors_value() {
    for version in Version::ALL {
        let gateway = gateway(version, Kind::RateLimit, &json!({}), told(Kind::RateLimit)).await;
        assert_eq!(gateway.send(Request::get("/p")).await.status, 200, "{version}");
        let entries = gateway.services.asked()[0]["descriptors"][0]["entries"].clone();
        assert_eq!(entries[0], json!({"key": "role", "value": "b"}), "{version}");

        // A place that is not there has the default.
        let mut beyond = told(Kind::RateLimit);
        beyond["rate_limits"][0]["actions"][0]["metadata"]["metadata_key"]["path"][1]["index"] =
            json!(2);
        let gateway = self::gateway(version, Kind::RateLimit, &json!({}), beyond).await;
        assert_eq!(gateway.send(Request::get("/p")).await.status, 200, "{version}");
        let entries = gateway.services.asked()[0]["descriptors"][0]["entries"].clone();
        assert_eq!(entries[0], json!({"key": "role", "value": "none"}), "{version}");
    }
}

/// As [`told`]; ratelimit quotes in the metadata of its calls.
fn told_what_can_not_be_read(kind: Kind) -> Value {
    if kind == Kind::RateLimit {
        let quoted = json!([{"key": "x-payload", "value": "%DYNAMIC_METADATA(m:payload)%"}]);
        return json!({"rate_limit_service": {"grpc_service": {"initial_metadata": quoted}}});
    }
    told(kind)
}

/// Under which the failure mode lets everything pass, and the status of a refusal.
const fn open(kind: Kind) -> (&'static str, bool, u16) {
    match kind {
        Kind::Authz => ("failure_mode_allow", true, 403),
        Kind::ExtProc => ("failure_mode_allow", true, 500),
        Kind::RateLimit => ("failure_mode_deny", false, 500),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_is_counted_and_fails_where_asked_for() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let unreadable = format!("{}.unreadable_metadata", kind.name());
            let (field, value, refusal) = open(kind);
            let mut fields = told_what_can_not_be_read(kind);
            fields[field] = json!(value);

            let omit = gateway(version, kind, &json!({}), fields.clone()).await;
            let requests = || ["/p", "/object", "/list", "/p"].map(Request::get);
            let at = format!("{version} {kind:?}");
            assert_eq!(omit.statuses(requests()).await, [200; 4], "{at}");
            assert_eq!(omit.asked(), 4, "{at}");
            assert_eq!(omit.envoy.stat(&unreadable).await, 2, "{at}");
            let log = omit.envoy.log();
            let warned = log.lines().filter(|line| line.contains("does not hand to modules"));
            assert_eq!(warned.count(), 1, "{at}: one warning\n{log}");

            let fail = json!({"on_unreadable_metadata": "fail"});
            let fail = gateway(version, kind, &fail, fields).await;
            let statuses = fail.statuses(requests()).await;
            assert_eq!(statuses, [200, refusal, refusal, 200], "{at}");
            assert_eq!(fail.asked(), 2, "{at}");
            assert_eq!(fail.upstream.seen().len(), 2, "{at}");
            assert_eq!(fail.envoy.stat(&unreadable).await, 2, "{at}");
            let outcomes = fail.logged(kind.name(), 4).await.unwrap();
            let cause = if kind == Kind::ExtProc { "internal" } else { "unreadable_metadata" };
            assert_eq!(outcomes[1]["cause"], cause, "{at}: {outcomes:?}");
            assert_eq!(outcomes[1]["verdict"], "refused", "{at}: {outcomes:?}");
        }
    }
}

/// Envoy logs a value of another kind than the one that is asked for: not at each request.
#[tokio::test(flavor = "multi_thread")]
async fn reading_does_not_fill_envoys_log() {
    for version in Version::ALL {
        for kind in [Kind::Authz, Kind::ExtProc] {
            let gateway = gateway(version, kind, &json!({}), told(kind)).await;
            for _ in 0..50 {
                gateway.statuses(["/p", "/object", "/list"].map(Request::get)).await;
            }
            let log = gateway.envoy.log();
            let lines = log.lines().filter(|line| line.contains("is not a")).count();
            assert!(lines < 50, "{version} {kind:?}: {lines} lines for 150 requests");
        }
    }
}
