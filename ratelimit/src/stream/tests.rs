use callout_common::envoy::types::{MetadataSource, MetadataValue};
use callout_common::grpc::{CallError, MetadataMap};
use callout_common::testing::{Bench, Progress};
use callout_common::{Map, RawConfig};
use callout_protos::envoy::service::ratelimit::v3::RateLimitRequest;
use serde_json::{Value, json};

use super::*;
use crate::apply::state::HITS_ADDEND;
use crate::config::Config;
use crate::memory::ledger::LeaseTable;
use crate::{RateLimit, call};

/// The least configuration, with `over` over it; `name` tells its service from those of other tests.
fn config(name: &str, over: Value) -> Value {
    let mut config = json!({
        "domain": "d",
        "rate_limit_service": {"grpc_service": {"envoy_grpc": {"cluster_name": name}}},
        "rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "all"}}]}],
    });
    for (field, value) in over.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

fn bench(config: &Value) -> Bench<RateLimit> {
    let config = config.to_string();
    let mut bench = Bench::<RateLimit>::with_silent_services("ratelimit", &config).unwrap();
    bench.host.cluster = Some("up".to_owned());
    bench
}

/// A request that waits for its answer.
fn waiting(over: Value) -> Bench<RateLimit> {
    let mut bench = bench(&config("service", over));
    assert_eq!(request(&mut bench), Progress::No);
    assert_eq!(bench.host.metric_value("in_flight"), 1);
    bench
}

fn request(bench: &mut Bench<RateLimit>) -> Progress {
    let lines = [(":method", "GET"), (":path", "/"), (":authority", "a")];
    bench.headers(Direction::Request, &lines, true)
}

/// The call that the request waits for comes to this.
fn answered(bench: &mut Bench<RateLimit>, result: CheckResult) {
    assert!(bench.send(result) && bench.fire());
}

fn answer(json: Value) -> CheckResult {
    Ok(serde_json::from_value(json).unwrap())
}

fn over_limit() -> Value {
    json!({
        "overallCode": "OVER_LIMIT",
        "statuses": [{
            "code": "OVER_LIMIT", "durationUntilReset": "30s",
            "currentLimit": {"requestsPerUnit": 100000, "unit": "MINUTE"},
        }],
        "responseHeadersToAdd": [{"key": "x-rls", "value": "1"}],
    })
}

/// Nothing is counted any more as under way.
fn is_at_rest(bench: &mut Bench<RateLimit>) {
    bench.complete();
    for gauge in ["in_flight", "live_streams"] {
        assert_eq!(bench.host.metric_value(gauge), 0, "{gauge}");
    }
}

#[test]
fn a_request_waits_and_passes_with_what_the_service_adds() {
    let mut bench = waiting(json!({}));
    assert!(bench.host.resumed.is_empty() && bench.host.replies.is_empty());
    answered(
        &mut bench,
        answer(json!({
            "overallCode": "OK",
            "requestHeadersToAdd": [{"key": "x-up", "value": "1"}],
            "responseHeadersToAdd": [{"key": "x-down", "value": "2"}],
        })),
    );
    assert_eq!(bench.host.resumed, [Direction::Request]);
    assert_eq!(bench.host.text(Map::Request, "x-up"), Some("1"));
    let passed = bench.headers(Direction::Response, &[(":status", "200")], true);
    assert_eq!(passed, Progress::Yes);
    assert_eq!(bench.host.text(Map::Response, "x-down"), Some("2"));
    assert_eq!((bench.host.metric_value("ok"), bench.host.metric_value("rpc")), (1, 1));
    is_at_rest(&mut bench);
}

#[test]
fn a_request_over_a_limit_is_answered_once() {
    let added = json!([{"header": {"key": "x-why", "value": "%RESPONSE_FLAGS%|%RESPONSE_CODE_DETAILS%|%RESP(x-rls)%|%REQ(:path)%"}}]);
    let mut bench = waiting(json!({"response_headers_to_add": added}));
    answered(&mut bench, answer(over_limit()));
    let [reply] = bench.host.replies.as_slice() else { panic!("{:?}", bench.host.replies) };
    assert_eq!(reply.status(), 429);
    let why = reply.headers().iter().find(|(name, _)| name == "x-why").unwrap();
    assert_eq!(why.1, b"RL|request_rate_limited|1|/");
    assert!(bench.host.resumed.is_empty());
    assert_eq!(bench.host.metric_value("over_limit"), 1);
    is_at_rest(&mut bench);
}

#[test]
fn a_failure_follows_the_failure_mode() {
    let failed = || Err(Failure::Call(CallError::Timeout));
    let mut open = waiting(json!({}));
    answered(&mut open, failed());
    assert_eq!(open.host.resumed, [Direction::Request]);
    assert_eq!(open.host.metric_value("failure_mode_allowed"), 1);
    is_at_rest(&mut open);
    let mut closed = waiting(json!({"failure_mode_deny": true}));
    answered(&mut closed, failed());
    assert_eq!(closed.host.replies[0].status(), 500);
    assert_eq!(closed.host.metric_value("error"), 1);
    assert_eq!(closed.host.metric_value("call_failed,timeout"), 1);
    is_at_rest(&mut closed);
}

#[test]
fn work_that_is_lost_never_passes() {
    let mut bench = waiting(json!({"failure_mode_deny": false}));
    bench.lose();
    assert!(bench.fire());
    assert_eq!(bench.host.replies[0].status(), 500);
    assert!(bench.host.resumed.is_empty());
    assert_eq!(bench.host.metric_value("lost"), 1);
    is_at_rest(&mut bench);
}

#[test]
fn a_client_that_leaves_is_not_charged_at_the_end() {
    let done = json!([
        {"actions": [{"generic_key": {"descriptor_value": "now"}}]},
        {"actions": [{"generic_key": {"descriptor_value": "done"}}], "apply_on_stream_done": true},
    ]);
    let mut left = waiting(json!({"rate_limits": done}));
    is_at_rest(&mut left);
    assert_eq!(left.host.metric_value("rpc"), 1);
    let mut stayed = waiting(json!({"rate_limits": done}));
    answered(&mut stayed, answer(json!({"overallCode": "OK"})));
    is_at_rest(&mut stayed);
    assert_eq!(stayed.host.metric_value("rpc"), 2);
}

#[test]
fn an_answer_that_comes_twice_counts_once() {
    let mut bench = waiting(json!({}));
    answered(&mut bench, answer(json!({"overallCode": "OK"})));
    answered(&mut bench, answer(over_limit()));
    assert_eq!(bench.host.resumed, [Direction::Request]);
    assert!(bench.host.replies.is_empty());
    assert_eq!(bench.host.metric_value("over_limit"), 0);
    is_at_rest(&mut bench);
}

#[test]
fn what_nobody_limits_passes_at_once() {
    let mut without_cluster = bench(&config("service", json!({})));
    without_cluster.host.cluster = None;
    assert_eq!(request(&mut without_cluster), Progress::Yes);
    assert_eq!(without_cluster.host.metric_value("requests"), 0);
    let mut without_limits = bench(&config("service", json!({"rate_limits": []})));
    assert_eq!(request(&mut without_limits), Progress::Yes);
    assert_eq!(without_limits.host.metric_value("no_descriptors"), 1);
    is_at_rest(&mut without_limits);
}

#[test]
fn a_limit_that_says_nothing_refuses_where_asked_for() {
    let limits = json!([{"actions": [{"request_headers": {"header_name": "x-none", "descriptor_key": "k"}}]}]);
    let over = json!({"rate_limits": limits, "callout": {"deny_unevaluable": true}});
    let mut refused = bench(&config("service", over));
    assert_eq!(request(&mut refused), Progress::No);
    assert_eq!(refused.host.replies[0].status(), 500);
    assert_eq!(refused.host.metric_value("descriptor_skipped"), 1);
    is_at_rest(&mut refused);
}

#[test]
fn in_shadow_nothing_is_refused() {
    let mut bench = waiting(json!({"callout": {"shadow": true}}));
    answered(&mut bench, answer(over_limit()));
    assert_eq!(bench.host.resumed, [Direction::Request]);
    assert!(bench.host.replies.is_empty());
    assert_eq!(bench.host.metric_value("shadow_over_limit"), 1);
    is_at_rest(&mut bench);
}

#[test]
fn hits_that_another_filter_sets_are_asked_about() {
    let callout = json!({"callout": {"mode": "cache_over_limit", "server": "envoy_ratelimit"}});
    let config = config("hits", callout);
    let _kept = seed(&config, &over_limit());
    // The refusal that is kept is about one hit.
    for (hits, calls) in [(None, 0), (Some("5"), 1)] {
        let mut bench = bench(&config);
        let hits = hits.map(|hits: &str| (HITS_ADDEND.to_owned(), hits.into()));
        bench.host.filter_state.extend(hits);
        assert_eq!(request(&mut bench), Progress::No);
        assert_eq!(bench.host.metric_value("rpc"), calls);
        is_at_rest(&mut bench);
    }
}

/// Makes known what the service said about the least request of `config`, as long as the table lives.
fn seed(config: &Value, said: &Value) -> Arc<LeaseTable> {
    let config = Config::read(RawConfig::new(config.to_string().as_bytes())).unwrap();
    let callout = &config.callout;
    let ledger = LeaseTable::shared(&config.service.identity(), callout.accounts);
    let entry = json!({"entries": [{"key": "generic_key", "value": "all"}]});
    let message: RateLimitRequest =
        serde_json::from_value(json!({"domain": "d", "descriptors": [entry]})).unwrap();
    let key = call::key(&message, &MetadataMap::new());
    let now = Instant::now();
    ledger.turn(key, now, &callout.terms).unwrap();
    let said = serde_json::from_value(said.clone()).unwrap();
    ledger.answered(key, &said, (50, 1), (now, now), &callout.terms);
    ledger
}

#[test]
fn a_refusal_that_still_holds_is_answered_at_once() {
    let config = config("kept", json!({"callout": {"mode": "cache_over_limit"}}));
    let _kept = seed(
        &config,
        &json!({"overallCode": "OVER_LIMIT", "statuses": [{"code": "OVER_LIMIT", "durationUntilReset": "30s"}]}),
    );
    // Fifty hits that were refused say nothing of one, but for the server that counts them all.
    let mut asked = bench(&config);
    assert_eq!(request(&mut asked), Progress::No);
    assert_eq!(asked.host.metric_value("rpc"), 1);
    let config = self::config(
        "kept-all",
        json!({"callout": {"mode": "cache_over_limit", "server": "envoy_ratelimit"}}),
    );
    let _kept = seed(&config, &over_limit());
    let mut refused = bench(&config);
    assert_eq!(request(&mut refused), Progress::No);
    assert_eq!(refused.host.replies[0].status(), 429);
    let counted = ["cache_over_limit", "over_limit", "rpc"];
    assert_eq!(counted.map(|name| refused.host.metric_value(name)), [1, 1, 0]);
    is_at_rest(&mut refused);
}

#[test]
fn a_hit_that_is_paid_for_passes_at_once() {
    let config = config(
        "lease",
        json!({"callout": {"mode": "lease", "server": "envoy_ratelimit", "expected_proxies": 1}}),
    );
    let _kept = seed(
        &config,
        &json!({"overallCode": "OK", "statuses": [{
            "code": "OK", "limitRemaining": 90000, "durationUntilReset": "30s",
            "currentLimit": {"requestsPerUnit": 100000, "unit": "MINUTE"},
        }]}),
    );
    for left in [48, 47] {
        let mut bench = bench(&config);
        assert_eq!(request(&mut bench), Progress::Yes, "{left}");
        assert_eq!(bench.host.metric_value("lease_hit"), 1);
        assert_eq!(bench.host.metric_value("rpc"), 0);
        is_at_rest(&mut bench);
    }
}

#[test]
fn bytes_and_trailers_of_a_request_pass_while_they_are_counted() {
    let limits = json!([
        {"actions": [{"generic_key": {"descriptor_value": "done"}}], "apply_on_stream_done": true,
         "hits_addend": {"format": "%REQUEST_DURATION%"}},
    ]);
    let mut bench = bench(&config("service", json!({"rate_limits": limits})));
    let lines = [(":method", "POST"), (":path", "/")];
    assert_eq!(bench.headers(Direction::Request, &lines, false), Progress::Yes);
    assert_eq!(bench.body(Direction::Request, b"abc", false), Progress::Yes);
    assert_eq!(bench.trailers(Direction::Request, &[("x-t", "1")]), Progress::Yes);
    assert_eq!(bench.headers(Direction::Response, &[(":status", "200")], false), Progress::Yes);
    assert_eq!(bench.body(Direction::Response, b"abc", true), Progress::Yes);
    is_at_rest(&mut bench);
    // The request's duration is known, so that the hits are told.
    assert_eq!(bench.host.metric_value("rpc"), 1);
}

/// What the access log is told of the request, under `key`.
fn outcome(bench: &Bench<RateLimit>, key: &str) -> Option<String> {
    let place = (MetadataSource::Dynamic, "callout.ratelimit".to_owned(), key.to_owned());
    match bench.host.metadata.get(&place)? {
        MetadataValue::String(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

#[test]
fn a_refusal_of_the_filters_own_says_why_in_the_access_log() {
    let quoting = json!({
        "rate_limit_service": {"grpc_service": {
            "envoy_grpc": {"cluster_name": "own"},
            "initial_metadata": [{"key": "x-m", "value": "%DYNAMIC_METADATA(m:payload)%"}],
        }},
        "callout": {"on_unreadable_metadata": "fail"},
    });
    let nothing_to_say = json!({
        "rate_limits": [{"actions": [
            {"request_headers": {"header_name": "x-none", "descriptor_key": "k"}},
        ]}],
        "callout": {"deny_unevaluable": true},
    });
    for (config_over, cause) in
        [(quoting, "unreadable_metadata"), (nothing_to_say, "descriptor_skipped")]
    {
        let mut bench = bench(&config("own", config_over));
        let place = (MetadataSource::Dynamic, "m".to_owned(), "payload".to_owned());
        bench.host.metadata.insert(place, MetadataValue::Unreadable);
        request(&mut bench);
        assert_eq!(bench.host.replies.len(), 1, "{cause}");
        assert_eq!(outcome(&bench, "verdict").as_deref(), Some("refused"), "{cause}");
        assert_eq!(outcome(&bench, "source").as_deref(), Some("filter"), "{cause}");
        assert_eq!(outcome(&bench, "cause").as_deref(), Some(cause));
    }
}
