//! `envoy.config.common.mutation_rules.v3.HeaderMutationRules`: which headers a service may change.

use callout_protos::envoy::config::common::mutation_rules::v3 as proto;
use callout_protos::pbjson_types::BoolValue;
use regex::bytes::Regex;

use super::string::regex;
use crate::api::config::ConfigError;

/// What is to be done to a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Set or add it.
    Set,
    /// Remove it.
    Remove,
}

/// What the rules say to one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It may be made.
    Allowed,
    /// It is passed over.
    Ignored,
    /// It spoils the whole answer (`disallow_is_error`).
    Error,
}

/// Which headers a service may change.
#[derive(Debug, Clone, Default)]
pub struct MutationRules {
    allow_all_routing: bool,
    allow_envoy: bool,
    disallow_system: bool,
    disallow_all: bool,
    allow: Option<Regex>,
    disallow: Option<Regex>,
    disallow_is_error: bool,
}

impl MutationRules {
    /// Reads `HeaderMutationRules`.
    ///
    /// # Errors
    /// A regex that does not compile.
    pub fn configure(config: &proto::HeaderMutationRules) -> Result<Self, ConfigError> {
        let proto::HeaderMutationRules {
            allow_all_routing,
            allow_envoy,
            disallow_system,
            disallow_all,
            allow_expression,
            disallow_expression,
            disallow_is_error,
        } = config;
        let on = |flag: &Option<BoolValue>| flag.as_ref().is_some_and(|flag| flag.value);
        let expression = |matcher: &Option<_>, field: &str| {
            matcher
                .as_ref()
                .map(|matcher| regex(matcher).map_err(|error| error.in_field(field)))
                .transpose()
        };
        Ok(Self {
            allow_all_routing: on(allow_all_routing),
            allow_envoy: on(allow_envoy),
            disallow_system: on(disallow_system),
            disallow_all: on(disallow_all),
            allow: expression(allow_expression, "allow_expression")?,
            disallow: expression(disallow_expression, "disallow_expression")?,
            disallow_is_error: on(disallow_is_error),
        })
    }

    /// What the rules say to `operation` on the header `name`, which is in lower case.
    #[must_use]
    pub fn check(&self, operation: Operation, name: &str) -> Rule {
        if self.allows(operation, name) {
            Rule::Allowed
        } else if self.disallow_is_error {
            Rule::Error
        } else {
            Rule::Ignored
        }
    }

    fn allows(&self, operation: Operation, name: &str) -> bool {
        let system = name.starts_with(':');
        if operation == Operation::Remove && (system || name == "host") {
            return false;
        }
        let hit = |regex: &Option<Regex>| {
            regex.as_ref().is_some_and(|regex| regex.is_match(name.as_bytes()))
        };
        if hit(&self.disallow) {
            return false;
        }
        if hit(&self.allow) {
            return true;
        }
        let routing = matches!(name, "host" | ":authority" | ":scheme" | ":method");
        !(self.disallow_all
            || (self.disallow_system && system)
            || (!self.allow_all_routing && routing)
            || (!self.allow_envoy && name.starts_with("x-envoy")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(json: &str, name: &str) -> Rule {
        let config = serde_json::from_str(json).unwrap();
        MutationRules::configure(&config).unwrap().check(Operation::Set, name)
    }

    #[test]
    fn the_default_spares_routing_and_envoys_own_headers_but_not_the_path() {
        assert_eq!(set("{}", "x-a"), Rule::Allowed);
        assert_eq!(set("{}", ":path"), Rule::Allowed);
        for name in ["host", ":authority", ":scheme", ":method", "x-envoy-a"] {
            assert_eq!(set("{}", name), Rule::Ignored, "{name}");
        }
    }

    #[test]
    fn each_switch_widens_or_narrows() {
        assert_eq!(set(r#"{"allow_all_routing": true}"#, ":method"), Rule::Allowed);
        assert_eq!(set(r#"{"allow_envoy": true}"#, "x-envoy-a"), Rule::Allowed);
        assert_eq!(
            set(r#"{"allow_all_routing": true, "disallow_system": true}"#, ":path"),
            Rule::Ignored
        );
        let all = r#"{"disallow_all": true, "allow_expression": {"regex": "x-a"}}"#;
        assert_eq!((set(all, "x-a"), set(all, "x-ab")), (Rule::Allowed, Rule::Ignored));
        let both = r#"{"allow_expression": {"regex": "x-.*"}, "disallow_expression": {"regex": "x-b"}, "disallow_is_error": true}"#;
        assert_eq!((set(both, "x-a"), set(both, "x-b")), (Rule::Allowed, Rule::Error));
    }

    #[test]
    fn pseudo_headers_and_host_are_never_removed() {
        let rules = MutationRules::default();
        assert_eq!(rules.check(Operation::Remove, ":path"), Rule::Ignored);
        assert_eq!(rules.check(Operation::Remove, "host"), Rule::Ignored);
        assert_eq!(rules.check(Operation::Remove, "x-a"), Rule::Allowed);
    }
}
