//! The example filters, in a real Envoy against real servers.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::process::Stdio;

use callout_integration::envoy::{Options, example};
use callout_integration::prelude::*;
use callout_integration::{modules, tools};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// A Redis of our own on a free port; it ends with its handle.
async fn redis() -> (Child, u16) {
    let port = {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let child = Command::new(tools::find("redis-server", "redis-server").unwrap())
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
        .arg(port.to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
            stream.write_all(b"SET key-1 alice\r\n").await.unwrap();
            return (child, port);
        }
        pause(20).await;
    }
    panic!("redis-server does not start");
}

fn options() -> Options {
    Options { modules: Some(modules::examples().unwrap()), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_passes_when_redis_knows_its_owner() {
    let (mut server, port) = redis().await;
    for version in Version::ALL {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let filter = example("api_key", json!({"redis": format!("redis://127.0.0.1:{port}")}));
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let envoy = Envoy::start_with(version, &bootstrap, options()).await.unwrap();
        let status = async |request: Request| request.send(envoy.port()).await.status;
        assert_eq!(status(Request::get("/").header("x-api-key", "key-1")).await, 200);
        assert_eq!(upstream.seen()[0].header("x-owner"), Some("alice"));
        assert_eq!(status(Request::get("/").header("x-api-key", "key-2")).await, 403);
        assert_eq!(status(Request::get("/")).await, 401);
        assert_eq!(upstream.seen().len(), 1, "{version}");
        if version == Version::LATEST {
            server.kill().await.unwrap();
            assert_eq!(status(Request::get("/").header("x-api-key", "key-1")).await, 503);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_bad_configuration_is_refused_by_name() {
    for (config, says) in
        [(json!({"rediss": "x"}), "rediss"), (json!({"redis": "http://x"}), "at redis: ")]
    {
        let bootstrap = Bootstrap::new(1, vec![example("api_key", config)]);
        let refused =
            Envoy::try_start(Version::LATEST, &bootstrap, options()).await.unwrap().err().unwrap();
        assert!(refused.log.contains(says), "{says}: {}", refused.log);
    }
}
