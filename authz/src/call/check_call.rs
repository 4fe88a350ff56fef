//! Asks the service, off the worker, and judges what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callout_common::api::config::deadline;
use callout_common::grpc::{CallError, Failure, Framed, MetadataMap, Service};
use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::Authz;
use crate::call::single_flight::Role;
use crate::config::extensions::Quorum;
use crate::decide::verdict::{Decision, Verdict, decide};
use crate::memory::cache::{Claim, Origin};
use crate::memory::key::Key;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// One stream of this filter, as a hook sees it.
pub(crate) type Context<'a> = callout_common::StreamContext<'a, CheckResult>;

/// The longest that nobody waits for an answer, where the service has no timeout.
const UNATTENDED: Duration = Duration::from_secs(60);

/// What is asked about one request.
#[derive(Debug)]
pub(crate) struct CheckCall {
    pub(crate) message: CheckRequest,
    /// Who is asked.
    pub(crate) own: Addressee,
    /// Who is asked at the same time (`callout.services`).
    pub(crate) others: Vec<Addressee>,
}

/// A service, and how it is asked.
#[derive(Debug)]
pub(crate) struct Addressee {
    pub(crate) service: Service,
    /// How long an answer is waited for; zero is no limit.
    pub(crate) timeout: Duration,
    pub(crate) metadata: MetadataMap,
}

impl Addressee {
    async fn call(
        &self,
        message: &CheckRequest,
        deadline: Option<Instant>,
    ) -> Result<CheckResponse, CallError> {
        let Self { service, metadata, .. } = self;
        service.client.unary(CHECK, message, metadata, deadline).await
    }
}

/// What came of asking.
#[derive(Debug, Clone)]
pub struct CheckResult {
    pub(crate) judged: Arc<Decision>,
    pub(crate) failure: Option<Failure>,
    /// When the service was asked, and when it answered.
    pub(crate) asked: Instant,
    pub(crate) made: Instant,
    /// The call was another request's.
    pub(crate) coalesced: bool,
}

impl CheckResult {
    fn of(decision: Decision, failure: Option<Failure>) -> Self {
        let now = Instant::now();
        Self { judged: Arc::new(decision), failure, asked: now, made: now, coalesced: false }
    }

    /// What came of a call.
    fn to(authz: &Authz, reply: Result<CheckResponse, CallError>) -> Self {
        match reply {
            Ok(reply) => Self::of(decide(&authz.config, Ok(reply)), None),
            Err(error) => Self::failed(authz, Failure::Call(error)),
        }
    }

    /// There is no answer of the service.
    pub(crate) fn failed(authz: &Authz, failure: Failure) -> Self {
        Self::of(decide(&authz.config, Err(failure.clone())), Some(failure))
    }
}

impl CheckCall {
    /// What is called.
    pub(crate) const METHOD: &str = "envoy.service.auth.v3.Authorization.Check";

    fn deadline(&self) -> Option<Instant> {
        deadline(self.own.timeout)
    }

    /// Asks for one request. With a `key`, identical requests in flight share a call; each keeps its
    /// own deadline.
    pub(crate) fn ask(
        self,
        authz: Arc<Authz>,
        key: Option<Key>,
    ) -> impl Future<Output = CheckResult> + Send + 'static {
        let deadline = self.deadline();
        async move {
            match key {
                Some(key) => self.ask_together(authz, key, deadline).await,
                None => self.call(&authz, deadline).await,
            }
        }
    }

    /// Asks for one request, on its worker. `None` where Envoy carries the calls, and where several services
    /// are asked.
    pub(crate) fn ask_on_worker(
        &self,
        authz: Arc<Authz>,
    ) -> Option<impl Future<Output = CheckResult> + use<>> {
        if !self.others.is_empty() {
            return None;
        }
        let Self { message, own: Addressee { service, metadata, .. }, .. } = self;
        let message = Framed::of(message);
        let deadline = self.deadline();
        let call = service.client.unary_on_worker(CHECK, message, metadata.clone(), deadline)?;
        let asked = Instant::now();
        Some(async move { CheckResult { asked, ..CheckResult::to(&authz, call.await) } })
    }

    async fn ask_together(
        self,
        authz: Arc<Authz>,
        key: Key,
        deadline: Option<Instant>,
    ) -> CheckResult {
        let question = Arc::new(self);
        loop {
            let (flight, role) = authz.flights.join(key, || {
                let (authz, question) = (Arc::clone(&authz), Arc::clone(&question));
                async move { question.call(&authz, deadline).await }.boxed()
            });
            let answer = match (role, deadline) {
                // The call has the leader's own deadline.
                (Role::Leader, _) => return flight.await,
                (Role::Follower, None) => flight.await,
                (Role::Follower, Some(deadline)) => {
                    let late = |_| CheckResult::failed(&authz, Failure::Call(CallError::Timeout));
                    tokio::time::timeout_at(deadline.into(), flight).await.unwrap_or_else(late)
                }
            };
            let timed_out = answer.failure == Some(Failure::Call(CallError::Timeout));
            if timed_out && deadline.is_none_or(|deadline| Instant::now() < deadline) {
                // It was the leader's time that was up.
                continue;
            }
            return CheckResult { coalesced: true, ..answer };
        }
    }

    /// Asks again about what is kept under `key`, while nobody waits. The claim ends with the future,
    /// also when that panics or is never polled.
    pub(crate) async fn refresh(
        self,
        authz: Arc<Authz>,
        key: Key,
        claim: Claim,
        route: Option<String>,
    ) {
        let _claim = claim;
        self.refresh_claimed(&authz, key, route).await;
    }

    async fn refresh_claimed(self, authz: &Authz, key: Key, route: Option<String>) {
        let deadline = self.deadline().or_else(|| Instant::now().checked_add(UNATTENDED));
        let answer = self.call(authz, deadline).await;
        match &answer.judged.verdict {
            Verdict::Allow(_) | Verdict::Deny { .. } | Verdict::Invalid { .. } => {
                if let Some(cache) = &authz.cache {
                    let CheckResult { judged, asked, made, .. } = answer;
                    cache.keep(key, judged, Origin { asked, made, route }, rand::random());
                }
            }
            Verdict::Pass | Verdict::Refuse { .. } => {
                tracing::debug!("authz: a decision could not be refreshed");
            }
        }
    }

    async fn call(&self, authz: &Authz, deadline: Option<Instant>) -> CheckResult {
        let asked = Instant::now();
        CheckResult { asked, ..self.answer(authz, deadline).await }
    }

    async fn answer(&self, authz: &Authz, deadline: Option<Instant>) -> CheckResult {
        match &authz.config.callout.services {
            Some(more) if !self.others.is_empty() => {
                self.call_all(authz, more.quorum, deadline).await
            }
            _ => CheckResult::to(authz, self.own.call(&self.message, deadline).await),
        }
    }

    /// Asks all services at the same time. What is not waited for any more is cancelled.
    async fn call_all(&self, authz: &Authz, quorum: Quorum, own: Option<Instant>) -> CheckResult {
        let others = self.others.iter().map(|other| (other, deadline(other.timeout).or(own)));
        let all = std::iter::once((&self.own, own)).chain(others);
        let mut calls: FuturesUnordered<_> = all
            .enumerate()
            .map(|(index, (one, deadline))| async move {
                (index, one.call(&self.message, deadline).await)
            })
            .collect();
        let mut answers = BTreeMap::new();
        let mut first_failure = None;
        while let Some((index, answer)) = calls.next().await {
            let failure = answer.as_ref().err().cloned().map(Failure::Call);
            let decision = decide(&authz.config, answer.map_err(Failure::Call));
            if quorum.is_decided_by(&decision.verdict) {
                return CheckResult::of(decision, failure);
            }
            first_failure = first_failure.or(failure);
            answers.insert(index, decision);
        }
        match quorum.combine(answers.into_values().collect()) {
            Some(decision) => CheckResult::of(decision, first_failure),
            None => CheckResult::failed(authz, Failure::Lost),
        }
    }
}
