//! Calls to gRPC services, unary and bidirectional: over connections that the module dials by itself
//! (`google_grpc`), or through Envoy's clusters (`envoy_grpc`).
//!
//! A [`Client`] is made without any I/O and connects at its first call. Clients of one target share
//! their connections, also across reloads of the configuration.

mod answer;
mod back_off;
mod bidi;
mod call;
pub mod circuit_breaker;
mod calls;
mod channel_args;
mod cluster;
mod connection;
mod dial;
mod endpoint;
mod error;
mod failure;
mod framing;
mod health;
mod worker_call;
mod http2;
mod metadata;
mod destination;
mod worker_pool;
mod race;
mod reply;
mod resets;
mod retry;
mod service;
mod stream_slots;
mod target;
mod tls;

pub use bidi::Answers;
pub use call::Client;
pub use calls::Calls;
pub use error::CallError;
pub use failure::{Failure, FailureClass, FailurePolicy};
pub use framing::Framed;
pub use metadata::{MetadataTemplate, entries};
pub use retry::RetryPermit;
pub use service::Service;
pub use target::{Target, TargetError};
pub use tonic::metadata::MetadataMap;

#[cfg(test)]
mod tests;
