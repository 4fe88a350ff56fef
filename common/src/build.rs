//! Which build this is.

/// The version of the suite.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the source: what `CALLOUT_REVISION` said when this was compiled, as a release sets
/// it.
pub const REVISION: &str = match option_env!("CALLOUT_REVISION") {
    Some(revision) => revision,
    None => "unreleased",
};

/// Version and revision, as `0.1.0 (79a7fd1)`.
#[must_use]
pub fn version() -> String {
    format!("{VERSION} ({REVISION})")
}
