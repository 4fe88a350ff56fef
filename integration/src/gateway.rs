//! One of our filters in an Envoy of its own, between a client, an upstream and its service.

use anyhow::Result;
use serde_json::Value;

use crate::client::{Request, Response};
use crate::envoy::{Bootstrap, Envoy, Version};
use crate::services::{Script, Services};
use crate::upstream::{Answer, Upstream};

/// A running Envoy with what stands around it.
pub struct Gateway {
    /// The Envoy.
    pub envoy: Envoy,
    /// Where its requests end.
    pub upstream: Upstream,
    /// What its filters ask.
    pub services: Services,
}

impl Gateway {
    /// Starts Envoy with the filters that `filters` makes of the services' port.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(
        version: Version,
        script: Script,
        filters: impl FnOnce(u16) -> Vec<Value>,
    ) -> Result<Self> {
        Self::start_with(version, script, filters, |bootstrap| bootstrap).await
    }

    /// As [`Gateway::start`], with the rest of Envoy's configuration as `with` leaves it.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_with(
        version: Version,
        script: Script,
        filters: impl FnOnce(u16) -> Vec<Value>,
        with: impl FnOnce(Bootstrap) -> Bootstrap,
    ) -> Result<Self> {
        let upstream = Upstream::start(Answer::default()).await?;
        let services = Services::start(script).await?;
        let bootstrap = with(Bootstrap::new(upstream.port(), filters(services.port())));
        let envoy = Envoy::start(version, &bootstrap).await?;
        Ok(Self { envoy, upstream, services })
    }

    /// Sends a request and waits for the end of its response.
    pub async fn send(&self, request: Request) -> Response {
        request.send(self.envoy.port()).await
    }

    /// The statuses that these requests get, one after the other.
    pub async fn statuses(&self, requests: impl IntoIterator<Item = Request>) -> Vec<u16> {
        let mut statuses = Vec::new();
        for request in requests {
            statuses.push(self.send(request).await.status);
        }
        statuses
    }

    /// How many messages the services got.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.services.asked().len()
    }

    /// The entries of the access log under `key`, when `count` are there.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn logged(&self, key: &str, count: usize) -> Result<Vec<Value>> {
        crate::eventually("the access log", || self.envoy.access_log().len() >= count).await?;
        Ok(self.envoy.access_log().into_iter().map(|mut entry| entry[key].take()).collect())
    }
}
