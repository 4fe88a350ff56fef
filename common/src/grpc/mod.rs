//! Calls to gRPC services that the module dials by itself: unary and bidirectional.
//!
//! A [`Client`] is made without any I/O and connects at its first call. Clients of one target share
//! their connections, also across reloads of the configuration.

mod call;
mod connection;
mod endpoint;
mod error;
mod metadata;
mod retry;
mod service;
mod target;

pub use call::{Answers, Client};
pub use error::{CallError, Failure};
pub use metadata::{MetadataTemplate, entries};
pub use service::Service;
pub use target::{Target, TargetError};
pub use tonic::metadata::MetadataMap;
