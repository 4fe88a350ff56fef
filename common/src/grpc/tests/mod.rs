//! Calls against a server whose every frame a test decides.

mod aborts;
mod faults;
mod server;
pub(super) mod thread;
mod tls;
