//! Calls against a server whose every frame a test decides.

mod aborts;
mod faults;
mod server;
mod tls;
