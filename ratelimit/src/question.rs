//! Asks the service, off the worker, and writes what it says into the ledger.

use std::sync::Arc;
use std::time::Instant;

use callout_common::config::deadline;
use callout_common::grpc::{Failure, MetadataMap};
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::Code;
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

use crate::RateLimit;
use crate::ledger::{Errand, Key, Server, Terms};

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What the service is asked about one set of descriptors.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) message: RateLimitRequest,
    pub(crate) metadata: MetadataMap,
    /// The account of the set, if it has one.
    pub(crate) account: Option<(Key, Terms)>,
}

/// What came of asking.
pub(crate) type Answer = Result<Arc<RateLimitResponse>, Failure>;

impl Question {
    /// Asks for `hits`, of which the request that waits spends one.
    pub(crate) async fn ask(self: Arc<Self>, filter: Arc<RateLimit>, hits: u64) -> Answer {
        let _done = (hits > 1)
            .then_some(self.account)
            .flatten()
            .map(|(key, _)| Done { filter: &filter, key });
        let (answer, sent) = self.call(&filter, hits).await?;
        self.enter(&filter, &answer, (hits, 1), sent);
        let over = answer.overall_code == i32::from(Code::OverLimit);
        let counts_all =
            self.account.is_some_and(|(_, terms)| terms.server == Server::EnvoyRatelimit);
        if !over || hits == 1 || counts_all {
            return Ok(answer);
        }
        // The batch did not fit; this one request may.
        let (answer, sent) = self.call(&filter, 1).await?;
        self.enter(&filter, &answer, (1, 1), sent);
        Ok(answer)
    }

    /// Makes a call beside the requests.
    pub(crate) async fn run(self: Arc<Self>, filter: Arc<RateLimit>, errand: Errand) {
        let Some((key, _)) = self.account else { return };
        let _done = Done { filter: &filter, key };
        match errand {
            Errand::Prefetch(hits) => {
                if let Ok((answer, sent)) = self.call(&filter, hits).await {
                    self.enter(&filter, &answer, (hits, 0), sent);
                }
            }
            Errand::Report(after) => {
                tokio::time::sleep(after).await;
                let hits = filter.ledger.bill(key);
                if hits == 0 {
                    return;
                }
                match self.call(&filter, hits).await {
                    Ok((answer, sent)) => self.enter(&filter, &answer, (hits, hits), sent),
                    // What could not be reported counts against the credit until it is.
                    Err(_) => filter.ledger.owe_again(key, hits),
                }
            }
        }
    }

    /// Tells of hits that nobody waits for.
    pub(crate) async fn tell(self: Arc<Self>, filter: Arc<RateLimit>) {
        if let Err(error) = self.call(&filter, 1).await {
            tracing::debug!(%error, "ratelimit: the hits at a stream's end were not counted");
        }
    }

    fn enter(
        &self,
        filter: &RateLimit,
        answer: &Arc<RateLimitResponse>,
        hits: (u64, u64),
        sent: Instant,
    ) {
        if let Some((key, terms)) = &self.account {
            filter.ledger.answered(*key, answer, hits, sent, terms);
        }
    }

    async fn call(
        &self,
        filter: &RateLimit,
        hits: u64,
    ) -> Result<(Arc<RateLimitResponse>, Instant), Failure> {
        let config = &filter.config;
        let batch;
        let message = if hits == 1 {
            &self.message
        } else {
            let hits_addend = u32::try_from(hits).unwrap_or(u32::MAX);
            batch = RateLimitRequest { hits_addend, ..self.message.clone() };
            &batch
        };
        let sent = Instant::now();
        let client = &config.service.client;
        let answer = client
            .unary(SHOULD_RATE_LIMIT, message, &self.metadata, deadline(config.timeout))
            .await;
        if let Some(breaker) = &filter.breaker {
            match &answer {
                Err(error) if error.is_silence() => breaker.failed(Instant::now()),
                _ => breaker.answered(),
            }
        }
        Ok((Arc::new(answer.map_err(Failure::Call)?), sent))
    }
}

/// Says that an errand has ended, in whatever way.
struct Done<'a> {
    filter: &'a RateLimit,
    key: Key,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.filter.ledger.errand_done(self.key);
    }
}
