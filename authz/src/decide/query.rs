//! Changes to the query of a path, with the built-in's effect: the whole query is written anew,
//! sorted by key.

use std::collections::BTreeMap;
use std::fmt::Write;

/// `query_parameters_to_set` and `query_parameters_to_remove`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QueryEdits {
    pub(crate) set: Vec<(String, String)>,
    pub(crate) remove: Vec<String>,
}

impl QueryEdits {
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// `path` with its query changed. Keys are compared as they stand, in their encoded form;
    /// removals come last.
    pub(crate) fn apply(&self, path: &str) -> String {
        let (bare, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parameters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        if !query.is_empty() {
            for parameter in query.split('&') {
                let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                parameters.entry(key).or_default().push(value);
            }
        }
        for (key, value) in &self.set {
            parameters.insert(key, vec![value]);
        }
        for key in &self.remove {
            parameters.remove(key.as_str());
        }
        let mut changed = bare.to_owned();
        let mut separator = '?';
        for (key, values) in &parameters {
            for value in values {
                // Writing to a string can't fail.
                let _ = write!(changed, "{separator}{key}={value}");
                separator = '&';
            }
        }
        changed
    }
}

/// `text` with what would break out of its place in a query percent-encoded. Escapes that are there
/// already stay.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$'()*+,;=:@/?%".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Whether `validate_mutations` accepts `text` as a key or value.
pub(crate) fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(path: &str, key: &str, value: &str) -> String {
        QueryEdits { set: vec![(key.to_owned(), value.to_owned())], remove: Vec::new() }.apply(path)
    }

    fn remove(path: &str, key: &str) -> String {
        QueryEdits { set: Vec::new(), remove: vec![key.to_owned()] }.apply(path)
    }

    #[test]
    fn a_set_parameter_replaces_all_of_its_name_and_sorts_the_query() {
        assert_eq!(
            set("/p?z=1&b=2&a=%20x+y&flag&e=", "n", "1"),
            "/p?a=%20x+y&b=2&e=&flag=&n=1&z=1"
        );
        assert_eq!(set("/p?a=1&a=2&b=3", "a", "9"), "/p?a=9&b=3");
        assert_eq!(set("/p", "a", "1"), "/p?a=1");
    }

    #[test]
    fn removing_the_last_parameter_removes_the_question_mark() {
        assert_eq!(remove("/p?a=1&a=2", "a"), "/p");
        assert_eq!(remove("/p?A=1", "a"), "/p?A=1");
    }

    #[test]
    fn removal_wins_over_setting() {
        let edits = QueryEdits { set: vec![("a".into(), "1".into())], remove: vec!["a".into()] };
        assert_eq!(edits.apply("/p?b=2"), "/p?b=2");
    }

    #[test]
    fn a_value_can_not_smuggle_in_a_parameter_or_break_the_request_line() {
        assert_eq!(encode("a&b c#\r\né%20"), "a%26b%20c%23%0D%0A%C3%A9%20");
    }

    proptest! {
        #[test]
        fn a_query_that_was_written_is_read_and_written_as_it_is(
            parameters in proptest::collection::vec("[a-m%]{1,3}(=[a-z0-9%+=]{0,4})?", 0..6),
        ) {
            let edits = QueryEdits { set: Vec::new(), remove: vec!["zz".to_owned()] };
            let once = edits.apply(&format!("/p?{}", parameters.join("&")));
            prop_assert_eq!(edits.apply(&once), once);
        }

        #[test]
        fn what_is_set_is_there_once_and_nothing_else_is_lost(
            others in proptest::collection::vec("[a-m]{1,3}=[a-z0-9%+]{0,4}", 0..6),
            value in "[ -~]{0,8}",
        ) {
            let path = format!("/p?{}", others.join("&"));
            let changed = set(&path, "zz", &encode(&value));
            let query = changed.split_once('?').map_or("", |(_, query)| query);
            let mut left: Vec<&str> = query.split('&').collect();
            let wanted = format!("zz={}", encode(&value));
            prop_assert_eq!(left.iter().filter(|p| **p == wanted).count(), 1);
            left.retain(|p| *p != wanted);
            let mut others = others;
            others.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
            prop_assert_eq!(left, others);
        }
    }
}
