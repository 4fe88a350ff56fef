//! A kept decision is for the user that it was made for, wherever it stands what tells users apart.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::envoy::{TOKENS, jwt_authn, lua};
use callout_integration::prelude::*;
use callout_integration::services::message;

const JWT: &str = "envoy.filters.http.jwt_authn";

/// Who is asked about first is allowed, all others are not: another's decision shows.
fn only_the_first() -> Script {
    Script::default().check(|_, n| {
        std::future::ready(Ok(message(json!({"status": {"code": if n == 0 { 0 } else { 7 }}}))))
    })
}

fn cache(key: &Value) -> Value {
    let mut cache = json!({"ttl": "60s", "denied_ttl": "60s"});
    if !key.is_null() {
        cache["key"] = key.clone();
    }
    json!({"cache": cache})
}

/// authz with a cache, behind `before`.
async fn gateway(version: Version, key: &Value, fields: Value, before: Option<Value>) -> Gateway {
    Gateway::start(version, only_the_first(), |port| {
        before.into_iter().chain([Kind::Authz.module_with(cache(key), fields, port)]).collect()
    })
    .await
    .unwrap()
}

fn bearers() -> impl Iterator<Item = Request> {
    TOKENS
        .iter()
        .map(|token| Request::get("/p").header("authorization", &format!("Bearer {token}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_context_is_no_key() {
    let context = json!({"context": true});
    for version in Version::ALL {
        // Neither context extensions nor metadata, and metadata that are not there.
        for fields in [json!({}), json!({"metadata_context_namespaces": ["nobody.sets.it"]})] {
            let gateway = gateway(version, &context, fields.clone(), None).await;
            let users = ["a", "b"].map(|user| Request::get("/p").header("authorization", user));
            assert_eq!(gateway.statuses(users).await, [200, 403], "{version} {fields}");
            assert_eq!(gateway.asked(), 2, "{version} {fields}");
            assert_eq!(gateway.envoy.stat("authz.cache_bypassed").await, 2, "{version} {fields}");
        }
    }
}

/// A payload is an object, which a module can't read: neither the service nor the key has it.
#[tokio::test(flavor = "multi_thread")]
async fn users_whom_only_a_payload_tells_apart_share_nothing() {
    let told = json!({"metadata_context_namespaces": [JWT]});
    for version in Version::ALL {
        // jwt_authn's own default takes the token away.
        for (key, forward) in [
            (Value::Null, false),
            (json!({"context": true}), false),
            (json!({"context": true}), true),
        ] {
            let at = format!("{version} {key} {forward}");
            let gateway = gateway(version, &key, told.clone(), Some(jwt_authn(forward))).await;
            assert_eq!(gateway.statuses(bearers()).await, [200, 403], "{at}");
            assert_eq!(gateway.asked(), 2, "{at}");
            assert_eq!(gateway.envoy.stat("authz.cache_bypassed").await, 2, "{at}");
            assert_eq!(gateway.envoy.stat("authz.unreadable_metadata").await, 2, "{at}");
            let told = gateway.services.asked();
            let token = told.iter().any(|asked| asked.to_string().contains("Bearer"));
            assert_eq!(token, forward, "{at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_forwarded_is_a_key() {
    for version in Version::ALL {
        let told = json!({"metadata_context_namespaces": [JWT]});
        let by_token = json!({"headers": ["authorization"]});
        let gateway = gateway(version, &by_token, told, Some(jwt_authn(true))).await;
        let requests = bearers().chain(bearers());
        assert_eq!(gateway.statuses(requests).await, [200, 403, 200, 403], "{version}");
        assert_eq!(gateway.asked(), 2, "{version}");
        assert_eq!(gateway.envoy.stat("authz.cache_hit").await, 2, "{version}");
    }
}

/// What can be read tells users apart, and is a key.
#[tokio::test(flavor = "multi_thread")]
async fn readable_metadata_are_a_key_lists_included() {
    let set = lua("function envoy_on_request(h)
           local who = h:headers():get('x-who')
           h:streamInfo():dynamicMetadata():set('m', 'roles', {'user', who})
           h:headers():remove('x-who')
         end");
    for version in Version::ALL {
        for key in [Value::Null, json!({"context": true})] {
            let told = json!({"metadata_context_namespaces": ["m"]});
            let gateway = gateway(version, &key, told, Some(set.clone())).await;
            let requests = ["a", "b", "a", "b"].map(|who| Request::get("/p").header("x-who", who));
            let statuses = gateway.statuses(requests).await;
            assert_eq!(statuses, [200, 403, 200, 403], "{version} {key}");
            assert_eq!(gateway.asked(), 2, "{version} {key}");
            assert_eq!(gateway.envoy.stat("authz.cache_hit").await, 2, "{version} {key}");
        }
    }
}
