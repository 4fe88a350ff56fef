//! Messages of Envoy's API in protobuf's text format.

use prost::{Message, Name};
use prost_reflect::DynamicMessage;
use prost_reflect::text_format::FormatOptions;

use super::descriptions::described;

/// `message` in the text format, on one line, as Envoy prints the messages that expressions come to. To be read as
/// that format, not compared: repeated fields stand in brackets here, and the order of maps is not fixed there, either.
#[must_use]
pub fn text_format<M: Message + Name>(message: &M) -> String {
    described(&M::full_name())
        .and_then(|description| {
            DynamicMessage::decode(description, message.encode_to_vec().as_slice()).ok()
        })
        .map(|message| {
            let lines = message.to_text_format_with_options(&FormatOptions::new().pretty(true));
            // Line ends within a value are escaped.
            lines.lines().map(str::trim).collect::<Vec<_>>().join(" ")
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::config::core::v3::Metadata;

    use super::*;

    #[test]
    fn metadata_is_text_with_every_value() {
        let json = r#"{"filterMetadata": {"a.b": {"k": [{"n": 1, "t": true, "s": "x\"y"}]}}}"#;
        let metadata: Metadata = serde_json::from_str(json).unwrap();
        let text = text_format(&metadata);
        for part in ["filter_metadata", r#"key: "a.b""#, "number_value: 1", r#""x\"y""#] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text_format(&Metadata::default()), "");
    }
}
