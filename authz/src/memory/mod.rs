//! Decisions that are kept, and the key of each.

pub(crate) mod cache;
pub(crate) mod key;
