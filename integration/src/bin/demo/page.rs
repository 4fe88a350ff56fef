//! `cargo demo -- --serve`: a page that shows each request as it goes.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, Json};
use axum::routing::{get, post};
use callout_integration::eventually;
use serde_json::{Value, json};

use crate::{Demo, steps};

/// How many requests the page shows.
const SHOWN: usize = 100;

/// Serves the page on a free port of this machine, for as long as the program runs; returns the port.
pub(crate) async fn serve(demo: Arc<Demo>) -> Result<u16> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let routes = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/steps", get(list))
        .route("/exchanges", get(exchanges))
        .route("/send/{number}", post(send))
        .with_state(demo);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(port)
}

/// The requests to try.
async fn list(State(demo): State<Arc<Demo>>) -> Json<Value> {
    let port = demo.envoy.port();
    Json(steps::steps().iter().map(|step| step.described(port)).collect())
}

/// Sends one of them through Envoy, and tells what became of it.
async fn send(
    State(demo): State<Arc<Demo>>,
    Path(number): Path<usize>,
) -> Result<Json<Value>, StatusCode> {
    let step = steps::steps().into_iter().nth(number).ok_or(StatusCode::NOT_FOUND)?;
    let id = step.send(&demo).await.ok_or(StatusCode::BAD_GATEWAY)?;
    let mut found = None;
    // The line of the access log comes after the response.
    let logged = eventually("the access log has the request", || {
        found = all(&demo).into_iter().find(|exchange| id_of(exchange) == Some(&id));
        found.is_some()
    });
    logged.await.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?;
    found.map(Json).ok_or(StatusCode::GATEWAY_TIMEOUT)
}

/// What became of the latest requests, whoever sent them; the oldest first.
async fn exchanges(State(demo): State<Arc<Demo>>) -> Json<Value> {
    let all = all(&demo);
    let first = all.len().saturating_sub(SHOWN);
    Json(all.into_iter().skip(first).collect())
}

fn all(demo: &Demo) -> Vec<Value> {
    let seen = demo.upstream.seen();
    let lines = std::fs::read_to_string(demo.log.path()).unwrap_or_default();
    let entries = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let whole = |mut entry: Value| {
        let id = id_of(&entry).unwrap_or_default().to_owned();
        let reached = seen.iter().find(|seen| seen.header("x-request-id") == Some(id.as_str()));
        let reached = reached.map(|seen| {
            json!({
                "request": format!("{} {}", seen.method, seen.path),
                "headers": seen.headers,
                "body": String::from_utf8_lossy(&seen.body),
            })
        });
        if let Some(fields) = entry.as_object_mut() {
            fields.insert("talks".to_owned(), json!(demo.record.about(&id)));
            fields.insert("upstream".to_owned(), json!(reached));
        }
        entry
    };
    entries.map(whole).collect()
}

fn id_of(exchange: &Value) -> Option<&str> {
    exchange.get("id")?.as_str()
}

/// The access log from which the page knows of requests.
pub(crate) fn access_log(path: &std::path::Path) -> Value {
    json!([{"name": "file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": path,
        "log_format": {"json_format": {
            "id": "%REQ(x-request-id)%",
            "method": "%REQ(:method)%",
            "path": "%REQ(:path)%",
            "status": "%RESPONSE_CODE%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "ms": "%DURATION%",
            "authz": "%DYNAMIC_METADATA(callout.authz)%",
            "ratelimit": "%DYNAMIC_METADATA(callout.ratelimit)%",
            "extproc": "%DYNAMIC_METADATA(callout.extproc)%",
        }},
    }}])
}
