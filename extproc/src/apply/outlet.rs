//! What waits to go on in one direction, and what is out of its way meanwhile.

use bytes::Bytes;

/// Whether the machine has let the direction go, and Envoy was not told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Owed {
    #[default]
    Nothing,
    /// It let it go before the end came. With the end there is one chance left, which is for everything:
    /// it comes when the machine lets go what came last.
    BeforeEnd,
    /// It did, and may be told.
    Release,
}

/// One direction's way to the filters behind.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    /// What goes on next.
    pub(super) ready: Vec<u8>,
    /// What Envoy was not told yet.
    pub(super) owed: Owed,
    /// The end of the direction has come here.
    pub(super) ended: bool,
    /// Trailers are there already, and their hook has not come.
    pub(crate) trailers_due: bool,
    /// A filter in front takes pieces out, and hands them on later.
    pub(super) company: bool,
}

impl Outlet {
    /// The end of the direction has come.
    pub(super) const fn end(&mut self) {
        self.ended = true;
        if matches!(self.owed, Owed::Release) {
            self.owed = Owed::BeforeEnd;
        }
    }

    /// Bytes go on with what is let go next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
    }
}

/// What is known of the router's copy.
#[derive(Debug, Default)]
pub(crate) struct RouterCopy {
    /// The request came here with the header that the router adds.
    pub(super) marked: bool,
    /// The copy, and how many bytes go past it, while it is out of the buffer.
    pub(super) out: Option<(Bytes, usize)>,
}
