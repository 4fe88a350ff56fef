//! `callout.builtin_stats`: statistics under the names of the built-in filters.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use callout_integration::prelude::*;

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_for_the_built_in_filters_find_our_statistics() {
    for version in Version::ALL {
        for (kind, namespace, stat, line) in [
            (
                Kind::Authz,
                "cluster",
                "cluster.upstream.ext_authz.ok",
                r#"envoy_cluster_ext_authz_ok{envoy_cluster_name="upstream"} 1"#,
            ),
            (
                Kind::RateLimit,
                "cluster",
                "cluster.upstream.ratelimit.ok",
                r#"envoy_cluster_ratelimit_ok{envoy_cluster_name="upstream"} 1"#,
            ),
            (
                Kind::ExtProc,
                "http",
                "http.upstream.ext_proc.streams_started",
                r#"envoy_http_ext_proc_streams_started{envoy_http_conn_manager_prefix="upstream"} 1"#,
            ),
        ] {
            let upstream = Upstream::start(Answer::default()).await.unwrap();
            let services = Services::start(Script::default()).await.unwrap();
            let callout = json!({"builtin_stats": "upstream"});
            let mut filter = kind.module_with(callout, json!({}), services.port());
            filter["typed_config"]["dynamic_module_config"]["metrics_namespace"] = json!(namespace);
            let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
            let envoy = Envoy::start(version, &bootstrap).await.unwrap();
            assert_eq!(
                Request::get("/").send(envoy.port()).await.status,
                200,
                "{version} {kind:?}"
            );
            assert_eq!(envoy.stat(stat).await, 1, "{version} {kind:?}");
            let metrics = envoy.admin("/stats/prometheus").await.unwrap();
            assert!(metrics.lines().any(|found| found == line), "{version} {kind:?}: {metrics}");
        }
    }
}
