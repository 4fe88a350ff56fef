//! What goes through each chain: requests that one of the neighbours or the filter itself takes
//! notice of, over HTTP/1.1 and HTTP/2.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use callout_integration::envoy::TOKENS;
use callout_integration::prelude::*;

/// "what was compressed, what was compressed", by gzip.
const GZIP: &str = "H4sIAAAAAAACAyvPSCxRKE8sVkjOzy0oSi0uTk3RUSjHFAQApdeeLCgAAAA=";

/// A message `t.Words` in the frame of gRPC.
const FRAME: &[u8] = b"\0\0\0\0\x04\n\x02hi";

pub(crate) fn requests() -> Vec<Request> {
    let gap = Duration::from_millis(5);
    let token = format!("Bearer {}", TOKENS[0]);
    let gzip = BASE64.decode(GZIP).unwrap();
    let grpc =
        |path: &str, kind: &str| Request::post(path).header("content-type", kind).body(FRAME);
    let both = vec![
        Request::get("/p?q=1").header("origin", "http://ok.test").header("accept-encoding", "gzip"),
        Request::post("/p").body("change this"),
        Request::post("/p").pieces(["one", "two", "three"]).gap(gap).trailer("x-t", "1"),
        Request::get("/deny").header("origin", "http://ok.test"),
        Request::post("/deny").body("hello"),
        Request::new("OPTIONS", "/p")
            .header("origin", "http://ok.test")
            .header("access-control-request-method", "GET"),
        Request::get("/rbac"),
        Request::get("/composite"),
        Request::get("/jwt").header("authorization", &token),
        Request::get("/jwt"),
        Request::post("/p").header("content-encoding", "gzip").body(gzip),
        Request::new("HEAD", "/p"),
        grpc("/p", "application/grpc-web").header("x-grpc-web", "1"),
        grpc("/deny", "application/grpc-web").header("x-grpc-web", "1"),
        Request::post("/t.Echo/Say")
            .header("content-type", "application/json")
            .body(r#"{"text":"hi"}"#),
    ];
    let grpc = [grpc("/t.Echo/Say", "application/grpc"), grpc("/deny", "application/grpc")];
    let http2 = both.clone().into_iter().chain(grpc).map(Request::http2);
    both.clone().into_iter().chain(http2).map(|one| one.timeout(Duration::from_secs(5))).collect()
}

/// Long enough to be compressed.
pub(crate) fn answer() -> Answer {
    let body = "what the upstream says, and says, and says again: change this".to_owned();
    Answer {
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: vec![body.into_bytes()],
        ..Answer::default()
    }
}
