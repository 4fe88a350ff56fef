//! What HTTP says of header lines, and how they are changed.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod arrival;
pub mod mutation;
pub mod rules;
pub mod trace;
