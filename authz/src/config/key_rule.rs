//! `callout.cache.key`: what a decision's key is made of.

use callout_common::envoy::attributes::Attribute;

/// What a key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyRule {
    /// Everything that is sent, but the noise.
    Everything,
    /// What the operator chose.
    Custom(Chosen),
}

/// `callout.cache.key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) headers: Vec<String>,
    pub(crate) attributes: Vec<Attribute>,
    /// The context extensions and both metadata contexts.
    pub(crate) context: bool,
    pub(crate) omit: Omit,
}

/// What is left out of a chosen key that would be in it otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "four independent choices of the operator")]
pub(crate) struct Omit {
    pub(crate) method: bool,
    pub(crate) authority: bool,
    pub(crate) path: bool,
    pub(crate) route: bool,
}

/// The fingerprint of a route's configuration.
pub(crate) fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}
