//! `envoy_grpc`: the calls go through a cluster of Envoy's.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use callout_integration::envoy::{Form, Options, merge};
use callout_integration::prelude::*;
use callout_integration::services::message;

/// The filter with its calls going to the cluster `service`, and `fields`.
fn filter(kind: Kind, fields: Value) -> Value {
    kind.module(merge(kind.by_cluster(), fields), 0)
}

/// An Envoy with the cluster `service` at `port`.
fn bootstrap(upstream: &Upstream, port: u16, filter: Value) -> Bootstrap {
    let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    bootstrap.service = Some(port);
    bootstrap
}

/// Denies what asks for `/denied`.
fn choosy() -> Script {
    Script::default()
        .check(|request, _| async move {
            let denied = serde_json::to_string(&request).unwrap_or_default().contains("/denied");
            Ok(message(if denied {
                json!({"status": {"code": 7}, "deniedResponse": {"body": "no"}})
            } else {
                json!({"status": {}, "okResponse": {"headers": [
                    {"header": {"key": "x-from-service", "value": "1"}},
                ]}})
            }))
        })
        .limit(|request, _| async move {
            let denied = serde_json::to_string(&request).unwrap_or_default().contains("/denied");
            Ok(message(json!({"overallCode": if denied { "OVER_LIMIT" } else { "OK" }})))
        })
        .process(|request, _| async move {
            let text = serde_json::to_string(&request).unwrap_or_default();
            let denied =
                text.contains("requestHeaders") && text.contains(&BASE64.encode("/denied"));
            Ok(if denied {
                message(json!({"immediateResponse": {"status": {"code": "Forbidden"}}}))
            } else {
                callout_integration::services::unchanged(&request)
            })
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_carried_out_in_every_version() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(choosy()).await.unwrap();
            let by_path = json!({"rate_limits": [{"actions": [{"request_headers": {
                "header_name": ":path", "descriptor_key": "path",
            }}]}]});
            let fields = if kind == Kind::RateLimit { by_path } else { json!({}) };
            let bootstrap = bootstrap(&upstream, services.port(), filter(kind, fields));
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            let denied = if kind == Kind::RateLimit { 429 } else { 403 };
            for request in [Request::get, Request::post] {
                for (path, status) in [("/allowed", 200), ("/denied", denied), ("/allowed", 200)] {
                    let response = request(path).send(envoy.port()).await;
                    assert_eq!(response.status, status, "{version} {kind:?} {path}");
                }
            }
            assert_eq!(upstream.seen().len(), 4, "{version} {kind:?}");
            let calls = envoy.stat("cluster.service.upstream_rq_total").await;
            assert_eq!(calls, 6, "{version} {kind:?}: Envoy carried the calls");
            // Nothing is left of them.
            envoy.stat_becomes("cluster.service.upstream_rq_active", 0).await.unwrap();
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version} {kind:?}: {status}\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_size_go_through_the_processor_whole() {
    for version in Version::ALL {
        for mode in ["BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"] {
            let body = vec![b'x'; 900_000];
            let answer = Answer { body: vec![body.clone()], ..Answer::default() };
            let upstream = Upstream::start(answer).await.unwrap();
            let services = Services::start(echo(mode).unrecorded()).await.unwrap();
            let modes = json!({"processing_mode": {
                "request_body_mode": mode, "response_body_mode": mode,
                "request_trailer_mode": "SEND", "response_trailer_mode": "SEND",
            }});
            let filter = filter(Kind::ExtProc, modes);
            let envoy = Envoy::start(version, &bootstrap(&upstream, services.port(), filter))
                .await
                .unwrap();
            let response = Request::post("/").body(body.clone()).send(envoy.port()).await;
            assert_eq!(response.status, 200, "{version} {mode}: {response:?}");
            assert!(response.body == body, "{version} {mode}: {} bytes", response.body.len());
            assert!(upstream.seen()[0].body == body, "{version} {mode}");
            envoy.stat_becomes("cluster.service.upstream_rq_active", 0).await.unwrap();
        }
    }
}

/// A processor that sends back what it gets.
fn echo(mode: &str) -> Script {
    use callout_protos::envoy::service::ext_proc::v3 as proto;
    use proto::processing_request::Request as Part;
    let duplex = mode == "FULL_DUPLEX_STREAMED";
    Script::default().process(move |request, _| async move {
        let mut answer = callout_integration::services::unchanged(&request);
        let body = match request.request {
            Some(Part::RequestBody(body) | Part::ResponseBody(body)) if duplex => body,
            _ => return Ok(answer),
        };
        let streamed = proto::StreamedBodyResponse {
            body: body.body,
            end_of_stream: body.end_of_stream,
            ..Default::default()
        };
        let mutation = proto::body_mutation::Mutation::StreamedResponse(streamed);
        let body = proto::BodyResponse {
            response: Some(proto::CommonResponse {
                body_mutation: Some(proto::BodyMutation { mutation: Some(mutation) }),
                ..Default::default()
            }),
        };
        use proto::processing_response::Response as Reply;
        answer.response = answer.response.map(|response| match response {
            Reply::RequestBody(_) => Reply::RequestBody(body),
            _ => Reply::ResponseBody(body),
        });
        Ok(answer)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_has_no_answer_is_the_failure_modes_case() {
    let closed = Services::start(Script::default()).await.unwrap().port();
    let silent = Services::start(Script::silent()).await.unwrap();
    let unknown = json!({"grpc_service": {"envoy_grpc": {"cluster_name": "nobody"}}});
    for (kind, short, status) in [
        (Kind::Authz, json!({"grpc_service": {"timeout": "0.3s"}}), 403),
        (Kind::RateLimit, json!({"timeout": "0.3s", "failure_mode_deny": true}), 500),
        (Kind::ExtProc, json!({"message_timeout": "0.3s"}), 500),
    ] {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let unknown = match kind {
            Kind::RateLimit => json!({"rate_limit_service": unknown}),
            Kind::Authz | Kind::ExtProc => unknown.clone(),
        };
        let late = if kind == Kind::ExtProc { 504 } else { status };
        for (what, port, fields, status) in [
            ("down", closed, short.clone(), status),
            ("silent", silent.port(), short.clone(), late),
            ("unknown", closed, merge(short.clone(), unknown), status),
        ] {
            let bootstrap = bootstrap(&upstream, port, filter(kind, fields));
            let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
            for _ in 0..2 {
                let response = Request::post("/").body("b").send(envoy.port()).await;
                assert_eq!(response.status, status, "{kind:?} {what}");
            }
            assert_eq!(envoy.stat("panics").await, 0);
        }
        assert!(upstream.seen().is_empty(), "{kind:?}");
    }
    eventually("the calls were cancelled", || silent.open() == 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_the_call() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::silent()).await.unwrap();
            let filter = filter(kind, kind.patient());
            let envoy = Envoy::start(version, &bootstrap(&upstream, services.port(), filter))
                .await
                .unwrap();
            let request = Request::get("/").abort_after(Duration::from_millis(150));
            assert!(!request.send(envoy.port()).await.is_complete(), "{version} {kind:?}");
            let what = format!("{version} {kind:?}: the service sees the client go");
            eventually(&what, || services.open() == 0 && services.cancelled() > 0).await.unwrap();
            envoy.stat_becomes("live_streams", 0).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_and_a_shutdown_leave_no_call_without_its_end() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::silent()).await.unwrap();
            let filter = filter(kind, kind.patient());
            let bootstrap = bootstrap(&upstream, services.port(), filter);
            let options = Options { lds: true, ..Options::default() };
            let mut envoy = Envoy::start_with(version, &bootstrap, options).await.unwrap();
            let port = envoy.port();
            let send = || tokio::spawn(async move { Request::get("/").send(port).await });
            let old = send();
            eventually("the first call is pending", || services.open() == 1).await.unwrap();
            assert!(envoy.replace_listener(&bootstrap).await.unwrap(), "{version} {kind:?}");
            let new = send();
            eventually("both calls are pending", || services.open() == 2).await.unwrap();
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version} {kind:?}: {status}\n{log}");
            for request in [old, new] {
                assert!(request.await.unwrap().status != 200, "{version} {kind:?}");
            }
            assert!(upstream.seen().is_empty(), "{version} {kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routes_own_service_may_be_a_cluster() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let refusing = check(json!({"status": {"code": 7}, "deniedResponse": {}}));
    let (filters, routes) = (
        Services::start(Script::default()).await.unwrap(),
        Services::start(refusing).await.unwrap(),
    );
    let service = json!({"grpc_service": {"envoy_grpc": {"cluster_name": "service"}}});
    let route = Kind::Authz.module_route(Form::Message, json!({"check_settings": service}));
    let mut bootstrap =
        Bootstrap::new(upstream.port(), vec![Kind::Authz.module(json!({}), filters.port())])
            .per_route(route);
    bootstrap.service = Some(routes.port());
    let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
    assert_eq!(Request::get("/").send(envoy.port()).await.status, 403);
    assert!(filters.asked().is_empty() && routes.asked().len() == 1);
}

/// An authorization service with this answer.
fn check(reply: Value) -> Script {
    Script::default().check(move |_, _| std::future::ready(Ok(message(reply.clone()))))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_all_workers_share_a_call() {
    let script = Script::default().check(|_, _| async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        Ok(message(json!({"status": {}})))
    });
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let fields = merge(Kind::Authz.by_cluster(), Kind::Authz.patient());
    let filter = Kind::Authz.module_with(json!({"coalesce": true}), fields, 0);
    let bootstrap = bootstrap(&upstream, services.port(), filter);
    let options = Options { concurrency: 2, ..Options::default() };
    let envoy = Envoy::start_with(Version::LATEST, &bootstrap, options).await.unwrap();
    let port = envoy.port();
    let leaver = Request::get("/same").abort_after(Duration::from_millis(100));
    let mut requests = vec![tokio::spawn(async move { leaver.send(port).await })];
    eventually("the first asked", || services.open() == 1).await.unwrap();
    requests.extend(
        (0..10).map(|_| tokio::spawn(async move { Request::get("/same").send(port).await })),
    );
    for (index, request) in requests.into_iter().enumerate() {
        let response = request.await.unwrap();
        assert_eq!(response.is_complete(), index != 0, "{response:?}");
        assert!(index == 0 || response.status == 200);
    }
    assert_eq!(services.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_the_clusters_name_or_the_configured_one() {
    // Over HTTP/1.1 to a server that is no gRPC service, but shows what it was sent.
    for (authority, expected) in [(None, "upstream"), (Some("authz.example"), "authz.example")] {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let own = json!({"cluster_name": "upstream", "authority": authority});
        let own = json!({"grpc_service": {"envoy_grpc": own}});
        let bootstrap = bootstrap(&upstream, 0, filter(Kind::Authz, own));
        let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
        assert_eq!(Request::get("/").send(envoy.port()).await.status, 403);
        let seen = upstream.seen();
        assert_eq!(seen[0].path, "/envoy.service.auth.v3.Authorization/Check");
        assert_eq!(seen[0].header("host"), Some(expected));
        assert_eq!(seen[0].header("content-type"), Some("application/grpc"));
        assert_eq!(seen[0].header("x-envoy-internal"), Some("true"));
        assert!(seen[0].header("grpc-timeout").is_some());
    }
}
