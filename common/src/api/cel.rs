//! Expressions of the Common Expression Language over a stream's attributes, as far as a module
//! sees them: what [`NAMED`] lists, and `request.headers` and `response.headers`. As in Envoy's own
//! evaluator, as it is set up there, `+` adds numbers and joins nothing.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{self, EntryExpr, Expr, IdedExpr, operators};
use cel::objects::Key;
use cel::{Context, ExecutionError, Program, ResolveResult, Value};

use crate::api::config::ConfigError;
use crate::api::text::sanitized;
use crate::envoy::attributes::{Attribute, Kind, NAMED};
use crate::envoy::types::Map;

/// The name of the function that stands for `+`; no expression can spell it.
const ADD_NUMBERS: &str = "@add_numbers";

/// A parsed expression.
#[derive(Debug)]
pub struct Expression {
    program: IdedExpr,
    /// The first names of the attributes that it refers to.
    roots: Vec<String>,
}

/// Where the attributes' values come from.
pub trait AttributeSource {
    /// The value of a textual attribute.
    fn text(&self, attribute: Attribute) -> Option<&[u8]>;
    /// The value of a numeric attribute.
    fn number(&self, attribute: Attribute) -> Option<u64>;
    /// The value of a truth-valued attribute.
    fn truth(&self, attribute: Attribute) -> Option<bool>;
    /// The header lines of a map.
    fn lines(&self, map: Map) -> Vec<(&[u8], &[u8])>;
}

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A number.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// Null.
    Null,
    /// Anything else, by the name of its type.
    Other(&'static str),
}

impl Expression {
    /// Parses `text`.
    ///
    /// # Errors
    /// Where it is no expression, or refers to what is no attribute.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let program = Program::compile(text)
            .map_err(|error| ConfigError::without_path(format!("is no CEL expression: {error}")))?;
        let roots: Vec<String> =
            program.references().variables().into_iter().map(str::to_owned).collect();
        let known = |root: &String| {
            NAMED.iter().any(|(name, _)| name.split('.').next() == Some(root.as_str()))
        };
        if let Some(root) = roots.iter().find(|root| !known(root)) {
            let reason = format!("`{root}` is no attribute that a module can read");
            return Err(ConfigError::without_path(reason));
        }
        let mut program = program.expression().clone();
        join_nothing(&mut program);
        Ok(Self { program, roots })
    }

    /// What it comes to in a stream; `None` when it fails, as for an attribute that is absent.
    #[must_use]
    pub fn evaluate(&self, stream: &dyn AttributeSource) -> Option<Outcome> {
        let mut context = Context::default();
        for root in &self.roots {
            context.add_variable_from_value(root.as_str(), attributes(root, stream));
        }
        context.add_function(ADD_NUMBERS, add_numbers).ok()?;
        Some(match Value::resolve(&self.program, &context).ok()? {
            Value::String(text) => Outcome::Text(text.as_ref().clone()),
            Value::Bytes(bytes) => Outcome::Text(sanitized(&bytes)),
            Value::Int(number) => Outcome::Int(number),
            Value::UInt(number) => Outcome::Uint(number),
            Value::Float(number) => Outcome::Double(number),
            Value::Bool(truth) => Outcome::Bool(truth),
            Value::Null => Outcome::Null,
            Value::List(_) => Outcome::Other("CelList"),
            Value::Map(_) => Outcome::Other("CelMap"),
            _ => return None,
        })
    }
}

/// Puts [`ADD_NUMBERS`] in the place of each `+`. Loops, which need the other one, are not for
/// Envoy's evaluator.
fn join_nothing(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Call(call) => {
            if call.func_name == operators::ADD {
                ADD_NUMBERS.clone_into(&mut call.func_name);
            }
            call.target.as_deref_mut().into_iter().for_each(join_nothing);
            call.args.iter_mut().for_each(join_nothing);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(join_nothing),
        Expr::Select(select) => join_nothing(&mut select.operand),
        Expr::Map(ast::MapExpr { entries }) | Expr::Struct(ast::StructExpr { entries, .. }) => {
            for entry in entries {
                match &mut entry.expr {
                    EntryExpr::StructField(field) => join_nothing(&mut field.value),
                    EntryExpr::MapEntry(entry) => {
                        join_nothing(&mut entry.key);
                        join_nothing(&mut entry.value);
                    }
                }
            }
        }
        Expr::Unspecified | Expr::Comprehension(_) | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

/// `left + right`, of numbers and times.
fn add_numbers(left: Value, right: Value) -> ResolveResult {
    match (&left, &right) {
        (Value::String(_) | Value::Bytes(_) | Value::List(_), _) => {
            Err(ExecutionError::function_error("+", "joins neither texts nor lists"))
        }
        _ => left + right,
    }
}

/// The attributes below `root` that the stream has.
fn attributes(root: &str, stream: &dyn AttributeSource) -> Value {
    let mut fields: HashMap<Key, Value> = NAMED
        .iter()
        .filter_map(|(name, kind)| {
            let field = name.strip_prefix(root)?.strip_prefix('.')?;
            let value = match *kind {
                Kind::Text(id) => text(&sanitized(stream.text(id)?)),
                Kind::Number(id) => Value::Int(i64::try_from(stream.number(id)?).ok()?),
                Kind::Bool(id) => Value::Bool(stream.truth(id)?),
            };
            Some((Key::from(field), value))
        })
        .collect();
    let map = match root {
        "request" => Some(Map::Request),
        "response" => Some(Map::Response),
        _ => None,
    };
    if let Some(map) = map {
        fields.insert(Key::from("headers"), headers(&stream.lines(map)));
    }
    Value::Map(fields.into())
}

/// Headers by their names; several lines of one are joined, as Envoy joins them.
fn headers(lines: &[(&[u8], &[u8])]) -> Value {
    let mut joined: HashMap<String, String> = HashMap::new();
    for (name, value) in lines {
        let value = sanitized(value);
        joined
            .entry(sanitized(name))
            .and_modify(|first| {
                first.push(',');
                first.push_str(&value);
            })
            .or_insert(value);
    }
    let fields: HashMap<Key, Value> =
        joined.iter().map(|(name, value)| (Key::from(name.as_str()), text(value))).collect();
    Value::Map(fields.into())
}

fn text(value: &str) -> Value {
    Value::String(Arc::new(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stream;

    impl AttributeSource for Stream {
        fn text(&self, attribute: Attribute) -> Option<&[u8]> {
            (attribute == Attribute::RequestMethod).then_some(b"GET")
        }
        fn number(&self, attribute: Attribute) -> Option<u64> {
            (attribute == Attribute::RequestSize).then_some(7)
        }
        fn truth(&self, attribute: Attribute) -> Option<bool> {
            (attribute == Attribute::ConnectionMtls).then_some(true)
        }
        fn lines(&self, map: Map) -> Vec<(&[u8], &[u8])> {
            let lines: [(&[u8], &[u8]); 2] = [(b"x-a", b"1"), (b"x-a", b"2")];
            if map == Map::Request { lines.to_vec() } else { Vec::new() }
        }
    }

    fn outcome(expression: &str) -> Option<Outcome> {
        Expression::parse(expression).unwrap().evaluate(&Stream)
    }

    #[test]
    fn attributes_and_headers_have_their_types() {
        let text = |text: &str| Some(Outcome::Text(text.to_owned()));
        assert_eq!(outcome("request.method"), text("GET"));
        assert_eq!(outcome("request.headers['x-a']"), text("1,2"));
        assert_eq!(outcome("request.size"), Some(Outcome::Int(7)));
        assert_eq!(outcome("request.size > 6 && connection.mtls"), Some(Outcome::Bool(true)));
        assert_eq!(outcome("request.size + 1 == 8 ? request.method : ''"), text("GET"));
        assert_eq!(outcome("request.headers"), Some(Outcome::Other("CelMap")));
    }

    #[test]
    fn what_is_absent_or_fails_comes_to_nothing() {
        for expression in
            ["request.headers['x-b']", "request.path", "response.code", "request.size + 'a'"]
        {
            assert_eq!(outcome(expression), None, "{expression}");
        }
    }

    #[test]
    fn as_in_envoy_nothing_is_joined() {
        for expression in [
            "request.method + '!'",
            "size([1] + [2])",
            "[request.method + '!'][0]",
            "{'a': request.method + '!'}.a",
            "(request.method + '!').startsWith('G')",
            "b'a' + b'b'",
        ] {
            assert_eq!(outcome(expression), None, "{expression}");
        }
        assert_eq!(outcome("1.5 + 2.0"), Some(Outcome::Double(3.5)));
        assert_eq!(outcome("size(request.method) + size('a')"), Some(Outcome::Int(4)));
    }

    #[test]
    fn what_can_not_be_evaluated_is_refused() {
        for expression in ["", "request.", "metadata.filter_metadata", "nobody"] {
            assert!(Expression::parse(expression).is_err(), "{expression}");
        }
    }
}
