//! The three gRPC services, scripted: each test says what they answer, and sees what they were
//! asked.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use callout_protos::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use callout_protos::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use callout_protos::envoy::service::ext_proc::v3::body_mutation::Mutation;
use callout_protos::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use callout_protos::envoy::service::ext_proc::v3::processing_request::Request as Part;
use callout_protos::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use callout_protos::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HttpBody, ProcessingRequest, ProcessingResponse,
    StreamedBodyResponse,
};
use callout_protos::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use callout_protos::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

type Answers = BoxStream<'static, Result<ProcessingResponse, Status>>;
type Process = Arc<dyn Fn(ProcessingRequest, usize) -> Answers + Send + Sync>;
type Unary<Q, A> = Arc<dyn Fn(Q, usize) -> BoxFuture<'static, Result<A, Status>> + Send + Sync>;

/// What the services answer; the number counts their calls (or messages) from 0.
#[derive(Clone)]
pub struct Script {
    check: Unary<CheckRequest, CheckResponse>,
    limit: Unary<RateLimitRequest, RateLimitResponse>,
    process: Process,
    recorded: bool,
}

impl Default for Script {
    /// Everything is allowed, within its limits, and left as it is.
    fn default() -> Self {
        Self {
            check: Arc::new(|_, _| async { Ok(message(json!({"status": {}}))) }.boxed()),
            limit: Arc::new(|_, _| async { Ok(message(json!({"overallCode": "OK"}))) }.boxed()),
            process: Arc::new(|request, _| stream::iter([Ok(unchanged(&request))]).boxed()),
            recorded: true,
        }
    }
}

/// A message from its JSON form.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn message<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap_or_else(|error| panic!("no such message: {error}"))
}

/// The answer of a processor that changes nothing.
#[must_use]
pub fn unchanged(request: &ProcessingRequest) -> ProcessingResponse {
    let response = match &request.request {
        Some(Part::RequestHeaders(_)) | None => Reply::RequestHeaders(Default::default()),
        Some(Part::ResponseHeaders(_)) => Reply::ResponseHeaders(Default::default()),
        Some(Part::RequestBody(_)) => Reply::RequestBody(Default::default()),
        Some(Part::ResponseBody(_)) => Reply::ResponseBody(Default::default()),
        Some(Part::RequestTrailers(_)) => Reply::RequestTrailers(Default::default()),
        Some(Part::ResponseTrailers(_)) => Reply::ResponseTrailers(Default::default()),
    };
    ProcessingResponse { response: Some(response), ..Default::default() }
}

/// The answer of a processor that does `common` with a piece of a body, and changes nothing else.
#[must_use]
pub fn with_body(request: &ProcessingRequest, common: CommonResponse) -> ProcessingResponse {
    let mut answer = unchanged(request);
    let body = BodyResponse { response: Some(common) };
    answer.response = answer.response.map(|response| match response {
        Reply::RequestBody(_) => Reply::RequestBody(body),
        Reply::ResponseBody(_) => Reply::ResponseBody(body),
        other => other,
    });
    answer
}

/// `bytes` in place of a piece of a body, in `FULL_DUPLEX_STREAMED` mode if `duplex`.
#[must_use]
pub fn in_place_of(piece: &HttpBody, bytes: Vec<u8>, duplex: bool) -> Mutation {
    if !duplex {
        return Mutation::Body(bytes);
    }
    Mutation::StreamedResponse(StreamedBodyResponse {
        body: bytes,
        end_of_stream: piece.end_of_stream,
        ..Default::default()
    })
}

impl Script {
    /// What the authorization service answers.
    #[must_use]
    pub fn check<F>(
        mut self,
        answer: impl Fn(CheckRequest, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<CheckResponse, Status>> + Send + 'static,
    {
        self.check = Arc::new(move |request, n| answer(request, n).boxed());
        self
    }

    /// What the rate limit service answers.
    #[must_use]
    pub fn limit<F>(
        mut self,
        answer: impl Fn(RateLimitRequest, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<RateLimitResponse, Status>> + Send + 'static,
    {
        self.limit = Arc::new(move |request, n| answer(request, n).boxed());
        self
    }

    /// What the processor answers to each message; an error ends the exchange.
    #[must_use]
    pub fn process<F>(
        mut self,
        answer: impl Fn(ProcessingRequest, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<ProcessingResponse, Status>> + Send + 'static,
    {
        self.process = Arc::new(move |request, n| stream::once(answer(request, n)).boxed());
        self
    }

    /// As [`Script::process`], with any number of answers to each message.
    #[must_use]
    pub fn process_each<S>(
        mut self,
        answers: impl Fn(ProcessingRequest, usize) -> S + Send + Sync + 'static,
    ) -> Self
    where
        S: Stream<Item = Result<ProcessingResponse, Status>> + Send + 'static,
    {
        self.process = Arc::new(move |request, n| answers(request, n).boxed());
        self
    }

    /// Without a record of what they were asked, which under load would be all they do.
    #[must_use]
    pub const fn unrecorded(mut self) -> Self {
        self.recorded = false;
        self
    }

    /// All three answer every call with this status.
    #[must_use]
    pub fn failing(status: &Status) -> Self {
        let (a, b, c) = (status.clone(), status.clone(), status.clone());
        Self::default()
            .check(move |_, _| std::future::ready(Err(a.clone())))
            .limit(move |_, _| std::future::ready(Err(b.clone())))
            .process(move |_, _| std::future::ready(Err(c.clone())))
    }

    /// All three never answer.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
            .check(|_, _| std::future::pending())
            .limit(|_, _| std::future::pending())
            .process(|_, _| std::future::pending())
    }
}

#[derive(Default)]
struct Record {
    asked: Mutex<Vec<Value>>,
    metadata: Mutex<Vec<MetadataMap>>,
    calls: AtomicUsize,
    /// Calls that are not over yet.
    open: AtomicUsize,
    /// Calls that were dropped before their answer.
    cancelled: AtomicUsize,
}

/// The running services. Dropping them ends them, connections included.
pub struct Services {
    port: u16,
    record: Arc<Record>,
    /// Their own, so that their connections end with them.
    runtime: Option<Runtime>,
}

impl Drop for Services {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Services {
    /// Starts all three on one free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(script: Script) -> Result<Self> {
        Self::start_on(0, script).await
    }

    /// Starts all three on this port.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn start_on(port: u16, script: Script) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.spawn(TcpListener::bind(("127.0.0.1", port))).await??;
        let port = listener.local_addr()?.port();
        let record = Arc::new(Record::default());
        let service = Service { script, record: Arc::clone(&record) };
        let routes = tonic::service::Routes::new(AuthorizationServer::new(service.clone()))
            .add_service(RateLimitServiceServer::new(service.clone()))
            .add_service(
                ExternalProcessorServer::new(service).max_decoding_message_size(usize::MAX),
            );
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let _ = tonic::transport::Server::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming)
                .await;
        });
        Ok(Self { port, record, runtime: Some(runtime) })
    }

    /// Their port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What they were asked, in order, as JSON.
    #[must_use]
    pub fn asked(&self) -> Vec<Value> {
        self.record.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The metadata of the calls, in order.
    #[must_use]
    pub fn metadata(&self) -> Vec<MetadataMap> {
        self.record.metadata.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls, or streams, that are not over yet.
    #[must_use]
    pub fn open(&self) -> usize {
        self.record.open.load(Ordering::SeqCst)
    }

    /// Calls that the caller gave up before their answer.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.record.cancelled.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Service {
    script: Script,
    record: Arc<Record>,
}

/// Counts a call as open, and as cancelled when it is dropped unfinished.
struct Open {
    record: Arc<Record>,
    finished: bool,
}

impl Open {
    fn new(record: &Arc<Record>) -> Self {
        record.open.fetch_add(1, Ordering::SeqCst);
        Self { record: Arc::clone(record), finished: false }
    }

    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.record.open.fetch_sub(1, Ordering::SeqCst);
        if !self.finished {
            self.record.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Service {
    fn note(&self, message: &impl serde::Serialize) -> usize {
        if self.script.recorded {
            let json = serde_json::to_value(message).unwrap_or_default();
            self.record.asked.lock().unwrap_or_else(PoisonError::into_inner).push(json);
        }
        self.record.calls.fetch_add(1, Ordering::SeqCst)
    }

    fn note_metadata(&self, metadata: &MetadataMap) {
        if self.script.recorded {
            let mut all = self.record.metadata.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(metadata.clone());
        }
    }

    async fn unary<Q: serde::Serialize, A>(
        &self,
        request: Request<Q>,
        answer: &Unary<Q, A>,
    ) -> Result<Response<A>, Status> {
        self.note_metadata(request.metadata());
        let request = request.into_inner();
        let open = Open::new(&self.record);
        let n = self.note(&request);
        let answer = answer(request, n).await;
        open.finish();
        answer.map(Response::new)
    }
}

#[tonic::async_trait]
impl Authorization for Service {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        self.unary(request, &self.script.check).await
    }
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        self.unary(request, &self.script.limit).await
    }
}

#[tonic::async_trait]
impl ExternalProcessor for Service {
    type ProcessStream =
        Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send + 'static>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        self.note_metadata(request.metadata());
        let service = self.clone();
        let open = Open::new(&self.record);
        let none: Answers = stream::empty().boxed();
        let state = (request.into_inner(), none, service, open, false);
        // An error is the last answer.
        let answers = stream::unfold(state, |state| async move {
            let (mut messages, mut answers, service, open, over) = state;
            loop {
                if over {
                    open.finish();
                    return None;
                }
                if let Some(answer) = answers.next().await {
                    let over = answer.is_err();
                    return Some((answer, (messages, answers, service, open, over)));
                }
                let Some(Ok(message)) = messages.next().await else {
                    open.finish();
                    return None;
                };
                let n = service.note(&message);
                answers = (service.script.process)(message, n);
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
