//! Texts with command operators of Envoy's formatter (`%REQ(name)%`), as far as a module can fill
//! them.

/// A text with operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubstitutionFormat(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    CommandOperator(CommandOperator),
}

/// What stands between two percent signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOperator {
    /// `REQ(name?alternative):limit`: the first value of a request header.
    Request {
        /// The names to try in turn, in lower case.
        names: Vec<String>,
        /// Most bytes of the value that are used.
        limit: usize,
    },
    /// `DYNAMIC_METADATA(namespace:key)`: a flat value.
    DynamicMetadata {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
    },
    /// `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`.
    RemoteAddress,
    /// `BYTES_RECEIVED`: bytes of the request's body.
    BytesReceived,
    /// `BYTES_SENT`: bytes of the response's body.
    BytesSent,
}

impl SubstitutionFormat {
    /// Reads a text with operators; `%%` stands for a percent sign.
    ///
    /// # Errors
    /// Why it can't be read, and operators that a module can't fill.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((operator, after)) = after.split_once('%') else {
                return Err(format!("`{text}` has a `%` without its end"));
            };
            rest = after;
            parts.push(if operator.is_empty() {
                Part::Text("%".to_owned())
            } else {
                Part::CommandOperator(CommandOperator::parse(operator)?)
            });
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The only operator, if the text is nothing else.
    #[must_use]
    pub fn sole_operator(&self) -> Option<&CommandOperator> {
        match self.0.as_slice() {
            [Part::CommandOperator(operator)] => Some(operator),
            _ => None,
        }
    }

    /// The text, with each operator replaced by what `value` says it stands for, or by nothing.
    pub fn fill(&self, value: impl Fn(&CommandOperator) -> Option<Vec<u8>>) -> Vec<u8> {
        let mut filled = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.extend_from_slice(text.as_bytes()),
                Part::CommandOperator(operator) => {
                    filled.extend(value(operator).unwrap_or_default())
                }
            }
        }
        filled
    }
}

impl CommandOperator {
    fn parse(text: &str) -> Result<Self, String> {
        let unsupported = || format!("`%{text}%` is not supported in a module");
        let (name, argument) = match text.split_once('(') {
            Some((name, argument)) => (name, argument),
            None => (text, ""),
        };
        match (name, argument) {
            ("REQ", argument) => {
                let (names, limit) = argument.rsplit_once(')').ok_or_else(unsupported)?;
                let limit = match limit.strip_prefix(':') {
                    Some(limit) => limit.parse().map_err(|_| unsupported())?,
                    None if limit.is_empty() => usize::MAX,
                    None => return Err(unsupported()),
                };
                let names: Vec<String> = names.split('?').map(str::to_ascii_lowercase).collect();
                if names.iter().any(String::is_empty) || names.len() > 2 {
                    return Err(unsupported());
                }
                Ok(Self::Request { names, limit })
            }
            ("DYNAMIC_METADATA", argument) => {
                let path = argument.strip_suffix(')').ok_or_else(unsupported)?;
                match path.split(':').collect::<Vec<_>>().as_slice() {
                    [namespace, key] if !namespace.is_empty() && !key.is_empty() => {
                        Ok(Self::DynamicMetadata {
                            namespace: (*namespace).to_owned(),
                            key: (*key).to_owned(),
                        })
                    }
                    _ => Err(unsupported()),
                }
            }
            ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "") => Ok(Self::RemoteAddress),
            ("BYTES_RECEIVED", "") => Ok(Self::BytesReceived),
            ("BYTES_SENT", "") => Ok(Self::BytesSent),
            _ => Err(unsupported()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str) -> String {
        let value = |operator: &CommandOperator| match operator {
            CommandOperator::Request { names, limit } => names
                .iter()
                .find(|name| *name == "x-in")
                .map(|_| b"value"[..(*limit).min(5)].to_vec()),
            CommandOperator::DynamicMetadata { namespace, key } => {
                Some(format!("{namespace}/{key}").into_bytes())
            }
            _ => None,
        };
        String::from_utf8(SubstitutionFormat::parse(text).unwrap().fill(value)).unwrap()
    }

    #[test]
    fn operators_are_replaced_and_absent_values_are_empty() {
        assert_eq!(filled("a %REQ(X-In)% 100%%"), "a value 100%");
        assert_eq!(filled("%REQ(x-none?X-IN):3%|%REQ(x-none)%"), "val|");
        assert_eq!(filled("%DYNAMIC_METADATA(a.b:c)%"), "a.b/c");
    }

    #[test]
    fn what_a_module_can_not_fill_is_refused() {
        for text in
            ["50%", "%START_TIME%", "%REQ()%", "%REQ(a)x%", "%DYNAMIC_METADATA(a)%", "%REQ(a%"]
        {
            assert!(SubstitutionFormat::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = SubstitutionFormat::parse(&text);
        }
    }
}
