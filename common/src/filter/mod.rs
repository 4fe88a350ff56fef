//! What the author of a filter implements and sees.

pub mod gate;
pub mod admin;
pub mod call_stats;
pub mod service_log;
pub mod stream;
pub mod unreadable;
pub mod context;
pub mod timer;
pub(crate) mod held_end;
pub mod decision;
pub mod metadata;
pub mod nested;
pub mod headers;
pub mod stats;
pub mod trace;

pub use self::stream::{Filter, HttpStream, NoRoute};
