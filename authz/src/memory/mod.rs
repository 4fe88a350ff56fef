//! Decisions that are kept, and the key of each.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub(crate) mod cache;
pub(crate) mod key;
