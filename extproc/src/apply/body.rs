//! The bodies while actions are carried out: a view of what Envoy keeps of them, which Envoy is told
//! of when all is done.

use bytes::Bytes;
use callout_common::envoy::types::Body;
use callout_common::{BodyEdit, Direction};

use crate::stream::Context;

/// What becomes of the two bodies.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    request: Change,
    response: Change,
}

#[derive(Debug, Default)]
struct Change {
    /// What Envoy is to keep, if that changes.
    kept: Option<Vec<u8>>,
    /// The hook's piece is taken out.
    taken: bool,
}

impl Bodies {
    const fn of(&self, direction: Direction) -> &Change {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    const fn of_mut(&mut self, direction: Direction) -> &mut Change {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    fn kept(&self, cx: &Context<'_>, direction: Direction) -> Vec<u8> {
        let changed = self.of(direction).kept.as_ref();
        changed.cloned().unwrap_or_else(|| cx.body(Body::buffered(direction)))
    }

    /// What Envoy keeps: `behind` bytes for the filters behind, as far as they are still there, and
    /// the rest for this one.
    fn split(&self, cx: &Context<'_>, direction: Direction, behind: usize) -> (Vec<u8>, Vec<u8>) {
        let mut theirs = self.kept(cx, direction);
        // With less than they kept, they let it go since.
        let our_body = theirs.split_off(if behind <= theirs.len() { behind } else { 0 });
        (theirs, our_body)
    }

    /// Length of what Envoy keeps, whoever it is for.
    pub(crate) fn len(&self, cx: &Context<'_>, direction: Direction) -> usize {
        let changed = self.of(direction).kept.as_ref();
        changed.map_or_else(|| cx.body_len(Body::buffered(direction)), Vec::len)
    }

    /// What there is for this filter: what Envoy keeps for it, and the hook's piece.
    pub(crate) fn our_body(&self, cx: &Context<'_>, direction: Direction, behind: usize) -> Bytes {
        let (_, mut bytes) = self.split(cx, direction, behind);
        if !self.of(direction).taken && !cx.received_is_buffered(direction) {
            bytes.extend(cx.body(Body::received(direction)));
        }
        bytes.into()
    }

    /// Takes what there is for this filter out of Envoy.
    pub(crate) fn take(&mut self, cx: &Context<'_>, direction: Direction, behind: usize) -> Bytes {
        let bytes = self.our_body(cx, direction, behind);
        let (theirs, _) = self.split(cx, direction, behind);
        *self.of_mut(direction) = Change { kept: Some(theirs), taken: true };
        bytes
    }

    /// Puts bytes after what Envoy keeps.
    pub(crate) fn append(&mut self, cx: &Context<'_>, direction: Direction, bytes: &[u8]) {
        let mut kept = self.kept(cx, direction);
        kept.extend_from_slice(bytes);
        self.of_mut(direction).kept = Some(kept);
    }

    /// Puts bytes before what Envoy keeps for this filter. The hook's piece comes after all of it.
    pub(crate) fn prepend(
        &mut self,
        cx: &Context<'_>,
        direction: Direction,
        bytes: &[u8],
        behind: usize,
    ) {
        let (theirs, our_body) = self.split(cx, direction, behind);
        self.of_mut(direction).kept = Some([&theirs, bytes, &our_body].concat());
    }

    /// What Envoy is to be told.
    pub(crate) fn into_edits(self) -> Vec<BodyEdit> {
        let mut edits = Vec::new();
        for (direction, change) in
            [(Direction::Request, self.request), (Direction::Response, self.response)]
        {
            if change.taken {
                edits.push(BodyEdit::TakePiece(direction));
            }
            if let Some(kept) = change.kept {
                edits.push(BodyEdit::Keep(direction, kept.into()));
            }
        }
        edits
    }
}
