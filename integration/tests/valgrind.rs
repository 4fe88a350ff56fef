//! valgrind on a release Envoy with our modules: no error and no leak that names our code.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use callout_integration::envoy::{Options, example, lua, merge};
use callout_integration::prelude::*;
use callout_integration::services::{message, unchanged};
use callout_integration::{modules, tools};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::body_mutation::Mutation;
use proto::processing_request::Request as Part;
use proto::processing_response::Response as Reply;
use tempfile::TempDir;

/// Valgrind makes everything slow.
const LONG: Duration = Duration::from_secs(60);

/// Envoy under valgrind, which writes into the folder.
async fn watched(
    version: Version,
    bootstrap: &Bootstrap,
    modules: Option<PathBuf>,
) -> (Envoy, TempDir) {
    let valgrind = tools::find("valgrind", "valgrind").unwrap();
    let reports = tempfile::tempdir().unwrap();
    // Envoy's own start is full of what memcheck takes for undefined values.
    let options = [
        "--soname-synonyms=somalloc=NONE",
        "--undef-value-errors=no",
        "--keep-debuginfo=yes",
        "--leak-check=full",
        "--show-leak-kinds=definite",
        "--errors-for-leak-kinds=definite",
    ];
    let wrapper = [valgrind.display().to_string()]
        .into_iter()
        .chain(options.map(str::to_owned))
        .chain([format!("--log-file={}", reports.path().join("report").display())])
        .collect();
    let options = Options { wrapper, modules, lds: true, ..Options::default() };
    let envoy = Envoy::start_with(version, bootstrap, options).await.unwrap();
    (envoy, reports)
}

/// The errors with a frame of the library whose name holds `library`.
async fn errors(envoy: Envoy, reports: &TempDir, library: &str) -> Vec<String> {
    let (status, log) = envoy.stop().await.unwrap();
    assert!(status.success(), "{status}\n{log}");
    let report = std::fs::read_to_string(reports.path().join("report")).unwrap();
    assert!(report.contains("ERROR SUMMARY"), "valgrind ended early:\n{report}");
    // An empty line ends an error.
    report
        .split("== \n")
        .filter(|error| error.contains(" at 0x") && error.contains(library))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_basic_scenarios_show_no_error_that_names_our_code() {
    let script = Script::default().check(|request, _| async move {
        let denied = serde_json::to_string(&request).unwrap_or_default().contains("/denied");
        Ok(message(if denied {
            json!({"status": {"code": 7}, "deniedResponse": {"body": "no"}})
        } else {
            json!({"status": {}, "okResponse": {"headers": [{"header": {"key": "x-a", "value": "1"}}]}})
        }))
    });
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(script).await.unwrap();
    let slow = |kind: Kind| match kind {
        Kind::Authz => json!({"grpc_service": {"timeout": "20s"}}),
        Kind::RateLimit => json!({"timeout": "20s"}),
        Kind::ExtProc => json!({
            "message_timeout": "20s",
            "processing_mode": {"request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED"},
        }),
    };
    let mut filters = Kind::ALL.map(|kind| kind.module(slow(kind), services.port())).to_vec();
    let extproc = merge(slow(Kind::ExtProc), Kind::ExtProc.by_cluster());
    filters.push(Kind::ExtProc.module(extproc, 0));
    let mut bootstrap = Bootstrap::new(upstream.port(), filters);
    bootstrap.service = Some(services.port());
    let (mut envoy, reports) = watched(Version::LATEST, &bootstrap, None).await;
    let port = envoy.port();
    for path in ["/allowed", "/denied", "/allowed"] {
        let response = Request::post(path).body("body").timeout(LONG).send(port).await;
        assert_eq!(response.status, if path == "/denied" { 403 } else { 200 }, "{response:?}");
    }
    Request::get("/left").abort_after(Duration::from_millis(20)).send(port).await;
    assert!(envoy.replace_listener(&bootstrap).await.unwrap());
    assert_eq!(Request::get("/again").timeout(LONG).send(port).await.status, 200);
    let errors = errors(envoy, &reports, "callout").await;
    assert!(errors.is_empty(), "{}", errors.join("\n\n"));
}

/// Denies what it is told to, and makes a body of the request or the response larger than Envoy's buffer.
fn growing() -> Script {
    let large = "x".repeat(200_000);
    Script::default()
        .check(|request, _| async move {
            let denied = format!("{request:?}").contains("/denied");
            Ok(message(json!({"status": {"code": if denied { 7 } else { 0 }}})))
        })
        .process(move |request, _| {
            let mut answer = unchanged(&request);
            if let (
                Some(Part::RequestBody(body) | Part::ResponseBody(body)),
                Some(Reply::RequestBody(reply) | Reply::ResponseBody(reply)),
            ) = (&request.request, &mut answer.response)
                && body.body.starts_with(b"grow")
            {
                let mutation = Mutation::Body(large.clone().into_bytes());
                let removed = json!({"removeHeaders": ["content-length"]});
                reply.response = Some(proto::CommonResponse {
                    header_mutation: Some(message(removed)),
                    body_mutation: Some(proto::BodyMutation { mutation: Some(mutation) }),
                    ..Default::default()
                });
            }
            std::future::ready(Ok(answer))
        })
}

/// Answers that come while a hook or an event of ours calls Envoy: Envoy enters the filters again, and
/// before 1.40 destroys them in there.
async fn re_entry(version: Version) {
    let upstream = Upstream::start(Answer { body: vec![b"grow".to_vec()], ..Answer::default() })
        .await
        .unwrap();
    let services = Services::start(growing()).await.unwrap();
    let port = services.port();
    let authz = Kind::Authz.module_with(
        json!({"cache": {"ttl": "60s", "denied_ttl": "60s"}}),
        Kind::Authz.patient(),
        port,
    );
    let processing = json!({"processing_mode": {
        "request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED",
    }});
    let processing = merge(Kind::ExtProc.patient(), processing);
    let later = "function envoy_on_request(h)
        if h:headers():get(':path') == '/later' then h:respond({[':status'] = '410'}, 'later') end
      end";
    let filters = vec![
        Kind::ExtProc.module(processing, port),
        authz,
        Kind::RateLimit.module(Kind::RateLimit.patient(), port),
        lua(later),
    ];
    let mut bootstrap = Bootstrap::new(upstream.port(), filters);
    bootstrap.listener = json!({"per_connection_buffer_limit_bytes": 65536});
    bootstrap.routes = vec![
        json!({"match": {"path": "/direct"}, "direct_response": {"status": 418}}),
        json!({"match": {"path": "/none"}, "route": {"cluster": "nowhere"}}),
        json!({"match": {"prefix": "/p"}, "route": {"cluster": "upstream"}}),
        json!({"match": {"prefix": "/denied"}, "route": {"cluster": "upstream"}}),
        json!({"match": {"prefix": "/later"}, "route": {"cluster": "upstream"}}),
    ];
    bootstrap.hcm = json!({"route_config": {"validate_clusters": false}});
    let (envoy, reports) = watched(version, &bootstrap, None).await;
    let converted = [
        ("content-type", "application/grpc"),
        ("x-grpc-web", "1"),
        ("grpc-accept-encoding", "identity"),
    ];
    let converted = converted
        .iter()
        .fold(Request::post("/denied"), |request, (name, value)| request.header(name, value));
    for (request, status) in [
        (Request::get("/direct"), 418),
        (Request::get("/nowhere"), 404),
        (Request::get("/none"), 503),
        (Request::get("/later"), 410),
        // The second is answered by a kept decision, inside the hook.
        (Request::get("/denied"), 403),
        (Request::get("/denied"), 403),
        (converted, 403),
        (Request::post("/p").body("grow"), 413),
        (Request::get("/p"), 500),
        (Request::post("/later").pieces(["grow", "more"]), 413),
    ] {
        let response = request.clone().timeout(LONG).send(envoy.port()).await;
        assert_eq!(response.status, status, "{version} {request:?}: {response:?}");
    }
    Request::post("/p")
        .body("grow")
        .abort_after(Duration::from_millis(30))
        .send(envoy.port())
        .await;
    let errors = errors(envoy, &reports, "callout").await;
    assert!(errors.is_empty(), "{version}:\n{}", errors.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn re_entry_in_the_oldest_envoy_shows_no_error_that_names_our_code() {
    re_entry(Version::V1_38).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn re_entry_in_the_newest_envoy_shows_no_error_that_names_our_code() {
    re_entry(Version::LATEST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_would_be_found() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let filter = example("faults", json!({}));
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    let (envoy, reports) =
        watched(Version::LATEST, &bootstrap, Some(modules::examples().unwrap())).await;
    let leaking = Request::get("/").header("x-fault", "leak").timeout(LONG);
    assert_eq!(leaking.send(envoy.port()).await.status, 200);
    let errors = errors(envoy, &reports, "faults").await;
    assert!(errors.iter().any(|error| error.contains("definitely lost")), "{errors:?}");
}
