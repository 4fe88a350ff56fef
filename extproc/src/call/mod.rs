//! The exchange with the processor, off the worker.

pub(crate) mod exchange;
pub(crate) mod event;
pub(crate) mod replay_buffer;
