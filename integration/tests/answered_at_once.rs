//! A local reply that comes while the request is being let go on, and that extproc holds for its
//! processor: a route that answers, no route, nobody upstream, a filter behind that refuses. The
//! client sees what it sees with the built-in filter of the same version.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::processing_request::Request as Part;

fn answer(mode: &str, request: &proto::ProcessingRequest) -> proto::ProcessingResponse {
    let add = json!({"setHeaders": [{"header": {"key": "x-processed", "rawValue": "MQ=="}}]});
    let whole = json!({"headerMutation": {"removeHeaders": ["content-length"]}});
    match &request.request {
        Some(Part::ResponseHeaders(_)) => {
            message(json!({"responseHeaders": {"response": {"headerMutation": add}}}))
        }
        Some(Part::ResponseBody(body)) if mode == "FULL_DUPLEX_STREAMED" => {
            let mutation = json!({"streamedResponse": {
                "body": "ZGVjaWRlZA==", "endOfStream": body.end_of_stream,
            }});
            message(json!({"responseBody": {"response": {"bodyMutation": mutation}}}))
        }
        Some(Part::ResponseBody(_)) => {
            let mut common = whole;
            common["bodyMutation"] = json!({"body": "ZGVjaWRlZA=="});
            message(json!({"responseBody": {"response": common}}))
        }
        _ => unchanged(request),
    }
}

/// What tells two responses apart.
fn told(response: &Response) -> String {
    let mut headers: Vec<String> = response
        .headers
        .iter()
        // Whether the connection stays open depends on how much of the request was there.
        .filter(|(name, _)| !["date", "connection"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    // The status of a gRPC response without a body may be among the headers or in trailers.
    headers.extend(response.trailers.iter().map(|(name, value)| format!("{name}: {value}")));
    headers.sort_unstable();
    format!("{} {:?} {headers:?} {}", response.status, response.end, response.body_text())
}

fn requests() -> Vec<Request> {
    let paths = ["/direct", "/large", "/empty", "/nobody", "/nowhere", "/denied"];
    let mut requests = Vec::new();
    for path in paths {
        for request in [
            Request::get(path),
            Request::post(path).body("body"),
            Request::get(path).header("accept-encoding", "gzip"),
            Request::new("HEAD", path),
            Request::post(path).header("content-type", "application/grpc").body("\0\0\0\0\0"),
        ] {
            requests.push(request.clone().http2());
            requests.push(request);
        }
    }
    requests
}

fn bootstrap(filter: Value) -> Bootstrap {
    let deny = json!({
        "name": "deny",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"denied": {
                "permissions": [{"url_path": {"path": {"prefix": "/denied"}}}],
                "principals": [{"any": true}],
            }}},
        },
    });
    // They see the reply before extproc does.
    let lua = json!({
        "name": "lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string":
                "function envoy_on_response(h) h:headers():add('x-lua', '1') end"},
        },
    });
    let compressor = json!({
        "name": "compressor",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor",
            "compressor_library": {"name": "gzip", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip",
            }},
        },
    });
    let mut bootstrap = Bootstrap::new(1, vec![filter, compressor, lua, deny]);
    let route = |path: &str, action: Value| {
        let mut route = json!({"match": {"prefix": path}});
        route["direct_response"] = action;
        route
    };
    let up = |path: &str| json!({"match": {"prefix": path}, "route": {"cluster": "upstream"}});
    bootstrap.routes = vec![
        route("/direct", json!({"status": 202, "body": {"inline_string": "from the route"}})),
        route("/large", json!({"status": 202, "body": {"inline_string": "x".repeat(4000)}})),
        route("/empty", json!({"status": 403})),
        up("/nobody"),
        up("/denied"),
    ];
    bootstrap
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_sees_what_it_sees_with_the_built_in_filter() {
    for version in Version::ALL {
        for mode in ["NONE", "BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED"] {
            let trailers = if mode.starts_with("FULL") { "SEND" } else { "DEFAULT" };
            let fields = json!({"message_timeout": "5s", "processing_mode": {
                "response_body_mode": mode, "response_trailer_mode": trailers,
            }});
            let script = Script::default()
                .process(move |request, _| std::future::ready(Ok(answer(mode, &request))))
                .unrecorded();
            let services = Services::start(script).await.unwrap();
            let ours = Kind::ExtProc.module(fields.clone(), services.port());
            let theirs = Kind::ExtProc.builtin(fields, services.port());
            let ours = Envoy::start(version, &bootstrap(ours)).await.unwrap();
            let theirs = Envoy::start(version, &bootstrap(theirs)).await.unwrap();
            for request in requests() {
                let expected = told(&request.clone().send(theirs.port()).await);
                let seen = told(&request.clone().send(ours.port()).await);
                assert_eq!(seen, expected, "{version} {mode} {request:?}");
            }
            ours.stat_becomes("live_streams", 0).await.unwrap();
            assert_eq!(ours.stat("panics").await, 0, "{version} {mode}");
        }
    }
}
