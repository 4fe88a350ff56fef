//! `envoy.type.matcher.v3.MetadataMatcher` and `ValueMatcher`, as far as the ABI hands metadata out.

use callout_protos::envoy::r#type::matcher::v3 as proto;
use proto::double_matcher::MatchPattern as DoublePattern;
use proto::list_matcher::MatchPattern as ListPattern;
use proto::metadata_matcher::path_segment::Segment;
use proto::value_matcher::MatchPattern;

use super::string::StringMatcher;
use crate::api::config::ConfigError;
use crate::envoy::types::{MetadataPath, MetadataValue, PathSegment};

/// Matches one value of a metadata namespace.
#[derive(Debug, Clone)]
pub struct MetadataMatcher {
    /// The namespace.
    pub filter: String,
    /// Where in it.
    pub path: MetadataPath,
    value: ValueMatcher,
    invert: bool,
}

impl MetadataMatcher {
    /// Reads a `MetadataMatcher`.
    ///
    /// # Errors
    /// What is missing, or not supported.
    pub fn configure(config: &proto::MetadataMatcher) -> Result<Self, ConfigError> {
        let proto::MetadataMatcher { filter, path, value, invert } = config;
        if filter.is_empty() {
            return Err(ConfigError::field("filter", "is required"));
        }
        let mut keys = Vec::new();
        for (index, segment) in path.iter().enumerate() {
            match &segment.segment {
                Some(Segment::Key(key)) if !key.is_empty() => keys.push(key.clone()),
                _ => return Err(ConfigError::field(format!("path[{index}].key"), "is required")),
            }
        }
        let mut keys = keys.into_iter();
        let key = keys.next().ok_or_else(|| ConfigError::field("path", "is required"))?;
        let path = MetadataPath { key, within: keys.map(PathSegment::Key).collect() };
        let value = value.as_ref().ok_or_else(|| ConfigError::field("value", "is required"))?;
        Ok(Self {
            filter: filter.clone(),
            path,
            value: ValueMatcher::configure(value).map_err(|error| error.in_field("value"))?,
            invert: *invert,
        })
    }

    /// Whether the value found under [`MetadataMatcher::filter`] at [`MetadataMatcher::path`]
    /// matches.
    #[must_use]
    pub fn matches(&self, value: Option<&MetadataValue>) -> bool {
        self.value.matches(value) != self.invert
    }
}

/// Matches a value.
#[derive(Debug, Clone)]
pub enum ValueMatcher {
    /// A number in `start..end`.
    Range {
        /// First number of the range.
        start: f64,
        /// First number after it.
        end: f64,
    },
    /// A number.
    Number(f64),
    /// A string.
    String(StringMatcher),
    /// A truth value.
    Bool(bool),
    /// That there is a value. `false` matches nothing, as in Envoy.
    Present(bool),
    /// One of several.
    Or(Vec<Self>),
    /// A list of which one element matches.
    List(Box<Self>),
}

impl ValueMatcher {
    /// Reads a `ValueMatcher`.
    ///
    /// # Errors
    /// What is missing, and matches of null, which the ABI does not hand out.
    pub fn configure(config: &proto::ValueMatcher) -> Result<Self, ConfigError> {
        Ok(match &config.match_pattern {
            Some(MatchPattern::DoubleMatch(number)) => match &number.match_pattern {
                Some(DoublePattern::Range(range)) => {
                    Self::Range { start: range.start, end: range.end }
                }
                Some(DoublePattern::Exact(number)) => Self::Number(*number),
                None => return Err(ConfigError::field("double_match", "is empty")),
            },
            Some(MatchPattern::StringMatch(matcher)) => Self::String(
                StringMatcher::configure(matcher)
                    .map_err(|error| error.in_field("string_match"))?,
            ),
            Some(MatchPattern::BoolMatch(wanted)) => Self::Bool(*wanted),
            Some(MatchPattern::PresentMatch(wanted)) => Self::Present(*wanted),
            Some(MatchPattern::OrMatch(matchers)) => {
                let one = |(index, matcher): (usize, &proto::ValueMatcher)| {
                    Self::configure(matcher)
                        .map_err(|e| e.in_field(&format!("or_match.value_matchers[{index}]")))
                };
                let all = matchers.value_matchers.iter().enumerate().map(one);
                Self::Or(all.collect::<Result<_, _>>()?)
            }
            Some(MatchPattern::NullMatch(_)) => {
                let reason = "is not supported: modules can't tell null from an object";
                return Err(ConfigError::field("null_match", reason));
            }
            Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
                Some(ListPattern::OneOf(element)) => Self::List(Box::new(
                    Self::configure(element)
                        .map_err(|error| error.in_field("list_match.one_of"))?,
                )),
                None => return Err(ConfigError::field("list_match.match_pattern", "is required")),
            },
            None => return Err(ConfigError::field("match_pattern", "is required")),
        })
    }

    /// Whether `value` matches.
    #[must_use]
    pub fn matches(&self, value: Option<&MetadataValue>) -> bool {
        match (self, value) {
            (Self::Range { start, end }, Some(MetadataValue::Number(number))) => {
                (*start..*end).contains(number)
            }
            // Envoy compares the numbers themselves, too.
            (Self::Number(wanted), Some(MetadataValue::Number(number))) => {
                number.total_cmp(wanted).is_eq()
            }
            (Self::String(matcher), Some(MetadataValue::String(text))) => matcher.matches(text),
            (Self::Bool(wanted), Some(MetadataValue::Bool(value))) => wanted == value,
            (Self::Present(wanted), Some(_)) => *wanted,
            (Self::List(element), Some(MetadataValue::List(list))) => {
                list.iter().any(|value| element.matches(Some(value)))
            }
            (Self::Or(matchers), value) => matchers.iter().any(|matcher| matcher.matches(value)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(json: &str) -> Result<MetadataMatcher, ConfigError> {
        MetadataMatcher::configure(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_flat_value_is_matched_and_inverted() {
        let json = r#"{"filter": "n", "path": [{"key": "k"}], "value": {"string_match": {"exact": "v"}}, "invert": true}"#;
        let matcher = matcher(json).unwrap();
        assert!(!matcher.matches(Some(&MetadataValue::String(b"v".to_vec()))));
        assert!(matcher.matches(Some(&MetadataValue::Number(1.0))) && matcher.matches(None));
    }

    #[test]
    fn one_element_of_a_list_has_to_match() {
        let json = r#"{"filter": "n", "path": [{"key": "k"}], "value": {"list_match": {"one_of": {"string_match": {"exact": "v"}}}}}"#;
        let matcher = matcher(json).unwrap();
        let text = |text: &str| MetadataValue::String(text.as_bytes().to_vec());
        let list =
            |texts: &[&str]| MetadataValue::List(texts.iter().map(|one| text(one)).collect());
        assert!(matcher.matches(Some(&list(&["a", "v"]))));
        assert!(!matcher.matches(Some(&list(&["a"]))) && !matcher.matches(Some(&list(&[]))));
        assert!(!matcher.matches(Some(&text("v"))) && !matcher.matches(None));
    }

    #[test]
    fn a_value_that_can_not_be_read_is_present_and_is_neither_text_nor_number_nor_truth() {
        let json = |value: &str| {
            format!(r#"{{"filter": "n", "path": [{{"key": "k"}}], "value": {value}}}"#)
        };
        let unreadable = Some(&MetadataValue::Unreadable);
        for (value, matches) in [
            (r#"{"present_match": true}"#, true),
            (r#"{"string_match": {"prefix": "a"}}"#, false),
            (r#"{"bool_match": false}"#, false),
            (r#"{"double_match": {"exact": 0}}"#, false),
        ] {
            assert_eq!(matcher(&json(value)).unwrap().matches(unreadable), matches, "{value}");
        }
    }

    #[test]
    fn deep_paths_are_read_and_null_is_refused_by_name() {
        let deep = r#"{"filter": "n", "path": [{"key": "a"}, {"key": "b"}], "value": {"present_match": true}}"#;
        let path = matcher(deep).unwrap().path;
        let within = vec![PathSegment::Key("b".to_owned())];
        assert_eq!(path, MetadataPath { key: "a".to_owned(), within });
        let hole =
            r#"{"filter": "n", "path": [{"key": "a"}, {}], "value": {"present_match": true}}"#;
        assert_eq!(matcher(hole).unwrap_err().path(), "path[1].key");
        let null = r#"{"filter": "n", "path": [{"key": "a"}], "value": {"null_match": {}}}"#;
        assert_eq!(matcher(null).unwrap_err().path(), "value.null_match");
    }
}
