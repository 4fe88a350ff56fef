//! Where the extensions of actions take their values from.

use callout_common::api::cel::Outcome;
use callout_common::api::text::sanitized;

use super::entry::{DescriptorEntry, query_value};
use super::{Request, claim};

/// The claim of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) carrier: Carrier,
    pub(super) prefix: String,
    pub(super) name: String,
    pub(super) default: String,
    pub(super) skip: bool,
}

/// An input of Envoy's matchers: an empty value leaves its entry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Header(String),
    Query(String),
}

impl Input {
    /// The entry of `request`, by `key`.
    pub(super) fn entry(&self, key: &str, request: &dyn Request) -> DescriptorEntry {
        let value = match self {
            Self::Header(name) => {
                let lines = request.header(name);
                let joined: Vec<String> = lines.into_iter().map(sanitized).collect();
                (!joined.is_empty()).then(|| joined.join(","))
            }
            Self::Query(name) => query_value(request, name),
        };
        match value {
            Some(value) if value.is_empty() => DescriptorEntry::Nothing,
            Some(value) => DescriptorEntry::Entry(key.to_owned(), value),
            None => DescriptorEntry::Failed,
        }
    }
}

impl Claim {
    /// The entry of `request`, by `key`.
    pub(super) fn entry(&self, key: &str, request: &dyn Request) -> DescriptorEntry {
        let token = match &self.carrier {
            Carrier::Header(name) => request.header(name).first().map(|value| sanitized(value)),
            Carrier::Cookie(name) => cookie(request, name),
        };
        let claim = token
            .and_then(|token| claim::text(token.strip_prefix(&self.prefix)?, &self.name))
            .or_else(|| (!self.default.is_empty()).then(|| self.default.clone()));
        match claim {
            Some(value) => DescriptorEntry::Entry(key.to_owned(), value),
            None if self.skip => DescriptorEntry::Nothing,
            None => DescriptorEntry::Failed,
        }
    }
}

/// What an expression came to, as Envoy prints it.
pub(super) fn printed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Text(text) => text,
        Outcome::Int(number) => number.to_string(),
        Outcome::Uint(number) => number.to_string(),
        Outcome::Double(number) => number.to_string(),
        Outcome::Bool(truth) => truth.to_string(),
        Outcome::Null => "NULL".to_owned(),
        Outcome::Other(name) => format!("{name} value"),
    }
}

/// Where the token is that holds a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carrier {
    Header(String),
    Cookie(String),
}

/// The value of a cookie (RFC 6265 section 4.2).
fn cookie(request: &dyn Request, name: &str) -> Option<String> {
    let lines: Vec<String> = request.header("cookie").into_iter().map(sanitized).collect();
    lines.iter().flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        (key.trim() == name).then(|| quoted.unwrap_or(value).to_owned())
    })
}
