//! What HTTP says of header lines, and how they are changed.

pub mod mutation;
pub mod rules;
