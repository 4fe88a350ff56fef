//! Test doubles for authors of filters (feature `testing`): a host with real state, and a bench
//! that drives a filter without Envoy, in virtual time.

mod bench;
mod chain;
mod events;
mod host;

pub use bench::{Bench, Progress, documented_metrics};
pub use chain::{Arrived, ChainBench, Router};
pub use events::SentEvents;
pub use host::{FakeHost, FinishedSpan};

pub use crate::worker::testing::Loop as WorkerLoop;
