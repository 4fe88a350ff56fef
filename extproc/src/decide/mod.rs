//! What an answer of the processor does. Pure: no thread, clock or host.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub(crate) mod machine;
pub(crate) mod endpoint;
pub(crate) mod immediate;
pub(crate) mod mutate;
pub(crate) mod skip;
