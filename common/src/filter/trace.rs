//! The trace that a call belongs to: a span of its own under the request's, and the lines by which the
//! service carries it on.

use tonic::metadata::{Ascii, MetadataValue};

use crate::envoy::host::ChildSpan;
use crate::filter::context::StreamContext;
use crate::grpc::{CallError, Failure, MetadataMap};
use crate::http::trace::carried;

/// What carries the trace of a request on, in the metadata of a call.
#[derive(Debug, Clone, Default)]
pub struct TraceLines(Vec<(&'static str, MetadataValue<Ascii>)>);

impl TraceLines {
    /// Adds the lines to `metadata`, but for those whose names stand there already.
    pub fn add_to(&self, metadata: &mut MetadataMap) {
        for (name, value) in &self.0 {
            if !metadata.contains_key(*name) {
                metadata.insert(*name, value.clone());
            }
        }
    }
}

/// The span of one call. Dropped without an end it was cancelled.
pub struct CallSpan(Option<Box<dyn ChildSpan>>);

impl std::fmt::Debug for CallSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CallSpan").field(&self.0.is_some()).finish()
    }
}

impl CallSpan {
    /// Begins the span of a call of `method`, as `envoy.service.auth.v3.Authorization.Check`, to `target`, if
    /// the request is traced and there is to be one (`emit_client_span`).
    pub fn begin<E: Send + 'static>(
        cx: &mut StreamContext<'_, E>,
        emitted: bool,
        (method, target): (&str, &str),
    ) -> Self {
        let mut span = emitted.then(|| cx.child_span(&format!("async {method} egress"))).flatten();
        if let Some(span) = &mut span {
            span.tag("component", "proxy");
            span.tag("upstream_cluster", target);
        }
        Self(span)
    }

    /// What carries the trace on.
    #[must_use]
    pub fn lines<E: Send + 'static>(&self, cx: &StreamContext<'_, E>) -> TraceLines {
        let own = self.0.as_ref().and_then(|span| span.ids());
        let ids = own.or_else(|| cx.span_ids());
        let request = cx.request();
        let lines = carried(ids.as_ref(), |name| request.get(name)).into_iter();
        let valid =
            lines.filter_map(|(name, value)| Some((name, value.as_slice().try_into().ok()?)));
        TraceLines(valid.collect())
    }

    /// The call has come to this.
    pub fn end(mut self, failure: Option<&Failure>) {
        let Some(mut span) = self.0.take() else { return };
        match failure {
            None => span.tag("grpc.status_code", "0"),
            Some(failure) => {
                if let Failure::Call(CallError::Status { code, .. }) = failure {
                    span.tag("grpc.status_code", &code.to_string());
                }
                span.tag("error", "true");
                span.tag("callout.cause", failure.cause());
            }
        }
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        if let Some(span) = &mut self.0 {
            span.tag("status", "canceled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Map;
    use crate::filter::context::Work;
    use crate::http::trace::SpanIds;
    use crate::testing::{FakeHost, FinishedSpan};

    fn traced() -> FakeHost {
        let mut host = FakeHost::default();
        host.span = Some(SpanIds { trace: "a".repeat(32), span: "b".repeat(16) });
        host.set_map(Map::Request, &[]);
        host
    }

    fn begin(host: &mut FakeHost, emitted: bool, metadata: &mut MetadataMap) -> CallSpan {
        let mut work = Work::<()>::new();
        let mut cx = StreamContext::new(host, &mut work);
        let span = CallSpan::begin(&mut cx, emitted, ("s.S.M", "service"));
        span.lines(&cx).add_to(metadata);
        span
    }

    fn parent(metadata: &MetadataMap) -> Option<&str> {
        metadata.get("traceparent").and_then(|value| value.to_str().ok())
    }

    #[test]
    fn a_call_of_a_traced_request_has_a_span_and_tells_the_service() {
        let (mut host, mut metadata) = (traced(), MetadataMap::new());
        let span = begin(&mut host, true, &mut metadata);
        let expected = format!("00-{}-{}-01", "a".repeat(32), "c".repeat(16));
        assert_eq!(parent(&metadata), Some(expected.as_str()));
        assert!(host.finished_spans.borrow().is_empty());
        span.end(None);
        let tags =
            [("component", "proxy"), ("upstream_cluster", "service"), ("grpc.status_code", "0")];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let operation = "async s.S.M egress".to_owned();
        assert_eq!(*host.finished_spans.borrow(), [FinishedSpan { operation, tags }]);
    }

    #[test]
    fn how_a_call_ends_is_a_tag() {
        let last = |end: &dyn Fn(CallSpan)| {
            let mut host = traced();
            end(begin(&mut host, true, &mut MetadataMap::new()));
            let spans = host.finished_spans.borrow();
            let (key, value) = spans.first().and_then(|span| span.tags.last()).unwrap().clone();
            format!("{key} {value}")
        };
        let timeout = Failure::Call(CallError::Timeout);
        assert_eq!(last(&|span| span.end(Some(&timeout))), "callout.cause timeout");
        assert_eq!(last(&|span| drop(span)), "status canceled");
    }

    #[test]
    fn without_a_span_of_its_own_the_requests_goes_on() {
        let (mut host, mut metadata) = (traced(), MetadataMap::new());
        let _span = begin(&mut host, false, &mut metadata);
        let expected = format!("00-{}-{}-01", "a".repeat(32), "b".repeat(16));
        assert_eq!(parent(&metadata), Some(expected.as_str()));
        assert!(host.finished_spans.borrow().is_empty());
    }

    #[test]
    fn what_the_configuration_sends_stays() {
        let (mut host, mut metadata) = (traced(), MetadataMap::new());
        metadata.insert("traceparent", "mine".parse().unwrap());
        let _span = begin(&mut host, true, &mut metadata);
        assert_eq!(parent(&metadata), Some("mine"));
    }
}
