//! What the answer of the service comes to. Pure: no thread, clock or host.

pub(crate) mod verdict;
pub(crate) mod headers;
