//! `envoy.type.matcher.v3.StringMatcher`, its lists, and `RegexMatcher`.

use callout_protos::envoy::r#type::matcher::v3 as proto;
use proto::string_matcher::MatchPattern;
use regex::bytes::{Regex, RegexBuilder};

use crate::api::config::ConfigError;

/// Largest compiled regex, in bytes; the bound that keeps a configuration from eating the memory.
const REGEX_LIMIT: usize = 10 << 20;

/// Matches one string.
#[derive(Debug, Clone)]
pub struct StringMatcher {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Contains(Vec<u8>),
    Regex(Regex),
}

impl StringMatcher {
    /// Reads a `StringMatcher`. `ignore_case` has no effect on a regex, as in Envoy.
    ///
    /// # Errors
    /// A missing or empty pattern, a regex that does not compile, a `custom` matcher.
    pub fn configure(config: &proto::StringMatcher) -> Result<Self, ConfigError> {
        let proto::StringMatcher { ignore_case, match_pattern } = config;
        let lower = |text: &str| {
            if *ignore_case { text.to_ascii_lowercase().into_bytes() } else { text.into() }
        };
        let filled = |text: &str, field: &str| {
            if text.is_empty() {
                return Err(ConfigError::field(field, "must not be empty"));
            }
            Ok(lower(text))
        };
        let pattern = match match_pattern {
            Some(MatchPattern::Exact(text)) => Pattern::Exact(lower(text)),
            Some(MatchPattern::Prefix(text)) => Pattern::Prefix(filled(text, "prefix")?),
            Some(MatchPattern::Suffix(text)) => Pattern::Suffix(filled(text, "suffix")?),
            Some(MatchPattern::Contains(text)) => Pattern::Contains(filled(text, "contains")?),
            Some(MatchPattern::SafeRegex(matcher)) => {
                Pattern::Regex(regex(matcher).map_err(|error| error.in_field("safe_regex"))?)
            }
            Some(MatchPattern::Custom(_)) => {
                return Err(ConfigError::field(
                    "custom",
                    "extensions of Envoy's are not available",
                ));
            }
            None => return Err(ConfigError::field("match_pattern", "is required")),
        };
        Ok(Self { pattern, ignore_case: *ignore_case })
    }

    pub(super) fn exact(text: &str) -> Self {
        Self { pattern: Pattern::Exact(text.into()), ignore_case: false }
    }

    pub(super) fn prefix(text: &str) -> Self {
        Self { pattern: Pattern::Prefix(text.into()), ignore_case: false }
    }

    pub(super) fn suffix(text: &str) -> Self {
        Self { pattern: Pattern::Suffix(text.into()), ignore_case: false }
    }

    pub(super) fn contains(text: &str) -> Self {
        Self { pattern: Pattern::Contains(text.into()), ignore_case: false }
    }

    pub(super) const fn regex(regex: Regex) -> Self {
        Self { pattern: Pattern::Regex(regex), ignore_case: false }
    }

    /// Whether `value` matches.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        let lowered;
        let value = if self.ignore_case && !matches!(self.pattern, Pattern::Regex(_)) {
            lowered = value.to_ascii_lowercase();
            &lowered
        } else {
            value
        };
        match &self.pattern {
            Pattern::Exact(text) => value == text,
            Pattern::Prefix(text) => value.starts_with(text),
            Pattern::Suffix(text) => value.ends_with(text),
            Pattern::Contains(text) => value.windows(text.len()).any(|window| window == text),
            Pattern::Regex(regex) => regex.is_match(value),
        }
    }
}

/// A `RegexMatcher`: has to match the whole value, as RE2's full match does.
///
/// # Errors
/// A regex that does not compile, or whose program is too large.
pub fn regex(config: &proto::RegexMatcher) -> Result<Regex, ConfigError> {
    // `engine_type` has one value, RE2; its only field is deprecated and unused by Envoy.
    let proto::RegexMatcher { regex, engine_type: _ } = config;
    if regex.is_empty() {
        return Err(ConfigError::field("regex", "must not be empty"));
    }
    RegexBuilder::new(&format!(r"\A(?:{regex})\z"))
        .size_limit(REGEX_LIMIT)
        .build()
        .map_err(|error| ConfigError::field("regex", one_line(&error.to_string())))
}

/// The last line of a regex error says what is wrong; those before it draw a picture.
fn one_line(error: &str) -> String {
    let last = error.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A `ListStringMatcher`: matches when one of its patterns does.
#[derive(Debug, Clone)]
pub struct StringMatchers(Vec<StringMatcher>);

impl StringMatchers {
    /// Reads a `ListStringMatcher`.
    ///
    /// # Errors
    /// No pattern at all, or one that is refused.
    pub fn configure(config: &proto::ListStringMatcher) -> Result<Self, ConfigError> {
        let proto::ListStringMatcher { patterns } = config;
        if patterns.is_empty() {
            return Err(ConfigError::field("patterns", "needs at least one pattern"));
        }
        let one = |(index, pattern): (usize, &proto::StringMatcher)| {
            StringMatcher::configure(pattern)
                .map_err(|error| error.in_field(&format!("patterns[{index}]")))
        };
        patterns.iter().enumerate().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of the patterns matches.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        self.0.iter().any(|pattern| pattern.matches(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(json: &str) -> Result<StringMatcher, ConfigError> {
        StringMatcher::configure(&serde_json::from_str(json).unwrap())
    }

    fn matches(json: &str, value: &str) -> bool {
        matcher(json).unwrap().matches(value.as_bytes())
    }

    #[test]
    fn every_kind_of_pattern_matches_what_it_names() {
        assert!(matches(r#"{"exact": "ab"}"#, "ab") && !matches(r#"{"exact": "ab"}"#, "abc"));
        assert!(matches(r#"{"prefix": "ab"}"#, "abc") && !matches(r#"{"prefix": "ab"}"#, "cab"));
        assert!(matches(r#"{"suffix": "bc"}"#, "abc") && !matches(r#"{"suffix": "bc"}"#, "bca"));
        assert!(matches(r#"{"contains": "b"}"#, "abc") && !matches(r#"{"contains": "d"}"#, "abc"));
    }

    #[test]
    fn a_regex_has_to_match_the_whole_value() {
        let json = r#"{"safe_regex": {"regex": "a|ab"}}"#;
        assert!(matches(json, "ab") && !matches(json, "abb") && !matches(json, "ab\n"));
    }

    #[test]
    fn ignoring_case_leaves_regexes_alone() {
        assert!(matches(r#"{"prefix": "X-Up", "ignore_case": true}"#, "x-UPPER"));
        assert!(!matches(r#"{"safe_regex": {"regex": "X"}, "ignore_case": true}"#, "x"));
    }

    #[test]
    fn what_can_not_match_is_refused_with_its_field() {
        let path = |json| matcher(json).unwrap_err().path().to_owned();
        assert_eq!(path("{}"), "match_pattern");
        assert_eq!(path(r#"{"prefix": ""}"#), "prefix");
        assert_eq!(path(r#"{"safe_regex": {"regex": "("}}"#), "safe_regex.regex");
        assert_eq!(path(r#"{"custom": {"name": "x"}}"#), "custom");
    }
}
