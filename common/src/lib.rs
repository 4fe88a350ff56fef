//! What the filters of Callouts for Envoy share: Envoy's dynamic-module ABI made safe.
//!
//! A filter stops the stream, does its asynchronous work on threads of its own, and, when Envoy
//! fires the event that the work committed, resumes or answers the request on the worker. The
//! worker never blocks.
//!
//! There are two levels. [`Gate`] is an asynchronous function from a request to a verdict, for
//! filters of thirty lines. [`Filter`] and [`HttpStream`] are the base: hooks that return decisions,
//! and typed events from work off the worker.
//!
//! `unsafe` lives in [`abi`] only.

pub mod abi;
pub mod attributes;
pub mod breaker;
pub mod calls;
pub mod clusters;
pub mod config;
pub mod cx;
pub mod decision;
pub mod export;
pub mod expression;
pub mod filter;
pub mod gate;
pub mod grpc;
pub mod headers;
pub mod host;
pub mod log;
pub mod matching;
pub mod metadata;
pub mod node;
pub mod reply;
pub mod runtime;
pub mod stats;
mod stream;
pub mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod unreadable;
pub mod work;

pub use config::{ConfigError, RawConfig};
pub use cx::Cx;
pub use decision::{BodyEdit, Direction, Hold, Resume, Step};
pub use filter::{Filter, HttpStream, NoRoute};
pub use gate::{Edits, Gate, Gated, RequestHead, Verdict};
pub use host::{Body, Map};
pub use reply::{Reply, ReplyPart};
pub use stats::Setup;
pub use work::Outbox;
