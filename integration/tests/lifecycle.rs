//! Reload, shutdown and validation, with calls pending.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use callout_integration::envoy::{Form, Options};
use callout_integration::prelude::*;
use callout_integration::tools;

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_pending_calls_their_answer_and_new_ones_the_new_listener() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let slow = Script::default()
                .check(|_, _| async {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    Ok(callout_integration::services::message(json!({"status": {}})))
                })
                .limit(|_, _| async {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    Ok(callout_integration::services::message(json!({"overallCode": "OK"})))
                })
                .process(|request, _| async move {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Ok(callout_integration::services::unchanged(&request))
                });
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let old = Services::start(slow).await.unwrap();
            let new = Services::start(Script::default()).await.unwrap();
            let with = |services: &Services| {
                Bootstrap::new(upstream.port(), vec![kind.module(kind.patient(), services.port())])
            };
            let options = Options { lds: true, ..Options::default() };
            let mut envoy = Envoy::start_with(version, &with(&old), options).await.unwrap();
            let port = envoy.port();
            let pending = tokio::spawn(async move { Request::get("/old").send(port).await });
            eventually("the call is pending", || !old.asked().is_empty()).await.unwrap();
            assert!(envoy.replace_listener(&with(&new)).await.unwrap(), "{version} {kind:?}");
            assert_eq!(pending.await.unwrap().status, 200, "{version} {kind:?}");
            assert_eq!(Request::get("/new").send(port).await.status, 200, "{version} {kind:?}");
            assert!(!new.asked().is_empty(), "{version} {kind:?}");
            envoy.stat_becomes("live_streams", 0).await.unwrap();
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version} {kind:?}: {status}\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_with_pending_calls_is_clean() {
    for version in Version::ALL {
        for kind in Kind::ALL {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::silent()).await.unwrap();
            let filter = kind.module(kind.patient(), services.port());
            let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            let port = envoy.port();
            let requests: Vec<_> = (0..20)
                .map(|_| tokio::spawn(async move { Request::get("/").send(port).await }))
                .collect();
            eventually("the calls are pending", || services.open() == 20).await.unwrap();
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version} {kind:?}: {status}\n{log}");
            assert!(!log.contains("panic"), "{version} {kind:?}: {log}");
            for request in requests {
                assert!(request.await.unwrap().status != 200);
            }
            eventually("the calls are over", || services.open() == 0).await.unwrap();
            assert!(upstream.seen().is_empty(), "{version} {kind:?}");
        }
    }
}

/// Threads begun and sockets opened, as strace writes them down.
async fn traced(bootstrap: &Bootstrap, version: Version) -> (usize, usize) {
    let strace = tools::find("strace", "strace").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let wrapper = ["-f", "-e", "trace=clone,clone3,socket,connect", "-o"];
    let wrapper = [strace.display().to_string()]
        .into_iter()
        .chain(wrapper.map(str::to_owned))
        .chain([trace.display().to_string()])
        .collect();
    let ended = Envoy::validate(version, bootstrap, wrapper).await.unwrap();
    assert!(ended.status.success(), "{version}: {}", ended.log);
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(trace.contains("exited with 0"), "strace saw nothing: {trace}");
    let count = |word: &str| trace.lines().filter(|line| line.contains(word)).count();
    (count("clone"), count("socket("))
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_starts_no_thread_and_opens_no_socket() {
    for version in Version::ALL {
        let bare = traced(&Bootstrap::new(1, Vec::new()), version).await;
        let filters = Kind::ALL.map(|kind| kind.module(json!({}), 1)).to_vec();
        let with = traced(&Bootstrap::new(1, filters), version).await;
        assert_eq!(with, bare, "{version}: (threads, sockets) with our modules and without");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serving_starts_threads_of_its_own_that_take_no_signals() {
    let filter = Kind::Authz.module(json!({}), 1);
    let bootstrap = Bootstrap::new(1, vec![filter]);
    let envoy = Envoy::start(Version::LATEST, &bootstrap).await.unwrap();
    let tasks = format!("/proc/{}/task", envoy.pid().unwrap());
    let ours = || -> Vec<String> {
        std::fs::read_dir(&tasks)
            .unwrap()
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .filter(|status| status.starts_with("Name:\tcallout-"))
            .collect()
    };
    assert_eq!(ours().len(), 2, "those of the runtime: {:?}", ours());
    // Nobody is at port 1: the call fails.
    assert_eq!(Request::get("/").send(envoy.port()).await.status, 403);
    // A thread names itself once it runs.
    eventually("the poller is there, with the first call on a worker", || ours().len() == 3)
        .await
        .unwrap();
    for status in ours() {
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        let blocked = u64::from_str_radix(blocked, 16).unwrap();
        // SIGINT, SIGHUP and SIGTERM are Envoy's.
        for signal in [2_u64, 1, 15] {
            assert!(blocked & (1 << (signal - 1)) != 0, "signal {signal} is not masked");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_answered_the_moment_it_goes_on_ends_well() {
    // Nobody is upstream, or the route itself answers: both end the stream inside Envoy's call that
    // lets the request go on.
    let direct = json!({"match": {"prefix": "/direct"}, "direct_response": {"status": 202}});
    let skipping = json!({"processing_mode": {"response_header_mode": "SKIP"}});
    for version in Version::ALL {
        for kind in Kind::ALL {
            let fields = if kind == Kind::ExtProc { skipping.clone() } else { json!({}) };
            let services = Services::start(Script::default()).await.unwrap();
            let mut bootstrap = Bootstrap::new(1, vec![kind.module(fields, services.port())]);
            bootstrap.routes.insert(0, direct.clone());
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            for request in [Request::get("/direct"), Request::post("/direct").body("body")] {
                for request in [request.clone(), request.http2()] {
                    let response = request.send(envoy.port()).await;
                    assert_eq!(response.status, 202, "{version} {kind:?}");
                }
            }
            for request in [Request::get("/"), Request::post("/").body("body")] {
                for request in [request.clone(), request.http2()] {
                    let response = request.send(envoy.port()).await;
                    assert_eq!(response.status, 503, "{version} {kind:?}");
                }
            }
            envoy.stat_becomes("live_streams", 0).await.unwrap();
            assert_eq!(envoy.stat("panics").await, 0);
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version} {kind:?}: {status}\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_whose_configuration_another_module_made_is_closed() {
    for version in Version::ALL {
        for (kind, other) in [
            (Kind::Authz, Kind::RateLimit),
            (Kind::RateLimit, Kind::ExtProc),
            (Kind::ExtProc, Kind::Authz),
        ] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::default()).await.unwrap();
            let disabled =
                if other == Kind::RateLimit { json!({}) } else { json!({"disabled": true}) };
            let mut route = other.module_route(Form::Message, disabled);
            let bootstrap =
                Bootstrap::new(upstream.port(), vec![kind.module(json!({}), services.port())])
                    .per_route(json!({kind.name(): route[other.name()].take()}));
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            for _ in 0..3 {
                let response = Request::get("/").send(envoy.port()).await;
                assert_eq!(response.status, 500, "{version} {kind:?}");
            }
            assert!(upstream.seen().is_empty(), "{version} {kind:?}");
            envoy.stat_becomes("live_streams", 0).await.unwrap();
            let (status, log) = envoy.stop().await.unwrap();
            assert!(status.success(), "{version} {kind:?}: {status}\n{log}");
            let said = log.matches("was made by another filter or module").count();
            assert_eq!(said, 1, "{version} {kind:?}: {log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_once_that_a_service_is_silent_and_that_it_answers_again() {
    let upstream = Upstream::start(Answer::default()).await.unwrap();
    let services = Services::start(Script::default()).await.unwrap();
    let port = services.port();
    let filters = Kind::ALL.map(|kind| kind.module(json!({"stat_prefix": "edge"}), port)).to_vec();
    let envoy =
        Envoy::start(Version::LATEST, &Bootstrap::new(upstream.port(), filters)).await.unwrap();
    assert_eq!(Request::get("/").send(envoy.port()).await.status, 200);
    assert!(!envoy.log().contains("does not answer"), "{}", envoy.log());
    assert_eq!(envoy.stat(&build_info("authz")).await, 1);
    drop(services);
    for _ in 0..20 {
        assert_ne!(Request::get("/").send(envoy.port()).await.status, 200);
    }
    let silent = envoy.log().matches("authz.edge: the service does not answer: ").count();
    assert_eq!(silent, 1, "{}", envoy.log());
    let _services = Services::start_on(port, Script::default()).await.unwrap();
    for _ in 0..500 {
        if Request::get("/").send(envoy.port()).await.status == 200 {
            break;
        }
        pause(20).await;
    }
    let again = envoy.log().matches("authz.edge: the service answers again after ").count();
    assert_eq!(again, 1, "{}", envoy.log());
}

/// The gauge that tells which build answers.
fn build_info(filter: &str) -> String {
    let (version, revision) = (env!("CARGO_PKG_VERSION"), "unreleased");
    format!("dynamicmodulescustom.{filter}.build_info.version.{version}.revision.{revision}")
}
