//! A unary call on the worker of the request that waits for it, over that worker's own connection.
//! The futures are polled in the worker's turns only; dropping one gives the call up.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use tonic::metadata::MetadataMap;

use super::answer::{Answer, Inbound};
use super::call::{Client, RESENDS, Way, headers};
use super::endpoint::ConnectionPool;
use super::error::{Broken, CallError};
use super::framing::Framed;
use super::http2;
use super::worker_pool::{Connection, WorkerPool, WorkerPools};
use crate::worker;

impl Client {
    /// As [`Client::unary`], on the worker of the request that waits, over that worker's own
    /// connection. `None` where Envoy carries the calls, and for a service with keepalive pings. The
    /// work is polled on the worker.
    ///
    /// # Errors
    /// Those of the work: see [`CallError`].
    #[must_use]
    pub fn unary_on_worker<R: Message + Default>(
        &self,
        path: &'static str,
        message: Framed,
        metadata: MetadataMap,
        deadline: Option<Instant>,
    ) -> Option<impl Future<Output = Result<R, CallError>> + use<R>> {
        match &self.way {
            Way::Dialled(endpoint) if endpoint.serves_workers() => {
                let endpoint = Arc::clone(endpoint);
                let caller = WorkerCall { client: self.clone(), endpoint, path };
                Some(caller.unary(message, metadata, deadline))
            }
            _ => None,
        }
    }
}

/// Makes calls of one method on this worker.
pub(super) struct WorkerCall {
    pub(super) client: Client,
    pub(super) endpoint: Arc<ConnectionPool>,
    pub(super) path: &'static str,
}

impl WorkerCall {
    /// Makes the call.
    pub(super) async fn unary<R: Message + Default>(
        self,
        message: Framed,
        metadata: MetadataMap,
        deadline: Option<Instant>,
    ) -> Result<R, CallError> {
        let no_worker = || CallError::Internal("this thread has no worker".to_owned());
        let pool = WorkerPools::of(&self.endpoint).ok_or_else(no_worker)?;
        let _permit = self.client.permit()?;
        let attempts = self.attempts(&pool, &message, &metadata, deadline);
        let answer = worker::until(deadline, attempts).await.ok_or(CallError::Timeout)??;
        R::decode(answer).map_err(|error| CallError::Decode(error.to_string()))
    }

    async fn attempts(
        &self,
        pool: &WorkerPool,
        message: &Framed,
        metadata: &MetadataMap,
        deadline: Option<Instant>,
    ) -> Result<Bytes, CallError> {
        let (mut resends, mut retries) = (0, 0);
        // Kept over the second attempt: it counts against the budget until it is over.
        let mut _leave;
        loop {
            let begun = worker::now();
            match self.once(pool, message, metadata, deadline).await {
                Err(broken) if broken.resend && resends < RESENDS => resends += 1,
                Err(Broken { error, .. }) => {
                    let error = error.at(begun, worker::now(), deadline);
                    let Some((delay, leave)) = self.client.again(&error, retries) else {
                        return Err(error);
                    };
                    _leave = leave;
                    retries += 1;
                    worker::sleep(delay).await;
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    async fn once(
        &self,
        pool: &WorkerPool,
        message: &Framed,
        metadata: &MetadataMap,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Broken> {
        let connection = pool.connection().await?;
        let slot = connection.slot().await?;
        let (headers, _) = headers(metadata, deadline);
        let head = self.client.head(self.path, headers)?;
        let message = message.clone().into_bytes();
        let receiving = http2::ask(connection.sender(), slot, head, message).await?;
        // Nothing of the call has left yet: its connection is driven after this.
        let sent = connection.http2().sent();
        let answer = Answer::new(Inbound::Dialled(receiving), self.client.max_answer);
        let mut call = Call::begin(connection, answer, deadline);
        let answer = call.answer.only().await;
        call.silent = false;
        match answer {
            // Nothing has left since the call was begun, and nothing will.
            Err(Broken { error: CallError::Reset(_), .. })
                if call.connection.http2().sent() == sent =>
            {
                Err(CallError::NotSent.into())
            }
            answer => {
                let heard =
                    answer.as_ref().map_or_else(|broken| !broken.error.is_silence(), |_| true);
                if heard && call.connection.health().answered() {
                    self.endpoint.proved();
                }
                answer
            }
        }
    }
}

/// One attempt on the wire.
struct Call {
    connection: Arc<Connection>,
    answer: Answer,
    deadline: Option<Instant>,
    /// The service has said nothing yet.
    silent: bool,
}

impl Call {
    fn begin(connection: Arc<Connection>, answer: Answer, deadline: Option<Instant>) -> Self {
        connection.begun();
        Self { connection, answer, deadline, silent: true }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now = worker::now();
        if self.silent && self.deadline.is_some_and(|at| now >= at) {
            self.connection.health().was_silent(now);
        }
        if let Some(rest) = self.answer.rest() {
            self.connection.give_up(rest);
        }
        self.connection.over();
    }
}

#[cfg(test)]
mod tests;
