//! New text for values that move. Nothing in it can be read as another value than before: plain
//! scalars stay as they were written, and all other text is in double quotes.

use super::{Node, Shape};

/// The value as block YAML, each line after the first behind `indent` blanks.
pub(crate) fn emit(node: &Node, indent: usize) -> String {
    let mut text = String::new();
    write(node, indent, &mut text);
    text
}

fn write(node: &Node, indent: usize, out: &mut String) {
    match &node.shape {
        Shape::Scalar { text, plain: true } if !text.contains('\n') => out.push_str(text),
        Shape::Scalar { text, .. } => out.push_str(&quoted(text)),
        Shape::Map { entries, .. } if entries.is_empty() => out.push_str("{}"),
        Shape::List { items } if items.is_empty() => out.push_str("[]"),
        Shape::Map { entries, .. } => {
            for (number, (key, value)) in entries.iter().enumerate() {
                begin(number, indent, out);
                write(key, indent, out);
                out.push(':');
                let nested = !value.entries().is_empty();
                let list = matches!(&value.shape, Shape::List { items } if !items.is_empty());
                match (nested, list) {
                    (true, _) => {
                        begin(1, indent + 2, out);
                        write(value, indent + 2, out);
                    }
                    (_, true) => {
                        begin(1, indent, out);
                        write(value, indent, out);
                    }
                    _ => {
                        out.push(' ');
                        write(value, indent, out);
                    }
                }
            }
        }
        Shape::List { items } => {
            for (number, item) in items.iter().enumerate() {
                begin(number, indent, out);
                out.push_str("- ");
                write(item, indent + 2, out);
            }
        }
    }
}

fn begin(number: usize, indent: usize, out: &mut String) {
    if number > 0 {
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    }
}

/// JSON's quotes, which YAML reads alike.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    #[test]
    fn what_is_written_is_read_as_what_it_was() {
        let text =
            "a: [off, 'off', {b: \"c\\nd\", e: [[1], []], f: {}}, ~, 012]\n'on': |\n  x\n  y\n";
        let node = &File::parse(text).unwrap().documents[0];
        for indent in [0, 4] {
            let written = format!("{}{}\n", " ".repeat(indent), emit(node, indent));
            let again = File::parse(&written).unwrap();
            assert_eq!(again.documents[0].json(), node.json(), "{written}");
        }
    }
}
