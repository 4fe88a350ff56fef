//! What carries a call: a connection of our own, or a cluster of Envoy's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use tonic::body::Body;

use super::cluster::{Cluster, ClusterBody};
use super::connection::Entered;
use super::endpoint::ConnectionPool;
use super::error::CallError;
use crate::envoy::cluster::ClusterError;

/// The way to a service.
#[derive(Clone)]
pub(super) enum Way {
    /// We dial it.
    Dialled(Arc<ConnectionPool>),
    /// Envoy does.
    Cluster(Cluster),
}

/// A way that is open for one call.
pub(super) enum Line {
    Dialled(Entered),
    Cluster(Cluster),
}

impl Way {
    /// A line for one call.
    pub(super) async fn line(&self) -> Result<Line, CallError> {
        Ok(match self {
            Self::Dialled(endpoint) => Line::Dialled(endpoint.connection().await?),
            Self::Cluster(cluster) => Line::Cluster(cluster.clone()),
        })
    }
}

impl Line {
    /// The transport that tonic's client drives. Envoy, too, is told the timeout, and tells it to
    /// the service.
    pub(super) fn wire(&self, timeout: Option<Duration>) -> Wire {
        match self {
            Self::Dialled(entered) => Wire::Dialled(entered.sender()),
            Self::Cluster(cluster) => Wire::Cluster(cluster.clone(), timeout),
        }
    }

    /// What `error` of a call stands for here.
    pub(super) fn tell_apart(&self, error: CallError) -> CallError {
        match self {
            Self::Dialled(_) => error,
            Self::Cluster(_) => error.of_cluster(),
        }
    }

    /// Notes whether a call got anything from the service before its deadline.
    pub(super) fn heard(&self, anything: bool) {
        if let Self::Dialled(entered) = self {
            entered.connection().heard(anything);
        }
    }
}

/// A line as a tower service.
pub(super) enum Wire {
    Dialled(SendRequest<Body>),
    Cluster(Cluster, Option<Duration>),
}

/// A transport's error; [`CallError::from_status`] tells them apart.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error(transparent)]
    Dialled(#[from] hyper::Error),
    #[error("{0}")]
    Cluster(#[source] ClusterError),
}

impl tower_service::Service<http::Request<Body>> for Wire {
    type Response = http::Response<Answer>;
    type Error = WireError;
    type Future = BoxFuture<'static, Result<Self::Response, WireError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        match self {
            Self::Dialled(sender) => sender.poll_ready(cx).map_err(WireError::Dialled),
            Self::Cluster(..) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self {
            Self::Dialled(sender) => {
                let answer = sender.send_request(request);
                Box::pin(async move { Ok(answer.await?.map(Answer::Dialled)) })
            }
            Self::Cluster(cluster, timeout) => {
                let answer = cluster.clone().call(request, *timeout);
                Box::pin(async move {
                    Ok(answer.await.map_err(WireError::Cluster)?.map(Answer::Cluster))
                })
            }
        }
    }
}

/// The body of an answer.
pub(super) enum Answer {
    Dialled(Incoming),
    Cluster(ClusterBody),
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = WireError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        match self.get_mut() {
            Self::Dialled(body) => Pin::new(body).poll_frame(cx).map_err(WireError::Dialled),
            Self::Cluster(body) => Pin::new(body).poll_frame(cx).map_err(WireError::Cluster),
        }
    }
}
