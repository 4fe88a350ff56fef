//! The name of a set of descriptors.

/// The name of a set of descriptors, and of what else the service is told with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of a serialized request, sent with these entries of metadata: services may limit by
    /// either.
    pub(crate) fn of(message: &[u8], metadata: &[(&[u8], &[u8])]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            // Where a part ends is hashed, too, so that no two calls look alike.
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(message);
        for (name, value) in metadata {
            part(name);
            part(value);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// One of `parts`, of which each has as many keys as the others.
    pub(crate) fn part_of(self, parts: usize) -> usize {
        let [first, second, ..] = self.0;
        usize::from(u16::from_le_bytes([first, second])) % parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_is_told_tells_keys_apart() {
        let keys = [
            Key::of(b"m", &[]),
            Key::of(b"n", &[]),
            Key::of(b"m", &[(b"a", b"bc")]),
            Key::of(b"m", &[(b"ab", b"c")]),
            Key::of(b"m", &[(b"a", b"b"), (b"c", b"")]),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[place + 1..].contains(key), "{place}");
        }
        assert_eq!(keys[0], Key::of(b"m", &[]));
    }
}
