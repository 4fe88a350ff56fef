//! The messages to the processor.

pub(crate) mod message;
pub(crate) mod attributes;
pub(crate) mod upgrade;
