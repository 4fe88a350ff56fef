use callout_common::RawConfig;
use callout_common::envoy::types::Header;
use callout_protos::envoy::service::auth::v3::CheckRequest;
use callout_protos::pbjson_types::ListValue;
use proptest::prelude::*;

use super::*;
use crate::config::key_rule::Chosen;
use crate::config::{BodyLimits, Config};
use crate::request::{self, Body, Peer};

/// What a request consists of, owned.
#[derive(Debug, Clone, Default)]
struct Parts {
    headers: Vec<(String, Vec<u8>)>,
    source: String,
    identities: [String; 3],
    destination: String,
    protocol: String,
    server_name: String,
    extensions: HashMap<String, String>,
    metadata: Metadata,
    route_metadata: Metadata,
}

impl Parts {
    fn view(&self) -> View<'_> {
        let identities = self.identities.each_ref().map(|one| one.as_bytes());
        View {
            headers: self
                .headers
                .iter()
                .map(|(name, value)| Header { name: name.as_bytes(), value })
                .collect(),
            source: Peer { address: self.source.as_bytes(), identities },
            destination: Peer { address: self.destination.as_bytes(), identities: [b"", b"", b""] },
            protocol: self.protocol.as_bytes(),
            server_name: self.server_name.as_bytes(),
            context_extensions: Some(&self.extensions),
            metadata: self.metadata.clone(),
            route_metadata: self.route_metadata.clone(),
            ..View::default()
        }
    }

    fn get(method: &str, path: &str) -> Self {
        let lines =
            [(":method", method), (":path", path), (":authority", "h"), (":scheme", "http")];
        let line = |(name, value): (&str, &str)| (name.to_owned(), value.as_bytes().to_vec());
        Self {
            headers: lines.into_iter().map(line).collect(),
            source: "127.0.0.1:1".to_owned(),
            ..Self::default()
        }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }
}

fn config(fields: &str) -> Config {
    let json = format!(
        r#"{{"grpc_service": {{"google_grpc": {{"target_uri": "127.0.0.1:1"}}}}{fields}}}"#
    );
    Config::read(RawConfig::new(json.as_bytes())).unwrap()
}

/// What is hashed, if there is a key.
fn written(
    config: &Config,
    rule: &KeyRule,
    parts: &Parts,
    surroundings: &KeyContext<'_>,
) -> Option<Vec<u8>> {
    let mut out = Writer(Vec::new());
    let sent = |name: &[u8]| config.headers.includes(name);
    let keys = Keys::new(rule.clone(), config.reads_dynamic_metadata(), [0; 32]);
    let has = keys.write(&mut out, &parts.view(), surroundings, sent);
    has.then_some(out.0)
}

fn sent(parts: &Parts) -> Vec<u8> {
    written(&config(""), &KeyRule::Everything, parts, &KeyContext::default()).unwrap()
}

fn chosen(headers: &[&str]) -> Chosen {
    Chosen {
        headers: headers.iter().map(|name| (*name).to_owned()).collect(),
        attributes: Vec::new(),
        context: false,
        omit: Omit::default(),
    }
}

/// The message, without what is noise: what a decision may depend on.
fn decision_input(config: &Config, parts: &Parts) -> CheckRequest {
    let mut message = request::build(config, parts.view());
    let attributes = message.attributes.as_mut().unwrap();
    if let Some(request) = &mut attributes.request {
        request.time = None;
        if let Some(http) = &mut request.http {
            http.id.clear();
            http.headers.retain(|name, _| !TRACING_HEADERS.contains(&name.as_bytes()));
            if let Some(map) = &mut http.header_map {
                map.headers.retain(|line| !TRACING_HEADERS.contains(&line.key.as_bytes()));
            }
        }
    }
    let source = attributes.source.as_mut().unwrap();
    use callout_protos::envoy::config::core::v3::address::Address;
    if let Some(Address::SocketAddress(socket)) =
        source.address.as_mut().and_then(|address| address.address.as_mut())
    {
        socket.port_specifier = None;
    }
    message
}

#[test]
fn noise_and_the_clients_port_make_no_difference_and_everything_else_does() {
    let plain = Parts::get("GET", "/p");
    let mut other_port = plain.clone();
    other_port.source = "127.0.0.1:2".to_owned();
    assert_eq!(sent(&plain), sent(&other_port));
    assert_eq!(sent(&plain), sent(&plain.clone().header("x-request-id", "1")));
    assert_eq!(sent(&plain), sent(&plain.clone().header("traceparent", "1")));
    for other in [
        Parts::get("PUT", "/p"),
        Parts::get("GET", "/p?a"),
        plain.clone().header("authorization", "a"),
        plain.clone().header("authorization", ""),
        Parts { source: "127.0.0.2:1".to_owned(), ..plain.clone() },
        Parts { protocol: "HTTP/2".to_owned(), ..plain.clone() },
        Parts { identities: ["spiffe://a", "", ""].map(str::to_owned), ..plain.clone() },
    ] {
        assert_ne!(sent(&plain), sent(&other), "{other:?}");
    }
}

#[test]
fn lines_do_not_run_into_each_other() {
    let plain = Parts::get("GET", "/p");
    let lines = |all: &[(&str, &str)]| {
        sent(&all.iter().fold(plain.clone(), |parts, (name, value)| parts.header(name, value)))
    };
    assert_ne!(lines(&[("a", "b"), ("c", "d")]), lines(&[("a", "bc"), ("", "d")]));
    // The mark of a part is a letter, too.
    assert_ne!(lines(&[("a", "pb")]), lines(&[("ap", "b")]));
    assert_ne!(lines(&[("a", "1"), ("a", "2")]), lines(&[("a", "1,2")]));
    assert_ne!(lines(&[("a", "1"), ("a", "2")]), lines(&[("a", "2"), ("a", "1")]));
}

#[test]
fn the_route_and_the_calls_metadata_are_part_of_every_key() {
    let (config, parts) = (config(""), Parts::get("GET", "/p"));
    let key = |surroundings: &KeyContext<'_>| {
        written(&config, &KeyRule::Everything, &parts, surroundings).unwrap()
    };
    let none = key(&KeyContext::default());
    let named = KeyContext { route: [Some(b"r"), None, None], ..Default::default() };
    let hosted = KeyContext { route: [None, Some(b"r"), None], ..Default::default() };
    let configured = KeyContext { route_config: Some(b"r"), ..Default::default() };
    let call: (&[u8], &[u8]) = (b"x-a", b"r");
    let called = KeyContext { call: vec![call], ..Default::default() };
    let all = [none, key(&named), key(&hosted), key(&configured), key(&called)];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
}

#[test]
fn a_header_that_the_service_is_not_shown_makes_no_difference() {
    let config = config(r#", "disallowed_headers": {"patterns": [{"exact": "x-hidden"}]}"#);
    let plain = Parts::get("GET", "/p");
    let key = |parts: &Parts| written(&config, &KeyRule::Everything, parts, &KeyContext::default());
    assert_eq!(key(&plain), key(&plain.clone().header("x-hidden", "1")));
    assert_ne!(key(&plain), key(&plain.clone().header("x-shown", "1")));
}

#[test]
fn a_request_with_a_body_has_no_key() {
    let parts = Parts::get("POST", "/p");
    let limits =
        BodyLimits { max_request_bytes: 9, allow_partial_message: false, pack_as_bytes: false };
    let body = Some(Body { bytes: b"b".to_vec(), received: 1, limits });
    let mut view = parts.view();
    view.body = body;
    let (keys, surroundings) =
        (Keys::new(KeyRule::Everything, false, [0; 32]), KeyContext::default());
    assert_eq!(keys.key(&view, &surroundings, |_| true), None);
    assert!(keys.key(&parts.view(), &surroundings, |_| true).is_some());
}

#[test]
fn a_chosen_key_holds_what_was_chosen_and_the_request_line_and_nothing_else() {
    let (config, rule) = (config(""), KeyRule::Custom(chosen(&["authorization"])));
    let key = |parts: &Parts| written(&config, &rule, parts, &KeyContext::default());
    let plain = Parts::get("GET", "/p").header("authorization", "a");
    assert_eq!(key(&plain), key(&plain.clone().header("x-other", "1")));
    for other in [
        Parts::get("GET", "/p").header("authorization", "b"),
        Parts::get("GET", "/q").header("authorization", "a"),
        Parts::get("PUT", "/p").header("authorization", "a"),
        plain.clone().header("authorization", "a"),
    ] {
        assert_ne!(key(&plain), key(&other), "{other:?}");
    }
}

#[test]
fn without_anything_that_was_chosen_there_is_no_key() {
    let (config, rule) = (config(""), KeyRule::Custom(chosen(&["authorization", "x-tenant"])));
    let key = |parts: &Parts| written(&config, &rule, parts, &KeyContext::default());
    assert_eq!(key(&Parts::get("GET", "/p")), None);
    assert!(key(&Parts::get("GET", "/p").header("x-tenant", "t")).is_some());
    let address =
        KeyRule::Custom(Chosen { attributes: vec![Attribute::SourceAddress], ..chosen(&[]) });
    let with = |value| {
        let surroundings = KeyContext { attributes: vec![value], ..Default::default() };
        written(&config, &address, &Parts::get("GET", "/p"), &surroundings)
    };
    assert_eq!(with(None), None);
    assert_eq!(with(Some(b"1.2.3.4:5")), with(Some(b"1.2.3.4:6")));
    assert_ne!(with(Some(b"1.2.3.4:5")), with(Some(b"1.2.3.5:5")));
}

#[test]
fn only_what_is_named_is_left_out_of_a_chosen_key() {
    let config = config("");
    let plain = Parts::get("GET", "/p").header("a", "1");
    let other_path = Parts::get("GET", "/q").header("a", "1");
    let other_method = Parts::get("PUT", "/p").header("a", "1");
    let rule =
        KeyRule::Custom(Chosen { omit: Omit { path: true, ..Omit::default() }, ..chosen(&["a"]) });
    let key = |parts: &Parts| written(&config, &rule, parts, &KeyContext::default());
    assert_eq!(key(&plain), key(&other_path));
    assert_ne!(key(&plain), key(&other_method));
    let pathless =
        KeyRule::Custom(Chosen { omit: Omit { route: true, ..Omit::default() }, ..chosen(&["a"]) });
    let on = |surroundings: &KeyContext<'_>| written(&config, &pathless, &plain, surroundings);
    let named = KeyContext { route: [Some(b"r"), None, None], ..Default::default() };
    let configured = KeyContext { route_config: Some(b"r"), ..Default::default() };
    assert_eq!(on(&KeyContext::default()), on(&named));
    // It may name another service.
    assert_ne!(on(&KeyContext::default()), on(&configured));
}

#[test]
fn two_configurations_share_no_key() {
    let parts = Parts::get("GET", "/p");
    let key = |secret| {
        Keys::new(KeyRule::Everything, false, secret).key(
            &parts.view(),
            &KeyContext::default(),
            |_| true,
        )
    };
    assert_eq!(key([1; 32]), key([1; 32]));
    assert_ne!(key([1; 32]), key([2; 32]));
}

/// Few and short texts, so that different requests come close to each other.
fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b", "ab", "p", "pb", "-", "a,b", "1.2.3.4:5", "1.2.3.4:6"])
        .prop_map(str::to_owned)
}

fn line() -> impl Strategy<Value = (String, Vec<u8>)> {
    let names = vec![":method", ":path", "a", "ap", "ab", "b", "x-request-id", SERVICE];
    let name = prop::sample::select(names).prop_map(str::to_owned);
    (name, text().prop_map(String::into_bytes))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<bool>().prop_map(Kind::BoolValue),
        prop::sample::select(vec![0.0, 1.0, -1.0]).prop_map(Kind::NumberValue),
        text().prop_map(Kind::StringValue),
    ]
    .prop_map(|kind| Value { kind: Some(kind) });
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| Kind::ListValue(ListValue { values })),
            prop::collection::hash_map(text(), inner, 0..3)
                .prop_map(|fields| Kind::StructValue(Struct { fields })),
        ]
        .prop_map(|kind| Value { kind: Some(kind) })
    })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let fields = prop::collection::hash_map(text(), value(), 0..2);
    prop::collection::hash_map(text(), fields.prop_map(|fields| Struct { fields }), 0..2)
        .prop_map(|filter_metadata| Metadata { filter_metadata, ..Metadata::default() })
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        prop::collection::vec(line(), 0..4),
        [text(), text()],
        [text(), text(), text()],
        [text(), text()],
        prop::collection::hash_map(text(), text(), 0..2),
        [metadata(), metadata()],
    )
        .prop_map(
            |(headers, [source, destination], identities, rest, extensions, contexts)| {
                let [protocol, server_name] = rest;
                let [metadata, route_metadata] = contexts;
                Parts {
                    headers,
                    source,
                    identities,
                    destination,
                    protocol,
                    server_name,
                    extensions,
                    metadata,
                    route_metadata,
                }
            },
        )
}

/// `parts`, and something that differs from them in one place or none.
fn neighbours() -> impl Strategy<Value = (Parts, Parts)> {
    (parts(), parts(), 0..8_u8).prop_map(|(one, other, place)| {
        let mut near = one.clone();
        match place {
            0 => near.headers = other.headers,
            1 => near.source = other.source,
            2 => near.identities = other.identities,
            3 => near.destination = other.destination,
            4 => near.extensions = other.extensions,
            5 => near.metadata = other.metadata,
            6 => near.route_metadata = other.route_metadata,
            _ => near = other,
        }
        (one, near)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn requests_of_which_the_service_is_told_different_things_share_no_key(
        (one, other) in neighbours(),
        raw in any::<bool>(),
    ) {
        let config = config(if raw { r#", "encode_raw_headers": true, "include_tls_session": true"# } else { r#", "include_tls_session": true"# });
        let key = |parts: &Parts| {
            written(&config, &KeyRule::Everything, parts, &KeyContext::default()).unwrap()
        };
        if decision_input(&config, &one) != decision_input(&config, &other) {
            prop_assert_ne!(key(&one), key(&other));
        }
    }

    #[test]
    fn the_same_request_always_has_the_same_key(parts in parts()) {
        prop_assert_eq!(sent(&parts), sent(&parts.clone()));
    }
}

fn context_key(fields: &str, parts: &Parts) -> Option<Vec<u8>> {
    let rule = KeyRule::Custom(Chosen { context: true, ..chosen(&[]) });
    written(&config(fields), &rule, parts, &KeyContext::default())
}

fn metadata_of(namespace: &str) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.filter_metadata.insert(namespace.to_owned(), Struct::default());
    metadata
}

#[test]
fn a_context_is_a_key_only_if_there_is_any() {
    let parts = Parts::get("GET", "/p");
    assert_eq!(context_key("", &parts), None);
    let extensions = HashMap::from([("a".to_owned(), "b".to_owned())]);
    assert!(context_key("", &Parts { extensions, ..parts.clone() }).is_some());
    assert!(context_key("", &Parts { route_metadata: metadata_of("n"), ..parts }).is_some());
}

#[test]
fn where_metadata_of_the_request_is_part_of_the_context_what_the_route_says_is_no_key() {
    let fields = r#", "metadata_context_namespaces": ["n"]"#;
    let extensions = HashMap::from([("a".to_owned(), "b".to_owned())]);
    let parts = Parts { extensions, route_metadata: metadata_of("n"), ..Parts::get("GET", "/p") };
    assert_eq!(context_key(fields, &parts), None);
    assert!(context_key(fields, &Parts { metadata: metadata_of("n"), ..parts }).is_some());
}
