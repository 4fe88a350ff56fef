//! An endpoint picker by the protocol of the Kubernetes inference extension: it reads the whole request,
//! names the endpoint for its model with the answer to the headers, and streams both bodies.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use callout_protos::envoy::service::ext_proc::v3 as proto;
use futures::stream;
use proto::processing_request::Request as Part;
use serde_json::{Value, json};

use crate::services::{Script, message};

/// The header, and the key under `envoy.lb` of the dynamic metadata, that name the endpoint.
pub const ENDPOINT: &str = "x-gateway-destination-endpoint";

/// A picker that knows an endpoint for each model, which the request names as `{"model": "a"}`; others
/// get no endpoint. It serves one request at a time.
#[must_use]
pub fn picker(endpoints: HashMap<String, Vec<SocketAddr>>) -> Script {
    let request = Mutex::new(Vec::new());
    Script::default().process_each(move |asked, _| {
        let mut request = request.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = match asked.request {
            // Answered with the body.
            Some(Part::RequestHeaders(headers)) if !headers.end_of_stream => {
                request.clear();
                vec![]
            }
            Some(Part::RequestHeaders(_)) => vec![json!({"requestHeaders": {}})],
            Some(Part::RequestBody(body)) => {
                request.extend_from_slice(&body.body);
                if body.end_of_stream {
                    let whole = std::mem::take(&mut *request);
                    vec![picked(&endpoints, &whole), streamed("requestBody", &whole, true)]
                } else {
                    vec![]
                }
            }
            Some(Part::ResponseHeaders(_)) => vec![json!({"responseHeaders": {}})],
            Some(Part::ResponseBody(body)) => {
                vec![streamed("responseBody", &body.body, body.end_of_stream)]
            }
            Some(Part::RequestTrailers(_)) => vec![json!({"requestTrailers": {}})],
            Some(Part::ResponseTrailers(_)) => vec![json!({"responseTrailers": {}})],
            None => vec![],
        };
        stream::iter(answers.into_iter().map(|answer| Ok(message(answer))))
    })
}

fn picked(endpoints: &HashMap<String, Vec<SocketAddr>>, request: &[u8]) -> Value {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let model = request["model"].as_str().unwrap_or_default();
    let Some(endpoints) = endpoints.get(model) else { return json!({"requestHeaders": {}}) };
    let list: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
    let list = list.join(",");
    json!({
        "requestHeaders": {"response": {
            "clearRouteCache": true,
            "headerMutation": {"setHeaders": [
                {"header": {"key": ENDPOINT, "rawValue": BASE64.encode(&list)}},
            ]},
        }},
        "dynamicMetadata": {"envoy.lb": {ENDPOINT: list}},
    })
}

fn streamed(part: &str, body: &[u8], end: bool) -> Value {
    let body = json!({"body": BASE64.encode(body), "endOfStream": end});
    let mutation = json!({"streamedResponse": body});
    json!({part: {"response": {"bodyMutation": mutation}}})
}
