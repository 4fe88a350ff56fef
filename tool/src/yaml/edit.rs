//! Changes of a text: what they do not touch stays as it is, to the last blank.

use super::emit::quoted;
use super::{File, Node, Shape};

/// Changes of one file, carried out together.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    inserts: Vec<(usize, String)>,
    deletes: Vec<(usize, usize)>,
    /// Lines, from the first to the last of each pair, that move two blanks to the right.
    indents: Vec<(usize, usize)>,
    /// Starts of the values that were wrapped.
    wrapped: Vec<usize>,
}

impl Edits {
    /// Puts `node` under the key `under` of a new map that has `fields` (plain names and values) first.
    /// A value that more than one alias stands for is wrapped once.
    pub(crate) fn wrap(&mut self, file: &File, node: &Node, fields: &[(&str, &str)], under: &str) {
        if self.wrapped.contains(&node.start) {
            return;
        }
        self.wrapped.push(node.start);
        if matches!(node.shape, Shape::Map { flow: true, .. }) {
            let mut head = String::from("{");
            for (name, value) in fields {
                head.push_str(&format!("{}: {value}, ", quoted(name)));
            }
            head.push_str(&format!("{}: ", quoted(under)));
            self.inserts.push((node.start, head));
            self.inserts.push((node.end, "}".to_owned()));
            return;
        }
        let blanks = " ".repeat(node.column);
        let mut head = String::new();
        for (name, value) in fields {
            let name = if name.starts_with('@') { quoted(name) } else { (*name).to_owned() };
            head.push_str(&format!("{name}: {value}\n{blanks}"));
        }
        head.push_str(&format!("{under}:\n{blanks}  "));
        self.inserts.push((node.start, head));
        let (first, last) = (file.line_of(node.start), file.line_of(node.end));
        if last > first {
            self.indents.push((first + 1, last));
        }
    }

    /// Puts `replacement` in the place of a scalar.
    pub(crate) fn replace(&mut self, node: &Node, replacement: &str) {
        self.deletes.push((node.start, node.end));
        self.inserts.push((node.start, replacement.to_owned()));
    }

    /// Takes the fields called `names`, in either of their spellings, out of `map`.
    pub(crate) fn remove(&mut self, file: &File, map: &Node, names: &[&str]) {
        let entries = map.entries();
        let goes = |entry: &&(Node, Node)| names.iter().any(|name| entry.0.is_named(name));
        let flow = matches!(map.shape, Shape::Map { flow: true, .. });
        let gone: Vec<&(Node, Node)> = entries.iter().filter(goes).collect();
        let (Some(first), Some(last)) = (gone.first(), gone.last()) else { return };
        if gone.len() == entries.len() {
            let (from, to) = (first.0.start, last.1.tail.max(last.0.tail));
            self.deletes.push((from, to));
            self.inserts.push((from, if flow { String::new() } else { "{}".to_owned() }));
            return;
        }
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| goes(entry)) {
            let end = entry.1.tail.max(entry.0.tail);
            if !flow && file.is_first_on_line(entry.0.start) {
                let start = file.line_start(entry.0.start).saturating_sub(1);
                self.deletes.push((start, file.line_end(end)));
                continue;
            }
            let rest = entries.get(index + 1..).unwrap_or_default();
            let before = entries.get(..index).unwrap_or_default();
            // What stays decides which comma goes.
            match (rest.first(), before.iter().rfind(|entry| !goes(entry))) {
                (Some(next), _) if rest.iter().any(|entry| !goes(&entry)) => {
                    self.deletes.push((entry.0.start, next.0.start));
                }
                (_, Some(kept)) => self.deletes.push((kept.1.tail, end)),
                (_, None) => {}
            }
        }
    }

    /// Puts `key` at the end of `map`. `block` writes its value behind as many blanks as it is told,
    /// and `flow` in one line.
    pub(crate) fn add(
        &mut self,
        file: &File,
        map: &Node,
        key: &str,
        block: impl Fn(usize) -> String,
        flow: &str,
    ) {
        if let Shape::Map { flow: true, entries } = &map.shape {
            let comma = if entries.is_empty() { "" } else { ", " };
            let at = map.end.saturating_sub(1);
            let key = if key.starts_with('"') { key.to_owned() } else { quoted(key) };
            return self.insert_once(at, format!("{comma}{key}: {flow}"));
        }
        let blanks = " ".repeat(map.column);
        let text = format!("\n{blanks}{key}:\n{blanks}  {}", block(map.column + 2));
        self.insert_once(file.line_end(map.end), text);
    }

    /// A value that more than one alias stands for is changed once.
    fn insert_once(&mut self, at: usize, text: String) {
        if !self.inserts.iter().any(|known| known == &(at, text.clone())) {
            self.inserts.push((at, text));
        }
    }

    /// The text after all changes.
    pub(crate) fn apply(mut self, file: &File) -> String {
        self.inserts.sort_by_key(|(at, _)| *at);
        let mut inserts = self.inserts.into_iter().peekable();
        let mut out = String::new();
        let mut line = 0;
        let indent = |line: usize, indents: &[(usize, usize)]| {
            let covers = |(first, last): &&(usize, usize)| (*first..=*last).contains(&line);
            "  ".repeat(indents.iter().filter(covers).count())
        };
        for at in 0..=file.text.len() {
            while let Some((_, text)) = inserts.next_if(|(place, _)| *place == at) {
                out.push_str(&text.replace('\n', &format!("\n{}", indent(line, &self.indents))));
            }
            let Some(c) = file.text.get(at) else { break };
            let deleted = self.deletes.iter().any(|(from, to)| (*from..*to).contains(&at));
            if !deleted {
                out.push(*c);
            }
            if *c == '\n' {
                line += 1;
                let blank = file.text.get(at + 1).is_none_or(|c| ['\n', '\r'].contains(c));
                if !deleted && !blank {
                    out.push_str(&indent(line, &self.indents));
                }
            }
        }
        out
    }
}

impl File {
    /// The number of the line, from 0.
    fn line_of(&self, at: usize) -> usize {
        self.text.iter().take(at).filter(|c| **c == '\n').count()
    }

    fn line_start(&self, at: usize) -> usize {
        let head = self.text.get(..at).unwrap_or_default();
        head.iter().rposition(|c| *c == '\n').map_or(0, |end| end + 1)
    }

    /// The end of the line, without its line feed.
    fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.iter().position(|c| *c == '\n').map_or(self.text.len(), |end| at + end)
    }

    fn is_first_on_line(&self, at: usize) -> bool {
        let head = self.text.get(self.line_start(at)..at).unwrap_or_default();
        head.iter().all(|c| *c == ' ')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, change: impl Fn(&File, &Node, &mut Edits)) -> String {
        let file = File::parse(text).unwrap();
        let mut edits = Edits::default();
        change(&file, &file.documents[0], &mut edits);
        edits.apply(&file)
    }

    #[test]
    fn a_block_is_wrapped_with_its_comments_and_a_flow_in_its_line() {
        let wrap = |text: &str| {
            edited(text, |file, root, edits| {
                let node = root.get("a").unwrap();
                edits.wrap(file, node, &[("@type", "\"T\""), ("n", "{x: 1}")], "c");
            })
        };
        let text =
            "a: # one\n  b: |\n    off\n\n    on # text\n  # two\n  d: [1,\n    2] # three\ne: f\n";
        let wanted = "a: # one\n  \"@type\": \"T\"\n  n: {x: 1}\n  c:\n    b: |\n      off\n\n      on # text\n    # two\n    d: [1,\n      2] # three\ne: f\n";
        assert_eq!(wrap(text), wanted);
        assert_eq!(
            wrap("a: {b: off} # one\n"),
            "a: {\"@type\": \"T\", \"n\": {x: 1}, \"c\": {b: off}} # one\n"
        );
    }

    #[test]
    fn an_entry_of_a_list_is_wrapped_where_its_dash_is() {
        let text = "- b: 1\n  d: 2\n- e\n";
        let changed = edited(text, |file, root, edits| {
            edits.wrap(file, &root.items()[0], &[("n", "x")], "c");
        });
        assert_eq!(changed, "- n: x\n  c:\n    b: 1\n    d: 2\n- e\n");
    }

    #[test]
    fn entries_go_with_their_lines() {
        let text = "a: 1\nb:\n  c: 2 # x\n  # y\nd: 3\ne: {f: 1, g: 2}\nh:\n- i: 1\n  j: 2\n";
        let without = |path: &str, key: &str| {
            edited(text, |file, root, edits| {
                edits.remove(file, root.at(path), &[key]);
            })
        };
        assert_eq!(without("", "b"), text.replace("b:\n  c: 2 # x\n", ""));
        assert_eq!(
            without("", "h"),
            text.replace("h:\n- i: 1\n  j: 2\n", "").trim_end().to_owned() + "\n"
        );
        assert_eq!(without("b", "c"), text.replace("c: 2", "{}"));
        assert_eq!(without("e", "f"), text.replace("f: 1, ", ""));
        assert_eq!(without("e", "g"), text.replace(", g: 2", ""));
        assert_eq!(without("h[0]", "i"), text.replace("i: 1\n  ", ""));
    }

    #[test]
    fn several_entries_go_at_once_whatever_their_spelling() {
        let without = |text: &str| {
            edited(text, |file, root, edits| {
                edits.remove(file, root.get("a").unwrap(), &["b_c", "d"]);
            })
        };
        assert_eq!(without("a: {x: 1, bC: 2, d: 3}"), "a: {x: 1}");
        assert_eq!(without("a: {bC: 2, x: 1, d: 3}"), "a: {x: 1}");
        assert_eq!(without("a: {b_c: 2, d: 3, x: 1}"), "a: {x: 1}");
        assert_eq!(without("a: {b_c: 2, d: 3}"), "a: {}");
        assert_eq!(without("a:\n  b_c: 2\n  x: 1\n  d:\n  - 3\n"), "a:\n  x: 1\n");
        assert_eq!(without("a:\n  b_c: 2\n  d: 3\ne: 4\n"), "a:\n  {}\ne: 4\n");
    }

    #[test]
    fn a_new_entry_comes_last_even_where_the_last_one_goes() {
        let text = "a:\n  b: 1 # x\n  c: 2\nd: {}";
        let changed = edited(text, |file, root, edits| {
            let a = root.get("a").unwrap();
            edits.remove(file, a, &["c"]);
            edits.add(file, a, "e", |indent| format!("f: 1\n{}g: 2", " ".repeat(indent)), "{}");
            edits.add(file, root.get("d").unwrap(), "h", |_| String::new(), "[1]");
        });
        assert_eq!(changed, "a:\n  b: 1 # x\n  e:\n    f: 1\n    g: 2\nd: {\"h\": [1]}");
    }
}
