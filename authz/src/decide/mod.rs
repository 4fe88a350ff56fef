//! What the answer of the service comes to. Pure: no thread, clock or host.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub(crate) mod verdict;
pub(crate) mod query;
pub(crate) mod several;
pub(crate) mod edits;
pub(crate) mod strict;
