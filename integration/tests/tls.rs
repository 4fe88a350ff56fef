//! A service that is dialled over mutual TLS, whose certificates are rotated in their files, with calls
//! on the workers and off them.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use callout_integration::envoy::{Options, merge};
use callout_integration::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// An authority that signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// What a server presents that this authority vouches for; it takes this authority's clients.
    fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let (chain, key) = self.sign("127.0.0.1");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// Writes what a client of this authority needs.
    fn write(&self, into: &Path) {
        let (chain, key) = self.sign("client");
        std::fs::write(into.join("ca.pem"), &self.pem).unwrap();
        std::fs::write(into.join("key.pem"), key).unwrap();
        std::fs::write(into.join("chain.pem"), chain).unwrap();
    }
}

/// Mutual TLS in front of the service at another port.
struct Front {
    port: u16,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Front {
    async fn start(config: Arc<ServerConfig>, service: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::new(Mutex::new(config));
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let (now, tasks) = (Arc::clone(&config), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&now.lock().unwrap()));
                tasks.lock().unwrap().spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut service = TcpStream::connect(("127.0.0.1", service)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut service).await;
                });
            }
        });
        Self { port, config, connections }
    }

    /// Ends all connections; new ones are by `config`.
    fn rotate(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap() = config;
        self.connections.lock().unwrap().abort_all();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_with_files_that_are_rotated() {
    for (version, calls) in Version::ALL
        .into_iter()
        .flat_map(|version| ["worker", "off_thread"].map(|at| (version, at)))
    {
        let what = format!("{version} {calls}");
        let files = tempfile::tempdir().unwrap();
        let (first, second) = (Authority::new(), Authority::new());
        first.write(files.path());
        let upstream = Upstream::start(Answer::default()).await.unwrap();
        let services = Services::start(Script::default()).await.unwrap();
        let front = Front::start(first.server(), services.port()).await;
        let file = |name: &str| json!({"filename": files.path().join(name)});
        let fields = json!({"grpc_service": {"timeout": "5s", "google_grpc": {
            "channel_credentials": {"ssl_credentials": {
                "root_certs": file("ca.pem"),
                "private_key": file("key.pem"),
                "cert_chain": file("chain.pem"),
            }},
        }}});
        let filter =
            Kind::Authz.module_with(json!({"calls": calls}), merge(json!({}), fields), front.port);
        let bootstrap = Bootstrap::new(upstream.port(), vec![filter]);
        let options = Options { concurrency: 2, ..Options::default() };
        let envoy = Envoy::start_with(version, &bootstrap, options).await.unwrap();
        for _ in 0..10 {
            let body = vec![b'x'; 20_000];
            let response = Request::post("/").body(body).send(envoy.port()).await;
            assert_eq!(response.status, 200, "{what}");
        }
        assert_eq!(services.asked().len(), 10, "{what}");
        // A client of the first authority is nobody to the second, and the other way round.
        front.rotate(second.server());
        eventually("the connections are closed", || services.open() == 0).await.unwrap();
        assert_eq!(Request::get("/").send(envoy.port()).await.status, 403, "{what}");
        assert_eq!(services.asked().len(), 10, "{what}");
        second.write(files.path());
        let mut status = 0;
        for _ in 0..100 {
            status = Request::get("/").send(envoy.port()).await.status;
            if status == 200 {
                break;
            }
            pause(50).await;
        }
        assert_eq!(status, 200, "{what}: the new files are not read");
        let (status, log) = envoy.stop().await.unwrap();
        assert!(status.success(), "{what}: {status}\n{log}");
    }
}
