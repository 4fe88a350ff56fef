//! The example filters, in a real Envoy against real servers.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::process::Stdio;

use callout_integration::envoy::{Options, example, example_route};
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

/// A bootstrap with one more HTTP/1 cluster.
fn with_cluster(bootstrap: &Bootstrap, name: &str, port: u16) -> Value {
    let mut config = bootstrap.whole("/dev/null");
    config["static_resources"]["clusters"].as_array_mut().unwrap().push(json!({
        "name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": {"socket_address":
                {"address": "127.0.0.1", "port_value": port}}}}]},
        ]},
    }));
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_passes_when_an_authorization_server_behind_a_cluster_knows_it() {
    for version in Version::ALL {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let says =
            |json: &str| Answer { body: vec![json.as_bytes().to_vec()], ..Answer::default() };
        let active = r#"{"active": true, "sub": "alice", "scope": "read write"}"#;
        let server = Upstream::start(says(active)).await.unwrap();
        let config = json!({"cluster": "authorization", "path": "/introspect", "timeout": "2s"});
        let mut bootstrap = Bootstrap::new(upstream.port(), vec![example("introspection", config)]);
        let route = |path: &str, scope: Option<&str>| {
            let mut route = json!({"match": {"prefix": path}, "route": {"cluster": "upstream"}});
            if let Some(scope) = scope {
                route["typed_per_filter_config"] = json!({"introspection": example_route("introspection", json!({"scope": scope}))});
            }
            route
        };
        bootstrap.routes =
            vec![route("/write", Some("write")), route("/admin", Some("admin")), route("/", None)];
        let log = tempfile::NamedTempFile::new().unwrap();
        bootstrap.hcm = json!({"access_log": [{"name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log.path(),
            "log_format": {"text_format_source": {"inline_string": "told %DYNAMIC_METADATA(callout.introspection:verdict)%\n"}},
        }}]});
        let config = with_cluster(&bootstrap, "authorization", server.port());
        let envoy = Envoy::start_whole(version, &config, options()).await.unwrap();
        let ask = async |path: &str| {
            Request::get(path).header("authorization", "Bearer t+1").send(envoy.port()).await
        };
        assert_eq!(ask("/").await.status, 200, "{version}: {}", envoy.log());
        assert_eq!(upstream.seen()[0].header("x-subject"), Some("alice"));
        assert_eq!(upstream.seen()[0].header("authorization"), None);
        let asked = server.seen();
        assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("POST", "/introspect"));
        assert_eq!(asked[0].body, b"token=t%2B1");
        assert_eq!(ask("/write").await.status, 200);
        assert_eq!(ask("/admin").await.status, 403);
        assert_eq!(Request::get("/").send(envoy.port()).await.status, 401);
        server.answer(says(r#"{"active": false}"#));
        let refused = ask("/").await;
        assert_eq!(
            (refused.status, refused.header("www-authenticate")),
            (401, Some("Bearer error=\"invalid_token\""))
        );
        server.answer(Answer { status: 500, ..Answer::default() });
        assert_eq!(ask("/").await.status, 503);
        drop(server);
        assert_eq!(ask("/").await.status, 503);
        for (verdict, count) in
            [("allowed", 2), ("scope", 1), ("no_token", 1), ("inactive", 1), ("failed", 2)]
        {
            let name = format!("dynamicmodulescustom.introspection.verdicts.verdict.{verdict}");
            assert_eq!(envoy.stat(&name).await, count, "{version}: {verdict}");
        }
        // Envoy writes its access log late.
        for told in ["allowed", "scope", "no_token", "inactive", "failed"] {
            let told = format!("told {told}\n");
            let there = || std::fs::read_to_string(log.path()).unwrap().contains(&told);
            eventually(&told, there).await.unwrap();
        }
    }
}

/// A Redis's answer to a command.
async fn redis_says(port: u16, command: &str) -> String {
    use tokio::io::AsyncReadExt;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 256];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_from_redis_for_their_life_and_once_more_while_they_are_fetched_anew() {
    for version in Version::ALL {
        let (mut server, port) = redis().await;
        let answer = |body: &str, headers: &[(&str, &str)]| Answer {
            body: vec![body.as_bytes().to_vec()],
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ..Answer::default()
        };
        let upstream = Upstream::start(answer("one", &[("x-a", "1")])).await.unwrap();
        let config = json!({
            "redis": format!("redis://127.0.0.1:{port}"), "ttl": "1000s",
            "stale_while_revalidate": "1000s", "timeout": "2s", "max_bytes": 100,
        });
        let mut bootstrap = Bootstrap::new(upstream.port(), vec![example("redis_cache", config)]);
        let route = |path: &str, fields: Value| {
            json!({
                "match": {"prefix": path}, "route": {"cluster": "upstream"},
                "typed_per_filter_config": {"redis_cache": example_route("redis_cache", fields)},
            })
        };
        bootstrap.routes.insert(0, route("/off", json!({"disabled": true})));
        bootstrap.routes.insert(1, route("/short", json!({"ttl": "0.001s"})));
        let envoy = Envoy::start_with(version, &bootstrap, options()).await.unwrap();
        let get = async |path: &str| {
            Request::get(path).header("host", "example.com").send(envoy.port()).await
        };
        let stat = async |name: &str| {
            envoy.stat(&format!("dynamicmodulescustom.redis_cache.{name}")).await
        };
        // Until what is stored off the worker is there.
        let kept = async |path: &str| {
            for _ in 0..500 {
                if redis_says(port, &format!("EXISTS cache:example.com:{path}")).await == ":1\r\n" {
                    return true;
                }
                pause(10).await;
            }
            false
        };

        let first = get("/a").await;
        assert_eq!((first.status, first.header("x-cache")), (200, Some("miss")), "{version}");
        assert!(kept("/a").await);
        let second = get("/a").await;
        assert_eq!((second.header("x-cache"), &second.body[..]), (Some("hit"), &b"one"[..]));
        assert_eq!((second.header("x-a"), upstream.seen().len()), (Some("1"), 1));

        // Past its life: once more, and in the background anew.
        get("/short").await;
        assert!(kept("/short").await);
        pause(20).await;
        upstream.answer(answer("two", &[]));
        let stale = get("/short").await;
        assert_eq!((stale.header("x-cache"), &stale.body[..]), (Some("stale"), &b"one"[..]));
        let mut latest = Vec::new();
        for _ in 0..500 {
            latest = get("/short").await.body;
            if latest == b"two" {
                break;
            }
            pause(10).await;
        }
        assert_eq!(latest, b"two", "{version}: {}", envoy.log());
        for seen in upstream.seen().iter().filter(|seen| seen.path == "/short") {
            assert_eq!(seen.header("host"), Some("example.com"), "{version}: {seen:?}");
        }

        // What others may not have is not kept, nor what is too long, or switched off.
        for (path, headers, body) in [
            ("/cookie", [("set-cookie", "a=b")], "x"),
            ("/private", [("cache-control", "max-age=5, private")], "x"),
            ("/vary", [("vary", "accept")], "x"),
            ("/long", [("x-b", "c")], &"x".repeat(101)),
            ("/off", [("x-b", "c")], "x"),
        ] {
            upstream.answer(answer(body, &headers));
            for _ in 0..2 {
                assert_eq!(get(path).await.status, 200);
            }
            // Beside what is fetched anew of another path.
            let seen = upstream.seen().iter().filter(|seen| seen.path == path).count();
            assert_eq!(seen, 2, "{version}: {path}");
        }
        let personally =
            || upstream.seen().iter().filter(|s| s.header("authorization").is_some()).count();
        let personal =
            Request::get("/a").header("host", "example.com").header("authorization", "x");
        assert_eq!(personal.send(envoy.port()).await.header("x-cache"), None);
        assert_eq!(personally(), 1);
        assert!(stat("hit").await >= 1 && stat("stale").await >= 1 && stat("stored").await >= 2);

        // A dead Redis lets requests pass.
        server.kill().await.unwrap();
        let before = upstream.seen().len();
        assert_eq!(get("/a").await.status, 200);
        assert_eq!((upstream.seen().len(), stat("error").await), (before + 1, 1), "{version}");
    }
}
