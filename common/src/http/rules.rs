//! What makes a header line well-formed, and how large a map of them may be.

/// Envoy's default limit of a header map, in lines.
pub const MAX_LINES: usize = 100;

/// Envoy's default limit of a header map, in bytes.
pub const MAX_BYTES: usize = 60 << 10;

/// The size of a header map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Header lines.
    pub lines: usize,
    /// Bytes of all names and values.
    pub bytes: usize,
}

impl Size {
    /// Whether a map that had the size `before` and has this one now is within `limits`: whatever
    /// they are, what came in fits.
    #[must_use]
    pub fn is_within(self, limits: Self, before: Self) -> bool {
        self.lines <= before.lines.max(limits.lines) && self.bytes <= before.bytes.max(limits.bytes)
    }
}

/// Whether `name` is a header name as RFC 9110 section 5.1 has it: a non-empty token.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether `value` may stand on a header line (RFC 9110 section 5.5): no control byte but the tab.
#[must_use]
pub fn valid_value(value: &[u8]) -> bool {
    value.iter().all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f))
}

/// Whether `name` (lower-case) belongs to one connection or to the framing of one message (RFC 9110
/// section 7.6.1, RFC 9112 section 6), so that no service may set it.
#[must_use]
pub fn is_framing(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a line with this value leaves the message whole: the value of a pseudo header (RFC 9113
/// section 8.3) or of `host` has a form of its own, every other name takes any valid value.
#[must_use]
pub fn keeps_message_whole(name: &str, value: &[u8]) -> bool {
    let blank = value.iter().any(u8::is_ascii_whitespace);
    match name {
        ":path" => !blank && matches!(value.first(), Some(b'/' | b'*')),
        ":method" => std::str::from_utf8(value).is_ok_and(valid_name),
        ":authority" | "host" => !blank && !value.is_empty(),
        ":scheme" => matches!(value, b"http" | b"https"),
        ":status" => matches!(value, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']),
        _ => true,
    }
}
