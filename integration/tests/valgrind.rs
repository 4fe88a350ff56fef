//! valgrind on a release Envoy with our modules: no error and no leak that names our code.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use callout_integration::envoy::{Options, example, merge};
use callout_integration::prelude::*;
use callout_integration::services::message;
use callout_integration::{modules, tools};
use tempfile::TempDir;

/// Valgrind makes everything slow.
const LONG: Duration = Duration::from_secs(60);

/// Envoy under valgrind, which writes into the folder.
async fn watched(bootstrap: &Bootstrap, modules: Option<PathBuf>) -> (Envoy, TempDir) {
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
    let envoy = Envoy::start_with(Version::LATEST, bootstrap, options).await.unwrap();
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
    let (mut envoy, reports) = watched(&bootstrap, None).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_would_be_found() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let filter = example("faults", json!({}));
    let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
    let (envoy, reports) = watched(&bootstrap, Some(modules::examples().unwrap())).await;
    let leaking = Request::get("/").header("x-fault", "leak").timeout(LONG);
    assert_eq!(leaking.send(envoy.port()).await.status, 200);
    let errors = errors(envoy, &reports, "faults").await;
    assert!(errors.iter().any(|error| error.contains("definitely lost")), "{errors:?}");
}
