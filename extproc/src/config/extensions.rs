//! What this suite adds to `ExternalProcessor`: the fields under `callout`.

use std::collections::BTreeMap;
use std::time::Duration;

use callout_common::api::config::{duration, http_status, positive_duration, refuse_if};
use callout_common::api::header_limits::{HeaderLimitFields, HeaderLimits};
use callout_common::api::matching::StringMatcher;
#[cfg(any(test, feature = "schema"))]
use callout_common::api::schema::{DurationText, MatcherFields, StatusFields};
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
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fields {
    /// Requests that the processor is not asked about.
    skip: SkipFields,
    /// Bodies that it is not shown.
    skip_body: SkipBodyFields,
    /// The most that is gathered of a `BUFFERED` or `BUFFERED_PARTIAL` body. None unless given.
    body_limit: Option<BodyLimit>,
    /// The longest silence of a processor that answers as it likes. None unless given.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    stall_timeout: Option<pbjson_types::Duration>,
    /// Replies to failures by cause, where the failure mode refuses.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "ReplyFields"))]
    on_error: BTreeMap<Cause, ErrorFields>,
    /// Leaves a processor alone that does not answer. None unless given.
    breaker: Option<BreakerFields>,
    /// Exchanges that may be open at once. Any number unless given.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    max_streams: Option<usize>,
    /// Where the exchanges of `google_grpc` run.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "off_thread")))]
    calls: Calls,
    /// What `append_action` says of header changes counts.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    append_action: bool,
    /// Gathers small pieces of `STREAMED` bodies. None unless given.
    chunking: Option<ChunkingFields>,
    /// The endpoint that a processor picks for the request. None unless given.
    override_host: Option<EndpointFields>,
    /// What happens to a message with metadata that the processor was to be told and that a module
    /// can't read.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "omit")))]
    on_unreadable_metadata: OnUnreadable,
    /// Envoy's limits of headers, where its bootstrap does not tell them.
    header_limits: HeaderLimitFields,
    /// The built-in filter's names for the statistics, under this name. None unless given.
    builtin_stats: Option<String>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SkipFields {
    /// Methods, as `OPTIONS`.
    methods: Vec<String>,
    /// Matchers of the path without its query.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Vec<MatcherFields>"))]
    paths: Vec<MatcherProto>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SkipBodyFields {
    /// Matchers of the content type in lower case, without parameters.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Vec<MatcherFields>"))]
    content_types: Vec<MatcherProto>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorFields {
    /// The status of the reply.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "StatusFields"))]
    status: HttpStatus,
    /// Its body.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "")))]
    #[serde(default)]
    body: String,
    /// Its headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// The replies by cause, for a schema.
#[cfg(any(test, feature = "schema"))]
#[derive(schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "its schema alone is used")]
struct ReplyFields {
    /// No answer in time.
    timeout: Option<ErrorFields>,
    /// No connection, or it broke; or nobody was asked.
    unavailable: Option<ErrorFields>,
    /// A gRPC status other than OK.
    status: Option<ErrorFields>,
    /// An answer that can't be decoded, was not expected, or asks for what may not be.
    invalid_answer: Option<ErrorFields>,
    /// A failure of this module.
    internal: Option<ErrorFields>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChunkingFields {
    /// Bytes that a piece has at least.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 2)))]
    min_bytes: usize,
    /// The longest that a smaller piece waits.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "0.01s")))]
    max_delay: Option<pbjson_types::Duration>,
}

/// `callout` of a route, as it is written. What is absent is as the filter has it.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteFields {
    /// How long each answer is waited for, in place of the filter's.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    message_timeout: Option<pbjson_types::Duration>,
    /// The status of the refusal when the processor fails, in place of the filter's.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<StatusFields>"))]
    status_on_error: Option<HttpStatus>,
    /// Replies to failures by cause, in place of the filter's.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "ReplyFields"))]
    on_error: BTreeMap<Cause, ErrorFields>,
    /// In place of the filter's.
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

    #[test]
    fn the_defaults_that_the_schema_tells_are_those_that_hold() {
        use callout_common::api::schema::with_defaults;

        let base = serde_json::json!({"breaker": {"consecutive_failures": 1}, "chunking": {"min_bytes": 2}, "on_error": {"timeout": {"status": {"code": 503}}}});
        let unset = format!("{:?}", configured(&base.to_string()).unwrap());
        let [schema, _] = crate::schemas();
        let written = with_defaults(&schema.to_value(), &base);
        assert!(written.len() >= 4, "{written:?}");
        for fields in written {
            let set = configured(&fields.to_string()).unwrap();
            assert_eq!(format!("{set:?}"), unset, "{fields}");
        }
    }
}
