//! A collector of spans by the OpenTelemetry protocol.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1 as otlp;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Text;
use opentelemetry_proto::tonic::trace::v1::Span as SpanProto;
use otlp::trace_service_server::{TraceService, TraceServiceServer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span. Ids are in hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is called.
    pub name: String,
    /// Id of its trace.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Id of its parent; empty without one.
    pub parent: String,
    /// Its textual attributes.
    pub tags: HashMap<String, String>,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>);

/// The running collector; ends when dropped.
pub struct Collector {
    port: u16,
    spans: Kept,
    server: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let spans = Kept::default();
        let routes = tonic::service::Routes::new(TraceServiceServer::new(spans.clone()));
        let server = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder().add_routes(routes);
            let _ = server.serve_with_incoming(incoming).await;
        });
        Ok(Self { port, spans, server })
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<otlp::ExportTraceServiceRequest>,
    ) -> Result<Response<otlp::ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|it| it.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans).map(read);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        Ok(Response::new(otlp::ExportTraceServiceResponse::default()))
    }
}

fn read(span: SpanProto) -> Span {
    let text = |value| match value {
        Some(Text::StringValue(text)) => Some(text),
        _ => None,
    };
    let tags = span.attributes.into_iter();
    Span {
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        tags: tags.filter_map(|tag| Some((tag.key, text(tag.value?.value)?))).collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
