//! `initial_metadata` of a service: names, and values that may quote the request.

use callout_protos::envoy::config::core::v3::HeaderValue;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use crate::config::ConfigError;

/// Metadata for each call, with the request's headers filled in.
#[derive(Debug, Clone, Default)]
pub struct MetadataTemplate(Vec<(AsciiMetadataKey, Vec<Part>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `%REQ(name)%`: the first value of a request header.
    Header(String),
}

impl MetadataTemplate {
    /// Reads `initial_metadata`. Values may hold `%REQ(name)%` and `%%`.
    ///
    /// # Errors
    /// A name that is no metadata key, or another command operator, with its path.
    pub fn parse(values: &[HeaderValue]) -> Result<Self, ConfigError> {
        let parse = |(index, header): (usize, &HeaderValue)| {
            let at = |field: &str| format!("initial_metadata[{index}].{field}");
            let name = header.key.to_ascii_lowercase();
            let key = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| {
                ConfigError::field(at("key"), format!("`{name}` is no name of ASCII metadata"))
            })?;
            if !header.raw_value.is_empty() {
                return Err(ConfigError::field(at("raw_value"), "is not supported: use value"));
            }
            let parts =
                parts(&header.value).map_err(|reason| ConfigError::field(at("value"), reason))?;
            Ok((key, parts))
        };
        values.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The metadata of one call. `header` gives the first value of a request header. An entry whose
    /// value comes out empty, or is no metadata value, is left out.
    pub fn fill<'a>(&self, header: impl Fn(&str) -> Option<&'a [u8]>) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (key, parts) in &self.0 {
            let mut value = Vec::new();
            for part in parts {
                match part {
                    Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                    Part::Header(name) => value.extend_from_slice(header(name).unwrap_or_default()),
                }
            }
            if !value.is_empty()
                && let Ok(value) = AsciiMetadataValue::try_from(value.as_slice())
            {
                metadata.append(key.clone(), value);
            }
        }
        metadata
    }
}

fn parts(value: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some((text, after)) = rest.split_once('%') {
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        let Some((operator, after)) = after.split_once('%') else {
            return Err(format!("`{value}` has a `%` without its end"));
        };
        rest = after;
        if operator.is_empty() {
            parts.push(Part::Text("%".to_owned()));
            continue;
        }
        let name = operator.strip_prefix("REQ(").and_then(|name| name.strip_suffix(')'));
        match name {
            Some(name) if !name.is_empty() && !name.contains('?') => {
                parts.push(Part::Header(name.to_ascii_lowercase()));
            }
            _ => {
                return Err(format!(
                    "`%{operator}%` is not supported: only %REQ(name)% and %% are"
                ));
            }
        }
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(value: &str) -> Result<MetadataTemplate, ConfigError> {
        let header =
            HeaderValue { key: "X-A".to_owned(), value: value.to_owned(), raw_value: Vec::new() };
        MetadataTemplate::parse(&[header])
    }

    #[test]
    fn request_headers_are_filled_in_and_empty_results_left_out() {
        let filled = |value: &str| {
            template(value)
                .unwrap()
                .fill(|name| (name == "x-in").then_some(b"v".as_slice()))
                .get("x-a")
                .cloned()
        };
        assert_eq!(filled("a %REQ(X-In)% 100%%").unwrap(), "a v 100%");
        assert_eq!(filled("%REQ(x-absent)%"), None);
    }

    #[test]
    fn other_operators_are_refused_by_their_path() {
        let error = template("%DOWNSTREAM_REMOTE_ADDRESS%").unwrap_err();
        assert_eq!(error.path(), "initial_metadata[0].value");
        assert!(template("50%").is_err());
    }
}
