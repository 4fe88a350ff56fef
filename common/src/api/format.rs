//! Texts with command operators of Envoy's formatter (`%REQ(name)%`), as far as a module can fill
//! them.

use crate::envoy::types::{MetadataPath, PathSegment};

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
    /// `DYNAMIC_METADATA(namespace:key)`, or with more keys into objects: one value.
    DynamicMetadata {
        /// The namespace.
        namespace: String,
        /// Where in it.
        path: MetadataPath,
    },
    /// `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`.
    RemoteAddress,
    /// `BYTES_RECEIVED`: bytes of the request's body.
    BytesReceived,
    /// `BYTES_SENT`: bytes of the response's body.
    BytesSent,
    /// `PROTOCOL`: the version of HTTP that the client speaks.
    Protocol,
    /// `RESP(name?alternative):limit`: the first value of a response header.
    Response {
        /// The names to try in turn, in lower case.
        names: Vec<String>,
        /// Most bytes of the value that are used.
        limit: usize,
    },
    /// `TRAILER(name?alternative):limit`: the first value of a response trailer.
    Trailer {
        /// The names to try in turn, in lower case.
        names: Vec<String>,
        /// Most bytes of the value that are used.
        limit: usize,
    },
    /// `RESPONSE_CODE`: the response's status, 0 while there is none.
    ResponseCode,
    /// `RESPONSE_CODE_DETAILS`: why it has that status.
    ResponseCodeDetails,
    /// `RESPONSE_FLAGS`: what Envoy notes of the response, in short. No stream can be asked for it.
    ResponseFlags,
    /// `REQUEST_DURATION`: milliseconds from the begin of the request to the end of its body. No
    /// stream can be asked for it: filters measure it.
    RequestDuration,
}

impl CommandOperator {
    /// Whether it says something while the request is on its way up.
    const fn is_of_request(&self) -> bool {
        match self {
            Self::Request { .. }
            | Self::DynamicMetadata { .. }
            | Self::RemoteAddress
            | Self::BytesReceived
            | Self::BytesSent
            | Self::Protocol => true,
            Self::Response { .. }
            | Self::Trailer { .. }
            | Self::ResponseCode
            | Self::ResponseCodeDetails
            | Self::ResponseFlags
            | Self::RequestDuration => false,
        }
    }
}

impl SubstitutionFormat {
    /// Reads a text with operators about the request; `%%` stands for a percent sign.
    ///
    /// # Errors
    /// Why it can't be read, and operators that a module can't fill.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = Self::parse_any(text)?;
        if template.operators().all(CommandOperator::is_of_request) {
            return Ok(template);
        }
        Err(format!("`{text}` asks for what is known of the response alone"))
    }

    /// Reads a text with operators about the whole stream. Who fills it has to fill
    /// [`CommandOperator::ResponseFlags`] and [`CommandOperator::RequestDuration`], or refuse them.
    ///
    /// # Errors
    /// Why it can't be read, and operators that a module can't fill.
    pub fn parse_any(text: &str) -> Result<Self, String> {
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

    /// The operators, in order.
    pub fn operators(&self) -> impl Iterator<Item = &CommandOperator> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::CommandOperator(operator) => Some(operator),
        })
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
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            ("REQ", Some(argument)) => {
                let (names, limit) = lines(argument).ok_or_else(unsupported)?;
                Ok(Self::Request { names, limit })
            }
            ("RESP", Some(argument)) => {
                let (names, limit) = lines(argument).ok_or_else(unsupported)?;
                Ok(Self::Response { names, limit })
            }
            ("TRAILER", Some(argument)) => {
                let (names, limit) = lines(argument).ok_or_else(unsupported)?;
                Ok(Self::Trailer { names, limit })
            }
            ("DYNAMIC_METADATA", Some(argument)) => {
                let path = argument.strip_suffix(')').ok_or_else(unsupported)?;
                match path.split(':').collect::<Vec<_>>().as_slice() {
                    [namespace, key, within @ ..] if !path.split(':').any(str::is_empty) => {
                        let within = within.iter().map(|key| PathSegment::Key((*key).to_owned()));
                        Ok(Self::DynamicMetadata {
                            namespace: (*namespace).to_owned(),
                            path: MetadataPath { key: (*key).to_owned(), within: within.collect() },
                        })
                    }
                    _ => Err(unsupported()),
                }
            }
            ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", None) => Ok(Self::RemoteAddress),
            ("BYTES_RECEIVED", None) => Ok(Self::BytesReceived),
            ("BYTES_SENT", None) => Ok(Self::BytesSent),
            ("PROTOCOL", None) => Ok(Self::Protocol),
            ("RESPONSE_CODE", None) => Ok(Self::ResponseCode),
            ("RESPONSE_CODE_DETAILS", None) => Ok(Self::ResponseCodeDetails),
            ("RESPONSE_FLAGS", None) => Ok(Self::ResponseFlags),
            ("REQUEST_DURATION", None) => Ok(Self::RequestDuration),
            _ => Err(unsupported()),
        }
    }
}

/// The names and the limit of `name?alternative):limit`.
fn lines(argument: &str) -> Option<(Vec<String>, usize)> {
    let (names, limit) = argument.rsplit_once(')')?;
    let limit = match limit.strip_prefix(':') {
        Some(limit) => limit.parse().ok()?,
        None if limit.is_empty() => usize::MAX,
        None => return None,
    };
    let names: Vec<String> = names.split('?').map(str::to_ascii_lowercase).collect();
    (names.len() <= 2 && !names.iter().any(String::is_empty)).then_some((names, limit))
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
            CommandOperator::DynamicMetadata { namespace, path: MetadataPath { key, .. } } => {
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
        for text in [
            "50%",
            "%START_TIME%",
            "%REQ()%",
            "%REQ(a)x%",
            "%DYNAMIC_METADATA(a)%",
            "%DYNAMIC_METADATA(a:b:)%",
            "%REQ(a%",
            "%PROTOCOL(%",
        ] {
            assert!(SubstitutionFormat::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_known_of_the_response_alone_is_for_those_who_see_it() {
        for text in ["%RESP(a?B):3%", "%TRAILER(a)%", "%RESPONSE_CODE%", "%REQUEST_DURATION%"] {
            assert!(SubstitutionFormat::parse(text).is_err(), "{text}");
            let template = SubstitutionFormat::parse_any(text).unwrap();
            assert!(template.sole_operator().is_some(), "{text}");
        }
        let names = vec!["a".to_owned(), "b".to_owned()];
        let response = CommandOperator::Response { names, limit: 3 };
        assert_eq!(
            SubstitutionFormat::parse_any("%RESP(a?B):3%").unwrap().sole_operator(),
            Some(&response)
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = SubstitutionFormat::parse(&text);
        }
    }
}
