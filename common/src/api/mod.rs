//! What Envoy's API means: configuration, matchers, formats, expressions.

pub mod matching;
pub mod attribute_paths;
pub mod cel;
pub mod header_limits;
pub mod node;
pub mod runtime;
mod bootstrap;
pub mod format;
pub mod config;
#[cfg(any(test, feature = "schema"))]
pub mod schema;
pub mod text;
