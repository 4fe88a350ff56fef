//! [`Bench`]: one stream of a filter, driven without Envoy.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::FakeHost;
use super::host::Committed;
use crate::api::config::{ConfigError, RawConfig};
use crate::cluster_streams::{ClusterStreams, Command};
use crate::envoy::route_config::RouteConfig;
use crate::envoy::types::Direction;
use crate::envoy::types::{Body, Map};
use crate::filter::stats::Setup;
use crate::filter::{Filter, HttpStream};
use crate::runner::{AnyStream, BodyStatus, HeadersStatus, Runner, RunnerStats, TrailersStatus};
use crate::tasks::mailbox::{Mailbox, TaskGuard};
use crate::tasks::runtime;

/// The longest that [`Bench::fire`] waits, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3600);
/// The same with I/O, in real time.
const REAL_PATIENCE: Duration = Duration::from_secs(10);

/// Envoy's default.
const BUFFER_LIMIT: u64 = 1 << 20;

/// Whether a hook let its piece pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It passes.
    Yes,
    /// It is held, or was answered.
    No,
}

impl Progress {
    const fn when(passes: bool) -> Self {
        if passes { Self::Yes } else { Self::No }
    }
}

/// One stream of a filter. Work off the worker runs inside [`Bench::fire`], in virtual time: what
/// sleeps is woken at once when nothing else is left to do.
pub struct Bench<F: Filter> {
    /// Envoy's side.
    pub host: FakeHost,
    runner: Rc<Runner<F>>,
    runtime: Runtime,
    patience: Duration,
    /// Where calls through clusters go; nobody looks.
    silent: Option<Mailbox<Command>>,
}

/// The names of the metrics in the table under `## Statistics` of a filter's README, sorted.
#[must_use]
pub fn documented_metrics(readme: &str) -> Vec<String> {
    let section = readme.split("\n## ").find(|section| section.starts_with("Statistics"));
    let mut names: Vec<String> = section
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort_unstable();
    names
}

impl<F: Filter> std::fmt::Debug for Bench<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("host", &self.host).finish_non_exhaustive()
    }
}

impl<F: Filter> Bench<F> {
    /// A stream of the filter that `config` makes.
    ///
    /// # Errors
    /// What the filter refuses.
    pub fn new(name: &str, config: &str) -> Result<Self, ConfigError> {
        Self::through(name, config, ClusterStreams::default())
    }

    /// As [`Bench::new`], with I/O: work off the worker may open sockets. Time is real then.
    ///
    /// # Errors
    /// What the filter refuses.
    pub fn with_io(name: &str, config: &str) -> Result<Self, ConfigError> {
        let mut bench = Self::new(name, config)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        bench.runtime = runtime.map_err(|error| ConfigError::without_path(error.to_string()))?;
        bench.patience = REAL_PATIENCE;
        Ok(bench)
    }

    /// As [`Bench::new`], with services that never answer when they are reached through a cluster. What
    /// they would have come to is [`Bench::send`]'s to say.
    ///
    /// # Errors
    /// What the filter refuses.
    pub fn with_silent_services(name: &str, config: &str) -> Result<Self, ConfigError> {
        let mailbox = Mailbox::new(Box::new(Committed::default()));
        let mut bench = Self::through(name, config, ClusterStreams::new(mailbox.outbox()))?;
        bench.silent = Some(mailbox);
        Ok(bench)
    }

    fn through(name: &str, config: &str, clusters: ClusterStreams) -> Result<Self, ConfigError> {
        let mut host = FakeHost { buffer_limit: BUFFER_LIMIT, ..FakeHost::default() };
        let mut setup = Setup::new(&mut host.metrics, name, clusters);
        let stats = RunnerStats::define(&mut setup)?;
        let filter = F::configure(RawConfig::new(config.as_bytes()), &mut setup)?;
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| ConfigError::without_path(error.to_string()))?;
        let runner = Rc::new(Runner::new(Arc::new(filter), stats));
        let stream: Rc<dyn AnyStream> = Rc::<Runner<F>>::clone(&runner);
        host.stream = Some(Rc::downgrade(&stream));
        Ok(Self { host, runner, runtime, patience: PATIENCE, silent: None })
    }

    /// The names of the metrics that the filter called `name` defined, without that name, sorted.
    #[must_use]
    pub fn metric_names(&self, name: &str) -> Vec<String> {
        let names = self.host.metrics.names().iter();
        let own = |full: &String| full.strip_prefix(name)?.strip_prefix('.').map(str::to_owned);
        let mut names: Vec<String> = names.filter_map(own).collect();
        names.sort_unstable();
        names
    }

    /// Puts the stream on a route with this configuration.
    ///
    /// # Errors
    /// What the filter refuses.
    pub fn on_route(mut self, config: &str) -> Result<Self, ConfigError> {
        let route = F::route(RawConfig::new(config.as_bytes()))?;
        self.host.route = Some(RouteConfig::new(route));
        Ok(self)
    }

    /// Puts the stream on a route with something that is no configuration of this filter.
    #[must_use]
    pub fn on_foreign_route(mut self) -> Self {
        self.host.route = Some(RouteConfig::new("somebody else's"));
        self
    }

    /// Sends headers; `end` when nothing follows.
    pub fn headers(&mut self, direction: Direction, lines: &[(&str, &str)], end: bool) -> Progress {
        let map = match direction {
            Direction::Request => Map::Request,
            Direction::Response => Map::Response,
        };
        self.host.set_map(map, lines);
        let _guard = runtime::use_here(self.runtime.handle());
        let status = self.runner.headers(&mut self.host, direction, end);
        self.host.mark = status == HeadersStatus::Continue;
        Progress::when(self.host.mark)
    }

    /// Sends a piece of a body; `end` with the last.
    pub fn body(&mut self, direction: Direction, piece: &[u8], end: bool) -> Progress {
        self.host.bodies.insert(Body::received(direction), piece.to_vec());
        let _guard = runtime::use_here(self.runtime.handle());
        let status = self.runner.body(&mut self.host, direction, end);
        self.host.mark = status == BodyStatus::Continue;
        let piece = self.host.bodies.remove(&Body::received(direction)).unwrap_or_default();
        match status {
            BodyStatus::StopIterationAndBuffer => _ = self.host.watermarked.remove(&direction),
            BodyStatus::StopIterationAndWatermark => _ = self.host.watermarked.insert(direction),
            BodyStatus::Continue | BodyStatus::StopIterationNoBuffer => {
                return Progress::when(status == BodyStatus::Continue);
            }
        }
        self.host.bodies.entry(Body::buffered(direction)).or_default().extend(piece);
        Progress::when(status == BodyStatus::Continue)
    }

    /// Sends trailers.
    pub fn trailers(&mut self, direction: Direction, lines: &[(&str, &str)]) -> Progress {
        let map = match direction {
            Direction::Request => Map::RequestTrailers,
            Direction::Response => Map::ResponseTrailers,
        };
        self.host.set_map(map, lines);
        let _guard = runtime::use_here(self.runtime.handle());
        let status = self.runner.trailers(&mut self.host, direction);
        self.host.mark = status == TrailersStatus::Continue;
        Progress::when(self.host.mark)
    }

    /// Lets work off the worker run until it commits an event, and fires that. `false` when nothing
    /// is committed for an hour of virtual time, with I/O for 10 s.
    pub fn fire(&mut self) -> bool {
        let (committed, patience) = (self.host.committed.clone(), self.patience);
        let event = self.runtime.block_on(async {
            let next = async {
                loop {
                    if let Some(event) = committed.take() {
                        return event;
                    }
                    committed.notify.notified().await;
                }
            };
            tokio::time::timeout(patience, next).await.ok()
        });
        let Some(event) = event else { return false };
        let _guard = runtime::use_here(self.runtime.handle());
        self.runner.scheduled(&mut self.host, event);
        true
    }

    /// Sends an event to the stream, as work off the worker does; [`Bench::fire`] brings it there. `false`
    /// when the stream has ended.
    pub fn send(&mut self, event: <F::Stream as HttpStream>::Event) -> bool {
        self.runner.outbox(&mut self.host).send(event).is_ok()
    }

    /// Ends work off the worker without its event; [`Bench::fire`] tells the stream.
    pub fn lose(&mut self) {
        drop(TaskGuard::new(self.runner.outbox(&mut self.host)));
    }

    /// Ends the stream.
    pub fn complete(&mut self) {
        let _guard = runtime::use_here(self.runtime.handle());
        self.runner.complete(&mut self.host);
        self.runner.destroy();
    }
}
