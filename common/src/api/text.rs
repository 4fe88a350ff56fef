//! Bytes of a request as text for a message.

/// `value` as UTF-8, every byte that is none replaced by `!`. Leaving the header out, or failing,
/// would let a client hide it from the service.
#[must_use]
pub fn sanitized(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sanitizing_keeps_text_and_replaces_exactly_the_bytes_that_are_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            text in ".*",
        ) {
            prop_assert_eq!(sanitized(text.as_bytes()), text);
            let clean = sanitized(&bytes);
            if let Ok(same) = std::str::from_utf8(&bytes) {
                prop_assert_eq!(clean, same);
            } else {
                prop_assert_eq!(clean.len(), bytes.len());
            }
        }
    }
}
