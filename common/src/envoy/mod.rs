//! Envoy in plain types, and the one seam to it: the trait [`host::Host`].

pub mod host;
pub mod log;
pub mod cluster;
pub mod route_config;
pub mod reply;
pub mod attributes;
pub mod types;
pub mod version;
