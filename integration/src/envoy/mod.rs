//! A real Envoy: fetched, configured, started and watched.

mod bootstrap;
mod fetch;
mod process;

pub use bootstrap::{Bootstrap, Form, Kind, example, merge};
pub use fetch::Version;
pub use process::{Envoy, Options, Refused};
