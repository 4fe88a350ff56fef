//! What each request of the soak has coming, by its number alone, and the services that say so.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use callout_integration::client::{End, Response};
use callout_integration::services::{Script, message, unchanged};
use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;
use callout_protos::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use callout_protos::pbjson_types::value::Kind as Value;
use serde_json::json;
use tonic::{Code, Status};

/// What the services say of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes all three.
    Passes,
    /// The authorization service denies it.
    Denied,
    /// The authorization service fails.
    Fails,
    /// The authorization service does not answer in time.
    Silent,
    /// It is over its limit.
    Limited,
    /// The processor answers it.
    Answered,
}

impl Verdict {
    /// That of request `number`.
    pub(crate) const fn of(number: u64) -> Self {
        match number % 20 {
            0 | 1 => Self::Denied,
            2 => Self::Fails,
            3 => Self::Silent,
            4..=6 => Self::Limited,
            7 | 8 => Self::Answered,
            _ => Self::Passes,
        }
    }

    /// Whether `response` is what request `number` had coming, or a failure that closes.
    ///
    /// # Errors
    /// What is wrong with it: a verdict that was not its own is never right.
    pub(crate) fn check(self, number: u64, response: &Response) -> Result<Seen, String> {
        let own = |name: &str| response.header(name) == Some(number.to_string().as_str());
        match response.end {
            End::Aborted => return Ok(Seen::Aborted),
            End::TimedOut => return Err("it hung".into()),
            _ if !response.is_complete() => return Ok(Seen::Failed),
            _ => {}
        }
        match (self, response.status) {
            (Self::Passes, 200) if own("x-verdict") && own("x-processed") => {
                let whole = response.body_text() == "upstream body";
                if whole { Ok(Seen::Verdict) } else { Err("its body is not the upstream's".into()) }
            }
            (Self::Denied, 401) if response.body_text() == number.to_string() => Ok(Seen::Verdict),
            (Self::Limited, 429) if own("x-limit") => Ok(Seen::Verdict),
            (Self::Answered, 409) if response.body_text() == number.to_string() => {
                Ok(Seen::Verdict)
            }
            (Self::Fails | Self::Silent, 403) => Ok(Seen::Verdict),
            // Fail-closed answers of the three filters, and Envoy's own when a listener goes.
            (_, 403 | 500 | 503 | 504) => Ok(Seen::Failed),
            (_, status) => Err(format!("{self:?} was answered {status}, {:?}", response.headers)),
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its own verdict.
    Verdict,
    /// A failure, which closed.
    Failed,
    /// The client left.
    Aborted,
}

fn number_in(path: &str) -> u64 {
    path.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The three services.
pub(crate) fn script() -> Script {
    Script::default()
        .check(|request, _| check(request))
        .limit(|request, _| std::future::ready(Ok(limit(&request))))
        .process(|request, _| std::future::ready(Ok(process(&request))))
        .unrecorded()
}

async fn check(request: CheckRequest) -> Result<CheckResponse, Status> {
    let path = request
        .attributes
        .and_then(|attributes| attributes.request)
        .and_then(|request| request.http)
        .map(|http| http.path)
        .unwrap_or_default();
    let number = number_in(&path);
    match Verdict::of(number) {
        Verdict::Denied => Ok(message(json!({"status": {"code": 16}, "deniedResponse": {
            "status": {"code": "Unauthorized"}, "body": number.to_string(),
        }}))),
        Verdict::Fails => Err(Status::new(Code::Unavailable, "out of order")),
        Verdict::Silent => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(message(json!({"status": {}})))
        }
        Verdict::Passes | Verdict::Limited | Verdict::Answered => {
            tokio::time::sleep(Duration::from_millis(number % 4)).await;
            Ok(message(json!({"status": {}, "okResponse": {"responseHeadersToAdd": [
                {"header": {"key": "x-verdict", "value": number.to_string()}},
            ]}})))
        }
    }
}

fn limit(request: &RateLimitRequest) -> RateLimitResponse {
    let path = request
        .descriptors
        .iter()
        .flat_map(|descriptor| &descriptor.entries)
        .map(|entry| entry.value.as_str())
        .next()
        .unwrap_or_default();
    let number = number_in(path);
    let code = if Verdict::of(number) == Verdict::Limited { "OVER_LIMIT" } else { "OK" };
    message(json!({"overallCode": code, "statuses": [{"code": code}], "responseHeadersToAdd": [
        {"key": "x-limit", "value": number.to_string()},
    ]}))
}

fn process(request: &ProcessingRequest) -> ProcessingResponse {
    match &request.request {
        Some(Part::RequestHeaders(headers)) => {
            let path = headers
                .headers
                .iter()
                .flat_map(|map| &map.headers)
                .find(|header| header.key == ":path")
                .map(|header| String::from_utf8_lossy(&header.raw_value).into_owned())
                .unwrap_or_default();
            let number = number_in(&path);
            if Verdict::of(number) == Verdict::Answered {
                let mut answer: ProcessingResponse =
                    message(json!({"immediateResponse": {"status": {"code": "Conflict"}}}));
                if let Some(
                    callout_protos::envoy::service::ext_proc::v3::processing_response::Response::ImmediateResponse(immediate),
                ) = &mut answer.response
                {
                    immediate.body = number.to_string().into_bytes();
                }
                return answer;
            }
            unchanged(request)
        }
        Some(Part::ResponseHeaders(_)) => {
            let path = request
                .attributes
                .values()
                .find_map(|values| match &values.fields.get("request.path")?.kind {
                    Some(Value::StringValue(path)) => Some(path.clone()),
                    _ => None,
                })
                .unwrap_or_default();
            let number = BASE64.encode(number_in(&path).to_string());
            message(json!({"responseHeaders": {"response": {"headerMutation": {"setHeaders": [
                {"header": {"key": "x-processed", "rawValue": number}},
            ]}}}}))
        }
        _ => unchanged(request),
    }
}
