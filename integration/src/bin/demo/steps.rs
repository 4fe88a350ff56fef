//! The demo's requests, and what has to come of each.

use callout_integration::client::{Request, Response};
use callout_integration::upstream::Seen;
use serde_json::{Value, json};

use crate::Demo;

pub(crate) const HEADINGS: [&str; 6] =
    ["request", "the services were asked", "verdict", "status", "what changed", "time"];

/// One request.
pub(crate) struct Step {
    method: &'static str,
    path: &'static str,
    user: Option<&'static str>,
    body: Option<&'static str>,
    /// What decides, in words.
    verdict: &'static str,
    status: u16,
    /// The services that are asked, in order.
    asked: &'static [&'static str],
    /// Whether the upstream sees it.
    passes: bool,
    /// What has to be different behind the filters, as it is written in the table.
    changes: &'static [&'static str],
}

/// What came of it.
pub(crate) struct Outcome {
    response: Response,
    asked: Vec<String>,
    seen: Option<Seen>,
    changes: Vec<String>,
}

const PASSES: Step = Step {
    method: "GET",
    path: "/hello",
    user: Some("alice"),
    body: None,
    verdict: "all three let it pass",
    status: 200,
    asked: &["authz", "ratelimit", "extproc headers", "extproc response headers"],
    passes: true,
    changes: &["+x-user: alice", "-authorization", "+x-processed", "response +x-processed"],
};

const LIMITED: Step =
    Step { path: "/limited", changes: &["response +x-ratelimit-remaining"], ..PASSES };

pub(crate) fn steps() -> Vec<Step> {
    const DENIED: Step = Step {
        passes: false,
        // A processor sees the replies of other filters, too.
        asked: &["authz", "extproc response headers"],
        changes: &["response +x-processed"],
        ..PASSES
    };
    vec![
        PASSES,
        Step {
            user: None,
            verdict: "authz denies: no token",
            status: 401,
            changes: &["response +www-authenticate"],
            ..DENIED
        },
        Step { path: "/secret", verdict: "authz denies: not for alice", status: 403, ..DENIED },
        Step { path: "/secret", user: Some("bob"), changes: &["+x-user: bob"], ..PASSES },
        Step {
            method: "POST",
            body: Some("whisper"),
            asked: &[
                "authz",
                "ratelimit",
                "extproc headers",
                "extproc body",
                "extproc response headers",
            ],
            verdict: "extproc rewrites the body",
            changes: &["body: WHISPER"],
            ..PASSES
        },
        LIMITED,
        LIMITED,
        Step {
            verdict: "ratelimit: the third of 2 a minute",
            status: 429,
            asked: &["authz", "ratelimit", "extproc response headers"],
            passes: false,
            changes: &["response +retry-after", "response +x-envoy-ratelimited"],
            ..LIMITED
        },
        Step {
            path: "/paywall",
            verdict: "extproc answers by itself",
            status: 402,
            asked: &["authz", "ratelimit", "extproc headers"],
            passes: false,
            changes: &[],
            ..PASSES
        },
        Step { path: "/slow", verdict: "authz takes too long: fail closed", status: 403, ..DENIED },
    ]
}

impl Step {
    fn request(&self) -> Request {
        let mut request = Request::new(self.method, self.path);
        if let Some(user) = self.user {
            request = request.header("authorization", &format!("Bearer {user}"));
        }
        if let Some(body) = self.body {
            request = request.body(body);
        }
        request
    }

    /// Sends it; returns the id that Envoy gave it.
    pub(crate) async fn send(&self, demo: &Demo) -> Option<String> {
        let response = self.request().send(demo.envoy.port()).await;
        response.header("x-request-id").map(str::to_owned)
    }

    /// What the page says of it.
    pub(crate) fn described(&self, port: u16) -> Value {
        let user = self.user.map_or_else(String::new, |user| format!(" as {user}"));
        json!({
            "request": format!("{} {}{user}", self.method, self.path),
            "verdict": self.verdict,
            "curl": self.curl(port),
        })
    }

    pub(crate) async fn run(&self, demo: &Demo) -> Outcome {
        let (asked, seen) = (demo.services.asked().len(), demo.upstream.seen().len());
        let response = self.request().send(demo.envoy.port()).await;
        let asked = demo.services.asked().iter().skip(asked).map(service).collect();
        let seen = demo.upstream.seen().into_iter().nth(seen);
        let changes = self.changes_of(&response, seen.as_ref());
        Outcome { response, asked, seen, changes }
    }

    /// What is different behind the filters.
    fn changes_of(&self, response: &Response, seen: Option<&Seen>) -> Vec<String> {
        let mut changes = Vec::new();
        if let Some(seen) = seen {
            if let Some(user) = seen.header("x-user") {
                changes.push(format!("+x-user: {user}"));
            }
            if self.user.is_some() && seen.header("authorization").is_none() {
                changes.push("-authorization".to_owned());
            }
            if seen.header("x-processed").is_some() {
                changes.push("+x-processed".to_owned());
            }
            if self.body.is_some_and(|body| body.as_bytes() != seen.body) {
                changes.push(format!("body: {}", String::from_utf8_lossy(&seen.body)));
            }
        }
        let added = [
            "www-authenticate",
            "retry-after",
            "x-envoy-ratelimited",
            "x-ratelimit-remaining",
            "x-processed",
        ];
        changes.extend(
            added
                .into_iter()
                .filter(|name| response.header(name).is_some())
                .map(|name| format!("response +{name}")),
        );
        changes
    }

    /// What is not as stated.
    pub(crate) fn complaints(&self, outcome: &Outcome) -> Vec<String> {
        let mut complaints = Vec::new();
        let name = self.name();
        if outcome.response.status != self.status {
            complaints.push(format!(
                "  {name}: status {}, not {} ({:?})",
                outcome.response.status, self.status, outcome.response.end
            ));
        }
        if outcome.asked != self.asked {
            complaints.push(format!("  {name}: asked {:?}, not {:?}", outcome.asked, self.asked));
        }
        if outcome.seen.is_some() != self.passes {
            complaints.push(format!("  {name}: reached the upstream: {}", outcome.seen.is_some()));
        }
        for change in self.changes.iter().filter(|c| !outcome.changes.iter().any(|d| d == *c)) {
            complaints.push(format!("  {name}: `{change}` is missing"));
        }
        complaints
    }

    fn name(&self) -> String {
        let user = self.user.map_or_else(String::new, |user| format!(" as {user}"));
        format!("{} {}{user}", self.method, self.path)
    }

    pub(crate) fn row(&self, outcome: &Outcome) -> [String; 6] {
        [
            self.name(),
            outcome.asked.join(", "),
            self.verdict.to_owned(),
            outcome.response.status.to_string(),
            outcome.changes.join(", "),
            format!("{:.1} ms", outcome.response.elapsed.as_secs_f64() * 1000.0),
        ]
    }

    pub(crate) fn curl(&self, port: u16) -> String {
        let user = self
            .user
            .map_or_else(String::new, |user| format!("-H 'authorization: Bearer {user}' "));
        let body = self.body.map_or_else(String::new, |body| format!("-d {body} "));
        format!("curl -i {user}{body}http://127.0.0.1:{port}{}", self.path)
    }
}

/// Which service a message went to, and what it was about.
fn service(message: &Value) -> String {
    let parts = [
        ("attributes", "authz"),
        ("descriptors", "ratelimit"),
        ("requestHeaders", "extproc headers"),
        ("requestBody", "extproc body"),
        ("responseHeaders", "extproc response headers"),
    ];
    parts
        .into_iter()
        .find(|(key, _)| message.get(key).is_some())
        .map_or_else(|| "something else".to_owned(), |(_, name)| name.to_owned())
}
