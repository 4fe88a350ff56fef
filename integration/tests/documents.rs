//! What the documents show is what works: the example configurations load, the demo runs.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use callout_integration::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

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

#[tokio::test(flavor = "multi_thread")]
async fn the_serving_demo_prints_requests_to_try_and_ends_with_ctrl_c() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--serve")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
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
