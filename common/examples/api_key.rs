//! A whole filter: a request passes when Redis knows the owner of its API key.

use std::sync::Arc;
use std::time::Duration;

use callout_common::{
    ConfigError, Counter, Edits, Gate, Gated, NoRoute, Reply, RequestHead, Setup, Verdict,
};
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::OnceCell;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where Redis is, as `redis://host:port`.
    redis: String,
    /// How long it may take.
    #[serde(default = "half_a_second", deserialize_with = "callout_common::serde_duration")]
    timeout: Duration,
}

const fn half_a_second() -> Duration {
    Duration::from_millis(500)
}

struct ApiKey {
    client: redis::Client,
    /// One connection for all requests, opened by the first one: `configure` may open none.
    connection: OnceCell<ConnectionManager>,
    timeout: Duration,
    unknown: Counter,
}

impl ApiKey {
    async fn owner(&self, key: &str) -> redis::RedisResult<Option<String>> {
        // When Redis is gone, the next request tries anew.
        let config = ConnectionManagerConfig::new().set_number_of_retries(0);
        let connect = || ConnectionManager::new_with_config(self.client.clone(), config);
        self.connection.get_or_try_init(connect).await?.clone().get(key).await
    }
}

impl Gate for ApiKey {
    type Config = Config;
    type Route = NoRoute;

    fn configure(config: Config, setup: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let client = redis::Client::open(config.redis)
            .map_err(|error| ConfigError::field("redis", error.to_string()))?;
        let unknown = setup.counter("unknown_key")?;
        Ok(Self { client, connection: OnceCell::new(), timeout: config.timeout, unknown })
    }

    async fn check(&self, request: RequestHead, _: Option<Arc<NoRoute>>) -> Verdict {
        let Some(key) = request.header("x-api-key") else { return Reply::new(401).into() };
        match tokio::time::timeout(self.timeout, self.owner(key)).await {
            Ok(Ok(Some(owner))) => Verdict::Allow(Edits::default().set("x-owner", owner)),
            Ok(Ok(None)) => {
                request.count(self.unknown);
                Reply::new(403).into()
            }
            Ok(Err(_)) | Err(_) => Reply::new(503).into(),
        }
    }
}

callout_common::export!("api_key" => Gated<ApiKey>);
