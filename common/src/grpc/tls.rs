//! TLS to a service that we dial: `ssl_credentials` of `google_grpc`.
//!
//! Files are read when a connection is made, and a connection is replaced after two minutes: so a
//! rotated certificate is in use soon, without a reload of the configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use callout_protos::envoy::config::core::v3::DataSource;
use callout_protos::envoy::config::core::v3::data_source::Specifier;
use callout_protos::envoy::config::core::v3::grpc_service::google_grpc::SslCredentials;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::dial::Socket;
use crate::api::config::{ConfigError, refuse_if};

/// HTTP/2's name in the handshake.
const ALPN: &[u8] = b"h2";

/// What secures the connections to a service. Services with the same settings share connections.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TlsSettings {
    /// `None` for the roots of the system.
    roots: Option<Source>,
    identity: Option<Identity>,
    server_name: ServerName<'static>,
}

/// A client's certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    key: Source,
    chain: Source,
}

/// Where PEM comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Source {
    File(PathBuf),
    Here(Vec<u8>),
}

/// The bytes of the sources at one time.
#[derive(Clone, PartialEq, Eq)]
struct Material {
    roots: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// [`TlsSettings`], and what was made of them last.
pub(super) struct Tls {
    settings: TlsSettings,
    made: Mutex<Option<(Material, Arc<ClientConfig>)>>,
}

/// Keys stay out of logs.
impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// Reads `ssl_credentials`, for a server that has to prove to be `server_name`. Files are read once
    /// to see that they are right.
    ///
    /// # Errors
    /// The field that is wrong, seen from the credentials.
    pub(super) fn configure(
        config: &SslCredentials,
        server_name: &str,
    ) -> Result<Self, ConfigError> {
        let SslCredentials { root_certs, private_key, cert_chain } = config;
        let server_name = ServerName::try_from(server_name.to_owned()).map_err(|_| {
            ConfigError::without_path(format!(
                "`{server_name}` is not a name that a certificate can have"
            ))
        })?;
        let roots = source(root_certs.as_ref(), "root_certs")?;
        let identity = match (
            source(private_key.as_ref(), "private_key")?,
            source(cert_chain.as_ref(), "cert_chain")?,
        ) {
            (Some(key), Some(chain)) => Some(Identity { key, chain }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::field("cert_chain", "is required with private_key"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::field("private_key", "is required with cert_chain"));
            }
        };
        let settings = Self { roots, identity, server_name };
        let material =
            settings.material().map_err(|(at, reason)| ConfigError::field(at, reason))?;
        material.config().map_err(|(at, reason)| ConfigError::field(at, reason))?;
        Ok(settings)
    }

    /// Whether what they name may change while they stay the same.
    fn rotates(&self) -> bool {
        let identity = self.identity.iter().flat_map(|identity| [&identity.key, &identity.chain]);
        identity.chain(&self.roots).any(|source| matches!(source, Source::File(_)))
    }

    fn material(&self) -> Result<Material, Wrong> {
        let roots = self.roots.as_ref().map(|roots| roots.read("root_certs")).transpose()?;
        let identity = match &self.identity {
            Some(Identity { key, chain }) => {
                Some((key.read("private_key")?, chain.read("cert_chain")?))
            }
            None => None,
        };
        Ok(Material { roots, identity })
    }
}

impl fmt::Display for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.server_name.to_str())
    }
}

/// The field that is wrong, and why.
type Wrong = (&'static str, String);

fn source(config: Option<&DataSource>, field: &'static str) -> Result<Option<Source>, ConfigError> {
    // Files are read anew for each connection, so a directory need not be watched.
    let Some(DataSource { specifier, watched_directory: _ }) = config else { return Ok(None) };
    let none = || ConfigError::field(field, "names no source");
    Ok(Some(match specifier.as_ref().ok_or_else(none)? {
        Specifier::Filename(path) => {
            refuse_if(path.is_empty(), &format!("{field}.filename"), "is empty")?;
            Source::File(path.into())
        }
        Specifier::InlineBytes(bytes) => Source::Here(bytes.to_vec()),
        Specifier::InlineString(text) => Source::Here(text.clone().into_bytes()),
        Specifier::EnvironmentVariable(name) => match std::env::var(name) {
            Ok(value) => Source::Here(value.into_bytes()),
            Err(_) => {
                let reason = format!("there is no environment variable `{name}`");
                return Err(ConfigError::field(format!("{field}.environment_variable"), reason));
            }
        },
    }))
}

impl Source {
    fn read(&self, field: &'static str) -> Result<Vec<u8>, Wrong> {
        match self {
            Self::Here(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path)
                .map_err(|error| (field, format!("{} can't be read: {error}", path.display()))),
        }
    }
}

impl Material {
    fn config(&self) -> Result<ClientConfig, Wrong> {
        let roots = match &self.roots {
            Some(pem) => roots_of(certificates(pem, "root_certs")?)
                .ok_or_else(|| ("root_certs", "holds no certificate".to_owned()))?,
            None => roots_of(rustls_native_certs::load_native_certs().certs)
                .ok_or_else(|| ("root_certs", "is required: the system has no roots".to_owned()))?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ("root_certs", error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((key, chain)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| ("private_key", "holds no private key in PEM".to_owned()))?;
                let chain = certificates(chain, "cert_chain")?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| ("cert_chain", error.to_string()))?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

fn certificates(pem: &[u8], field: &'static str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err((field, "holds no certificate in PEM".to_owned())),
        Err(_) => Err((field, "is not valid PEM".to_owned())),
    }
}

/// The certificates that can be roots; `None` when none can.
fn roots_of(certificates: Vec<CertificateDer<'static>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    (added > 0).then_some(roots)
}

impl Tls {
    pub(super) const fn new(settings: TlsSettings) -> Self {
        Self { settings, made: Mutex::new(None) }
    }

    pub(super) fn rotates(&self) -> bool {
        self.settings.rotates()
    }

    /// Shakes hands over `socket`.
    ///
    /// # Errors
    /// When what the settings name can't be read any more, the peer can't prove what it has to, or
    /// does not speak HTTP/2.
    pub(super) async fn secure(self: Arc<Self>, socket: Socket) -> io::Result<Secured> {
        let tls = Arc::clone(&self);
        let config = tokio::task::spawn_blocking(move || tls.config());
        let config = config.await.map_err(io::Error::other)??;
        let name = self.settings.server_name.clone();
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("the server does not speak HTTP/2 over TLS"));
        }
        Ok(Secured::Tls(Box::new(stream)))
    }

    /// What the sources hold now. As long as that stays the same, sessions are resumed.
    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        let wrong = |(field, reason): Wrong| io::Error::other(format!("{field}: {reason}"));
        let material = self.settings.material().map_err(wrong)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, config)) = &*made
            && *before == material
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(material.config().map_err(wrong)?);
        *made = Some((material, Arc::clone(&config)));
        Ok(config)
    }
}

/// A socket, with or without TLS.
#[derive(Debug)]
pub(crate) enum Secured {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
