//! What HTTP says of header lines.

pub mod rules;
