//! What waits to go on in one direction.

/// One direction's way to the filters behind.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    /// What goes on next.
    pub(super) ready: Vec<u8>,
    /// The machine has let the direction go, and Envoy was not told.
    pub(super) owed: bool,
    /// The end of the direction has come here.
    pub(super) ended: bool,
    /// A filter in front takes pieces out, and hands them on later.
    pub(super) company: bool,
}

impl Outlet {
    /// Bytes go on with what is let go next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
    }
}
