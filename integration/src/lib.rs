//! The harness: a real Envoy, scriptable gRPC services, an upstream, clients, and the built-in
//! filters as oracle. Tests, the demo and the benchmark stand on it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use callout_integration::prelude::*;
//!
//! let upstream = Upstream::start(Answer::default()).await?;
//! let services = Services::start(Script::default()).await?;
//! let filter = Kind::Authz.module(json!({}), services.port());
//! let envoy = Envoy::start(Version::LATEST, &Bootstrap::new(upstream.port(), vec![filter])).await?;
//! assert_eq!(Request::get("/").send(envoy.port()).await.status, 200);
//! # Ok(())
//! # }
//! ```
#![allow(
    clippy::print_stderr,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "programs and tests only: progress goes to the terminal, and a panic fails the test"
)]

pub mod client;
pub mod collector;
pub mod endpoint_picker;
pub mod envoy;
pub mod faulty;
mod gateway;
mod http1;
pub mod modules;
pub mod oracle;
pub mod peers;
mod pypi;
pub mod services;
pub mod tools;
pub mod upstream;
mod wait;

pub use wait::{eventually, pause};

/// What nearly every test needs.
pub mod prelude {
    pub use crate::client::{Request, Response};
    pub use crate::envoy::{Bootstrap, Envoy, Kind, Version};
    pub use crate::gateway::Gateway;
    pub use crate::services::{Script, Services};
    pub use crate::upstream::{Answer, Upstream};
    pub use crate::{eventually, pause};
    pub use serde_json::{Value, json};
}

/// Header or trailer lines in their order, duplicates kept. Text is Latin-1: one char is one byte.
pub type Headers = Vec<(String, String)>;

/// The first value of `name` (any case).
///
/// ```
/// let headers = vec![("a".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())];
/// assert_eq!(callout_integration::header(&headers, "A"), Some("1"));
/// ```
#[must_use]
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// Bytes as Latin-1 text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Latin-1 text as bytes; what is no Latin-1 becomes `?`.
#[must_use]
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
}
