//! What this suite adds to `RateLimit`: the fields under `callout`.

use std::num::NonZeroU32;
use std::time::Duration;

use callout_common::ConfigError;
use callout_common::api::config::{duration, http_status, positive_duration, refuse_if};
#[cfg(any(test, feature = "schema"))]
use callout_common::api::schema::{DurationText, StatusFields};
use callout_common::filter::unreadable::OnUnreadable;
use callout_common::grpc::circuit_breaker::{BreakerFields, BreakerSettings};
use callout_common::grpc::{Calls, FailurePolicy};
use callout_protos::envoy::r#type::v3::HttpStatus;
use callout_protos::pbjson_types;
use serde::Deserialize;

use crate::config::rules::{Rule, RuleFields};
use crate::memory::ledger::{LeaseConfig, Mode, Quota, Server};
use crate::memory::local::Size;
use crate::memory::table::Room;
use crate::request::budget::{Budget, ReserveFields, SettleFields};

/// Less leaves no room for an account in each part of the table.
const LEAST_ACCOUNTS_BYTES: usize = 64 << 10;

/// `callout`, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fields {
    /// How calls are saved.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "exact")))]
    mode: Mode,
    /// Whose rules of counting hold.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "generic")))]
    server: Server,
    /// How many percent all proxies together may be off a limit.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1, max = 50)))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = 5)))]
    max_error_percent: Option<u32>,
    /// How many proxies share the limits.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = 10)))]
    expected_proxies: Option<u32>,
    /// The longest that a refusal is believed.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "60s")))]
    max_refusal: Option<pbjson_types::Duration>,
    /// Sets of descriptors that are known at a time.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = 100_000)))]
    max_accounts: Option<usize>,
    /// Bytes of memory that what is known of them takes.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 65536)))]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = 67_108_864)))]
    max_accounts_bytes: Option<usize>,
    /// Leaves a service alone that does not answer. None unless given.
    breaker: Option<BreakerFields>,
    /// The proxy's own limits while the service is down. None unless given.
    fallback: Option<FallbackFields>,
    /// Refuses what is far over a known limit without a call. None unless given.
    shield: Option<ShieldFields>,
    /// Calls are made and counted, and nothing is refused.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    shadow: bool,
    /// Requests of which a limit makes no descriptor are refused with `status_on_error`.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    deny_unevaluable: bool,
    /// What happens to a request with metadata that the service was to be told and that a module
    /// can't read.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "omit")))]
    on_unreadable_metadata: OnUnreadable,
    /// The failures that let requests pass: `timeout`, `unavailable`, `overloaded`, `invalid_reply`,
    /// `status`, `status:UNAVAILABLE` and the like. Unless given all of the service's, none of our own.
    failure_mode_allow_on: Option<Vec<String>>,
    /// The status of the refusal when the service is too slow. Unless given `status_on_error`.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<StatusFields>"))]
    status_on_timeout: Option<HttpStatus>,
    /// What holds instead for descriptors with these entries; the first that fits.
    rules: Vec<RuleFields>,
    /// Where the calls of `google_grpc` are made.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = "off_thread")))]
    calls: Calls,
    /// The built-in filter's names for the statistics, under this name. None unless given.
    builtin_stats: Option<String>,
    /// By how much a request is counted when it comes. With `settle`.
    reserve: Option<ReserveFields>,
    /// By how much it is counted when it is over, in place of what was reserved.
    settle: Option<SettleFields>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FallbackFields {
    /// Requests that pass in `window`, for each set of descriptors.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    requests: Option<u32>,
    /// The window of `requests`.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    window: Option<pbjson_types::Duration>,
    /// Before that, the limit that the service told of last, divided by `expected_proxies`.
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("default" = false)))]
    #[serde(default)]
    from_service: bool,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShieldFields {
    /// Over so many times a limit, in this proxy alone.
    #[cfg_attr(any(test, feature = "schema"), schemars(range(min = 1)))]
    multiple: u32,
}

/// `callout` of a route, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteFields {
    /// How calls are saved, in place of the filter's `mode`.
    mode: Option<Mode>,
    /// How long an answer is waited for; 0s is without end.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<DurationText>"))]
    timeout: Option<pbjson_types::Duration>,
}

/// `callout` of a route, checked. What is absent is as the filter has it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteCallout {
    pub(crate) mode: Option<Mode>,
    /// How long an answer is waited for; zero is no limit.
    pub(crate) timeout: Option<Duration>,
}

impl RouteCallout {
    pub(crate) fn configure(fields: RouteFields) -> Result<Self, ConfigError> {
        let RouteFields { mode, timeout } = fields;
        let timeout = timeout.map(|timeout| duration(&timeout, "timeout")).transpose()?;
        Ok(Self { mode, timeout })
    }
}

/// `callout`, checked.
#[derive(Debug)]
pub(crate) struct Callout {
    pub(crate) terms: LeaseConfig,
    /// Room for sets of descriptors that are known at a time.
    pub(crate) accounts: Room,
    pub(crate) breaker: Option<BreakerSettings>,
    pub(crate) fallback: Option<Fallback>,
    /// Over so many times a set's limit requests are refused without a call.
    pub(crate) shield: Option<u32>,
    /// Calls are made and counted, and nothing is enforced.
    pub(crate) shadow: bool,
    /// A request of which a limit makes no descriptor is refused.
    pub(crate) deny_unevaluable: bool,
    pub(crate) on_unreadable_metadata: OnUnreadable,
    /// The failures that a failure mode that lets requests pass covers.
    pub(crate) failures: FailurePolicy,
    /// They were named one by one.
    pub(crate) names_failures: bool,
    /// The status of the refusal when the service is too slow; `status_on_error` unless set.
    pub(crate) status_on_timeout: Option<u16>,
    /// What holds for single descriptors instead.
    pub(crate) rules: Vec<Rule>,
    /// Where calls are made.
    pub(crate) calls: Calls,
    /// The scope of statistics under the built-in's names.
    pub(crate) builtin_stats: Option<String>,
    /// Requests are counted by what they use.
    pub(crate) budget: Option<Budget>,
}

/// The limit of this proxy's own while the service is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fallback {
    /// The configured limit of each set.
    configured: Option<Size>,
    /// Before that, this proxy's part of the limit that the service told of last.
    from_service: bool,
}

impl Callout {
    pub(crate) fn configure(fields: Fields) -> Result<Self, ConfigError> {
        let Fields {
            mode,
            server,
            max_error_percent,
            expected_proxies,
            max_refusal,
            max_accounts,
            max_accounts_bytes,
            breaker,
            fallback,
            shield,
            shadow,
            deny_unevaluable,
            on_unreadable_metadata,
            failure_mode_allow_on,
            status_on_timeout,
            rules,
            calls,
            builtin_stats,
            reserve,
            settle,
        } = fields;
        let max_error_percent = max_error_percent.unwrap_or(5);
        refuse_if(
            !(1..=50).contains(&max_error_percent),
            "max_error_percent",
            "must be from 1 to 50",
        )?;
        let expected_proxies = expected_proxies.unwrap_or(10);
        refuse_if(expected_proxies == 0, "expected_proxies", "must be greater than 0")?;
        let accounts = Room {
            entries: max_accounts.unwrap_or(100_000),
            bytes: max_accounts_bytes.unwrap_or(64 << 20),
        };
        refuse_if(accounts.entries == 0, "max_accounts", "must be greater than 0")?;
        refuse_if(
            accounts.bytes < LEAST_ACCOUNTS_BYTES,
            "max_accounts_bytes",
            "must be 65536 or more",
        )?;
        let terms = LeaseConfig {
            mode,
            server,
            max_error_percent,
            expected_proxies,
            max_refusal: positive_duration(
                max_refusal.as_ref(),
                "max_refusal",
                Duration::from_secs(60),
            )?,
        };
        let breaker = breaker
            .as_ref()
            .map(BreakerSettings::configure)
            .transpose()
            .map_err(|error| error.in_field("breaker"))?;
        let shield = shield.map(|shield| shield.multiple);
        refuse_if(shield == Some(0), "shield.multiple", "must be greater than 0")?;
        Ok(Self {
            builtin_stats,
            budget: Budget::configure(reserve, settle)?,
            terms,
            accounts,
            breaker,
            fallback: fallback
                .map(Fallback::configure)
                .transpose()
                .map_err(|error| error.in_field("fallback"))?,
            shield,
            shadow,
            deny_unevaluable,
            on_unreadable_metadata,
            names_failures: failure_mode_allow_on.is_some(),
            failures: failures(failure_mode_allow_on.as_deref())
                .map_err(|error| error.in_field("failure_mode_allow_on"))?,
            status_on_timeout: status_on_timeout
                .as_ref()
                .map(|status| http_status(status, "status_on_timeout"))
                .transpose()?,
            calls,
            rules: rules
                .into_iter()
                .enumerate()
                .map(|(index, rule)| {
                    Rule::configure(rule)
                        .map_err(|error| error.in_field(&format!("rules[{index}]")))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether anything is to be known of a set of descriptors beyond one request.
    pub(crate) fn remembers(&self, mode: Mode) -> bool {
        mode != Mode::Exact
            || self.shield.is_some()
            || self.fallback.is_some_and(|fallback| fallback.from_service)
    }
}

/// The failures that let a request pass: all of the service's own unless they are named.
fn failures(named: Option<&[String]>) -> Result<FailurePolicy, ConfigError> {
    let Some(named) = named else { return Ok(FailurePolicy::builtin(true)) };
    if let Some(index) = named.iter().position(|class| class == "error_response") {
        let reason = "rate limit services have no error_response";
        return Err(ConfigError::field(format!("[{index}]"), reason));
    }
    FailurePolicy::configure(named)
}

impl Fallback {
    fn configure(fields: FallbackFields) -> Result<Self, ConfigError> {
        let FallbackFields { requests, window, from_service } = fields;
        let configured = match requests {
            Some(requests) => Some(Size {
                requests: NonZeroU32::new(requests)
                    .ok_or_else(|| ConfigError::field("requests", "must be greater than 0"))?,
                window: positive_duration(window.as_ref(), "window", Duration::from_secs(1))?,
            }),
            None => {
                refuse_if(window.is_some(), "window", "needs requests")?;
                None
            }
        };
        let nothing = configured.is_none() && !from_service;
        refuse_if(nothing, "", "needs requests or from_service")?;
        Ok(Self { configured, from_service })
    }

    /// The size of a set's limit, of which the service told `quota` last.
    pub(crate) fn size(&self, quota: Option<Quota>, expected_proxies: u32) -> Option<Size> {
        quota
            .filter(|_| self.from_service)
            .and_then(|quota| Size::part_of(quota.limit, quota.window, (1, expected_proxies)))
            .or(self.configured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(json: &str) -> Result<Callout, ConfigError> {
        Callout::configure(serde_json::from_str(json).unwrap())
    }

    fn refused(json: &str) -> String {
        configured(json).unwrap_err().path().to_owned()
    }

    #[test]
    fn unless_asked_for_every_request_is_a_call() {
        let callout = configured("{}").unwrap();
        assert_eq!((callout.terms.mode, callout.terms.max_error_percent), (Mode::Exact, 5));
        assert!(callout.breaker.is_none() && callout.fallback.is_none() && !callout.shadow);
        assert!(!callout.remembers(Mode::Exact) && callout.remembers(Mode::Lease));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        assert_eq!(refused(r#"{"max_error_percent": 0}"#), "max_error_percent");
        assert_eq!(refused(r#"{"expected_proxies": 0}"#), "expected_proxies");
        assert_eq!(refused(r#"{"max_accounts": 0}"#), "max_accounts");
        assert_eq!(refused(r#"{"max_accounts_bytes": 65535}"#), "max_accounts_bytes");
        assert_eq!(refused(r#"{"max_refusal": "0s"}"#), "max_refusal");
        assert_eq!(
            refused(r#"{"breaker": {"consecutive_failures": 0}}"#),
            "breaker.consecutive_failures"
        );
        let breaker = r#"{"breaker": {"consecutive_failures": 1, "pause": "0s"}}"#;
        assert_eq!(refused(breaker), "breaker.pause");
        assert_eq!(refused(r#"{"fallback": {}}"#), "fallback");
        assert_eq!(refused(r#"{"fallback": {"requests": 0}}"#), "fallback.requests");
        assert_eq!(
            refused(r#"{"fallback": {"from_service": true, "window": "1s"}}"#),
            "fallback.window"
        );
        assert_eq!(refused(r#"{"shield": {"multiple": 0}}"#), "shield.multiple");
        assert_eq!(
            refused(r#"{"failure_mode_allow_on": ["timeout", "error_response"]}"#),
            "failure_mode_allow_on[1]"
        );
        assert_eq!(refused(r#"{"failure_mode_allow_on": ["slow"]}"#), "failure_mode_allow_on[0]");
        assert_eq!(
            refused(r#"{"status_on_timeout": {"code": "Empty"}}"#),
            "status_on_timeout.code"
        );
        assert_eq!(refused(r#"{"rules": [{"descriptor": []}]}"#), "rules[0].descriptor");
    }

    #[test]
    fn the_services_own_limit_goes_before_the_configured_one() {
        let fallback =
            configured(r#"{"fallback": {"requests": 7, "from_service": true}}"#).unwrap().fallback;
        let fallback = fallback.unwrap();
        let now = std::time::Instant::now();
        let window = Duration::from_secs(60);
        let quota = Quota { limit: 100, remaining: 5, window, until: now };
        let size = |quota| fallback.size(quota, 10).unwrap();
        assert_eq!((size(Some(quota)).requests.get(), size(Some(quota)).window), (10, window));
        assert_eq!(size(None).requests.get(), 7);
        let unknown = Quota { window: Duration::ZERO, ..quota };
        assert_eq!(size(Some(unknown)).requests.get(), 7);
    }

    #[test]
    fn the_defaults_that_the_schema_tells_are_those_that_hold() {
        use callout_common::api::schema::with_defaults;

        let base = serde_json::json!({"breaker": {"consecutive_failures": 1}, "fallback": {"requests": 1, "window": "1s"}});
        let unset = format!("{:?}", configured(&base.to_string()).unwrap());
        let [schema, _] = crate::schemas();
        let written = with_defaults(&schema.to_value(), &base);
        assert!(written.len() >= 10, "{written:?}");
        for fields in written {
            let set = configured(&fields.to_string()).unwrap();
            assert_eq!(format!("{set:?}"), unset, "{fields}");
        }
    }
}
