//! What a hook may read, change, count and start: the view of one stream while a hook runs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::AbortHandle;

use crate::api::cel::AttributeSource;
use crate::api::format::CommandOperator;
use crate::envoy::attributes::Attribute;
use crate::envoy::host::{ChildSpan, Host};
use crate::envoy::types::Direction;
use crate::envoy::types::{Body, Map, MetadataSource};
use crate::filter::headers::{Headers, HeadersMut};
use crate::filter::held_end;
use crate::filter::metadata::{Metadata, MetadataMut, Missing, Unread};
use crate::filter::stats::{Counter, Gauge, Histogram, LabelledCounter};
use crate::filter::timer::Timer;
use crate::http::trace::SpanIds;
use crate::tasks::mailbox::{Mailbox, Message, Outbox, TaskFailure, TaskGuard};
use crate::tasks::runtime;
use crate::worker::{self, Registration};

/// How many finished tasks of a stream may wait to be forgotten.
const FINISHED_TASKS: usize = 8;
/// How long a request waits until it asks again whether a filter in front holds its end.
const AGAIN: Duration = Duration::from_millis(1);

/// One stream, as a hook sees it. Lives as long as the hook.
pub struct StreamContext<'a, E: Send + 'static> {
    host: &'a mut dyn Host,
    work: &'a mut Work<E>,
    unread: Unread,
}

impl<E: Send + 'static> std::fmt::Debug for StreamContext<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx").finish_non_exhaustive()
    }
}

impl<'a, E: Send + 'static> StreamContext<'a, E> {
    pub(crate) fn new(host: &'a mut dyn Host, work: &'a mut Work<E>) -> Self {
        Self { host, work, unread: Unread::default() }
    }

    /// Reads a header map.
    #[must_use]
    pub fn headers(&self, map: Map) -> Headers<'_> {
        Headers::new(self.host, map)
    }

    /// Changes a header map.
    pub fn headers_mut(&mut self, map: Map) -> HeadersMut<'_> {
        HeadersMut::new(self.host, map)
    }

    /// Reads the request's headers.
    #[must_use]
    pub fn request(&self) -> Headers<'_> {
        self.headers(Map::Request)
    }

    /// Changes the request's headers.
    pub fn request_mut(&mut self) -> HeadersMut<'_> {
        self.headers_mut(Map::Request)
    }

    /// Reads the response's headers.
    #[must_use]
    pub fn response(&self) -> Headers<'_> {
        self.headers(Map::Response)
    }

    /// Changes the response's headers.
    pub fn response_mut(&mut self) -> HeadersMut<'_> {
        self.headers_mut(Map::Response)
    }

    /// Length of `body` in bytes. Bodies are only read here: a change is a
    /// [`BodyEdit`](crate::BodyEdit) that a hook returns.
    #[must_use]
    pub fn body_len(&self, body: Body) -> usize {
        self.host.body_len(body)
    }

    /// Copies `body` out of Envoy's slices.
    #[must_use]
    pub fn body(&self, body: Body) -> Vec<u8> {
        self.host.body(body).concat()
    }

    /// Bytes of `direction`'s body that are buffered or in the running hook's piece.
    #[must_use]
    pub fn body_so_far(&self, direction: Direction) -> usize {
        let buffered = self.host.body_len(Body::buffered(direction));
        if self.host.received_is_buffered(direction) {
            return buffered;
        }
        buffered.saturating_add(self.host.body_len(Body::received(direction)))
    }

    /// Whether the running hook of `direction` was given a piece without bytes.
    #[must_use]
    pub fn has_empty_piece(&self, direction: Direction) -> bool {
        !self.host.received_is_buffered(direction)
            && self.host.body_len(Body::received(direction)) == 0
    }

    /// Whether the received piece is the buffered body itself (the same bytes).
    #[must_use]
    pub fn received_is_buffered(&self, direction: Direction) -> bool {
        self.host.received_is_buffered(direction)
    }

    /// The stream's buffer limit in bytes.
    #[must_use]
    pub fn buffer_limit(&self) -> u64 {
        self.host.buffer_limit()
    }

    /// A textual attribute, as bytes.
    #[must_use]
    pub fn attribute(&self, attribute: Attribute) -> Option<&[u8]> {
        self.host.attribute_str(attribute)
    }

    /// A numeric attribute.
    #[must_use]
    pub fn attribute_int(&self, attribute: Attribute) -> Option<u64> {
        self.host.attribute_int(attribute)
    }

    /// A truth-valued attribute.
    #[must_use]
    pub fn attribute_bool(&self, attribute: Attribute) -> Option<bool> {
        self.host.attribute_bool(attribute)
    }

    /// The upstream cluster that the route names; `None` for a route without one, and when there is
    /// no such cluster.
    #[must_use]
    pub fn cluster_name(&self) -> Option<&[u8]> {
        self.host.cluster_name()
    }

    /// Index of the worker that runs this stream.
    #[must_use]
    pub fn worker_index(&self) -> u32 {
        self.host.worker_index()
    }

    /// Whether Envoy has found a route for the request. Before 1.40 it can't be told: true.
    #[must_use]
    pub fn has_route(&self) -> bool {
        self.host.attribute_str(Attribute::XdsRouteName).is_some()
    }

    /// Reads metadata of one source.
    #[must_use]
    pub fn metadata(&self, source: MetadataSource) -> Metadata<'_> {
        Metadata::new(self.host, source, &self.unread)
    }

    /// What could not be read of the metadata that this hook asked for so far.
    #[must_use]
    pub const fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Changes the dynamic metadata.
    pub fn metadata_mut(&mut self) -> MetadataMut<'_> {
        MetadataMut::new(self.host)
    }

    /// A filter-state object in its serialized form.
    #[must_use]
    pub fn filter_state(&self, key: &str) -> Option<Vec<u8>> {
        self.host.filter_state(key)
    }

    /// The client's certificate as URL-encoded PEM, where Envoy's own `set_filter_state` in front put
    /// `%DOWNSTREAM_PEER_CERT%` under the key `callout.peer_certificate`. `None` where there is none, and
    /// where a client with a certificate finds no such filter, which is noted.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        const KEY: &str = "callout.peer_certificate";
        // What Envoy's formatter prints for nothing.
        let certificate = self.filter_state(KEY).filter(|text| text != b"-");
        let missing =
            certificate.is_none() && self.attribute_bool(Attribute::ConnectionMtls) == Some(true);
        if missing {
            self.unread.note(|| Missing::State { key: KEY, format: "%DOWNSTREAM_PEER_CERT%" });
        }
        certificate
    }

    /// Stores a read-only string in the filter state; once per key and stream.
    pub fn set_filter_state(&mut self, key: &str, value: &[u8]) -> bool {
        self.host.set_filter_state(key, value)
    }

    /// Makes Envoy choose the route again when it is next asked for. Request path only.
    pub fn clear_route_cache(&mut self) {
        self.host.clear_route_cache();
    }

    /// Makes Envoy send the request to this host (`ip:port`) of the route's cluster, the first time that it
    /// sends it; retries go by the load balancer. `strict` answers 503 where there is no such host, or
    /// it is not healthy; else the load balancer chooses another. Request path only. `false` when Envoy
    /// does not take the address.
    pub fn set_override_host(&mut self, host: SocketAddr, strict: bool) -> bool {
        self.host.set_override_host(&host.to_string(), strict)
    }

    /// Sets a tag on the active tracing span, if there is one.
    pub fn tag_span(&mut self, key: &str, value: &str) {
        self.host.tag_span(key, value);
    }

    /// The ids of the active tracing span; `None` where the request is not traced.
    #[must_use]
    pub fn span_ids(&self) -> Option<SpanIds> {
        self.host.span_ids()
    }

    /// A child of the active tracing span, if there is one.
    pub(crate) fn child_span(&mut self, operation: &str) -> Option<Box<dyn ChildSpan>> {
        self.host.child_span(operation)
    }

    /// Adds a flag to those that `%CUSTOM_FLAGS%` prints.
    pub fn add_custom_flag(&mut self, flag: &str) {
        self.host.add_custom_flag(flag);
    }

    /// Counts one.
    pub fn count(&mut self, counter: Counter) {
        counter.add(self.host, 1);
    }

    /// Counts `by`.
    pub fn count_by(&mut self, counter: Counter, by: u64) {
        counter.add(self.host, by);
    }

    /// Counts one under `label`, which is one of a small, fixed set.
    pub fn count_labelled(&mut self, counter: LabelledCounter, label: &str) {
        counter.add(self.host, label, 1);
    }

    /// Raises a gauge by one.
    pub fn raise(&mut self, gauge: Gauge) {
        gauge.add(self.host, 1);
    }

    /// Lowers a gauge by one.
    pub fn lower(&mut self, gauge: Gauge) {
        gauge.sub(self.host, 1);
    }

    /// Records a value in a histogram.
    pub fn record(&mut self, histogram: Histogram, value: u64) {
        histogram.record(self.host, value);
    }

    /// Runs `work` off the worker; its output comes back as an event. It is dropped when the stream
    /// ends. When it panics, or can't be started, [`HttpStream::lost`] runs instead.
    ///
    /// [`HttpStream::lost`]: crate::HttpStream::lost
    pub fn spawn(&mut self, work: impl Future<Output = E> + Send + 'static) {
        let guard = TaskGuard::new(self.outbox());
        self.work.start(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(event) => guard.deliver(event),
                Err(_) => guard.panicked(),
            }
        });
    }

    /// Runs `work` on this stream's worker; its output comes back as an event. It is polled only
    /// between hooks and must never block. It is dropped when the stream ends. When it panics,
    /// [`HttpStream::lost`] runs instead; where there is no worker ([`StreamContext::has_worker`]), nothing
    /// runs.
    ///
    /// [`HttpStream::lost`]: crate::HttpStream::lost
    pub fn spawn_on_worker(&mut self, work: impl Future<Output = E> + 'static) {
        self.work.start_on_worker(&*self.host, work);
    }

    /// Whether work can run on this stream's worker: everywhere but in a test's host.
    pub fn has_worker(&mut self) -> bool {
        self.work.on_worker(&*self.host).is_some()
    }

    /// Runs `work` off the worker without an event at its end; what it has to say goes through an
    /// [`StreamContext::outbox`] that it was given. It is dropped when the stream ends.
    pub fn spawn_silent(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let outbox = self.outbox();
        self.work.start(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                TaskGuard::new(outbox).panicked();
            }
        });
    }

    /// As [`StreamContext::spawn_detached`], but on this stream's worker as long as some stream waits there, and
    /// off it only after that. It is polled between hooks and must never block.
    pub fn spawn_detached_on_worker(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        if self.has_worker() {
            worker::detach(AssertUnwindSafe(work).catch_unwind().map(|_| ()));
        } else {
            self.spawn_detached(work);
        }
    }

    /// Runs `work` off the worker and lets it outlive the stream: for what is only sent, and whose
    /// answer nobody waits for. It has to have a deadline of its own.
    pub fn spawn_detached(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        // Without a thread there is nobody to tell; the panic hook logs a panic.
        let _ = runtime::spawn(AssertUnwindSafe(work).catch_unwind().map(|_| ()));
    }

    /// The request's `content-length`. In expressions `request.size` is what the request says where
    /// it does, and the bytes that have come where not.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        std::str::from_utf8(self.request().get("content-length")?).ok()?.parse().ok()
    }

    /// What `operator` stands for in this stream.
    #[must_use]
    pub fn operator(&self, operator: &CommandOperator) -> Option<Vec<u8>> {
        match operator {
            CommandOperator::Request { names, limit } => self.line(Map::Request, names, *limit),
            CommandOperator::Response { names, limit } => self.line(Map::Response, names, *limit),
            CommandOperator::Trailer { names, limit } => {
                self.line(Map::ResponseTrailers, names, *limit)
            }
            CommandOperator::DynamicMetadata { namespace, path } => {
                self.metadata(MetadataSource::Dynamic).printed(namespace, path)
            }
            CommandOperator::RemoteAddress => {
                self.remote_ip().map(|ip| ip.to_string().into_bytes())
            }
            CommandOperator::BytesReceived => self.count_of(Attribute::RequestSize),
            CommandOperator::BytesSent => self.count_of(Attribute::ResponseSize),
            CommandOperator::Protocol => {
                self.attribute(Attribute::RequestProtocol).map(<[u8]>::to_vec)
            }
            CommandOperator::ResponseCode => {
                self.count_of(Attribute::ResponseCode).or_else(|| Some(b"0".to_vec()))
            }
            CommandOperator::ResponseCodeDetails => {
                self.attribute(Attribute::ResponseCodeDetails).map(<[u8]>::to_vec)
            }
            CommandOperator::ResponseFlags | CommandOperator::RequestDuration => None,
        }
    }

    /// The first value of the first of `names` that `map` has, cut off after `limit` bytes.
    fn line(&self, map: Map, names: &[String], limit: usize) -> Option<Vec<u8>> {
        let headers = self.headers(map);
        let value = names.iter().find_map(|name| headers.get(name))?;
        Some(value.get(..limit).unwrap_or(value).to_vec())
    }

    fn count_of(&self, attribute: Attribute) -> Option<Vec<u8>> {
        self.attribute_int(attribute).map(|count| count.to_string().into_bytes())
    }

    /// The client's address as Envoy trusts it, if it is an IP address.
    #[must_use]
    pub fn remote_ip(&self) -> Option<IpAddr> {
        remote_ip(self.attribute(Attribute::SourceAddress)?)
    }

    /// Sends events to this stream from any thread; for exchanges of many events.
    pub fn outbox(&mut self) -> Outbox<E> {
        self.work.outbox(self.host)
    }

    /// Says that this filter holds the end of the request, or no longer does: filters of this suite behind
    /// it let nothing go meanwhile, as Envoy would take it for the end.
    pub fn hold_request_end(&mut self, held: bool) {
        held_end::say(self.host, held);
    }

    /// Sends `event` to this stream after `delay`. Nothing takes that back; what is set again and again is a
    /// [`Timer`].
    pub fn after(&mut self, delay: Duration, event: E) {
        self.spawn(async move {
            tokio::time::sleep(delay).await;
            event
        });
    }

    /// Sets a timer of this stream: `event` comes after `delay`, in place of what the timer was set to
    /// before.
    pub fn set_timer(&mut self, timer: &mut Timer<E>, delay: Duration, event: E) {
        if let Some(task) = timer.set(delay, event) {
            let outbox = self.outbox();
            let run = task.run(outbox);
            match self.work.on_worker(&*self.host) {
                Some(on_worker) => on_worker.registration.start(run),
                None => self.spawn_silent(run),
            }
        }
    }
}

impl<E: Send + 'static> AttributeSource for StreamContext<'_, E> {
    fn text(&self, attribute: Attribute) -> Option<&[u8]> {
        self.attribute(attribute)
    }

    fn number(&self, attribute: Attribute) -> Option<u64> {
        let said = (attribute == Attribute::RequestSize).then(|| self.content_length()).flatten();
        said.or_else(|| self.attribute_int(attribute))
    }

    fn truth(&self, attribute: Attribute) -> Option<bool> {
        self.attribute_bool(attribute)
    }

    fn lines(&self, map: Map) -> Vec<(&[u8], &[u8])> {
        self.headers(map).all().into_iter().map(|line| (line.name, line.value)).collect()
    }
}

fn remote_ip(address: &[u8]) -> Option<IpAddr> {
    let address: SocketAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
    Some(address.ip())
}

/// The work of one stream.
pub(crate) struct Work<E> {
    mailbox: Option<Mailbox<E>>,
    tasks: Vec<AbortHandle>,
    /// With so many tasks those that have finished are forgotten.
    most: usize,
    on_worker: Option<WorkerTasks<E>>,
}

/// The work of one stream on its worker.
struct WorkerTasks<E> {
    registration: Registration,
    mail: Rc<RefCell<VecDeque<Message<E>>>>,
}

impl<E: Send + 'static> Work<E> {
    pub(crate) const fn new() -> Self {
        Self { mailbox: None, tasks: Vec::new(), most: FINISHED_TASKS, on_worker: None }
    }

    fn start(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.len() >= self.most {
            self.tasks.retain(|task| !task.is_finished());
            // Each look at all of them is paid for by as many new ones.
            self.most = FINISHED_TASKS.max(2 * self.tasks.len());
        }
        // When no thread runs, dropping the task posts that it was lost.
        if let Ok(handle) = runtime::spawn(task) {
            self.tasks.push(handle);
        }
    }

    fn on_worker(&mut self, host: &dyn Host) -> Option<&mut WorkerTasks<E>> {
        if self.on_worker.is_none() {
            let registration = host.waiting_stream().and_then(Registration::new);
            self.on_worker =
                registration.map(|registration| WorkerTasks { registration, mail: Rc::default() });
        }
        self.on_worker.as_mut()
    }

    /// Sends events to the stream: by its worker, with all that is announced to the worker's streams
    /// then, or where there is no worker by a scheduler of its own.
    fn outbox(&mut self, host: &mut dyn Host) -> Outbox<E> {
        if let Some(mailbox) = &self.mailbox {
            return mailbox.outbox();
        }
        let scheduler = match self.on_worker(host) {
            Some(on_worker) => on_worker.registration.announcer(),
            None => host.scheduler(),
        };
        self.mailbox.insert(Mailbox::new(scheduler)).outbox()
    }

    fn start_on_worker(&mut self, host: &dyn Host, work: impl Future<Output = E> + 'static) {
        let Some(on_worker) = self.on_worker(host) else { return };
        let mail = Rc::clone(&on_worker.mail);
        on_worker.registration.start(async move {
            let ended = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(event) => Message::Event(event),
                Err(_) => Message::Lost(TaskFailure::Panicked),
            };
            mail.borrow_mut().push_back(ended);
        });
    }

    /// Has the stream told in a moment that it may try again to let its request go.
    pub(crate) fn try_again(&mut self, host: &mut dyn Host) {
        let outbox = self.outbox(host);
        self.start(async move {
            tokio::time::sleep(AGAIN).await;
            // One that has ended lets nothing go.
            let _ = outbox.push(Message::TryAgain);
        });
    }

    /// What has come so far for a stream that its worker tells of it.
    pub(crate) fn take(&self) -> VecDeque<Message<E>> {
        let Some(on_worker) = &self.on_worker else { return VecDeque::new() };
        let mut mail = on_worker.mail.take();
        if let Some(mailbox) = &self.mailbox {
            mail.append(&mut mailbox.take());
        }
        mail
    }

    /// The mail that commit number `generation` announced.
    pub(crate) fn drain(&self, generation: u64) -> impl Iterator<Item = Message<E>> + use<E> {
        self.mailbox
            .as_ref()
            .map(|mailbox| mailbox.drain(generation))
            .unwrap_or_default()
            .into_iter()
    }

    /// Ends the hand-over and cancels every task, on the worker and off it. Afterwards no other
    /// thread calls Envoy for this stream.
    pub(crate) fn close(&mut self) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.close();
        }
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.on_worker = None;
    }
}

impl<E> Drop for Work<E> {
    fn drop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}
