//! A gate on the bench.

use std::time::Duration;

use super::*;
use crate::envoy::attributes::Attribute;
use crate::envoy::types::{Direction, MetadataSource, MetadataValue};
use crate::filter::stats::{Counter, LabelledCounter};
use crate::testing::{Bench, Progress};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default, deserialize_with = "crate::api::config::serde_duration")]
    delay: Duration,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RouteConfig {
    open: bool,
}

struct Facts {
    delay: Duration,
    asked: Counter,
    by_client: LabelledCounter,
    wanted: Vec<(String, String)>,
}

impl Gate for Facts {
    type Config = Config;
    type Route = RouteConfig;

    fn configure(config: Config, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            delay: config.delay,
            asked: setup.counter("asked")?,
            by_client: setup.labelled_counter("by_client", "client")?,
            wanted: vec![("jwt".to_owned(), "sub".to_owned())],
        })
    }

    fn metadata(&self) -> &[(String, String)] {
        &self.wanted
    }

    async fn check(&self, request: RequestHead, route: Option<Arc<RouteConfig>>) -> Verdict {
        request.count(self.asked);
        tokio::time::sleep(self.delay).await;
        if route.is_some_and(|route| route.open) {
            return Verdict::allow();
        }
        let client = request.client().map(|ip| ip.to_string()).unwrap_or_default();
        request.count_labelled(self.by_client, &client);
        request.tell("client", &client);
        request.tell_number("headers", 3.0);
        let Some(tls) = request.tls() else { return Reply::new(403).into() };
        let Some(MetadataValue::String(sub)) = request.metadata("jwt", "sub") else {
            return Reply::new(401).into();
        };
        Verdict::Allow(
            Edits::default()
                .set("x-subject", tls.subject.clone().unwrap_or_default())
                .set("x-sub", sub.clone())
                .set("content-length", "5")
                .set_on_response("x-checked", "yes")
                .metadata("mine", "sub", "told")
                .choose_route_anew(),
        )
    }

    fn response(&self, headers: Headers<'_>) -> Edits {
        let status = headers.get(":status").unwrap_or_default().to_vec();
        Edits::default().set("x-status", status).remove("server")
    }
}

type Tried = Bench<Gated<Facts>>;

fn bench(config: &str) -> Tried {
    Bench::new("facts", config).unwrap()
}

const LINES: [(&str, &str); 2] = [(":method", "GET"), (":path", "/")];

fn with_client(mut bench: Tried) -> Tried {
    for (attribute, value) in [
        (Attribute::SourceAddress, "192.0.2.7:1234"),
        (Attribute::ConnectionTlsVersion, "TLSv1.3"),
        (Attribute::ConnectionSubjectPeerCertificate, "CN=alice"),
    ] {
        bench.host.texts.insert(attribute, value.as_bytes().to_vec());
    }
    let place = (MetadataSource::Dynamic, "jwt".to_owned(), "sub".to_owned());
    bench.host.metadata.insert(place, MetadataValue::String(b"s-1".to_vec()));
    bench
}

#[test]
fn a_check_knows_its_client_counts_and_changes_both_directions() {
    let mut bench = with_client(bench("{}"));
    assert_eq!(bench.headers(Direction::Request, &LINES, true), Progress::No);
    assert!(bench.fire());
    let request = |name: &str| bench.host.text(Map::Request, name);
    assert_eq!(request("x-subject"), Some("CN=alice"));
    assert_eq!(request("x-sub"), Some("s-1"));
    assert_eq!(request("content-length"), None);
    assert_eq!(bench.host.metric_value("facts.asked"), 1);
    let told = |namespace: &str, key: &str| {
        let place = (MetadataSource::Dynamic, namespace.to_owned(), key.to_owned());
        bench.host.metadata.get(&place).cloned()
    };
    assert_eq!(told("callout.facts", "client"), Some(MetadataValue::String(b"192.0.2.7".to_vec())));
    assert_eq!(told("callout.facts", "headers"), Some(MetadataValue::Number(3.0)));
    assert_eq!(told("mine", "sub"), Some(MetadataValue::String(b"told".to_vec())));
    let lines = [(":status", "200"), ("server", "envoy")];
    assert_eq!(bench.headers(Direction::Response, &lines, true), Progress::Yes);
    let response = |name: &str| bench.host.text(Map::Response, name);
    assert_eq!(response("x-checked"), Some("yes"));
    assert_eq!(response("x-status"), Some("200"));
    assert_eq!(response("server"), None);
}

#[test]
fn without_tls_it_is_answered_and_a_route_may_say_otherwise() {
    let mut plain = bench("{}");
    plain.headers(Direction::Request, &LINES, true);
    assert!(plain.fire());
    assert_eq!(plain.host.replies.len(), 1);
    let mut open = bench("{}").on_route(r#"{"open": true}"#).unwrap();
    open.headers(Direction::Request, &LINES, true);
    assert!(open.fire());
    assert!(open.host.replies.is_empty());
    assert_eq!(bench("{}").on_route(r#"{"opne": true}"#).err().unwrap().path(), "opne");
}

#[test]
fn a_check_that_is_given_up_has_counted() {
    let mut bench = bench(r#"{"delay": "7200s"}"#);
    bench.headers(Direction::Request, &LINES, true);
    assert!(!bench.fire());
    bench.complete();
    assert_eq!(bench.host.metric_value("facts.asked"), 1);
}
