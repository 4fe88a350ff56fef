//! Changes to header lines: the one meaning that all answers of services share, whatever they are
//! made to (Envoy's maps, or the lines of a reply).

use callout_protos::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use callout_protos::pbjson_types::BoolValue;

/// What a change does with the lines of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Adds a line: `APPEND_IF_EXISTS_OR_ADD`.
    Add,
    /// Adds a line where there is none of the name: `ADD_IF_ABSENT`.
    AddIfAbsent,
    /// Replaces every line of the name by one: `OVERWRITE_IF_EXISTS_OR_ADD`.
    Set,
    /// The same where there is a line of the name: `OVERWRITE_IF_EXISTS`.
    SetIfPresent,
    /// Joins onto the first line of the name with a comma (RFC 9110 section 5.3), if there is one.
    JoinIfPresent,
    /// Removes every line of the name.
    Remove,
}

impl From<HeaderAppendAction> for Op {
    fn from(action: HeaderAppendAction) -> Self {
        match action {
            HeaderAppendAction::AppendIfExistsOrAdd => Self::Add,
            HeaderAppendAction::AddIfAbsent => Self::AddIfAbsent,
            HeaderAppendAction::OverwriteIfExistsOrAdd => Self::Set,
            HeaderAppendAction::OverwriteIfExists => Self::SetIfPresent,
        }
    }
}

impl Op {
    /// What a `config.core.v3.HeaderValueOption` asks for: its deprecated `append` decides where it
    /// is set, `append_action` otherwise. `None` for an action that is not known.
    #[must_use]
    pub fn of_option(append: Option<BoolValue>, append_action: i32) -> Option<Self> {
        match append {
            Some(BoolValue { value: true }) => Some(Self::Add),
            Some(BoolValue { value: false }) => Some(Self::Set),
            None => HeaderAppendAction::try_from(append_action).ok().map(Self::from),
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What is done.
    pub op: Op,
    /// The header's name, in lower case.
    pub name: String,
    /// The line's value; empty for a removal.
    pub value: Vec<u8>,
}

impl Mutation {
    /// The change `op` with the line `name`: `value`.
    #[must_use]
    pub fn new(op: Op, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { op, name: name.into(), value: value.into() }
    }

    /// The removal of `name`.
    #[must_use]
    pub fn remove(name: impl Into<String>) -> Self {
        Self::new(Op::Remove, name, Vec::new())
    }

    /// Makes the change.
    pub fn apply(&self, lines: &mut impl HeaderLines) {
        let Self { op, name, value } = self;
        match op {
            Op::Add => lines.add(name, value),
            Op::AddIfAbsent if !lines.has(name) => lines.add(name, value),
            Op::Set => lines.set(name, value),
            Op::SetIfPresent if lines.has(name) => lines.set(name, value),
            Op::JoinIfPresent if lines.has(name) => lines.join(name, value),
            Op::Remove => lines.remove(name),
            Op::AddIfAbsent | Op::SetIfPresent | Op::JoinIfPresent => {}
        }
    }
}

/// Header lines that can be changed. Names are in lower case.
pub trait HeaderLines {
    /// Whether there is a line of this name.
    fn has(&self, name: &str) -> bool;
    /// Adds a line.
    fn add(&mut self, name: &str, value: &[u8]);
    /// Replaces every line of the name by one.
    fn set(&mut self, name: &str, value: &[u8]);
    /// Joins `value` onto the first line of the name with a comma.
    fn join(&mut self, name: &str, value: &[u8]);
    /// Removes every line of the name.
    fn remove(&mut self, name: &str);
}

/// Header lines in order: name in lower case, value.
pub type Lines = Vec<(String, Vec<u8>)>;

impl HeaderLines for Lines {
    fn has(&self, name: &str) -> bool {
        self.iter().any(|(line, _)| line == name)
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        self.push((name.to_owned(), value.to_vec()));
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        HeaderLines::remove(self, name);
        self.add(name, value);
    }

    fn join(&mut self, name: &str, value: &[u8]) {
        if let Some((_, first)) = self.iter_mut().find(|(line, _)| line == name) {
            first.push(b',');
            first.extend_from_slice(value);
        }
    }

    fn remove(&mut self, name: &str) {
        self.retain(|(line, _)| line != name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(values: &[&str]) -> Lines {
        values.iter().map(|value| ("x-a".to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn after(op: Op, before: &[&str]) -> Lines {
        let mut lines = lines(before);
        Mutation::new(op, "x-a", "n").apply(&mut lines);
        lines
    }

    #[test]
    fn each_operation_has_its_effect_with_and_without_a_line_of_the_name() {
        assert_eq!(after(Op::Add, &["1"]), lines(&["1", "n"]));
        assert_eq!(after(Op::AddIfAbsent, &["1"]), lines(&["1"]));
        assert_eq!(after(Op::AddIfAbsent, &[]), lines(&["n"]));
        assert_eq!(after(Op::Set, &["1", "2"]), lines(&["n"]));
        assert_eq!(after(Op::Set, &[]), lines(&["n"]));
        assert_eq!(after(Op::SetIfPresent, &["1", "2"]), lines(&["n"]));
        assert_eq!(after(Op::SetIfPresent, &[]), lines(&[]));
        assert_eq!(after(Op::JoinIfPresent, &["1", "2"]), lines(&["1,n", "2"]));
        assert_eq!(after(Op::JoinIfPresent, &[]), lines(&[]));
        assert_eq!(after(Op::Remove, &["1", "2"]), lines(&[]));
    }

    #[test]
    fn append_decides_where_it_is_set_and_an_unknown_action_is_none() {
        let overwrite = HeaderAppendAction::OverwriteIfExists.into();
        let append = |value| Some(BoolValue { value });
        assert_eq!(Op::of_option(append(true), overwrite), Some(Op::Add));
        assert_eq!(Op::of_option(append(false), overwrite), Some(Op::Set));
        assert_eq!(Op::of_option(None, overwrite), Some(Op::SetIfPresent));
        assert_eq!(Op::of_option(None, 77), None);
    }

    proptest! {
        #[test]
        fn lines_of_other_names_stay_in_their_order(
            before in prop::collection::vec(("x-[a-c]", "[0-9]"), 0..8), op in 0..6_usize,
        ) {
            let all = [
                Op::Add, Op::AddIfAbsent, Op::Set, Op::SetIfPresent, Op::JoinIfPresent, Op::Remove,
            ];
            let mut lines: Lines =
                before.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
            let others = |lines: &Lines| -> Lines {
                lines.iter().filter(|(name, _)| name != "x-a").cloned().collect()
            };
            let expected = others(&lines);
            Mutation::new(all[op], "x-a", "n").apply(&mut lines);
            prop_assert_eq!(others(&lines), expected);
        }
    }
}
