//! A cache of responses that many Envoys share: GETs are answered from Redis. What is not there goes to
//! the upstream, and its answer into Redis, off the worker. An answer past its life is sent once more
//! while it is fetched anew. A Redis that is dead or slow lets requests pass.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use callout_common::cluster_streams::ClusterStreams;
use callout_common::http::rules::is_framing;
use callout_common::{
    Body, ConfigError, Counter, EventAction, Filter, HookStatus, HttpStream, RawConfig, Reply,
    Setup, StopMode, StreamContext,
};
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::OnceCell;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where Redis is, as `redis://host:port`.
    redis: String,
    /// How long an answer is fresh.
    #[serde(deserialize_with = "callout_common::serde_duration")]
    ttl: Duration,
    /// So much longer it is sent while it is fetched anew.
    #[serde(default, deserialize_with = "callout_common::serde_duration")]
    stale_while_revalidate: Duration,
    /// How long Redis may take.
    #[serde(default = "fifty_milliseconds", deserialize_with = "callout_common::serde_duration")]
    timeout: Duration,
    /// The longest body that is kept, in bytes.
    #[serde(default = "mebibyte")]
    max_bytes: usize,
}

const fn fifty_milliseconds() -> Duration {
    Duration::from_millis(50)
}

const fn mebibyte() -> usize {
    1 << 20
}

/// Of a route.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Route {
    /// Nothing is kept.
    disabled: bool,
    /// In place of the filter's.
    #[serde(deserialize_with = "callout_common::serde_optional_duration")]
    ttl: Option<Duration>,
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Entry {
    /// Milliseconds since 1970 until which it is fresh.
    fresh_until: u64,
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Stats {
    hit: Counter,
    stale: Counter,
    miss: Counter,
    error: Counter,
    stored: Counter,
}

struct RedisCache {
    client: redis::Client,
    /// One connection for all requests; `configure` may open none.
    connection: OnceCell<ConnectionManager>,
    clusters: ClusterStreams,
    config: Config,
    stats: Stats,
}

impl RedisCache {
    async fn redis(&self) -> redis::RedisResult<ConnectionManager> {
        let config = ConnectionManagerConfig::new().set_number_of_retries(0);
        let connect = || ConnectionManager::new_with_config(self.client.clone(), config);
        self.connection.get_or_try_init(connect).await.cloned()
    }

    /// What is kept under `key`; an error when Redis does not say in time.
    async fn look_up(&self, key: &str) -> Result<Option<Entry>, String> {
        let asked = async { self.redis().await?.get::<_, Option<Vec<u8>>>(key).await };
        match tokio::time::timeout(self.config.timeout, asked).await {
            Ok(Ok(found)) => Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn store(&self, key: &str, mut entry: Entry, ttl: Duration) {
        entry.fresh_until = now().saturating_add(millis(ttl));
        let Ok(bytes) = serde_json::to_vec(&entry) else { return };
        let kept = millis(ttl + self.config.stale_while_revalidate).max(1);
        let asked = async { self.redis().await?.pset_ex::<_, _, ()>(key, bytes, kept).await };
        let told = tokio::time::timeout(Duration::from_secs(1), asked).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!("an answer could not be stored in Redis");
        }
    }

    /// Fetches an answer anew from `cluster`, in place of one past its life.
    async fn fetch(&self, cluster: &str, key: &str, request: http::Request<Bytes>, ttl: Duration) {
        // Whoever comes first fetches, of all Envoys.
        let lock = format!("{key}:fetching");
        let options = redis::SetOptions::default()
            .conditional_set(redis::ExistenceCheck::NX)
            .with_expiration(redis::SetExpiry::EX(10));
        let Ok(mut redis) = self.redis().await else { return };
        let Ok(Some(_)) = redis.set_options::<_, _, Option<String>>(&lock, 1, options).await else {
            return;
        };
        let client = self.clusters.http(cluster).timeout(Duration::from_secs(10));
        if let Ok(answer) = client.limit(self.config.max_bytes).send(request).await {
            let lines = answer.headers().iter();
            let headers = lines.map(|(name, value)| (name.as_str(), value.as_bytes()));
            if let Some(mut entry) = keepable(answer.status().as_u16(), headers) {
                entry.body = answer.body().to_vec();
                self.store(key, entry, ttl).await;
            }
        }
        let _: Result<(), _> = redis.del(&lock).await;
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(millis).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An answer without its body, if others may have it: 200, without a cookie, and neither private nor
/// different by headers of the request.
fn keepable<'a>(status: u16, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<Entry> {
    let mut kept = Vec::new();
    for (name, value) in headers {
        let value_lower = value.to_ascii_lowercase();
        let says = |word: &[u8]| value_lower.windows(word.len()).any(|part| part == word);
        let private = name == "cache-control"
            && [&b"no-store"[..], b"private", b"no-cache"].iter().any(|word| says(word));
        if private || name == "set-cookie" || name == "vary" {
            return None;
        }
        if !is_framing(name) && !name.starts_with(':') && !name.starts_with("x-envoy-") {
            kept.push((name.to_owned(), value.to_vec()));
        }
    }
    (status == 200).then_some(Entry { fresh_until: 0, status, headers: kept, body: Vec::new() })
}

impl Filter for RedisCache {
    type Stream = Stream;
    type Route = Route;

    fn configure(raw: RawConfig<'_>, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let config: Config = raw.json()?;
        let client = redis::Client::open(config.redis.as_str())
            .map_err(|error| ConfigError::field("redis", error.to_string()))?;
        if config.ttl.is_zero() {
            return Err(ConfigError::field("ttl", "must be greater than 0"));
        }
        let stats = Stats {
            hit: setup.counter("hit")?,
            stale: setup.counter("stale")?,
            miss: setup.counter("miss")?,
            error: setup.counter("error")?,
            stored: setup.counter("stored")?,
        };
        let clusters = setup.clusters().clone();
        Ok(Self { client, connection: OnceCell::new(), clusters, config, stats })
    }

    fn route(raw: RawConfig<'_>) -> Result<Route, ConfigError> {
        raw.json()
    }

    fn stream(self: &Arc<Self>, route: Option<Arc<Route>>) -> Stream {
        Stream { cache: Arc::clone(self), route, key: None, storing: None }
    }
}

struct Stream {
    cache: Arc<RedisCache>,
    route: Option<Arc<Route>>,
    /// Set while the answer of the upstream may be stored.
    key: Option<String>,
    storing: Option<Entry>,
}

type Looked = Result<Option<Entry>, String>;

impl Stream {
    fn ttl(&self) -> Duration {
        let of_route = self.route.as_ref().and_then(|route| route.ttl);
        of_route.unwrap_or(self.cache.config.ttl)
    }

    /// The key of a request whose answer everybody may have.
    fn key_of(cx: &StreamContext<'_, Looked>) -> Option<String> {
        let head = cx.request();
        let personal = ["authorization", "cookie", "range"].iter().any(|n| head.get(n).is_some());
        if head.get(":method") != Some(b"GET") || personal {
            return None;
        }
        Some(format!("cache:{}:{}", head.get_str(":authority")?, head.get_str(":path")?))
    }

    fn fetch_anew(&self, cx: &mut StreamContext<'_, Looked>, key: String) {
        let text = |name: &str| cx.request().get_str(name).unwrap_or_default().to_owned();
        let request =
            http::Request::get(text(":path")).header("host", text(":authority")).body(Bytes::new());
        let cluster = cx.cluster_name().map(|name| String::from_utf8_lossy(name).into_owned());
        let (Ok(request), Some(cluster)) = (request, cluster) else { return };
        let (cache, ttl) = (Arc::clone(&self.cache), self.ttl());
        cx.spawn_detached(async move { cache.fetch(&cluster, &key, request, ttl).await });
    }

    fn store(&mut self, cx: &mut StreamContext<'_, Looked>) {
        let (Some(entry), Some(key)) = (self.storing.take(), self.key.take()) else { return };
        cx.count(self.cache.stats.stored);
        let (cache, ttl) = (Arc::clone(&self.cache), self.ttl());
        cx.spawn_detached(async move { cache.store(&key, entry, ttl).await });
    }
}

impl HttpStream for Stream {
    type Event = Looked;

    fn request_headers(&mut self, cx: &mut StreamContext<'_, Looked>, _: bool) -> HookStatus {
        let disabled = self.route.as_ref().is_some_and(|route| route.disabled);
        let Some(key) = Self::key_of(cx).filter(|_| !disabled) else { return HookStatus::Continue };
        self.key = Some(key.clone());
        let cache = Arc::clone(&self.cache);
        cx.spawn(async move { cache.look_up(&key).await });
        HookStatus::Pause(StopMode::AllIteration)
    }

    fn event(&mut self, cx: &mut StreamContext<'_, Looked>, looked: Looked) -> EventAction {
        let stats = self.cache.stats;
        match looked {
            Ok(Some(entry)) => {
                // The reply comes by our own hooks of the response, too: it is not to be stored.
                let key = self.key.take().unwrap_or_default();
                let stale = entry.fresh_until < now();
                cx.count(if stale { stats.stale } else { stats.hit });
                if stale {
                    self.fetch_anew(cx, key);
                }
                let state: &[u8] = if stale { b"stale" } else { b"hit" };
                let mut reply = Reply::new(entry.status).body(entry.body).details("redis_cache");
                for (name, value) in &entry.headers {
                    reply.add_header(name, value);
                }
                EventAction::Reply(reply.header("x-cache", state))
            }
            Ok(None) => {
                cx.count(stats.miss);
                EventAction::Request
            }
            Err(error) => {
                tracing::debug!(error, "Redis does not answer");
                cx.count(stats.error);
                self.key = None;
                EventAction::Request
            }
        }
    }

    fn lost(&mut self, _: &mut StreamContext<'_, Looked>) -> EventAction {
        self.key = None;
        EventAction::Request
    }

    fn response_headers(&mut self, cx: &mut StreamContext<'_, Looked>, end: bool) -> HookStatus {
        if self.key.is_none() {
            return HookStatus::Continue;
        }
        let lines = cx.response().all();
        let status = cx.response().get_str(":status").and_then(|status| status.parse().ok());
        let lines = lines.iter().filter_map(|l| Some((std::str::from_utf8(l.name).ok()?, l.value)));
        self.storing = keepable(status.unwrap_or_default(), lines);
        cx.response_mut().set("x-cache", b"miss");
        if end {
            self.store(cx);
        }
        HookStatus::Continue
    }

    fn response_body(&mut self, cx: &mut StreamContext<'_, Looked>, end: bool) -> HookStatus {
        if let Some(entry) = &mut self.storing {
            entry.body.extend(cx.body(Body::ReceivedResponse));
            if entry.body.len() > self.cache.config.max_bytes {
                self.storing = None;
            }
        }
        if end {
            self.store(cx);
        }
        HookStatus::Continue
    }

    fn response_trailers(&mut self, _: &mut StreamContext<'_, Looked>) -> HookStatus {
        // An entry keeps none.
        self.storing = None;
        HookStatus::Continue
    }
}

callout_common::export!("redis_cache" => RedisCache);
