//! The same libraries in every supported Envoy: configuration to verdict, in both forms.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::envoy::Form;
use callout_integration::prelude::*;
use callout_integration::services::message;

/// Runs a request through our `kind` filter in every version, in both forms, with a per-route
/// configuration.
async fn in_every_version(
    kind: Kind,
    config: Value,
    route: Value,
    script: Script,
    check: impl Fn(&Response, &[Value], &Upstream),
) {
    for version in Version::ALL {
        for form in [Form::Message, Form::Struct] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(script.clone()).await.unwrap();
            let filter = kind.module_raw(form, kind.config(config.clone(), services.port()));
            let bootstrap = Bootstrap::new(upstream.port(), vec![filter])
                .per_route(kind.module_route(form, route.clone()));
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            let response = Request::post("/p").body("body").send(envoy.port()).await;
            check(&response, &services.asked(), &upstream);
            let complaints: Vec<String> = envoy
                .log()
                .lines()
                .filter(|line| {
                    line.contains("[warning][dynamic_modules]") || line.contains("[error]")
                })
                .map(str::to_owned)
                .collect();
            assert!(complaints.is_empty(), "{version} {form:?}: {complaints:?}");
            envoy.stat_becomes("live_streams", 0).await.unwrap();
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version}: {status}\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authz_allows_and_adds_the_routes_context() {
    let script = Script::default().check(|_, _| async {
        Ok(message(json!({"status": {}, "okResponse": {
            "headers": [{"header": {"key": "x-user", "value": "u"}}],
            "responseHeadersToAdd": [{"header": {"key": "x-seen", "value": "1"}}],
        }, "dynamicMetadata": {"a": 1, "b": "t", "c": true}})))
    });
    let route = json!({"check_settings": {"context_extensions": {"k": "v"}}});
    in_every_version(Kind::Authz, json!({}), route, script, |response, asked, upstream| {
        assert_eq!((response.status, response.header("x-seen")), (200, Some("1")));
        assert_eq!(asked[0]["attributes"]["contextExtensions"]["k"], "v");
        assert_eq!(upstream.seen()[0].header("x-user"), Some("u"));
        assert_eq!(upstream.seen()[0].body, b"body");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authz_denies() {
    let script = Script::default().check(|_, _| async {
        let denied = json!({"status": {"code": "Unauthorized"}, "body": "no"});
        Ok(message(json!({"status": {"code": 7}, "deniedResponse": denied})))
    });
    let route = json!({"check_settings": {}});
    in_every_version(Kind::Authz, json!({}), route, script, |response, _, upstream| {
        assert_eq!((response.status, response.body_text()), (401, "no".to_owned()));
        assert!(upstream.seen().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ratelimit_limits_by_the_routes_descriptors() {
    let script = Script::default().limit(|_, _| async {
        Ok(message(json!({"overallCode": "OVER_LIMIT", "rawBody": "bm8="})))
    });
    let route = json!({"rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "r"}}]}]});
    in_every_version(Kind::RateLimit, json!({}), route, script, |response, asked, upstream| {
        assert_eq!((response.status, response.header("x-envoy-ratelimited")), (429, Some("true")));
        assert_eq!(asked[0]["descriptors"][0]["entries"][0]["value"], "r");
        assert!(upstream.seen().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ratelimit_lets_pass() {
    let route = json!({"domain": "other"});
    let script = Script::default();
    in_every_version(Kind::RateLimit, json!({}), route, script, |response, asked, _| {
        assert_eq!((response.status, &asked[0]["domain"]), (200, &json!("other")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extproc_changes_headers_and_bodies() {
    let script = Script::default().process(|request, _| async move {
        let mut answer = serde_json::to_value(callout_integration::services::unchanged(&request))
            .unwrap_or_default();
        let body = json!({"response": {
            "bodyMutation": {"body": "TkVX"}, "headerMutation": {"removeHeaders": ["content-length"]},
        }});
        for kind in ["requestBody", "responseBody"] {
            if answer.get(kind).is_some() {
                answer[kind] = body.clone();
            }
        }
        Ok(message(answer))
    });
    let route = json!({"overrides": {"processing_mode": {
        "request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED",
    }}});
    in_every_version(Kind::ExtProc, json!({}), route, script, |response, asked, upstream| {
        assert_eq!((response.status, response.body_text()), (200, "NEW".to_owned()));
        assert_eq!(upstream.seen()[0].body, b"NEW");
        assert_eq!(asked.len(), 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extproc_answers_the_client() {
    let script = Script::default().process(|_, _| async {
        Ok(message(json!({"immediateResponse": {"status": {"code": "Forbidden"}, "body": "bm8="}})))
    });
    let route = json!({"overrides": {}});
    in_every_version(Kind::ExtProc, json!({}), route, script, |response, _, upstream| {
        assert_eq!((response.status, response.body_text()), (403, "no".to_owned()));
        assert!(upstream.seen().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_about_a_request_without_a_route() {
    for version in Version::ALL {
        for kind in [Kind::Authz, Kind::RateLimit] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::default()).await.unwrap();
            let filter = kind.module(json!({}), services.port());
            let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
            let answer = json!({"status": 200, "body": {"inline_string": "direct"}});
            bootstrap.routes = vec![
                json!({"match": {"path": "/there"}, "route": {"cluster": "upstream"}}),
                json!({"match": {"path": "/direct"}, "direct_response": answer}),
            ];
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            let status = async |path: &str| Request::get(path).send(envoy.port()).await.status;
            // Before 1.40 a module can't tell, and an access check errs on the safe side.
            let blind = kind == Kind::Authz && version != Version::V1_40;
            let before = usize::from(blind);
            assert_eq!(status("/nowhere").await, 404, "{version} {kind:?}");
            assert_eq!(services.asked().len(), before, "{version} {kind:?}");
            assert_eq!(status("/there").await, 200, "{version} {kind:?}");
            assert_eq!(services.asked().len(), before + 1, "{version} {kind:?}");
            // Without a cluster there is nothing to limit; access is checked all the same.
            assert_eq!(status("/direct").await, 200, "{version} {kind:?}");
            let direct = usize::from(kind == Kind::Authz);
            assert_eq!(services.asked().len(), before + 1 + direct, "{version} {kind:?}");
        }
    }
}
