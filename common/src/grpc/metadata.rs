//! `initial_metadata` of a service: names, and values that may quote the request.

use callout_protos::envoy::config::core::v3::HeaderValue;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use crate::api::config::ConfigError;
use crate::api::format::{CommandOperator, SubstitutionFormat};

/// Metadata for each call, with what it quotes of the request filled in.
#[derive(Debug, Clone, Default)]
pub struct MetadataTemplate(Vec<(AsciiMetadataKey, SubstitutionFormat)>);

impl MetadataTemplate {
    /// Reads `initial_metadata`.
    ///
    /// # Errors
    /// A name that is no metadata key, or a value that can't be filled in, with its path.
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
            let value = SubstitutionFormat::parse(&header.value)
                .map_err(|reason| ConfigError::field(at("value"), reason))?;
            Ok((key, value))
        };
        values.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The metadata of one call; `value` says what an operator stands for. An entry whose value
    /// comes out empty, or is no metadata value, is left out.
    pub fn fill(&self, value: impl Fn(&CommandOperator) -> Option<Vec<u8>>) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        self.fill_into(&mut metadata, value);
        metadata
    }

    /// As [`MetadataTemplate::fill`], over what `metadata` holds: entries of the same name go.
    pub fn fill_over(
        &self,
        metadata: &mut MetadataMap,
        value: impl Fn(&CommandOperator) -> Option<Vec<u8>>,
    ) {
        for (key, _) in &self.0 {
            metadata.remove(key);
        }
        self.fill_into(metadata, value);
    }

    fn fill_into(
        &self,
        metadata: &mut MetadataMap,
        value: impl Fn(&CommandOperator) -> Option<Vec<u8>>,
    ) {
        for (key, template) in &self.0 {
            let filled = template.fill(&value);
            if !filled.is_empty()
                && let Ok(filled) = AsciiMetadataValue::try_from(filled.as_slice())
            {
                metadata.append(key.clone(), filled);
            }
        }
    }
}

/// The entries of `metadata` as they go over the wire, in a fixed order.
#[must_use]
pub fn entries(metadata: &MetadataMap) -> Vec<(&[u8], &[u8])> {
    let map: &http::HeaderMap = metadata.as_ref();
    map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect()
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
    fn an_entry_that_comes_out_empty_is_left_out() {
        let filled = |value: &str| template(value).unwrap().fill(|_| None).get("x-a").cloned();
        assert_eq!(filled("a %REQ(x)%").unwrap(), "a ");
        assert_eq!(filled("%REQ(x)%"), None);
    }

    #[test]
    fn a_value_that_can_not_be_filled_is_refused_with_its_path() {
        let error = template("%START_TIME%").unwrap_err();
        assert_eq!(error.path(), "initial_metadata[0].value");
    }
}
