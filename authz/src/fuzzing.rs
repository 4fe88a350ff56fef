//! What holds for any bytes: driven by the fuzz targets, and by random bytes in the tests.

use std::sync::OnceLock;

use callout_common::http::mutation::{Mutation, Op};
use callout_common::http::rules::{is_framing, valid_name, valid_value};
use callout_common::{RawConfig, Reply};
use callout_protos::envoy::service::auth::v3::CheckResponse;
use prost::Message;

use crate::config::{Config, Route};
use crate::decide::edits::Edits;
use crate::decide::verdict::{Verdict, decide};

/// Configurations under which a reply is judged.
const CONFIGS: [&str; 4] = [
    "",
    r#", "validate_mutations": true, "max_denied_response_body_bytes": 64"#,
    r#", "decoder_header_mutation_rules": {"disallow_is_error": true}, "failure_mode_allow": true"#,
    r#", "callout": {"strict": true, "cache": {"ttl": "1s"}}"#,
];

/// A reply of the service: whatever it is, what comes of it breaks no message.
pub fn reply(bytes: &[u8]) {
    let Ok(reply) = CheckResponse::decode(bytes) else { return };
    for config in configs() {
        match decide(config, Ok(reply.clone())).verdict {
            Verdict::Allow(edits) => check_edits(&edits),
            Verdict::Deny { reply, .. } | Verdict::Refuse { reply, .. } => check_reply(&reply),
            Verdict::Pass | Verdict::Invalid { .. } => {}
        }
    }
}

/// A configuration: read or refused, of the filter and of a route.
pub fn config(bytes: &[u8]) {
    let raw = RawConfig::new(bytes);
    for refused in [Config::read(raw).err(), Route::read(raw).err()].into_iter().flatten() {
        assert!(!refused.to_string().is_empty(), "a refusal says why");
    }
}

fn configs() -> &'static [Config] {
    static CONFIGURED: OnceLock<Vec<Config>> = OnceLock::new();
    CONFIGURED.get_or_init(|| {
        let read = |fields: &&str| {
            let service = r#""grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}"#;
            Config::read(RawConfig::new(format!("{{{service}{fields}}}").as_bytes())).ok()
        };
        let all: Vec<Config> = CONFIGS.iter().filter_map(read).collect();
        assert_eq!(all.len(), CONFIGS.len(), "every configuration is read");
        all
    })
}

fn check_reply(reply: &Reply) {
    assert!((200..=599).contains(&reply.status()));
    for (name, value) in reply.headers() {
        check_line(name, value);
    }
}

fn check_edits(edits: &Edits) {
    for Mutation { op, name, value } in edits.request.iter().chain(&edits.response) {
        if *op == Op::Remove {
            assert!(valid_name(name) && (!is_framing(name) || name == "content-length"), "{name}");
        } else {
            check_line(name, value);
        }
    }
    let path = edits.query.apply("/p?a=1&b");
    assert!(path.starts_with("/p"), "{path}");
    assert!(!path.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()));
    assert!(!path.contains('#'), "{path}");
}

/// A header line that can stand in a message.
fn check_line(name: &str, value: &[u8]) {
    let pseudo = matches!(name, ":path" | ":method" | ":authority" | ":scheme" | ":status");
    assert!(pseudo || valid_name(name), "{name:?}");
    assert!(valid_value(value), "{name}: {value:?}");
    assert!(!is_framing(name), "{name}");
    if pseudo {
        assert!(!value.iter().any(u8::is_ascii_whitespace), "{name}: {value:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn random_bytes_are_judged_and_read_without_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            reply(&bytes);
            config(&bytes);
        }
    }
}
