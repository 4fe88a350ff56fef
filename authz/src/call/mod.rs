//! The call to the service, off the worker.

pub(crate) mod check_call;
pub(crate) mod single_flight;
