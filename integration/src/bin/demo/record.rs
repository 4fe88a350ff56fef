//! What each service was asked, what it answered and how long it took, by request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

/// One question to a service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Talk {
    /// The `x-request-id` of the request that it is about.
    #[serde(skip)]
    pub(crate) id: String,
    service: &'static str,
    /// The part of the exchange, for the processor.
    part: &'static str,
    asked: Value,
    answer: Value,
    ms: f64,
}

/// All of them, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    talks: Vec<Talk>,
    /// Some questions don't tell which request they are about: it is the one that was asked about last.
    last: String,
}

/// The parts of an exchange with the processor.
const PARTS: [(&str, &str); 4] = [
    ("requestHeaders", "request headers"),
    ("requestBody", "request body"),
    ("responseHeaders", "response headers"),
    ("responseBody", "response body"),
];

impl Record {
    /// Notes a question and its answer.
    pub(crate) fn note<Q: Serialize, A: Serialize, E: std::fmt::Display>(
        &self,
        service: &'static str,
        asked: &Q,
        answer: &Result<A, E>,
        since: Instant,
    ) {
        let asked = serde_json::to_value(asked).unwrap_or_default();
        let answer = match answer {
            Ok(answer) => serde_json::to_value(answer).unwrap_or_default(),
            Err(error) => json!({"error": error.to_string()}),
        };
        let part = PARTS.iter().find(|(key, _)| asked.get(key).is_some());
        let ms = since.elapsed().as_secs_f64() * 1000.0;
        let mut state = self.state();
        if let Some(id) = request_id(&asked) {
            state.last = id;
        }
        let id = state.last.clone();
        let part = part.map_or("", |(_, name)| name);
        state.talks.push(Talk { id, service, part, asked, answer, ms });
    }

    /// What was said about the request called `id`.
    pub(crate) fn about(&self, id: &str) -> Vec<Talk> {
        self.state().talks.iter().filter(|talk| talk.id == id).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `x-request-id` among the headers that a service is told.
fn request_id(asked: &Value) -> Option<String> {
    let told = asked.pointer("/attributes/request/http/headers/x-request-id");
    if let Some(id) = told.and_then(Value::as_str) {
        return Some(id.to_owned());
    }
    let lines = asked.pointer("/requestHeaders/headers/headers")?.as_array()?;
    let line = lines.iter().find(|line| line.get("key") == Some(&json!("x-request-id")))?;
    decoded(line.get("rawValue")?.as_str()?)
}

/// Base64, as header values have it in JSON.
fn decoded(text: &str) -> Option<String> {
    use base64::Engine as _;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok()
}
