//! gRPC's messages in HTTP/2's bytes: each behind a flag and its length. No I/O.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::error::CallError;

/// Bytes before a message.
pub(crate) const PREFIX: usize = 5;

/// A message as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed(Bytes);

impl Framed {
    /// Frames `message`.
    #[must_use]
    pub fn of(message: &impl Message) -> Self {
        Self(framed(message))
    }

    /// Its length on the wire, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Frames an encoded message.
    #[cfg(test)]
    pub(crate) fn encoded(message: &[u8]) -> Self {
        Self(framed_bytes(message))
    }
}

/// `message` as it goes over the wire.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    put_prefix(&mut bytes, length);
    // It has room: `BytesMut` grows.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// An encoded message as it goes over the wire.
#[cfg(test)]
pub(crate) fn framed_bytes(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    put_prefix(&mut bytes, message.len());
    bytes.extend_from_slice(message);
    bytes.freeze()
}

fn put_prefix(bytes: &mut BytesMut, length: usize) {
    bytes.put_u8(0);
    // A message of 4 GiB does not come about: bodies are bounded far below.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Takes messages out of the bytes of an answer.
#[derive(Debug)]
pub(crate) struct Messages {
    bytes: BytesMut,
    largest: usize,
}

impl Messages {
    /// Messages of up to `largest` bytes.
    pub(crate) fn new(largest: usize) -> Self {
        Self { bytes: BytesMut::new(), largest }
    }

    /// What came.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::from(piece);
        } else {
            self.bytes.extend_from_slice(&piece);
        }
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] as soon as its length is known; [`CallError::Decode`] for a message
    /// that is compressed, which was not asked for.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some((prefix, rest)) = self.bytes.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        if flag != 0 {
            return Err(CallError::Decode(format!("a message has the flag {flag}")));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.largest {
            return Err(CallError::TooLarge);
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.bytes.advance(PREFIX);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_cut(&self) -> bool {
        !self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::service::auth::v3::CheckResponse;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_framed_as_its_bytes_are() {
        let message = CheckResponse { status: Some(Default::default()), ..Default::default() };
        let bytes = framed(&message);
        assert_eq!(bytes, framed_bytes(&message.encode_to_vec()));
        assert_eq!(bytes[..PREFIX], [0, 0, 0, 0, 2]);
    }

    #[test]
    fn a_message_over_the_limit_is_known_by_its_length_alone() {
        let mut messages = Messages::new(3);
        messages.push(Bytes::from_static(&[0, 0, 0, 0, 4]));
        assert_eq!(messages.next(), Err(CallError::TooLarge));
    }

    #[test]
    fn a_flag_that_nobody_asked_for_is_an_error() {
        for flag in [1, 2, 255] {
            let mut messages = Messages::new(9);
            messages.push(Bytes::copy_from_slice(&[flag, 0, 0, 0, 0]));
            assert!(matches!(messages.next(), Err(CallError::Decode(_))));
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_the_bytes_are_cut(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(1_usize..20, 1..20),
        ) {
            let all: Vec<u8> = sent.iter().flat_map(|message| framed_bytes(message)).collect();
            let (mut messages, mut got, mut at) = (Messages::new(40), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(all.len());
                messages.push(Bytes::copy_from_slice(&all[at..end]));
                at = end;
                while let Some(message) = messages.next().unwrap() {
                    got.push(message.to_vec());
                }
                prop_assert_eq!(messages.is_cut(), {
                    let whole: usize = got.iter().map(|message| message.len() + PREFIX).sum();
                    whole != at
                });
                if at == all.len() {
                    break;
                }
            }
            prop_assert_eq!(got, sent);
        }
    }
}
