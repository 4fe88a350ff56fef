//! An inference gateway on plain Envoy: `callout.override_host` with an endpoint picker.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashMap;
use std::net::SocketAddr;

use callout_integration::endpoint_picker::{ENDPOINT, picker};
use callout_integration::prelude::*;

struct Gateway {
    envoy: Envoy,
    hosts: [Upstream; 2],
    _services: Services,
}

impl Gateway {
    /// Two hosts, one for each of the models `a` and `b`; the endpoint of model `gone` is none of them,
    /// and that of `list` is followed by it.
    async fn start(version: Version, override_host: Value) -> Self {
        let answer = || Answer {
            body: [b"one ", b"two ", b"end."].map(|piece| piece.to_vec()).to_vec(),
            ..Answer::default()
        };
        let hosts =
            [Upstream::start(answer()).await.unwrap(), Upstream::start(answer()).await.unwrap()];
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let [a, b] = [at(hosts[0].port()), at(hosts[1].port())];
        let models =
            [("a", vec![a]), ("b", vec![b]), ("gone", vec![at(1)]), ("list", vec![b, at(1)])];
        let models: HashMap<_, _> = models.map(|(name, list)| (name.to_owned(), list)).into();
        let services = Services::start(picker(models)).await.unwrap();
        let fields = json!({"processing_mode": {
            "request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND",
            "response_body_mode": "FULL_DUPLEX_STREAMED", "response_trailer_mode": "SEND",
        }});
        let callout = json!({"override_host": override_host});
        let filter = Kind::ExtProc.module_with(callout, fields, services.port());
        let mut bootstrap = Bootstrap::new(hosts[0].port(), vec![filter]);
        bootstrap.more_hosts = vec![hosts[1].port()];
        let envoy = Envoy::start(version, &bootstrap).await.unwrap();
        Self { envoy, hosts, _services: services }
    }

    fn ask(model: &str) -> Request {
        let body = json!({"model": model, "prompt": "x".repeat(3000)}).to_string();
        let (head, tail) = body.split_at(1000);
        Request::post("/v1/completions").pieces([head, tail])
    }

    async fn send(&self, request: Request) -> Response {
        request.send(self.envoy.port()).await
    }

    fn seen(&self) -> [usize; 2] {
        [self.hosts[0].seen().len(), self.hosts[1].seen().len()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_where_the_picker_sends_it() {
    for version in Version::ALL {
        for place in [
            json!({"header": ENDPOINT}),
            json!({"metadata": {"namespace": "envoy.lb", "key": ENDPOINT}}),
        ] {
            let gateway = Gateway::start(version, place).await;
            for (model, hosts) in [("a", [2, 0]), ("b", [2, 2]), ("a", [4, 2]), ("list", [4, 4])] {
                for request in [Gateway::ask(model), Gateway::ask(model).http2()] {
                    let response = gateway.send(request).await;
                    assert_eq!(response.status, 200, "{version} {model}");
                    assert_eq!(response.body, b"one two end.", "{version} {model}");
                }
                assert_eq!(gateway.seen(), hosts, "{version} {model}");
            }
            assert_eq!(gateway.envoy.stat("extproc.endpoint_picked").await, 8, "{version}");
            let shown = &gateway.hosts[0].seen()[0];
            assert!(shown.body.len() > 3000, "{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_there_is_replaced_or_refused() {
    for version in Version::ALL {
        for (strict, status) in [(false, 200), (true, 503)] {
            let place = json!({"header": ENDPOINT, "strict": strict});
            let gateway = Gateway::start(version, place).await;
            let response = gateway.send(Gateway::ask("gone")).await;
            assert_eq!(response.status, status, "{version} {strict}");
            let invalid = gateway.envoy.stat("extproc.endpoint_invalid").await;
            assert_eq!(
                (gateway.envoy.stat("extproc.endpoint_picked").await, invalid),
                (1, 0),
                "{version}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_picks_no_endpoint() {
    let gateway =
        Gateway::start(Version::LATEST, json!({"header": ENDPOINT, "strict": true})).await;
    let request = Gateway::ask("unknown").header(ENDPOINT, "127.0.0.1:1");
    assert_eq!(gateway.send(request).await.status, 200);
    assert_eq!(gateway.envoy.stat("extproc.endpoint_picked").await, 0);
}
