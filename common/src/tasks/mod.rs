//! Work off the worker, and how what comes of it gets back.

pub mod mailbox;
pub mod runtime;
