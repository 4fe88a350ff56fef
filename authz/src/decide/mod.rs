//! What the answer of the service comes to. Pure: no thread, clock or host.

pub(crate) mod verdict;
pub(crate) mod query;
pub(crate) mod edits;
pub(crate) mod strict;
