//! What an operator may ask of a running filter, through Envoy's admin interface.

/// Which kept decisions are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// All of them.
    All,
    /// Those about requests of the route of this name.
    Route(String),
    /// Those that the service tagged with a text that begins so.
    Tag(String),
}
