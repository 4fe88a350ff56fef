//! The text's values and their places.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value as Json};

/// Values inside each other, deeper than which no file is read.
const MAX_DEPTH: usize = 200;

/// A file: its documents, and its text as characters, which places count.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) text: Vec<char>,
    pub(crate) documents: Vec<Node>,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// First character of its content, behind an anchor.
    pub(crate) start: usize,
    /// One behind its last character.
    pub(crate) end: usize,
    /// The same where it stands: differs for an alias, whose content is elsewhere.
    pub(crate) tail: usize,
    /// From 1.
    pub(crate) line: usize,
    /// From 0.
    pub(crate) column: usize,
    pub(crate) shape: Shape,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// Text; `plain` when it stands without quotes, so that it may be read as something else.
    Scalar { text: String, plain: bool },
    /// Keys and values in their order; `flow` when in braces.
    Map { entries: Vec<(Node, Node)>, flow: bool },
    /// Values in their order; `flow` when in brackets.
    List { items: Vec<Node> },
}

impl File {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// When it is neither, with the place.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader { anchors: HashMap::new(), text: text.chars().collect() };
        let mut documents = Vec::new();
        let mut events = Parser::new_from_str(text);
        while let Some(event) = events.next() {
            let (event, span) = event?;
            match event {
                Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                event => documents.push(reader.node(event, span, &mut events, MAX_DEPTH)?),
            }
        }
        Ok(Self { text: reader.text, documents })
    }
}

struct Reader {
    anchors: HashMap<usize, Node>,
    text: Vec<char>,
}

type Events<'a> = dyn Iterator<Item = Result<(Event<'a>, Span), saphyr_parser::ScanError>> + 'a;

impl Reader {
    fn node<'a>(
        &mut self,
        event: Event<'a>,
        span: Span,
        events: &mut Events<'a>,
        depth: usize,
    ) -> Result<Node> {
        let depth = depth.checked_sub(1).ok_or_else(|| anyhow!("is nested too deep"))?;
        match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node =
                    node.ok_or_else(|| anyhow!("line {}: unknown alias", span.start.line()))?;
                Ok(Node { tail: span.end.index(), ..node })
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let shape = Shape::Scalar { text: text.into_owned(), plain };
                let end = self.trimmed(span.end.index()).max(span.start.index());
                let (start, line, column) =
                    (span.start.index(), span.start.line(), span.start.col());
                Ok(self.keep(anchor, Node { start, end, tail: end, line, column, shape }))
            }
            Event::MappingStart(anchor, _) => {
                let mut entries = Vec::new();
                let last = loop {
                    let (event, inner) = next(events)?;
                    if event == Event::MappingEnd {
                        break inner;
                    }
                    let key = self.node(event, inner, events, depth)?;
                    let (event, inner) = next(events)?;
                    entries.push((key, self.node(event, inner, events, depth)?));
                };
                let tail = entries.last().map(|(key, value)| key.tail.max(value.tail));
                let flow = self.is_flow(span);
                let shape = Shape::Map { entries, flow };
                Ok(self.keep(anchor, self.collection(span, last, tail, shape)))
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                let last = loop {
                    let (event, inner) = next(events)?;
                    if event == Event::SequenceEnd {
                        break inner;
                    }
                    items.push(self.node(event, inner, events, depth)?);
                };
                let tail = items.last().map(|item: &Node| item.tail);
                let shape = Shape::List { items };
                Ok(self.keep(anchor, self.collection(span, last, tail, shape)))
            }
            _ => Err(anyhow!("line {}: a value is missing", span.start.line())),
        }
    }

    /// Whether a collection is one in brackets: its first event ends with them.
    fn is_flow(&self, span: Span) -> bool {
        span.end.index() > span.start.index()
            && self.text.get(span.end.index() - 1).is_some_and(|c| ['{', '['].contains(c))
    }

    /// A map or list whose events are `first` and `last`, and whose last entry ends at `tail`.
    fn collection(&self, first: Span, last: Span, tail: Option<usize>, shape: Shape) -> Node {
        let bracket = usize::from(self.is_flow(first));
        let start = first.end.index() - bracket;
        let end = match (bracket, tail) {
            (0, Some(tail)) => tail.max(start),
            (0, None) => start,
            _ => last.start.index() + 1,
        };
        let (line, column) = (first.end.line(), first.end.col() - bracket);
        Node { start, end, tail: end, line, column, shape }
    }

    /// `end`, without the blanks and line ends before it.
    fn trimmed(&self, end: usize) -> usize {
        let head = self.text.get(..end).unwrap_or_default();
        head.iter().rposition(|c| !c.is_whitespace()).map_or(0, |last| last + 1)
    }

    fn keep(&mut self, anchor: usize, node: Node) -> Node {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }
}

fn next<'a>(events: &mut Events<'a>) -> Result<(Event<'a>, Span)> {
    Ok(events.next().ok_or_else(|| anyhow!("the file ends too early"))??)
}

impl Node {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// The value of a field by Envoy's name for it, in either of its spellings.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.get(name).or_else(|| self.get(&camel(name)))
    }

    /// The text of a field; empty when it is not there.
    pub(crate) fn text_of(&self, name: &str) -> &str {
        self.field(name).and_then(Self::text).unwrap_or_default()
    }

    /// Whether a key is Envoy's name for a field, in either of its spellings.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.text().is_some_and(|text| text == name || text == camel(name))
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.shape {
            Shape::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn entries(&self) -> &[(Self, Self)] {
        match &self.shape {
            Shape::Map { entries, .. } => entries,
            _ => &[],
        }
    }

    /// The entries of a list; a single value is a list of one, as for Envoy.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.shape {
            Shape::List { items } => items,
            Shape::Scalar { .. } if self.is_null() => &[],
            _ => std::slice::from_ref(self),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.shape, Shape::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The name of the message whose `@type` this is.
    pub(crate) fn message(&self) -> &str {
        let url = self.get("@type").and_then(Self::text).unwrap_or_default();
        url.rsplit('/').next().unwrap_or_default()
    }

    /// The value as Envoy reads it: a reader of YAML 1.1, to which `off` is false, and which leaves
    /// fractions to the field that wants them.
    pub(crate) fn json(&self) -> Json {
        match &self.shape {
            Shape::Scalar { text, plain: false } => Json::String(text.clone()),
            Shape::Scalar { .. } if self.is_null() => Json::Null,
            Shape::Scalar { text, .. } => plain(text),
            Shape::List { items } => Json::Array(items.iter().map(Self::json).collect()),
            Shape::Map { entries, .. } => {
                let field = |(key, value): &(Self, Self)| {
                    (key.text().unwrap_or_default().to_owned(), value.json())
                };
                Json::Object(entries.iter().map(field).collect::<Map<_, _>>())
            }
        }
    }

    /// The deepest value on the way to the field at `path`, as `a.b[0].c`.
    pub(crate) fn at(&self, path: &str) -> &Self {
        let mut node = self;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match part.strip_suffix(']') {
                Some(index) => index.parse().ok().and_then(|index: usize| node.items().get(index)),
                None => node.field(part),
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }
}

/// `max_bytes` as `maxBytes`.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

fn plain(text: &str) -> Json {
    let lower = text.to_ascii_lowercase();
    let one_case =
        text == lower || text == text.to_ascii_uppercase() || text.get(1..) == lower.get(1..);
    match lower.as_str() {
        "true" | "yes" | "on" | "y" if one_case => return Json::Bool(true),
        "false" | "no" | "off" | "n" if one_case => return Json::Bool(false),
        _ => {}
    }
    integer(text).map_or_else(|| Json::String(text.to_owned()), Json::from)
}

/// A whole number of 32 bits, decimal, hexadecimal or octal; larger ones are left to their field.
fn integer(text: &str) -> Option<i32> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { "-" } else { "" }, digits),
        None => ("", text),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (digits, 10),
    };
    let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    valid.then(|| i32::from_str_radix(&format!("{sign}{digits}"), radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Json {
        File::parse(text).unwrap().documents[0].json()
    }

    #[test]
    fn plain_words_are_read_as_by_yaml_1_1_and_quoted_ones_are_text() {
        let json = read(
            "[on, Off, NO, y, true, oN, 'on', \"no\", 012, 0x10, 1.5, +1, 12345678901, ~, '', 1_0]",
        );
        let wanted = r#"[true,false,false,true,true,"oN","on","no",10,16,"1.5",1,"12345678901",null,"","1_0"]"#;
        assert_eq!(json.to_string(), wanted);
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "# é\na: &x\n  b: {c: 1}   # end\n  d: |\n    text\n\n  # more\nlist:\n- e: 'f'\n- *x\n";
        let file = File::parse(text).unwrap();
        let of = |node: &Node| file.text[node.start..node.end].iter().collect::<String>();
        let a = file.documents[0].get("a").unwrap();
        assert_eq!(of(a), "b: {c: 1}   # end\n  d: |\n    text");
        assert_eq!((a.line, a.column), (3, 2));
        assert_eq!(of(a.get("b").unwrap()), "{c: 1}");
        assert_eq!(a.get("b").unwrap().column, 5);
        let list = file.documents[0].get("list").unwrap();
        assert_eq!(of(&list.items()[0]), "e: 'f'");
        assert_eq!(list.items()[1].get("d").unwrap().text(), Some("text\n"));
        assert_eq!(list.items()[1].start, a.start);
    }

    #[test]
    fn a_path_leads_to_the_deepest_value_that_is_there() {
        let file = File::parse("a:\n  maxBytes: 1\n  l:\n  - x: 1\n  - y: 2\n").unwrap();
        let a = file.documents[0].get("a").unwrap();
        assert_eq!(a.at("max_bytes").line, 2);
        assert_eq!(a.at("l[1].y.z").line, 5);
        assert_eq!(a.at("").line, 2);
    }

    #[test]
    fn what_is_neither_yaml_nor_json_is_refused() {
        assert!(File::parse("a: [").is_err());
        assert!(File::parse("a: *nobody").is_err());
        assert!(File::parse(&"[".repeat(100_000)).is_err());
    }
}
