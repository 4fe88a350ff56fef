//! A request passes when a server knows its token: one line goes there, one line comes back.

use std::sync::Arc;
use std::time::Duration;

use callout_common::{
    ConfigError, Edits, Gate, Gated, NoRoute, Reply, RequestHead, Setup, Verdict,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What stands under `value` of the `google.protobuf.Struct` in Envoy's configuration.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where the server is, as `host:port`.
    server: String,
    /// How long it may take.
    #[serde(default = "half_a_second")]
    timeout_ms: u64,
}

const fn half_a_second() -> u64 {
    500
}

struct Tokens {
    server: String,
    timeout: Duration,
}

impl Gate for Tokens {
    type Config = Config;
    type Route = NoRoute;

    // On Envoy's main thread, also under `--mode validate`: look at the fields, open nothing.
    fn configure(config: Config, _: &mut Setup<'_>) -> Result<Self, ConfigError> {
        if !config.server.contains(':') {
            return Err(ConfigError::field("server", "must be host:port"));
        }
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Self { server: config.server, timeout })
    }

    // On the library's own threads; the request is held, and Envoy's worker goes on.
    async fn check(&self, request: RequestHead, _: Option<Arc<NoRoute>>) -> Verdict {
        let Some(token) = request.header("x-token") else { return Reply::new(401).into() };
        match tokio::time::timeout(self.timeout, ask(&self.server, token)).await {
            Ok(Ok(line)) => verdict(&line),
            // Nobody answered: fail closed, and say why in the access log.
            Ok(Err(_)) | Err(_) => Reply::new(503).details("token_server_silent").into(),
        }
    }
}

async fn ask(server: &str, token: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(format!("{token}\n").as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}

/// `ok alice` lets the request pass as alice's; all else refuses it.
fn verdict(line: &str) -> Verdict {
    match line.trim().split_once(' ') {
        Some(("ok", user)) => Verdict::Allow(Edits::default().set("x-user", user)),
        _ => Reply::new(403).details("token_unknown").into(),
    }
}

callout_common::export!("my_filter" => Gated<Tokens>);

#[cfg(test)]
mod tests {
    use callout_common::Direction;
    use callout_common::testing::{Bench, Progress};

    use super::*;

    #[test]
    fn a_request_waits_and_one_without_a_token_is_answered() {
        let config = r#"{"server": "127.0.0.1:1"}"#;
        let mut bench = Bench::<Gated<Tokens>>::new("my_filter", config).unwrap();
        let lines = [(":method", "GET"), (":path", "/")];
        assert_eq!(bench.headers(Direction::Request, &lines, true), Progress::No);
        assert!(bench.fire());
        assert_eq!(bench.host.replies.len(), 1);
    }

    #[test]
    fn the_servers_line_decides() {
        assert!(matches!(verdict("ok alice\n"), Verdict::Allow(_)));
        assert!(!matches!(verdict("no\n"), Verdict::Allow(_)));
        assert!(!matches!(verdict(""), Verdict::Allow(_)));
    }

    #[test]
    fn a_server_without_a_port_is_refused_by_name() {
        let refused = Bench::<Gated<Tokens>>::new("my_filter", r#"{"server": "a"}"#);
        assert_eq!(refused.err().unwrap().path(), "server");
    }
}
