//! The attributes that an expression names, by their full paths.

use std::fmt;

use cel::Program;
use cel::common::ast::{EntryExpr, Expr, LiteralValue, operators};

use crate::api::config::ConfigError;

/// The path of an attribute, as `xds.route_metadata.filter_metadata['a']`: its words and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributePath(Vec<String>);

impl AttributePath {
    /// Words and keys, in order.
    #[must_use]
    pub fn parts(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        for (index, part) in self.0.iter().enumerate() {
            match index {
                0 => f.write_str(part)?,
                _ if is_word(part) => write!(f, ".{part}")?,
                _ => write!(f, "['{part}']")?,
            }
        }
        Ok(())
    }
}

/// What the expression `text` names.
#[derive(Debug, PartialEq, Eq)]
pub enum Named {
    /// It is this attribute, and nothing else.
    One(AttributePath),
    /// These, among other things.
    Some(Vec<AttributePath>),
}

impl Named {
    /// Reads `text`.
    ///
    /// # Errors
    /// Where it is not a valid expression.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let program = Program::compile(text).map_err(|error| {
            ConfigError::without_path(format!("is not a valid CEL expression: {error}"))
        })?;
        if let Some(path) = path(&program.expression().expr) {
            return Ok(Self::One(AttributePath(path)));
        }
        let mut paths = Vec::new();
        collect(&program.expression().expr, &mut paths);
        Ok(Self::Some(paths))
    }

    /// All of them.
    #[must_use]
    pub fn paths(&self) -> &[AttributePath] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Some(paths) => paths,
        }
    }
}

/// The path that `expr` spells, if it is one.
fn path(expr: &Expr) -> Option<Vec<String>> {
    let (operand, part) = match expr {
        Expr::Ident(name) => return Some(vec![name.clone()]),
        Expr::Select(select) => (&select.operand.expr, select.field.clone()),
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [operand, key] => match &key.expr {
                Expr::Literal(LiteralValue::String(key)) => (&operand.expr, key.inner().to_owned()),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    let mut path = path(operand)?;
    path.push(part);
    Some(path)
}

/// The longest paths below `expr`.
fn collect(expr: &Expr, into: &mut Vec<AttributePath>) {
    if let Some(path) = path(expr) {
        return into.push(AttributePath(path));
    }
    match expr {
        Expr::Call(call) => {
            let parts = call.target.iter().map(|target| &target.expr);
            parts.chain(call.args.iter().map(|arg| &arg.expr)).for_each(|part| collect(part, into));
        }
        Expr::List(list) => list.elements.iter().for_each(|part| collect(&part.expr, into)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| of_entry(&entry.expr, into)),
        Expr::Struct(made) => made.entries.iter().for_each(|entry| of_entry(&entry.expr, into)),
        Expr::Select(select) => collect(&select.operand.expr, into),
        Expr::Comprehension(parts) => {
            for part in [
                &parts.iter_range,
                &parts.accu_init,
                &parts.loop_cond,
                &parts.loop_step,
                &parts.result,
            ] {
                collect(&part.expr, into);
            }
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn of_entry(entry: &EntryExpr, into: &mut Vec<AttributePath>) {
    match entry {
        EntryExpr::StructField(field) => collect(&field.value.expr, into),
        EntryExpr::MapEntry(entry) => {
            collect(&entry.key.expr, into);
            collect(&entry.value.expr, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_in_full_wherever_they_stand() {
        let named = |text: &str| {
            let named = Named::read(text).unwrap();
            let one = matches!(named, Named::One(_));
            (one, named.paths().iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let path = "xds.route_metadata.filter_metadata['a.b']['c-d'].e";
        assert_eq!(named(path), (true, vec![path.to_owned()]));
        let (one, paths) =
            named("request.size + 1 > size(xds['node']) ? [request.headers[x]] : {}");
        assert!(!one);
        for wanted in ["request.size", "xds.node", "request.headers"] {
            assert!(paths.iter().any(|path| path == wanted), "{wanted} in {paths:?}");
        }
        let (_, paths) = named("has(request.path) && request.headers.exists(h, h == xds.node)");
        for wanted in ["request.path", "request.headers", "xds.node"] {
            assert!(paths.iter().any(|path| path == wanted), "{wanted} in {paths:?}");
        }
        assert!(Named::read("request.").is_err());
    }
}
