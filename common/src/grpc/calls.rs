//! `callout.calls`: where the calls of requests are made.

use serde::Deserialize;

/// Where calls are made that belong to one request, to a service that the module dials
/// (`google_grpc`). What may outlive its request runs on the module's own threads in any case.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// On the worker of the request, over that worker's own connection.
    Worker,
    /// On the module's own threads, over connections that all workers share.
    #[default]
    OffThread,
}
