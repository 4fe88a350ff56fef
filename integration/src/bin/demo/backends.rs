//! The demo's three services.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use callout_integration::services::{Script, message, unchanged};
use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use callout_protos::envoy::service::ext_proc::v3::body_mutation::Mutation;
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;
use callout_protos::envoy::service::ext_proc::v3::processing_response::Response;
use callout_protos::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, ProcessingRequest,
    ProcessingResponse,
};
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use serde_json::json;
use tonic::Status;

use crate::record::Record;

/// Requests that one user may send to `/limited`.
const LIMIT: u32 = 2;

/// What they answer; `record` notes each question and its answer.
pub(crate) fn script(record: &Record) -> Script {
    let counts: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let [checks, limits, parts] = [record.clone(), record.clone(), record.clone()];
    Script::default()
        .check(move |request, _| {
            let (record, since) = (checks.clone(), Instant::now());
            async move {
                let answer = check(request.clone()).await;
                record.note("authz", &request, &answer, since);
                answer
            }
        })
        .limit(move |request, _| {
            let (since, answer) = (Instant::now(), Ok::<_, Status>(limit(&request, &counts)));
            limits.note("ratelimit", &request, &answer, since);
            std::future::ready(answer)
        })
        .process(move |request, _| {
            let (since, answer) = (Instant::now(), Ok::<_, Status>(process(&request)));
            parts.note("extproc", &request, &answer, since);
            std::future::ready(answer)
        })
}

/// Knows one token, and keeps `/secret` to itself. `/slow` takes it longer than Envoy waits.
async fn check(request: CheckRequest) -> Result<CheckResponse, Status> {
    let http = request
        .attributes
        .and_then(|attributes| attributes.request)
        .and_then(|request| request.http)
        .unwrap_or_default();
    let user = match http.headers.get("authorization").map(String::as_str) {
        Some("Bearer alice") => "alice",
        Some("Bearer bob") => "bob",
        _ => {
            return Ok(message(json!({"status": {"code": 16}, "deniedResponse": {
                "status": {"code": "Unauthorized"}, "body": "who are you?\n",
                "headers": [{"header": {"key": "www-authenticate", "value": "Bearer"}}],
            }})));
        }
    };
    if http.path == "/slow" {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    if http.path == "/secret" && user != "bob" {
        return Ok(message(json!({"status": {"code": 7}, "deniedResponse": {
            "status": {"code": "Forbidden"}, "body": "not for you\n",
        }})));
    }
    Ok(message(json!({"status": {}, "okResponse": {
        "headers": [{"header": {"key": "x-user", "value": user}}],
        "headersToRemove": ["authorization"],
    }})))
}

/// Counts by path and user; only `/limited` has a limit.
fn limit(request: &RateLimitRequest, counts: &Mutex<HashMap<String, u32>>) -> RateLimitResponse {
    let key: Vec<&str> = request
        .descriptors
        .iter()
        .flat_map(|descriptor| &descriptor.entries)
        .map(|entry| entry.value.as_str())
        .collect();
    if key.first() != Some(&"/limited") {
        return message(json!({"overallCode": "OK"}));
    }
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(key.join(" ")).or_default();
    *count += 1;
    let code = if *count > LIMIT { "OVER_LIMIT" } else { "OK" };
    message(json!({"overallCode": code, "statuses": [{
        "code": code,
        "currentLimit": {"requestsPerUnit": LIMIT, "unit": "MINUTE"},
        "limitRemaining": LIMIT.saturating_sub(*count),
        "durationUntilReset": "30s",
    }]}))
}

/// Signs what passes, writes request bodies in capitals, and answers `/paywall` itself.
fn process(request: &ProcessingRequest) -> ProcessingResponse {
    // Header values travel as bytes: `eA==` is `x`.
    let signed = json!({"headerMutation": {"setHeaders": [{"header": {"key": "x-processed", "rawValue": "eWVz"}}]}});
    match &request.request {
        Some(Part::RequestHeaders(headers)) => {
            let paywall = headers
                .headers
                .iter()
                .flat_map(|map| &map.headers)
                .any(|header| header.key == ":path" && header.raw_value == b"/paywall");
            if paywall {
                return message(json!({"immediateResponse": {
                    "status": {"code": "PaymentRequired"}, "body": "cGF5IGZpcnN0Cg==",
                }}));
            }
            message(json!({"requestHeaders": {"response": signed}}))
        }
        Some(Part::ResponseHeaders(_)) => message(json!({"responseHeaders": {"response": signed}})),
        Some(Part::RequestBody(body)) => {
            let mutation = Some(Mutation::Body(body.body.to_ascii_uppercase()));
            let common = CommonResponse {
                body_mutation: Some(BodyMutation { mutation }),
                header_mutation: Some(HeaderMutation {
                    remove_headers: vec!["content-length".to_owned()],
                    ..Default::default()
                }),
                ..Default::default()
            };
            let response = Response::RequestBody(BodyResponse { response: Some(common) });
            ProcessingResponse { response: Some(response), ..Default::default() }
        }
        _ => unchanged(request),
    }
}
