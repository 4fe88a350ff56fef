//! `envoy.config.route.v3.HeaderMatcher`, and the choice of headers that a service sees.

use callout_protos::envoy::config::route::v3 as proto;
use callout_protos::envoy::r#type::matcher::v3::ListStringMatcher;
use proto::header_matcher::HeaderMatchSpecifier;

use super::string::{StringMatcher, StringMatchers, regex};
use crate::api::config::ConfigError;
use crate::envoy::version::EnvoyVersion;
use crate::http::rules::valid_name;

/// Matches the lines of one header.
#[derive(Debug, Clone)]
pub struct HeaderMatcher {
    name: String,
    kind: Kind,
    invert: bool,
    missing_is_empty: bool,
    /// Before Envoy 1.39 the lines of a header are matched as one; since then each by itself.
    joins: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Value(StringMatcher),
    Range { start: i64, end: i64 },
    Present(bool),
}

impl HeaderMatcher {
    /// Reads a `HeaderMatcher`. One that names no kind of match asks for presence.
    ///
    /// # Errors
    /// A name that is no header name, an empty pattern or range, a regex that does not compile.
    pub fn configure(config: &proto::HeaderMatcher) -> Result<Self, ConfigError> {
        let proto::HeaderMatcher {
            name,
            header_match_specifier,
            invert_match,
            treat_missing_header_as_empty,
        } = config;
        let name = name.to_ascii_lowercase();
        if !valid_name(name.strip_prefix(':').unwrap_or(&name)) {
            return Err(ConfigError::field("name", "is no header name"));
        }
        let filled = |text: &str, field: &str| {
            if text.is_empty() {
                return Err(ConfigError::field(field, "must not be empty"));
            }
            Ok(())
        };
        let kind = match header_match_specifier {
            None => Kind::Present(true),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => Kind::Present(*present),
            Some(HeaderMatchSpecifier::RangeMatch(range)) => {
                if range.start >= range.end {
                    return Err(ConfigError::field("range_match", "is empty"));
                }
                Kind::Range { start: range.start, end: range.end }
            }
            Some(HeaderMatchSpecifier::ExactMatch(text)) => Kind::Value(StringMatcher::exact(text)),
            Some(HeaderMatchSpecifier::PrefixMatch(text)) => {
                filled(text, "prefix_match")?;
                Kind::Value(StringMatcher::prefix(text))
            }
            Some(HeaderMatchSpecifier::SuffixMatch(text)) => {
                filled(text, "suffix_match")?;
                Kind::Value(StringMatcher::suffix(text))
            }
            Some(HeaderMatchSpecifier::ContainsMatch(text)) => {
                filled(text, "contains_match")?;
                Kind::Value(StringMatcher::contains(text))
            }
            Some(HeaderMatchSpecifier::SafeRegexMatch(matcher)) => Kind::Value(
                StringMatcher::regex(regex(matcher).map_err(|e| e.in_field("safe_regex_match"))?),
            ),
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => Kind::Value(
                StringMatcher::configure(matcher)
                    .map_err(|error| error.in_field("string_match"))?,
            ),
        };
        Ok(Self {
            name,
            kind,
            invert: *invert_match,
            missing_is_empty: *treat_missing_header_as_empty,
            joins: EnvoyVersion::running() < EnvoyVersion::V1_39,
        })
    }

    /// The header's name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the header matches; `lines` are its values in order.
    #[must_use]
    pub fn matches(&self, lines: &[&[u8]]) -> bool {
        if let Kind::Present(wanted) = self.kind {
            let present = !lines.is_empty() || self.missing_is_empty;
            return (present == wanted) != self.invert;
        }
        // A header that is missing matches nothing, inverted or not.
        if lines.is_empty() && !self.missing_is_empty {
            return false;
        }
        let matched = if self.joins || lines.is_empty() {
            self.matches_value(&lines.join(&b","[..]))
        } else {
            lines.iter().any(|line| self.matches_value(line))
        };
        matched != self.invert
    }

    fn matches_value(&self, value: &[u8]) -> bool {
        match &self.kind {
            Kind::Value(matcher) => matcher.matches(value),
            Kind::Range { start, end } => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .is_some_and(|number| (*start..*end).contains(&number)),
            Kind::Present(_) => false,
        }
    }
}

/// Which headers a service sees: `allowed_headers` and `disallowed_headers`.
#[derive(Debug, Clone, Default)]
pub struct HeaderFilter {
    allowed: Option<StringMatchers>,
    disallowed: Option<StringMatchers>,
}

impl HeaderFilter {
    /// Reads the two lists; one that is absent chooses all, or excludes none.
    ///
    /// # Errors
    /// A list that is empty, or a pattern that is refused, with its path.
    pub fn configure(
        allowed: Option<&ListStringMatcher>,
        disallowed: Option<&ListStringMatcher>,
    ) -> Result<Self, ConfigError> {
        let list = |list: Option<&ListStringMatcher>, path: &str| {
            list.map(StringMatchers::configure).transpose().map_err(|error| error.in_field(path))
        };
        Ok(Self {
            allowed: list(allowed, "allowed_headers")?,
            disallowed: list(disallowed, "disallowed_headers")?,
        })
    }

    /// Whether the service sees the header `name` (lower-case).
    #[must_use]
    pub fn includes(&self, name: &[u8]) -> bool {
        !self.disallowed.as_ref().is_some_and(|list| list.matches(name))
            && self.allowed.as_ref().is_none_or(|list| list.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(json: &str, lines: &[&str]) -> bool {
        let config = serde_json::from_str(json).unwrap();
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        HeaderMatcher::configure(&config).unwrap().matches(&lines)
    }

    #[test]
    fn values_ranges_and_presence_are_matched() {
        assert!(matches(r#"{"name": "X", "exact_match": "a,b"}"#, &["a,b"]));
        assert!(matches(r#"{"name": "x", "range_match": {"start": 1, "end": 10}}"#, &["9"]));
        assert!(!matches(r#"{"name": "x", "range_match": {"start": 1, "end": 10}}"#, &["10"]));
        assert!(!matches(r#"{"name": "x", "range_match": {"start": 1, "end": 10}}"#, &["9x"]));
        assert!(matches(r#"{"name": "x"}"#, &[""]) && !matches(r#"{"name": "x"}"#, &[]));
        assert!(matches(r#"{"name": "x", "present_match": false}"#, &[]));
        assert!(matches(r#"{"name": "x", "present_match": true, "invert_match": true}"#, &[]));
    }

    #[test]
    fn each_line_is_matched_by_itself_and_before_1_39_all_as_one() {
        let config = serde_json::from_str(r#"{"name": "x", "exact_match": "a"}"#).unwrap();
        let whole = serde_json::from_str(r#"{"name": "x", "exact_match": "a,b"}"#).unwrap();
        for (joins, by_itself, as_one) in [(false, true, false), (true, false, true)] {
            let matches = |config| {
                let matcher = HeaderMatcher::configure(config).unwrap();
                HeaderMatcher { joins, ..matcher }.matches(&[b"a", b"b"])
            };
            assert_eq!((matches(&config), matches(&whole)), (by_itself, as_one));
        }
    }

    #[test]
    fn a_missing_header_matches_nothing_unless_it_counts_as_empty() {
        let inverted = r#"{"name": "x", "string_match": {"exact": "a"}, "invert_match": true}"#;
        assert!(!matches(inverted, &[]) && matches(inverted, &["b"]));
        let empty = r#"{"name": "x", "exact_match": "", "treat_missing_header_as_empty": true}"#;
        assert!(matches(empty, &[]));
    }

    #[test]
    fn disallowed_headers_win_over_allowed_ones() {
        let list = |json: &str| serde_json::from_str::<ListStringMatcher>(json).unwrap();
        let allowed = list(r#"{"patterns": [{"prefix": "x-"}]}"#);
        let disallowed = list(r#"{"patterns": [{"exact": "x-b"}]}"#);
        let choice = HeaderFilter::configure(Some(&allowed), Some(&disallowed)).unwrap();
        assert!(choice.includes(b"x-a") && !choice.includes(b"x-b") && !choice.includes(b"a"));
        assert!(HeaderFilter::default().includes(b":path"));
    }
}
