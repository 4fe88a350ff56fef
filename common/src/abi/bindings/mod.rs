//! What bindgen makes of the headers in this folder; `tests/bindings.rs` keeps the two equal.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::expect_used,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::use_self,
    clippy::indexing_slicing,
    dead_code,
    missing_debug_implementations,
    reason = "generated"
)]

#[rustfmt::skip]
pub mod newer;
#[rustfmt::skip]
pub mod required;
#[rustfmt::skip]
pub mod types;
