//! A real Envoy: fetched, configured, started and watched.

mod bootstrap;
mod fetch;
mod filters;
mod process;

pub use bootstrap::{Bootstrap, Form, Kind, example, example_route, merge};
pub use fetch::Version;
pub use filters::{TOKENS, builtin_filter, header_mutation, jwt_authn, lua};
pub use process::{Envoy, Options, Refused};
