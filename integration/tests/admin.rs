//! Our paths on Envoy's admin interface.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use callout_integration::prelude::*;
use callout_integration::services::message;

/// Allows, and tags the decision by the user.
fn tagging() -> Script {
    Script::default().check(|request, _| {
        let http = request.attributes.and_then(|all| all.request?.http).unwrap_or_default();
        let user = http.headers.get("x-user").cloned().unwrap_or_default();
        let tag = format!("user-{user}");
        let reply = json!({"status": {}, "dynamicMetadata": {"callout.cache.tag": tag}});
        std::future::ready(Ok(message(reply)))
    })
}

struct Gateway {
    envoy: Envoy,
    services: Services,
    _upstream: Upstream,
}

impl Gateway {
    async fn start(version: Version) -> Self {
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let services = Services::start(tagging()).await.unwrap();
        let callout = json!({"cache": {"ttl": "600s"}});
        let filter = Kind::Authz.module_with(callout, json!({}), services.port());
        let mut bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let route = |name: &str| {
            let path = format!("/{name}");
            json!({"name": name, "match": {"prefix": path}, "route": {"cluster": "upstream"}})
        };
        bootstrap.routes = vec![route("a"), route("b")];
        bootstrap.extensions = Kind::ALL.map(Kind::admin).to_vec();
        let envoy = Envoy::start(version, &bootstrap).await.unwrap();
        Self { envoy, services, _upstream: upstream }
    }

    /// How many of three requests are asked about: two users on one route, one on another.
    async fn asked(&self) -> usize {
        let before = self.services.asked().len();
        for (path, user) in [("/a", "1"), ("/a", "2"), ("/b", "2")] {
            let request = Request::get(path).header("x-user", user);
            assert_eq!(request.send(self.envoy.port()).await.status, 200);
        }
        self.services.asked().len() - before
    }

    async fn purge(&self, query: &str) -> Value {
        let response = self.envoy.admin_post(&format!("/callout/authz/purge{query}")).await;
        assert_eq!(response.status, 200, "{query}");
        serde_json::from_slice::<Value>(&response.body).unwrap()["purged"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_purged_all_or_by_route_or_by_tag() {
    for version in Version::ALL {
        let gateway = Gateway::start(version).await;
        assert_eq!(gateway.asked().await, 3, "{version}");
        assert_eq!(gateway.asked().await, 0, "{version}");
        for (query, count) in [("", 3), ("?route=a", 2), ("?tag=user-2", 2), ("?tag=user-3", 0)] {
            assert_eq!(gateway.purge(query).await, count, "{version} {query}");
            assert_eq!(gateway.asked().await, count, "{version} {query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_is_a_post_and_what_is_wrong_is_said() {
    for version in Version::ALL {
        let gateway = Gateway::start(version).await;
        gateway.asked().await;
        // Envoy itself turns other methods away.
        let _ = gateway.envoy.admin("/callout/authz/purge").await;
        let wrong = gateway.envoy.admin_post("/callout/authz/purge?user=1").await;
        assert_eq!(wrong.status, 400, "{version}");
        assert!(wrong.body_text().contains("neither `route` nor `tag`"), "{version}");
        assert_eq!(gateway.asked().await, 0, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_how_a_configuration_is() {
    for version in Version::ALL {
        let gateway = Gateway::start(version).await;
        gateway.asked().await;
        let status = gateway.envoy.admin("/callout/authz/status").await.unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        let [one] = status["configurations"].as_array().unwrap().as_slice() else {
            panic!("{version}: {status}")
        };
        let target = json!(format!("127.0.0.1:{}", gateway.services.port()));
        assert_eq!(one["cache"]["entries"], json!(3), "{version}");
        assert_eq!(one["service"], target, "{version}");
        for other in ["ratelimit", "extproc"] {
            let status = gateway.envoy.admin(&format!("/callout/{other}/status")).await.unwrap();
            let status: Value = serde_json::from_str(&status).unwrap();
            assert_eq!(status["configurations"], json!([]), "{version}");
        }
    }
}
