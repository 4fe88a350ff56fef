//! Services that are reached by TLS, with certificates made for the test.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callout_protos::envoy::config::core::v3::GrpcService;
use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::server::{answer, serve};
use crate::api::config::ConfigError;
use crate::grpc::{CallError, MetadataMap, Service};

/// An authority that signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Identity {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Identity {
        self.sign_until(name, 4000)
    }

    fn sign_until(&self, name: &str, year: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

/// How a server proves itself, and which clients it takes.
fn server_config(own: &Identity, clients: Option<&Authority>, alpn: &[&[u8]]) -> ServerConfig {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// A server that answers every call at once.
struct Server {
    port: u16,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Server {
    async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::new(Mutex::new(Arc::new(config)));
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let (asks, mut asked) = mpsc::unbounded_channel();
        let (now, tasks) = (Arc::clone(&config), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, asks) =
                    (TlsAcceptor::from(Arc::clone(&now.lock().unwrap())), asks.clone());
                tasks.lock().unwrap().spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, asks).await;
                    }
                });
            }
        });
        tokio::spawn(async move {
            while let Some(call) = asked.recv().await {
                answer(call);
            }
        });
        Self { port, config, connections }
    }

    /// Ends all connections; new ones are by `config`.
    fn rotate(&self, config: ServerConfig) {
        *self.config.lock().unwrap() = Arc::new(config);
        self.connections.lock().unwrap().abort_all();
    }
}

fn service(port: u16, ssl: &Value, args: &Value) -> Result<Service, ConfigError> {
    let service: GrpcService = serde_json::from_value(json!({"google_grpc": {
        "target_uri": format!("127.0.0.1:{port}"),
        "channel_credentials": {"ssl_credentials": ssl},
        "channel_args": {"args": args},
    }}))
    .unwrap();
    Service::configure(&service)
}

async fn call(service: &Service) -> Result<CheckResponse, CallError> {
    let deadline = Some(Instant::now() + Duration::from_secs(10));
    let (request, metadata) = (CheckRequest::default(), MetadataMap::new());
    service.client.unary("/test/Check", &request, &metadata, deadline).await
}

async fn reached(server: &Server, ssl: &Value, args: &Value) -> bool {
    match call(&service(server.port, ssl, args).unwrap()).await {
        Ok(_) => true,
        Err(CallError::Connect(_) | CallError::NotSent | CallError::Reset(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn inline(text: &str) -> Value {
    json!({"inline_string": text})
}

const H2: &[&[u8]] = &[b"h2"];

#[tokio::test]
async fn a_server_has_to_prove_who_it_is() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ssl = json!({"root_certs": inline(&authority.pem)});
    let start = |identity, alpn| Server::start(server_config(&identity, None, alpn));
    let good = start(authority.sign("127.0.0.1"), H2).await;
    assert!(reached(&good, &ssl, &json!({})).await);
    assert!(!reached(&good, &json!({"root_certs": inline(&other.pem)}), &json!({})).await);
    let named = start(authority.sign("authz.test"), H2).await;
    assert!(!reached(&named, &ssl, &json!({})).await);
    let as_named = json!({"grpc.ssl_target_name_override": {"string_value": "authz.test"}});
    assert!(reached(&named, &ssl, &as_named).await);
    let expired = start(authority.sign_until("127.0.0.1", 2020), H2).await;
    assert!(!reached(&expired, &ssl, &json!({})).await);
    let no_http2 = start(authority.sign("127.0.0.1"), &[b"http/1.1"]).await;
    assert!(!reached(&no_http2, &ssl, &json!({})).await);
    let mute = start(authority.sign("127.0.0.1"), &[]).await;
    assert!(!reached(&mute, &ssl, &json!({})).await);
}

#[tokio::test]
async fn a_client_proves_who_it_is_where_it_has_to() {
    let (authority, other) = (Authority::new(), Authority::new());
    let config = server_config(&authority.sign("127.0.0.1"), Some(&authority), H2);
    let server = Server::start(config).await;
    let with = |identity: &Identity| {
        json!({
            "root_certs": inline(&authority.pem),
            "private_key": inline(&identity.key),
            "cert_chain": inline(&identity.chain),
        })
    };
    assert!(reached(&server, &with(&authority.sign("client")), &json!({})).await);
    assert!(!reached(&server, &with(&other.sign("client")), &json!({})).await);
    assert!(!reached(&server, &json!({"root_certs": inline(&authority.pem)}), &json!({})).await);
}

#[tokio::test]
async fn files_that_change_are_in_use_at_the_next_connection() {
    let directory = std::env::temp_dir().join(format!("callout-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |authority: &Authority| {
        let identity = authority.sign("client");
        std::fs::write(directory.join("ca.pem"), &authority.pem).unwrap();
        std::fs::write(directory.join("key.pem"), identity.key).unwrap();
        std::fs::write(directory.join("chain.pem"), identity.chain).unwrap();
    };
    let file = |name: &str| json!({"filename": directory.join(name)});
    let first = Authority::new();
    write(&first);
    let config =
        |authority: &Authority| server_config(&authority.sign("127.0.0.1"), Some(authority), H2);
    let server = Server::start(config(&first)).await;
    let ssl = json!({
        "root_certs": file("ca.pem"),
        "private_key": file("key.pem"),
        "cert_chain": file("chain.pem"),
    });
    let service = service(server.port, &ssl, &json!({})).unwrap();
    call(&service).await.unwrap();
    let second = Authority::new();
    write(&second);
    server.rotate(config(&second));
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(error) = call(&service).await {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_can_not_be_used_is_refused_by_its_place() {
    let authority = Authority::new();
    let (one, other) = (authority.sign("a"), authority.sign("a"));
    let path = |ssl: Value| service(1, &ssl, &json!({})).unwrap_err().path().to_owned();
    let at = |field: &str| format!("google_grpc.channel_credentials.ssl_credentials.{field}");
    let file = Path::new("/nowhere/ca.pem");
    assert_eq!(path(json!({"root_certs": {"filename": file}})), at("root_certs"));
    assert_eq!(path(json!({"root_certs": inline("x")})), at("root_certs"));
    let variable = json!({"root_certs": {"environment_variable": "CALLOUT_NO_SUCH_VARIABLE"}});
    assert_eq!(path(variable), at("root_certs.environment_variable"));
    let roots = inline(&authority.pem);
    let key = json!({"root_certs": roots, "private_key": inline(&one.key)});
    assert_eq!(path(key), at("cert_chain"));
    let chain = json!({"root_certs": roots, "cert_chain": inline(&one.chain)});
    assert_eq!(path(chain), at("private_key"));
    let mismatched = json!({
        "root_certs": roots,
        "private_key": inline(&one.key),
        "cert_chain": inline(&other.chain),
    });
    assert_eq!(path(mismatched), at("cert_chain"));
}
