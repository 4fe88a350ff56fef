//! What Envoy's API means: configuration, matchers, formats, expressions.

pub mod matching;
pub mod attribute_paths;
pub mod cel;
pub mod node;
pub mod format;
pub mod config;
pub mod text;
