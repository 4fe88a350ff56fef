//! A whole filter: a request passes when Redis knows the owner of its API key.

use std::time::Duration;

use callout_common::{ConfigError, Edits, Gate, Gated, Reply, RequestHead, Setup, Verdict};
use redis::AsyncCommands;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where Redis is, as `redis://host:port`.
    redis: String,
}

struct ApiKey(redis::Client);

impl Gate for ApiKey {
    type Config = Config;

    fn configure(config: Config, _: &mut Setup<'_>) -> Result<Self, ConfigError> {
        let client = redis::Client::open(config.redis);
        client.map(Self).map_err(|error| ConfigError::field("redis", error.to_string()))
    }

    async fn check(&self, request: RequestHead) -> Verdict {
        let Some(key) = request.header("x-api-key") else { return Reply::new(401).into() };
        let owner = async {
            self.0.get_multiplexed_async_connection().await?.get::<_, Option<String>>(key).await
        };
        match tokio::time::timeout(Duration::from_millis(500), owner).await {
            Ok(Ok(Some(owner))) => Verdict::Allow(Edits::default().set("x-owner", owner)),
            Ok(Ok(None)) => Reply::new(403).into(),
            Ok(Err(_)) | Err(_) => Reply::new(503).into(),
        }
    }
}

callout_common::export!("api_key" => Gated<ApiKey>);
