//! Shadow mode: what would have been decided, in the filter state for the access log.

use callout_common::{Reply, StreamContext};
use serde_json::{Value, json};

/// Filter-state key; readable with `%FILTER_STATE(authz.shadow:PLAIN)%`.
const KEY: &str = "authz.shadow";

/// What would have been decided.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'a> {
    Allowed,
    Denied(&'a Reply),
    Error(&'a Reply),
}

/// Records `outcome` for this request.
pub(crate) fn record<E: Send + 'static>(cx: &mut StreamContext<'_, E>, outcome: Outcome<'_>) {
    cx.set_filter_state(KEY, rendered(outcome).to_string().as_bytes());
}

fn rendered(outcome: Outcome<'_>) -> Value {
    let (result, reply) = match outcome {
        Outcome::Allowed => return json!({"check_result": "OK", "status_code": 200}),
        Outcome::Denied(reply) => ("DENIED", reply),
        Outcome::Error(reply) => ("ERROR", reply),
    };
    let headers: Vec<Value> = reply
        .headers()
        .iter()
        .filter(|(name, _)| name != "content-type")
        .map(|(name, value)| json!({"key": name, "value": String::from_utf8_lossy(value)}))
        .collect();
    let mut record = json!({"check_result": result, "status_code": reply.status()});
    if let (Value::Object(fields), false) = (&mut record, headers.is_empty()) {
        fields.insert("response_headers".to_owned(), Value::Array(headers));
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_recorded_with_status_and_headers() {
        let mut reply = Reply::new(401);
        reply.add_header("x-r", b"1");
        reply.add_header("content-type", b"a/b");
        assert_eq!(
            rendered(Outcome::Denied(&reply)),
            json!({"check_result": "DENIED", "status_code": 401, "response_headers": [{"key": "x-r", "value": "1"}]})
        );
        assert_eq!(
            rendered(Outcome::Error(&Reply::new(403))),
            json!({"check_result": "ERROR", "status_code": 403})
        );
    }
}
