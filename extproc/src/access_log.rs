//! What became of an exchange, in the dynamic metadata for the access log:
//! `%DYNAMIC_METADATA(callout.extproc:request_headers_us)%` and the like; and how long the processor
//! took, in histograms.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use callout_common::envoy::types::MetadataValue;
use callout_common::filter::stats::Histogram;
use callout_common::{ConfigError, Direction, Setup};
use callout_protos::envoy::service::ext_proc::v3 as proto;
use proto::processing_response::Response;

use crate::call::event::Context;
use crate::decide::machine::{Cause, OutboundMessage};

const NAMESPACE: &str = "callout.extproc";
/// Where the built-in filter under its usual name has its own form of it.
const FILTER_STATE: &str = "envoy.filters.http.ext_proc";

/// Messages of one part that are measured at the same time: where answers don't pair with messages, they
/// would add up for ever.
const MOST_MEASURED: usize = 256;

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
}

const PHASES: [(Phase, &str); 6] = [
    (Phase::RequestHeaders, "request_headers"),
    (Phase::RequestBody, "request_body"),
    (Phase::RequestTrailers, "request_trailers"),
    (Phase::ResponseHeaders, "response_headers"),
    (Phase::ResponseBody, "response_body"),
    (Phase::ResponseTrailers, "response_trailers"),
];

/// How long answers took, by part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latencies([Histogram; 6]);

impl Latencies {
    pub(crate) fn define(setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let mut histogram = |(_, name): (Phase, &str)| setup.histogram(&format!("{name}_us"));
        let [a, b, c, d, e, f] = PHASES;
        Ok(Self([
            histogram(a)?,
            histogram(b)?,
            histogram(c)?,
            histogram(d)?,
            histogram(e)?,
            histogram(f)?,
        ]))
    }
}

/// One part of one exchange.
#[derive(Debug, Default)]
struct Part {
    /// When what is not answered was sent, the oldest first.
    sent: VecDeque<Instant>,
    /// How many were sent after those, and are not measured.
    more: usize,
    answers: u32,
    took: Duration,
    mutated: bool,
}

impl Part {
    fn was_sent(&mut self, now: Instant) {
        if self.more == 0 && self.sent.len() < MOST_MEASURED {
            self.sent.push_back(now);
        } else {
            self.more += 1;
        }
    }

    /// When the message was sent that is answered now, if that is known. More answers than messages
    /// come where a body goes both ways at once.
    fn was_answered(&mut self) -> Option<Instant> {
        let sent = self.sent.pop_front();
        if sent.is_none() {
            self.more = self.more.checked_sub(1)?;
        }
        self.answers += 1;
        sent
    }

    fn outstanding(&self) -> bool {
        !self.sent.is_empty() || self.more > 0
    }
}

/// What became of one exchange.
#[derive(Debug, Default)]
pub(crate) struct AccessLogRecord {
    parts: [Part; 6],
    verdict: Option<&'static str>,
    cause: Option<Cause>,
}

impl AccessLogRecord {
    /// A message went to the processor.
    pub(crate) fn sent(&mut self, direction: Direction, what: &OutboundMessage) {
        let request = direction == Direction::Request;
        let phase = match what {
            OutboundMessage::Headers { .. } if request => Phase::RequestHeaders,
            OutboundMessage::Headers { .. } => Phase::ResponseHeaders,
            OutboundMessage::Body { .. } | OutboundMessage::Piece { .. } if request => {
                Phase::RequestBody
            }
            OutboundMessage::Body { .. } | OutboundMessage::Piece { .. } => Phase::ResponseBody,
            OutboundMessage::Trailers if request => Phase::RequestTrailers,
            OutboundMessage::Trailers => Phase::ResponseTrailers,
        };
        self.part(phase).was_sent(Instant::now());
    }

    /// An answer came.
    pub(crate) fn answered(
        &mut self,
        cx: &mut Context<'_>,
        latencies: &Latencies,
        answer: &proto::ProcessingResponse,
    ) {
        let Some(response) = &answer.response else { return };
        let common = |common: &Option<proto::CommonResponse>| {
            common.as_ref().is_some_and(|common| {
                common.body_mutation.is_some() || mutates(common.header_mutation.as_ref())
            })
        };
        let (phase, mutated) = match response {
            Response::RequestHeaders(part) => (Phase::RequestHeaders, common(&part.response)),
            Response::ResponseHeaders(part) => (Phase::ResponseHeaders, common(&part.response)),
            Response::RequestBody(part) => (Phase::RequestBody, common(&part.response)),
            Response::ResponseBody(part) => (Phase::ResponseBody, common(&part.response)),
            Response::RequestTrailers(part) => {
                (Phase::RequestTrailers, mutates(part.header_mutation.as_ref()))
            }
            Response::ResponseTrailers(part) => {
                (Phase::ResponseTrailers, mutates(part.header_mutation.as_ref()))
            }
            Response::ImmediateResponse(_) | Response::StreamedImmediateResponse(_) => {
                self.verdict = Some("immediate_response");
                return;
            }
        };
        let part = self.part(phase);
        part.mutated |= mutated;
        let Some(sent) = part.was_answered() else { return };
        let took = sent.elapsed();
        part.took += took;
        if let Some(histogram) = latencies.0.get(phase as usize) {
            cx.record(*histogram, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// The processor was not asked.
    pub(crate) fn skipped(&mut self) {
        self.verdict = Some("skipped");
    }

    /// The processing failed; the message passes, unless a refusal follows.
    pub(crate) fn failed(&mut self, cause: Cause) {
        self.verdict = Some("failure_mode_allowed");
        self.cause = Some(cause);
    }

    /// The filter refused the message.
    pub(crate) fn refused(&mut self) {
        self.verdict = Some("refused");
    }

    /// Writes it down.
    pub(crate) fn record(&self, cx: &mut Context<'_>) {
        cx.set_filter_state(FILTER_STATE, self.plain().as_bytes());
        let mut metadata = cx.metadata_mut();
        metadata.set_str(NAMESPACE, "verdict", self.verdict.unwrap_or("processed"));
        if let Some(cause) = self.cause {
            metadata.set_str(NAMESPACE, "cause", cause.name());
        }
        for (part, (_, name)) in self.parts.iter().zip(PHASES) {
            if part.answers > 0 {
                let micros = u32::try_from(part.took.as_micros()).unwrap_or(u32::MAX);
                metadata.set_number(NAMESPACE, &format!("{name}_us"), f64::from(micros));
                let mutated = MetadataValue::Bool(part.mutated);
                metadata.set(NAMESPACE, &format!("{name}_mutated"), &mutated);
            }
        }
    }

    /// As the built-in's filter state prints it: for each part that was shown its latency in
    /// microseconds and a gRPC status, for bodies the number of messages before that.
    fn plain(&self) -> String {
        const NAMES: [&str; 6] = ["rh", "rb", "rt", "sh", "sb", "st"];
        let status = self.cause.map_or(0, Cause::grpc_status);
        let mut text = String::new();
        for (part, name) in self.parts.iter().zip(NAMES) {
            let failed = part.outstanding() && status != 0;
            if part.answers == 0 && !failed {
                continue;
            }
            let (micros, status) = (part.took.as_micros(), if failed { status } else { 0 });
            let count =
                if name.ends_with('b') { format!("{}:", part.answers) } else { String::new() };
            text.push_str(&format!("{name}:{count}{micros}:{status},"));
        }
        let before = self.parts.iter().all(|part| part.answers == 0);
        text.push_str(&format!("bs:0,br:0,os:{}", if before { status } else { 0 }));
        text
    }

    fn part(&mut self, phase: Phase) -> &mut Part {
        let [a, b, c, d, e, f] = &mut self.parts;
        match phase {
            Phase::RequestHeaders => a,
            Phase::RequestBody => b,
            Phase::RequestTrailers => c,
            Phase::ResponseHeaders => d,
            Phase::ResponseBody => e,
            Phase::ResponseTrailers => f,
        }
    }
}

fn mutates(mutation: Option<&proto::HeaderMutation>) -> bool {
    mutation.is_some_and(|m| !m.set_headers.is_empty() || !m.remove_headers.is_empty())
}
