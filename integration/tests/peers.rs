//! Against services that nobody here wrote.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::peers::Peer;
use callout_integration::prelude::*;

/// What a Rego policy decides, asked by `filter`: users by their token, and who may write.
async fn by_policy(version: Version, filter: Value) {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    let port = envoy.port();
    let alice = "Bearer alice-token";
    for _ in 0..2 {
        let response = Request::get("/p").header("authorization", alice).send(port).await;
        assert_eq!((response.status, response.header("x-policy")), (200, Some("rego")));
    }
    let write = Request::post("/p").header("authorization", alice).body("b");
    assert_eq!(write.send(port).await.status, 200);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    for seen in seen {
        assert_eq!((seen.header("x-user"), seen.header("authorization")), (Some("alice"), None));
    }
    let write = Request::post("/p").header("authorization", "Bearer bob-token").body("b");
    assert_eq!(write.send(port).await.status, 403);
    for _ in 0..2 {
        let response = Request::get("/p").header("authorization", "Bearer x").send(port).await;
        assert_eq!(
            (response.status, response.header("www-authenticate"), response.body_text().as_str()),
            (401, Some("Bearer"), "who are you?")
        );
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rego_policy_decides_as_it_does_for_the_builtin_kept_or_not() {
    let peer = Peer::rego().await.unwrap();
    let fields = json!({"grpc_service": {"timeout": "10s"}});
    by_policy(Version::LATEST, Kind::Authz.builtin(fields.clone(), peer.port())).await;
    for version in Version::ALL {
        by_policy(version, Kind::Authz.module(fields.clone(), peer.port())).await;
    }
    let callout = json!({
        "cache": {"ttl": "60s", "denied_ttl": "60s"}, "coalesce": true, "strict": true,
    });
    let kept = Kind::Authz.module_with(callout, fields, peer.port());
    by_policy(Version::LATEST, kept).await;
}

/// What the SDK's processor does, asked by `filter`.
async fn by_sdk(version: Version, filter: Value) {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    let envoy = Envoy::start(version, &bootstrap).await.unwrap();
    let port = envoy.port();
    // SHA-256 of "body".
    let hash = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    for request in [
        Request::post("/p?q").body("body"),
        Request::post("/p?q").pieces(["bo", "dy"]),
        Request::post("/p?q").body("body").http2(),
    ] {
        let response = request.send(port).await;
        assert_eq!((response.status, response.header("x-length")), (200, Some("4")), "{version}");
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.header("x-path"), Some("/p?q"), "{version}");
        assert_eq!(seen.header("x-hash"), Some(hash), "{version}");
        assert_eq!(seen.body, b"body", "{version}");
    }
    let response = Request::get("/").header("x-deny", "1").send(port).await;
    assert_eq!((response.status, response.body_text().as_str()), (403, "denied"), "{version}");
    let response = Request::get("/").send(port).await;
    assert_eq!((response.status, response.header("x-length")), (200, Some("0")), "{version}");
    assert_eq!(upstream.seen().len(), 4, "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_on_an_sdk_works_as_with_the_builtin() {
    let peer = Peer::extproc_sdk().await.unwrap();
    let fields = json!({
        "message_timeout": "10s",
        "processing_mode": {"request_body_mode": "BUFFERED", "response_header_mode": "SEND"},
    });
    by_sdk(Version::LATEST, Kind::ExtProc.builtin(fields.clone(), peer.port())).await;
    for version in Version::ALL {
        by_sdk(version, Kind::ExtProc.module(fields.clone(), peer.port())).await;
    }
}
