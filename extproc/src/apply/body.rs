//! The bodies while actions are carried out: a view of what Envoy keeps of them, which Envoy is told
//! of when all is done.

use bytes::Bytes;
use callout_common::envoy::types::Body;
use callout_common::{BodyEdit, Direction};

use super::chain::Share;
use crate::call::event::Context;

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

    /// What Envoy keeps: for the filters behind, for this one, and for those in front.
    fn split(&self, cx: &Context<'_>, direction: Direction, share: Share) -> [Vec<u8>; 3] {
        let mut behind = self.kept(cx, direction);
        // With less than they kept, they let it go since.
        let at = if share.behind <= behind.len() { share.behind } else { 0 };
        let mut ours = behind.split_off(at);
        let front = ours.split_off(ours.len().saturating_sub(share.front));
        [behind, ours, front]
    }

    /// Length of what Envoy keeps, whoever it is for.
    pub(crate) fn len(&self, cx: &Context<'_>, direction: Direction) -> usize {
        let changed = self.of(direction).kept.as_ref();
        changed.map_or_else(|| cx.body_len(Body::buffered(direction)), Vec::len)
    }

    /// What there is for this filter: what Envoy keeps for it, and the hook's piece.
    pub(crate) fn our_body(&self, cx: &Context<'_>, direction: Direction, share: Share) -> Bytes {
        let [_, mut bytes, _] = self.split(cx, direction, share);
        if !self.of(direction).taken && !cx.received_is_buffered(direction) {
            bytes.extend(cx.body(Body::received(direction)));
        }
        bytes.into()
    }

    /// Length of what there is for this filter.
    pub(crate) fn our_len(&self, cx: &Context<'_>, direction: Direction, share: Share) -> usize {
        self.kept_len(cx, direction, share).saturating_add(self.piece_len(cx, direction))
    }

    /// Length of what Envoy keeps for this filter.
    pub(crate) fn kept_len(&self, cx: &Context<'_>, direction: Direction, share: Share) -> usize {
        let kept = self.len(cx, direction);
        // As in `split`.
        let ours = kept - if share.behind <= kept { share.behind } else { 0 };
        ours.saturating_sub(share.front)
    }

    /// Length of the hook's piece, as far as it does not lie with the rest already.
    pub(crate) fn piece_len(&self, cx: &Context<'_>, direction: Direction) -> usize {
        if self.of(direction).taken || cx.received_is_buffered(direction) {
            return 0;
        }
        cx.body_len(Body::received(direction))
    }

    /// Takes what there is for this filter out of Envoy.
    pub(crate) fn take(&mut self, cx: &Context<'_>, direction: Direction, share: Share) -> Bytes {
        let bytes = self.our_body(cx, direction, share);
        let [behind, _, front] = self.split(cx, direction, share);
        *self.of_mut(direction) = Change { kept: Some([behind, front].concat()), taken: true };
        bytes
    }

    /// Takes the first bytes of what Envoy keeps out, whoever they are for.
    pub(crate) fn take_first(
        &mut self,
        cx: &Context<'_>,
        direction: Direction,
        bytes: usize,
    ) -> Bytes {
        let mut first = self.kept(cx, direction);
        let rest = first.split_off(bytes.min(first.len()));
        self.of_mut(direction).kept = Some(rest);
        first.into()
    }

    /// Puts bytes after what Envoy keeps for this filter.
    pub(crate) fn append(
        &mut self,
        cx: &Context<'_>,
        direction: Direction,
        bytes: &[u8],
        share: Share,
    ) {
        let [behind, ours, front] = self.split(cx, direction, share);
        self.of_mut(direction).kept = Some([&behind, &ours, bytes, &front].concat());
    }

    /// Puts bytes before what Envoy keeps for this filter. The hook's piece comes after all of it.
    pub(crate) fn prepend(
        &mut self,
        cx: &Context<'_>,
        direction: Direction,
        bytes: &[u8],
        share: Share,
    ) {
        let [behind, ours, front] = self.split(cx, direction, share);
        self.of_mut(direction).kept = Some([&behind, bytes, &ours, &front].concat());
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
