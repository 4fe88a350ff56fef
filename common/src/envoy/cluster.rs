//! HTTP streams to Envoy's clusters, as Envoy offers them to a configuration.

use std::sync::Arc;

use bytes::Bytes;

/// Why a stream to a cluster has no (more) answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Envoy knows no cluster of this name.
    #[error("Cluster not available")]
    NoCluster,
    /// Envoy could not open the stream: no healthy host, or no room.
    #[error("no stream to the cluster could be opened")]
    NotOpened,
    /// The stream was reset.
    #[error("the stream was reset")]
    Reset,
    /// The answer came faster than it was read, beyond all bounds.
    #[error("the answer is too large")]
    TooLarge,
    /// The service said nothing although as much as may be was on its way to it.
    #[error("the service does not read what it is sent")]
    Unread,
}

/// How a stream begins.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    /// The cluster.
    pub(crate) cluster: Arc<str>,
    /// The request's headers, pseudo headers included.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// The first piece of the body.
    pub(crate) body: Bytes,
    /// Whether that is all of the request.
    pub(crate) end: bool,
    /// Envoy's own timeout in milliseconds; 0 for none.
    pub(crate) timeout: u64,
}

/// HTTP streams to Envoy's clusters, on the main thread. Each call may re-enter the configuration's
/// hooks for streams.
pub(crate) trait ClusterHost {
    /// Opens a stream; its number.
    fn open_stream(&mut self, opening: &OpenRequest) -> Result<u64, ClusterError>;
    /// Sends a piece of a request. Nothing happens when the stream is gone.
    fn send_data(&mut self, stream: u64, bytes: &[u8], end: bool);
    /// Ends a stream. Nothing happens when it is gone.
    fn reset_stream(&mut self, stream: u64);
}
