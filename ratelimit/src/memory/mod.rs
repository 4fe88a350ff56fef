//! What is kept between requests: leases, refusals, local limits.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub(crate) mod ledger;
pub(crate) mod local;
pub(crate) mod replay;
pub(crate) mod table;
pub(crate) mod key;
