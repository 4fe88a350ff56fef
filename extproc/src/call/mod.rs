//! The exchange with the processor.

pub(crate) mod exchange;
pub(crate) mod event;
pub(crate) mod replay_buffer;
