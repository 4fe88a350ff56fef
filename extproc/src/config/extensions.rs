//! What this suite adds to `ExternalProcessor`: the fields under `callout`.

use std::collections::BTreeMap;
use std::time::Duration;

use callout_common::api::config::{duration, http_status, positive_duration, refuse_if};
use callout_common::api::header_limits::{HeaderLimitFields, HeaderLimits};
use callout_common::api::matching::StringMatcher;
use callout_common::filter::unreadable::OnUnreadable;
use callout_common::grpc::Calls;
use callout_common::grpc::circuit_breaker::{BreakerFields, BreakerSettings};
use callout_common::{ConfigError, Reply};
use callout_protos::envoy::r#type::matcher::v3::StringMatcher as MatcherProto;
use callout_protos::envoy::r#type::v3::HttpStatus;
use callout_protos::pbjson_types;
use serde::Deserialize;

use crate::decide::endpoint::{EndpointChoice, EndpointFields};
use crate::decide::machine::{BodyLimit, Cause, Chunking, OnError, Settings};
use crate::decide::skip::Skip;

/// `callout`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fields {
    skip: SkipFields,
    skip_body: SkipBodyFields,
    body_limit: Option<BodyLimit>,
    stall_timeout: Option<pbjson_types::Duration>,
    on_error: BTreeMap<Cause, ErrorFields>,
    breaker: Option<BreakerFields>,
    max_streams: Option<usize>,
    calls: Calls,
    append_action: bool,
    chunking: Option<ChunkingFields>,
    override_host: Option<EndpointFields>,
    on_unreadable_metadata: OnUnreadable,
    header_limits: HeaderLimitFields,
    builtin_stats: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SkipFields {
    methods: Vec<String>,
    paths: Vec<MatcherProto>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SkipBodyFields {
    content_types: Vec<MatcherProto>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorFields {
    status: HttpStatus,
    #[serde(default)]
    body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChunkingFields {
    min_bytes: usize,
    max_delay: Option<pbjson_types::Duration>,
}

/// `callout` of a route, as it is written. What is absent is as the filter has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteFields {
    message_timeout: Option<pbjson_types::Duration>,
    status_on_error: Option<HttpStatus>,
    on_error: BTreeMap<Cause, ErrorFields>,
    body_limit: Option<BodyLimit>,
}

/// `callout` of a route, checked.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RouteCallout {
    message_timeout: Option<Duration>,
    status_on_error: Option<u16>,
    /// Replies to these causes; others are answered as the filter says.
    on_error: OnError,
    body_limit: Option<BodyLimit>,
}

impl RouteCallout {
    pub(crate) fn configure(fields: RouteFields) -> Result<Self, ConfigError> {
        let RouteFields { message_timeout, status_on_error, on_error, body_limit } = fields;
        Ok(Self {
            message_timeout: message_timeout
                .map(|value| message_timeout_of(&value, "message_timeout"))
                .transpose()?,
            status_on_error: status_on_error
                .map(|status| http_status(&status, "status_on_error"))
                .transpose()?,
            on_error: replies(on_error)?,
            body_limit: checked(body_limit)?,
        })
    }

    /// Changes what the filter has.
    pub(crate) fn change(&self, settings: &mut Settings) {
        let Self { message_timeout, status_on_error, on_error, body_limit } = self;
        settings.message_timeout = message_timeout.unwrap_or(settings.message_timeout);
        settings.status_on_error = status_on_error.unwrap_or(settings.status_on_error);
        settings.body_limit = body_limit.or(settings.body_limit);
        for (cause, reply) in on_error {
            settings.on_error.insert(*cause, reply.clone());
        }
    }
}

/// The longest that an answer may be waited for, as in the built-in.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// A timeout for messages: an hour at most.
pub(crate) fn message_timeout_of(
    value: &pbjson_types::Duration,
    path: &str,
) -> Result<Duration, ConfigError> {
    let value = duration(value, path)?;
    refuse_if(value > LONGEST_TIMEOUT, path, "must be an hour or less")?;
    Ok(value)
}

/// `callout`, checked; what the machine needs of it is in its settings.
#[derive(Debug)]
pub(crate) struct Callout {
    pub(crate) skip: Skip,
    /// Bodies of these content types are not shown.
    pub(crate) skipped_types: Vec<StringMatcher>,
    pub(crate) body_limit: Option<BodyLimit>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) on_error: OnError,
    pub(crate) breaker: Option<BreakerSettings>,
    /// Exchanges that may be open at once.
    pub(crate) max_streams: Option<usize>,
    /// Where exchanges run.
    pub(crate) calls: Calls,
    /// `append_action` of the processor's header changes counts.
    pub(crate) append_action: bool,
    pub(crate) chunking: Option<Chunking>,
    /// Where the processor names the endpoint that the request goes to.
    pub(crate) override_host: Option<EndpointChoice>,
    pub(crate) on_unreadable_metadata: OnUnreadable,
    pub(crate) header_limits: HeaderLimits,
    /// The scope of statistics under the built-in's names.
    pub(crate) builtin_stats: Option<String>,
}

impl Callout {
    pub(crate) fn configure(fields: Fields) -> Result<Self, ConfigError> {
        let Fields {
            skip,
            skip_body,
            body_limit,
            stall_timeout,
            on_error,
            breaker,
            max_streams,
            calls,
            append_action,
            chunking,
            override_host,
            on_unreadable_metadata,
            header_limits,
            builtin_stats,
        } = fields;
        refuse_if(max_streams == Some(0), "max_streams", "must be greater than 0")?;
        Ok(Self {
            builtin_stats,
            skip: Skip { methods: skip.methods, paths: matchers(&skip.paths, "skip.paths")? },
            skipped_types: matchers(&skip_body.content_types, "skip_body.content_types")?,
            body_limit: checked(body_limit)?,
            stall_timeout: stall_timeout
                .map(|value| positive_duration(Some(&value), "stall_timeout", Duration::ZERO))
                .transpose()?,
            on_error: replies(on_error)?,
            breaker: breaker
                .as_ref()
                .map(BreakerSettings::configure)
                .transpose()
                .map_err(|error| error.in_field("breaker"))?,
            max_streams,
            calls,
            append_action,
            chunking: chunking
                .map(|ChunkingFields { min_bytes, max_delay }| {
                    refuse_if(min_bytes < 2, "chunking.min_bytes", "must be greater than 1")?;
                    let (path, default) = ("chunking.max_delay", Duration::from_millis(10));
                    let max_delay = positive_duration(max_delay.as_ref(), path, default)?;
                    Ok::<_, ConfigError>(Chunking { min_bytes, max_delay })
                })
                .transpose()?,
            override_host: override_host
                .map(EndpointChoice::configure)
                .transpose()
                .map_err(|error| error.in_field("override_host"))?,
            on_unreadable_metadata,
            header_limits: HeaderLimits::configure("extproc", header_limits)
                .map_err(|error| error.in_field("header_limits"))?,
        })
    }
}

fn checked(limit: Option<BodyLimit>) -> Result<Option<BodyLimit>, ConfigError> {
    let empty = limit.is_some_and(|limit| limit.bytes == 0);
    refuse_if(empty, "body_limit.bytes", "must be greater than 0")?;
    Ok(limit)
}

fn replies(fields: BTreeMap<Cause, ErrorFields>) -> Result<OnError, ConfigError> {
    let one = |(cause, fields): (Cause, ErrorFields)| {
        let reply =
            reply(fields).map_err(|error| error.in_field(&format!("on_error.{}", cause.name())))?;
        Ok((cause, reply))
    };
    fields.into_iter().map(one).collect()
}

fn matchers(list: &[MatcherProto], path: &str) -> Result<Vec<StringMatcher>, ConfigError> {
    let one = |(index, matcher)| {
        StringMatcher::configure(matcher)
            .map_err(|error| error.in_field(&format!("{path}[{index}]")))
    };
    list.iter().enumerate().map(one).collect()
}

fn reply(fields: ErrorFields) -> Result<Reply, ConfigError> {
    let ErrorFields { status, body, headers } = fields;
    let status = http_status(&status, "status")?;
    refuse_if(status < 200, "status.code", "must be 200 or more")?;
    let mut reply = Reply::new(status).body(body);
    for (name, value) in headers {
        let taken = reply.add_header(&name, value.as_bytes());
        refuse_if(!taken, "headers", "hold a line that is not well-formed, or belongs to framing")?;
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(json: &str) -> Result<Callout, ConfigError> {
        Callout::configure(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_is_wrong_in_a_route_is_refused_by_name() {
        let path = |json: &str| {
            let fields = serde_json::from_str(json).unwrap();
            RouteCallout::configure(fields).unwrap_err().path().to_owned()
        };
        assert_eq!(path(r#"{"message_timeout": "3601s"}"#), "message_timeout");
        assert_eq!(path(r#"{"status_on_error": {"code": 0}}"#), "status_on_error.code");
        assert_eq!(path(r#"{"body_limit": {"bytes": 0, "over": "skip"}}"#), "body_limit.bytes");
        let status = r#"{"on_error": {"timeout": {"status": {"code": 100}}}}"#;
        assert_eq!(path(status), "on_error.timeout.status.code");
        assert!(serde_json::from_str::<RouteFields>(r#"{"max_streams": 1}"#).is_err());
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let path = |json: &str| configured(json).unwrap_err().path().to_owned();
        assert_eq!(path(r#"{"max_streams": 0}"#), "max_streams");
        assert_eq!(path(r#"{"body_limit": {"bytes": 0, "over": "skip"}}"#), "body_limit.bytes");
        assert_eq!(path(r#"{"stall_timeout": "0s"}"#), "stall_timeout");
        assert_eq!(path(r#"{"chunking": {"min_bytes": 0}}"#), "chunking.min_bytes");
        assert_eq!(path(r#"{"override_host": {}}"#), "override_host.header");
        assert_eq!(path(r#"{"skip": {"paths": [{}]}}"#), "skip.paths[0].match_pattern");
        let breaker = r#"{"breaker": {"consecutive_failures": 0}}"#;
        assert_eq!(path(breaker), "breaker.consecutive_failures");
        let status = r#"{"on_error": {"timeout": {"status": {"code": 100}}}}"#;
        assert_eq!(path(status), "on_error.timeout.status.code");
        let framing =
            r#"{"on_error": {"timeout": {"status": {"code": 503}, "headers": {"te": "x"}}}}"#;
        assert_eq!(path(framing), "on_error.timeout.headers");
    }
}
