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
//!
//! The guide, with a whole filter:
#![doc = include_str!("../README.md")]

pub mod abi;
pub mod check;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod runner;
pub mod filter;
pub mod grpc;
pub mod cluster_streams;
mod worker;
pub mod tasks;
pub mod api;
pub mod envoy;
pub mod http;
pub mod build;

pub use api::config::{ConfigError, RawConfig, serde_duration, serde_optional_duration};
pub use cluster_streams::http::{HttpClient, HttpError};
pub use envoy::reply::{Reply, ReplyPart};
pub use envoy::types::Direction;
pub use envoy::types::{Body, Map, MetadataValue};
pub use filter::context::StreamContext;
pub use filter::decision::{BodyEdit, EventAction, HookStatus, StopMode};
pub use filter::gate::{Edits, Gate, Gated, RequestHead, Tls, Verdict};
pub use filter::stats::{Counter, Gauge, Histogram, LabelledCounter, Setup};
pub use filter::timer::Timer;
pub use filter::{Filter, HttpStream, NoRoute};
pub use tasks::mailbox::Outbox;
pub use worker::{Sleep, sleep};
