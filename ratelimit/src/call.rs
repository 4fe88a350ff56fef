//! Asks the service, off the worker, and writes what it says into the ledger.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use callout_common::api::config::deadline;
use callout_common::filter::trace::TraceLines;
use callout_common::grpc::circuit_breaker::Permit;
use callout_common::grpc::{CallError, Failure, Framed, MetadataMap, entries};
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::Code;
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;

use crate::RateLimit;
use crate::memory::key::Key;
use crate::memory::ledger::{BackgroundCall, Batch, LeaseConfig, Server};

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What the service is asked about one set of descriptors.
#[derive(Debug)]
pub(crate) struct CheckCall {
    pub(crate) message: RateLimitRequest,
    pub(crate) metadata: MetadataMap,
    /// How long an answer is waited for; zero is no limit.
    pub(crate) timeout: Duration,
    /// The account of the set, if it has one.
    pub(crate) account: Option<(Key, LeaseConfig)>,
    /// What carries the trace of the request on that waits for the call.
    trace: OnceLock<TraceLines>,
}

/// The name of what the service is asked.
pub(crate) fn key(message: &RateLimitRequest, metadata: &MetadataMap) -> Key {
    Key::of(&message.encode_to_vec(), &entries(metadata))
}

/// What came of asking.
pub(crate) type CheckResult = Result<RateLimitResponse, Failure>;

impl CheckCall {
    /// What is called.
    pub(crate) const METHOD: &str = "envoy.service.ratelimit.v3.RateLimitService.ShouldRateLimit";

    pub(crate) const fn new(
        message: RateLimitRequest,
        metadata: MetadataMap,
        timeout: Duration,
        account: Option<(Key, LeaseConfig)>,
    ) -> Self {
        Self { message, metadata, timeout, account, trace: OnceLock::new() }
    }

    /// Calls carry on the trace of `trace`, from now on.
    pub(crate) fn belongs_to(&self, trace: TraceLines) {
        // A request asks once.
        let _ = self.trace.set(trace);
    }

    /// The metadata of a call, with its trace.
    fn sent_metadata(&self) -> MetadataMap {
        let mut sent = self.metadata.clone();
        if let Some(trace) = self.trace.get() {
            trace.add_to(&mut sent);
        }
        sent
    }

    /// Asks for `batch`, of which the request that waits spends one.
    pub(crate) async fn ask(
        self: Arc<Self>,
        filter: Arc<RateLimit>,
        batch: Batch,
        mut permit: Permit,
    ) -> CheckResult {
        let hits = batch.hits;
        let (answer, sent) = self.call(&filter, hits, &mut permit).await?;
        self.enter(&filter, &answer, (hits, 1), sent);
        let over = answer.overall_code == i32::from(Code::OverLimit);
        let counts_all =
            self.account.is_some_and(|(_, terms)| terms.server == Server::EnvoyRatelimit);
        if !over || hits == 1 || counts_all {
            return Ok(answer);
        }
        // The batch did not fit; this one request may.
        let (answer, sent) = self.call(&filter, 1, &mut permit).await?;
        self.enter(&filter, &answer, (1, 1), sent);
        Ok(answer)
    }

    /// A call for one hit on the worker of the request. `None` where Envoy carries the calls.
    pub(crate) fn call_on_worker(
        &self,
        filter: &RateLimit,
    ) -> Option<impl Future<Output = Result<RateLimitResponse, CallError>> + use<>> {
        let config = &filter.config;
        let message = Framed::of(&self.message);
        let deadline = deadline(self.timeout);
        let client = &config.service.client;
        client.unary_on_worker(SHOULD_RATE_LIMIT, message, self.sent_metadata(), deadline)
    }

    /// Asks for one hit by `call`.
    pub(crate) async fn ask_by(
        self: Arc<Self>,
        filter: Arc<RateLimit>,
        call: impl Future<Output = Result<RateLimitResponse, CallError>>,
        mut permit: Permit,
    ) -> CheckResult {
        let sent = Instant::now();
        let answer = heard(call.await, &mut permit)?;
        self.enter(&filter, &answer, (1, 1), sent);
        Ok(answer)
    }

    /// Makes a call beside the requests.
    pub(crate) async fn run(
        self: Arc<Self>,
        filter: Arc<RateLimit>,
        errand: BackgroundCall,
        mut permit: Permit,
    ) {
        match errand {
            BackgroundCall::Prefetch(batch) => {
                if let Ok((answer, sent)) = self.call(&filter, batch.hits, &mut permit).await {
                    self.enter(&filter, &answer, (batch.hits, 0), sent);
                }
            }
            BackgroundCall::Report(after, _claim) => {
                tokio::time::sleep(after).await;
                self.report(&filter).await;
            }
        }
    }

    /// Reports what the account owes. What could not be reported counts against its credit until it
    /// is.
    async fn report(&self, filter: &RateLimit) {
        let Some((key, _)) = self.account else { return };
        let hits = filter.ledger.take_unreported(key, Instant::now());
        if hits == 0 {
            return;
        }
        if let Some(mut permit) = filter.enter_breaker()
            && let Ok((answer, sent)) = self.call(filter, hits, &mut permit).await
        {
            return self.enter(filter, &answer, (hits, hits), sent);
        }
        filter.ledger.restore_unreported(key, hits, Instant::now());
    }

    /// Tells of hits that nobody waits for.
    pub(crate) async fn tell(self: Arc<Self>, filter: Arc<RateLimit>, mut permit: Permit) {
        if let Err(error) = self.call(&filter, 1, &mut permit).await {
            tracing::debug!(%error, "ratelimit: the hits at a stream's end were not counted");
        }
    }

    fn enter(
        &self,
        filter: &RateLimit,
        answer: &RateLimitResponse,
        hits: (u64, u64),
        sent: Instant,
    ) {
        if let Some((key, terms)) = &self.account {
            filter.ledger.answered(*key, answer, hits, (sent, Instant::now()), terms);
        }
    }

    async fn call(
        &self,
        filter: &RateLimit,
        hits: u64,
        permit: &mut Permit,
    ) -> Result<(RateLimitResponse, Instant), Failure> {
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
            .unary(SHOULD_RATE_LIMIT, message, &self.sent_metadata(), deadline(self.timeout))
            .await;
        Ok((heard(answer, permit)?, sent))
    }
}

/// Tells the breaker what came of a call.
fn heard(answer: Result<RateLimitResponse, CallError>, permit: &mut Permit) -> CheckResult {
    match &answer {
        Err(error) if error.is_silence() => permit.failed(Instant::now()),
        // Our own: it says nothing of the service.
        Err(CallError::Overload | CallError::Unread | CallError::Internal(_)) => {}
        _ => permit.answered(),
    }
    answer.map_err(Failure::Call)
}
