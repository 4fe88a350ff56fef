//! What the documents show is what works: the example configurations load, the demo runs.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use callout_integration::prelude::*;
use callout_integration::tools;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

#[tokio::test(flavor = "multi_thread")]
async fn every_example_configuration_loads_in_every_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for kind in Kind::ALL {
        let examples = root.join(kind.name()).join("examples").read_dir().unwrap();
        for file in examples.map(|entry| entry.unwrap().path()) {
            for version in Version::ALL {
                let ended = Envoy::validate_file(version, &file).await.unwrap();
                assert!(ended.status.success(), "{version} {}: {}", file.display(), ended.log);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_says_that_everything_was_as_stated() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Everything was as stated: 10 requests."), "{text}");
}

/// The demo that serves, and what it prints.
fn serving_demo() -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--serve")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    (demo, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_serving_demo_prints_requests_to_try_and_ends_with_ctrl_c() {
    let (mut demo, mut lines) = serving_demo();
    let mut curl = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("curl") && curl.is_empty() {
            curl = line;
        } else if line.contains("Ctrl-C") {
            break;
        }
    }
    let port = curl.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap();
    let request = Request::get("/hello").header("authorization", "Bearer alice");
    assert_eq!(request.send(port.parse().unwrap()).await.status, 200, "{curl}");
    kill(Pid::from_raw(demo.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(demo.wait().await.unwrap().success());
    let gone = Request::get("/hello").send(port.parse().unwrap()).await;
    assert_eq!(gone.status, 0, "Envoy is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_demo_shows_in_a_browser_each_request_as_it_goes() {
    let browser = tools::find("chromium", "chromium").unwrap();
    let (mut demo, mut lines) = serving_demo();
    let page = loop {
        let line = lines.next_line().await.unwrap().expect("the demo names its page");
        if line.trim_start().starts_with("http://") {
            break line.trim().to_owned();
        }
    };
    let profile = tempfile::tempdir().unwrap();
    let shown = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--dump-dom", &format!("{page}#play")])
        .output()
        .await
        .unwrap();
    let dom = String::from_utf8_lossy(&shown.stdout);
    assert!(
        dom.contains("data-played=\"10\""),
        "{dom}\n{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    // The latest is first.
    let order: Vec<&str> =
        dom.split("data-status=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(order, ["403", "402", "429", "200", "200", "200", "200", "403", "401", "200"]);
    let articles: Vec<&str> = dom.split("<article").skip(1).collect();
    assert!(articles[0].contains("refused (timeout)"), "{}", articles[0]);
    assert!(articles[0].contains("not reached"), "{}", articles[0]);
    assert!(articles[2].contains("over_limit"), "{}", articles[2]);
    for told in ["allowed", "processed", "x-user: bob", "reached"] {
        assert!(articles[6].contains(told), "{told}: {}", articles[6]);
    }
    // What the services were asked and answered is there to unfold.
    assert!(
        articles[5].contains("okResponse") && articles[5].contains("WHISPER"),
        "{}",
        articles[5]
    );
    kill(Pid::from_raw(demo.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(demo.wait().await.unwrap().success());
}
