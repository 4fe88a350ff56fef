//! Calls to gRPC services, unary and bidirectional: over connections that the module dials by itself
//! (`google_grpc`), or through Envoy's clusters (`envoy_grpc`).
//!
//! A [`Client`] is made without any I/O and connects at its first call. Clients of one target share
//! their connections, also across reloads of the configuration.

mod call;
pub mod circuit_breaker;
mod cluster;
mod connection;
mod endpoint;
mod error;
mod metadata;
mod retry;
mod service;
mod target;
mod wire;

pub use call::{Answers, Client};
pub use error::{CallError, Failure};
pub use metadata::{MetadataTemplate, entries};
pub use retry::RetryPermit;
pub use service::Service;
pub use target::{Target, TargetError};
pub use tonic::metadata::MetadataMap;
