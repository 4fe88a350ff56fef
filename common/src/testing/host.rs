//! [`FakeHost`]: what Envoy knows of one stream, as plain data.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::envoy::attributes::Attribute;
use crate::envoy::host::{ChildSpan, ConfigHost, HostEnd, HostRead, HostWrite, Scheduler};
use crate::envoy::reply::{Reply, ReplyPart};
use crate::envoy::route_config::RouteConfig;
use crate::envoy::types::Direction;
use crate::envoy::types::{
    Body, Header, Level, Map, MetadataSource, MetadataValue, MetricId, MetricKind, MetricOp,
};
use crate::http::trace::SpanIds;
use crate::runner::{AnyStream, BodyStatus, HeadersStatus, TrailersStatus};

/// Envoy's side of a stream, with real state. Everything may be set before a hook and read after.
///
/// It re-enters the stream as Envoy does: over the buffer limit it answers from inside the change,
/// and a request that is let go on may be answered at once. What touches a stream that has ended
/// panics, as it may crash Envoy.
#[derive(Default)]
pub struct FakeHost {
    /// The header maps that exist, names in lower case.
    pub maps: HashMap<Map, Vec<(String, Vec<u8>)>>,
    /// The bodies.
    pub bodies: HashMap<Body, Vec<u8>>,
    /// Textual attributes.
    pub texts: HashMap<Attribute, Vec<u8>>,
    /// Numeric attributes.
    pub numbers: HashMap<Attribute, u64>,
    /// Metadata by source, namespace and key.
    pub metadata: HashMap<(MetadataSource, String, String), MetadataValue>,
    /// The ids of the active tracing span.
    pub span: Option<SpanIds>,
    /// Children of it that are finished, by their operation and tags.
    pub finished_spans: Rc<RefCell<Vec<FinishedSpan>>>,
    /// Flags for `%CUSTOM_FLAGS%`.
    pub custom_flags: Vec<String>,
    /// The filter state.
    pub filter_state: HashMap<String, Vec<u8>>,
    /// The route's upstream cluster.
    pub cluster: Option<String>,
    /// Replies that were sent.
    pub replies: Vec<Reply>,
    /// Parts of a reply that were sent.
    pub parts: Vec<ReplyPart>,
    /// Directions that were let go on.
    pub resumed: Vec<Direction>,
    /// Resets, with their details.
    pub resets: Vec<String>,
    /// How often the route cache was cleared.
    pub route_cache_cleared: usize,
    /// Hosts that requests were to go to, and whether there alone.
    pub override_hosts: Vec<(String, bool)>,
    /// The buffer limit in bytes; 0 means none.
    pub buffer_limit: u64,
    /// What a filter behind answers as soon as the request is let go on.
    pub answer_at_once: Option<u16>,
    /// Whether one mark "goes on" serves both directions, as in Envoy 1.38.
    pub one_mark: bool,
    pub(super) mark: bool,
    /// Statuses of answers that were not the filter's, as far as they reached the client.
    pub others: Vec<u16>,
    /// The stream has ended.
    pub ended: bool,
    /// Directions whose buffer back-pressures the peer over the limit.
    pub(super) watermarked: HashSet<Direction>,
    pub(super) stream: Option<Weak<dyn AnyStream>>,
    /// Directions whose running hook was given the buffered body itself.
    pub(super) aliased: HashSet<Direction>,
    /// The chain that the stream's filter is in, and its place there.
    pub(super) chain: Option<(Weak<dyn Behind>, usize)>,
    pub(super) route: Option<RouteConfig>,
    pub(super) metrics: Metrics,
    pub(super) committed: Committed,
}

/// The filters behind one, to which it lets a direction go on.
pub(super) trait Behind {
    /// The filter at `place`, whose host this is, lets what it held go on.
    fn resume(&self, place: usize, host: &mut FakeHost);
}

/// A child span that was finished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinishedSpan {
    /// What it is called.
    pub operation: String,
    /// Its tags, in order.
    pub tags: Vec<(String, String)>,
}

struct FakeSpan {
    ids: SpanIds,
    span: FinishedSpan,
    finished: Rc<RefCell<Vec<FinishedSpan>>>,
}

impl ChildSpan for FakeSpan {
    fn ids(&self) -> Option<SpanIds> {
        Some(self.ids.clone())
    }

    fn tag(&mut self, key: &str, value: &str) {
        self.span.tags.push((key.to_owned(), value.to_owned()));
    }
}

impl Drop for FakeSpan {
    fn drop(&mut self) {
        self.finished.borrow_mut().push(std::mem::take(&mut self.span));
    }
}

/// Metrics by their names; labels follow the name after commas.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    names: Vec<String>,
    pub(super) values: HashMap<String, u64>,
}

impl Metrics {
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

impl ConfigHost for Metrics {
    fn define_metric(&mut self, _: MetricKind, name: &str, _: &[&str]) -> Option<MetricId> {
        self.names.push(name.to_owned());
        Some(MetricId(self.names.len() - 1))
    }

    fn validating(&self) -> bool {
        // Nothing that is to be started: the bench brings its own runtime.
        true
    }

    fn scheduler(&mut self) -> Box<dyn Scheduler> {
        Box::new(Committed::default())
    }
}

/// The commits that Envoy has not fired yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed {
    events: Arc<Mutex<VecDeque<u64>>>,
    pub(super) notify: Arc<Notify>,
}

impl Committed {
    pub(super) fn take(&self) -> Option<u64> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Scheduler for Committed {
    fn commit(&self, event: u64) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.notify.notify_one();
    }
}

impl std::fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeHost").field("maps", &self.maps).finish_non_exhaustive()
    }
}

impl FakeHost {
    /// A metric's value by the end of its name (with `,label` where it has one); 0 when it never
    /// changed.
    #[must_use]
    pub fn metric_value(&self, name: &str) -> u64 {
        let ends = |key: &str| key == name || key.ends_with(&format!(".{name}"));
        self.metrics.values.iter().find(|(key, _)| ends(key)).map_or(0, |(_, value)| *value)
    }

    /// The first value of a header as text.
    #[must_use]
    pub fn text(&self, map: Map, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(map, name, 0)?).ok()
    }

    /// Sets a whole map from text.
    pub fn set_map(&mut self, map: Map, lines: &[(&str, &str)]) {
        let line = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        self.maps.insert(map, lines.iter().map(line).collect());
    }

    /// Somebody else's answer runs through the stream's hooks, from inside a call of the stream.
    fn answer(&mut self, status: u16, body: &str) {
        let Some(stream) = self.stream.as_ref().and_then(Weak::upgrade) else { return };
        self.set_map(Map::Response, &[(":status", &status.to_string())]);
        let held = stream.headers(self, Direction::Response, false) != HeadersStatus::Continue;
        self.mark = !held;
        if held {
            return;
        }
        self.bodies.insert(Body::ReceivedResponse, body.into());
        let passed = stream.body(self, Direction::Response, true) == BodyStatus::Continue;
        self.bodies.remove(&Body::ReceivedResponse);
        if passed {
            self.others.push(status);
            self.end(&stream);
        }
    }

    /// Ends the stream as Envoy before 1.40 does: at once.
    fn end(&mut self, stream: &Rc<dyn AnyStream>) {
        stream.complete(self);
        stream.destroy();
        self.ended = true;
    }

    fn assert_alive(&self) {
        assert!(!self.ended, "a stream that has ended was touched");
    }

    /// Where the bytes of `body` are.
    fn place(&self, body: Body) -> Body {
        let aliased = |direction: &&Direction| Body::received(**direction) == body;
        self.aliased.iter().find(aliased).map_or(body, |direction| Body::buffered(*direction))
    }

    fn lines(&self, map: Map) -> &[(String, Vec<u8>)] {
        self.maps.get(&map).map_or(&[], Vec::as_slice)
    }
}

impl HostRead for FakeHost {
    fn headers(&self, map: Map) -> Vec<Header<'_>> {
        self.lines(map)
            .iter()
            .map(|(name, value)| Header { name: name.as_bytes(), value })
            .collect()
    }

    fn header(&self, map: Map, name: &str, index: usize) -> Option<&[u8]> {
        let mut lines = self.lines(map).iter().filter(|(key, _)| key == name);
        lines.nth(index).map(|(_, value)| value.as_slice())
    }

    fn body_len(&self, body: Body) -> usize {
        self.bodies.get(&self.place(body)).map_or(0, Vec::len)
    }

    fn body(&self, body: Body) -> Vec<&[u8]> {
        self.bodies.get(&self.place(body)).map(Vec::as_slice).into_iter().collect()
    }

    fn received_is_buffered(&self, direction: Direction) -> bool {
        self.aliased.contains(&direction)
    }

    fn buffer_limit(&self) -> u64 {
        self.buffer_limit
    }

    fn attribute_str(&self, attribute: Attribute) -> Option<&[u8]> {
        self.texts.get(&attribute).map(Vec::as_slice)
    }

    fn attribute_int(&self, attribute: Attribute) -> Option<u64> {
        self.numbers.get(&attribute).copied()
    }

    fn attribute_bool(&self, _: Attribute) -> Option<bool> {
        None
    }

    fn cluster_name(&self) -> Option<&[u8]> {
        self.cluster.as_ref().map(String::as_bytes)
    }

    fn worker_index(&self) -> u32 {
        0
    }

    fn metadata(
        &self,
        source: MetadataSource,
        namespace: &str,
        key: &str,
    ) -> Option<MetadataValue> {
        self.metadata.get(&(source, namespace.to_owned(), key.to_owned())).cloned()
    }

    fn metadata_keys(&self, source: MetadataSource, namespace: &str) -> Vec<Vec<u8>> {
        let here =
            |(from, ns, _): &&(MetadataSource, String, String)| *from == source && ns == namespace;
        self.metadata.keys().filter(here).map(|(_, _, key)| key.clone().into_bytes()).collect()
    }

    fn metadata_namespaces(&self, source: MetadataSource) -> Vec<Vec<u8>> {
        let here = self.metadata.keys().filter(|(from, ..)| *from == source);
        let mut names: Vec<Vec<u8>> = here.map(|(_, ns, _)| ns.clone().into_bytes()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn reads_typed_metadata(&self) -> bool {
        false
    }

    fn typed_metadata(&self, _: MetadataSource, _: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        None
    }

    fn span_ids(&self) -> Option<SpanIds> {
        self.span.clone()
    }

    fn filter_state(&self, key: &str) -> Option<Vec<u8>> {
        self.filter_state.get(key).cloned()
    }

    fn log_enabled(&self, _: Level) -> bool {
        true
    }

    fn route_config(&self) -> Option<RouteConfig> {
        self.route.clone()
    }
}

impl HostWrite for FakeHost {
    fn set_header(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        let Some(lines) = self.maps.get_mut(&map) else { return false };
        lines.retain(|(key, _)| key != name);
        // As the ABI, which can't hold an empty value.
        if !value.is_empty() {
            lines.push((name.to_owned(), value.to_vec()));
        }
        true
    }

    fn add_header(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        match self.maps.get_mut(&map) {
            Some(lines) if !value.is_empty() => {
                lines.push((name.to_owned(), value.to_vec()));
                true
            }
            _ => false,
        }
    }

    fn remove_header(&mut self, map: Map, name: &str) -> bool {
        let Some(lines) = self.maps.get_mut(&map) else { return false };
        lines.retain(|(key, _)| key != name);
        true
    }

    fn set_metadata(&mut self, namespace: &str, key: &str, value: &MetadataValue) -> bool {
        let key = (MetadataSource::Dynamic, namespace.to_owned(), key.to_owned());
        self.metadata.insert(key, value.clone());
        true
    }

    fn merge_metadata(&mut self, _: &str, _: &[u8]) -> bool {
        // As before Envoy 1.40, so that values come one by one.
        false
    }

    fn set_typed_metadata(&mut self, _: &str, _: &[u8]) -> bool {
        false
    }

    fn set_filter_state(&mut self, key: &str, value: &[u8]) -> bool {
        self.filter_state.insert(key.to_owned(), value.to_vec());
        true
    }

    fn metric(&mut self, id: MetricId, labels: &[&str], op: MetricOp) {
        let Some(name) = self.metrics.names.get(id.0) else { return };
        let mut name = name.clone();
        for label in labels {
            name.push(',');
            name.push_str(label);
        }
        let value = self.metrics.values.entry(name).or_default();
        match op {
            MetricOp::Count(by) | MetricOp::Raise(by) => *value += by,
            MetricOp::Lower(by) => *value = value.saturating_sub(by),
            MetricOp::Set(new) | MetricOp::Record(new) => *value = new,
        }
    }

    fn clear_route_cache(&mut self) {
        self.route_cache_cleared += 1;
    }

    fn set_override_host(&mut self, host: &str, strict: bool) -> bool {
        self.override_hosts.push((host.to_owned(), strict));
        true
    }

    fn tag_span(&mut self, _: &str, _: &str) {}

    fn child_span(&mut self, operation: &str) -> Option<Box<dyn ChildSpan>> {
        let trace = self.span.as_ref()?.trace.clone();
        let ids = SpanIds { trace, span: "c".repeat(16) };
        let span = FinishedSpan { operation: operation.to_owned(), tags: Vec::new() };
        Some(Box::new(FakeSpan { ids, span, finished: Rc::clone(&self.finished_spans) }))
    }

    fn add_custom_flag(&mut self, flag: &str) {
        self.custom_flags.push(flag.to_owned());
    }

    fn scheduler(&mut self) -> Box<dyn Scheduler> {
        Box::new(self.committed.clone())
    }
}

impl HostEnd for FakeHost {
    fn append_body(&mut self, direction: Direction, bytes: &[u8]) {
        self.assert_alive();
        // As in Envoy, a buffer that begins here back-pressures.
        if !self.bodies.contains_key(&Body::buffered(direction)) {
            self.watermarked.insert(direction);
        }
        self.bodies.entry(Body::buffered(direction)).or_default().extend_from_slice(bytes);
        let len = self.body_len(Body::buffered(direction)) as u64;
        if self.buffer_limit == 0
            || len <= self.buffer_limit
            || self.watermarked.contains(&direction)
        {
            return;
        }
        match direction {
            Direction::Request => self.answer(413, "Payload Too Large"),
            Direction::Response => {
                // Envoy answers past the filters.
                self.others.push(500);
                if let Some(stream) = self.stream.as_ref().and_then(Weak::upgrade) {
                    self.end(&stream);
                }
            }
        }
    }

    fn drain_body(&mut self, body: Body) {
        self.assert_alive();
        let place = self.place(body);
        if let Some(bytes) = self.bodies.get_mut(&place) {
            bytes.clear();
        }
    }

    fn set_buffer_limit(&mut self, limit: u64) {
        self.assert_alive();
        self.buffer_limit = limit;
    }

    fn send_reply(&mut self, reply: &Reply) {
        self.assert_alive();
        self.replies.push(reply.clone());
    }

    fn send_part(&mut self, part: &ReplyPart) {
        self.assert_alive();
        self.parts.push(part.clone());
    }

    fn resume(&mut self, direction: Direction) {
        self.assert_alive();
        if self.one_mark && self.mark {
            return;
        }
        self.resumed.push(direction);
        if let Some((chain, place)) = self.chain.clone()
            && let Some(chain) = chain.upgrade()
        {
            return chain.resume(place, self);
        }
        if direction == Direction::Request
            && let Some(status) = self.answer_at_once.take()
        {
            self.answer(status, "at once");
        }
        self.mark = true;
    }

    fn marks_both_directions(&self) -> bool {
        self.one_mark
    }

    fn end_with_trailers(&mut self, _: &[(String, Vec<u8>)]) {
        self.assert_alive();
        let Some(stream) = self.stream.as_ref().and_then(Weak::upgrade) else { return };
        self.mark = stream.trailers(self, Direction::Response) == TrailersStatus::Continue;
    }

    fn reset(&mut self, details: &str) {
        self.assert_alive();
        self.resets.push(details.to_owned());
    }
}
