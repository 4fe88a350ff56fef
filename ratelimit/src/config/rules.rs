//! Rules for single descriptors: how calls about them are saved, and what their limits and failures
//! do.

use callout_common::ConfigError;
use callout_common::api::config::refuse_if;
use callout_protos::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use serde::Deserialize;

use crate::memory::ledger::Mode;

/// A rule, as it is written.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleFields {
    /// Entries that a descriptor must have.
    #[cfg_attr(any(test, feature = "schema"), schemars(length(min = 1)))]
    descriptor: Vec<EntryFields>,
    /// How calls about them are saved.
    mode: Option<Mode>,
    /// Their limits are counted and not enforced.
    shadow: Option<bool>,
    /// A failure refuses the request.
    failure_mode_deny: Option<bool>,
}

#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFields {
    /// The entry's key.
    key: String,
    /// Its value; any unless given.
    value: Option<String>,
}

/// What holds for the descriptors that it covers; `None` leaves it as it is for the rest.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Entries that a descriptor must have, by key and value.
    entries: Vec<(String, Option<String>)>,
    mode: Option<Mode>,
    shadow: Option<bool>,
    failure_mode_deny: Option<bool>,
}

impl Rule {
    pub(crate) fn configure(fields: RuleFields) -> Result<Self, ConfigError> {
        let RuleFields { descriptor, mode, shadow, failure_mode_deny } = fields;
        refuse_if(descriptor.is_empty(), "descriptor", "needs an entry")?;
        refuse_if(
            mode.is_none() && shadow.is_none() && failure_mode_deny.is_none(),
            "",
            "needs mode, shadow or failure_mode_deny",
        )?;
        let entries = descriptor.into_iter().map(|entry| (entry.key, entry.value)).collect();
        Ok(Self { entries, mode, shadow, failure_mode_deny })
    }

    fn covers(&self, descriptor: &RateLimitDescriptor) -> bool {
        self.entries.iter().all(|(key, value)| {
            descriptor.entries.iter().any(|entry| {
                entry.key == *key && value.as_ref().is_none_or(|value| entry.value == *value)
            })
        })
    }
}

/// What holds for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) mode: Mode,
    /// Which of its descriptors are counted and not enforced.
    shadow: Vec<bool>,
    /// Whether a failure refuses it, where rules say so; else the filter's failure mode.
    pub(crate) failure_mode_deny: Option<bool>,
}

impl Policy {
    /// For a request with these descriptors, of each the first rule that covers it, and what holds
    /// for those that none covers. One call is about all of them: so the most careful mode holds,
    /// and a failure refuses if it does for one, and lets pass by rule if it does for all.
    pub(crate) fn of(
        rules: &[Rule],
        descriptors: &[RateLimitDescriptor],
        mode: Mode,
        shadow: bool,
    ) -> Self {
        let found: Vec<Option<&Rule>> = descriptors
            .iter()
            .map(|descriptor| rules.iter().find(|rule| rule.covers(descriptor)))
            .collect();
        let deny = |rule: &Option<&Rule>| rule.and_then(|rule| rule.failure_mode_deny);
        let failure_mode_deny = if found.iter().any(|rule| deny(rule) == Some(true)) {
            Some(true)
        } else if found.iter().all(|rule| deny(rule) == Some(false)) && !found.is_empty() {
            Some(false)
        } else {
            None
        };
        Self {
            mode: found
                .iter()
                .map(|rule| rule.and_then(|rule| rule.mode).unwrap_or(mode))
                .min()
                .unwrap_or(mode),
            shadow: found
                .iter()
                .map(|rule| rule.and_then(|rule| rule.shadow).unwrap_or(shadow))
                .collect(),
            failure_mode_deny,
        }
    }

    /// Whether nothing about the request is enforced.
    pub(crate) fn is_shadow(&self) -> bool {
        self.shadow.iter().all(|shadow| *shadow)
    }

    /// Whether the limits that are over, by these statuses, are all counted only. A refusal that
    /// does not say which limit is over counts for every one.
    pub(crate) fn shadows(&self, statuses: &[DescriptorStatus]) -> bool {
        let mut over = statuses
            .iter()
            .enumerate()
            .filter(|(_, status)| status.code == i32::from(Code::OverLimit))
            .map(|(place, _)| self.shadow.get(place) == Some(&true))
            .peekable();
        if over.peek().is_none() { self.is_shadow() } else { over.all(|shadow| shadow) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Vec<Rule> {
        let fields: Vec<RuleFields> = serde_json::from_str(json).unwrap();
        fields.into_iter().map(|fields| Rule::configure(fields).unwrap()).collect()
    }

    fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
        let entries: Vec<_> = entries
            .iter()
            .map(|(key, value)| serde_json::json!({"key": key, "value": value}))
            .collect();
        serde_json::from_value(serde_json::json!({"entries": entries})).unwrap()
    }

    fn over(places: &[bool]) -> Vec<DescriptorStatus> {
        let code = |over: &bool| if *over { Code::OverLimit } else { Code::Ok };
        let status = |over| DescriptorStatus { code: code(over).into(), ..Default::default() };
        places.iter().map(status).collect()
    }

    const RULES: &str = r#"[
        {"descriptor": [{"key": "user"}, {"key": "plan", "value": "gold"}], "mode": "lease", "failure_mode_deny": false},
        {"descriptor": [{"key": "user"}], "shadow": true, "mode": "async"},
        {"descriptor": [{"key": "login"}], "failure_mode_deny": true, "mode": "cache_over_limit"}
    ]"#;

    #[test]
    fn the_first_rule_that_covers_a_descriptor_holds_for_it() {
        let rules = rules(RULES);
        let of = |descriptors: &[RateLimitDescriptor]| {
            Policy::of(&rules, descriptors, Mode::Exact, false)
        };
        let gold = descriptor(&[("plan", "gold"), ("user", "a")]);
        let tin = descriptor(&[("plan", "tin"), ("user", "a")]);
        let gold = of(&[gold]);
        assert_eq!((gold.mode, gold.failure_mode_deny), (Mode::Lease, Some(false)));
        assert!(!gold.is_shadow());
        let tin = of(&[tin]);
        assert_eq!((tin.mode, tin.failure_mode_deny), (Mode::Async, None));
        assert!(tin.is_shadow());
        assert_eq!(of(&[descriptor(&[("other", "a")])]).mode, Mode::Exact);
    }

    #[test]
    fn of_several_descriptors_the_most_careful_decides() {
        let rules = rules(RULES);
        let of = |keys: &[&str], mode| {
            let descriptors: Vec<_> = keys.iter().map(|key| descriptor(&[(key, "a")])).collect();
            Policy::of(&rules, &descriptors, mode, false)
        };
        assert_eq!(of(&["user", "login"], Mode::Exact).mode, Mode::CacheOverLimit);
        assert_eq!(of(&["user", "other"], Mode::Exact).mode, Mode::Exact);
        assert_eq!(of(&["user", "login"], Mode::Exact).failure_mode_deny, Some(true));
        assert_eq!(of(&["user", "other"], Mode::Exact).failure_mode_deny, None);
    }

    #[test]
    fn only_limits_in_shadow_are_not_enforced() {
        let rules = rules(RULES);
        let descriptors = [descriptor(&[("user", "a")]), descriptor(&[("login", "a")])];
        let handling = Policy::of(&rules, &descriptors, Mode::Exact, false);
        assert!(handling.shadows(&over(&[true, false])));
        assert!(
            !handling.shadows(&over(&[true, true])) && !handling.shadows(&over(&[false, true]))
        );
        // Which one it is, is not known.
        assert!(!handling.shadows(&[]) && !handling.shadows(&over(&[false, false, true])));
        let all = Policy::of(&[], &descriptors, Mode::Exact, true);
        assert!(all.is_shadow() && all.shadows(&[]) && all.shadows(&over(&[true, true])));
    }

    #[test]
    fn rules_that_say_nothing_are_refused() {
        let refused = |json: &str| {
            Rule::configure(serde_json::from_str(json).unwrap()).unwrap_err().path().to_owned()
        };
        assert_eq!(refused(r#"{"descriptor": [], "shadow": true}"#), "descriptor");
        assert_eq!(refused(r#"{"descriptor": [{"key": "a"}]}"#), "");
    }
}
