//! The main thread's end: opens streams, and sorts what Envoy hands to it by call.

use crate::envoy::cluster::ClusterError;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{ClusterStreams, Command, ResponseEvent, ResponseSender};
use crate::envoy::cluster::ClusterHost;
use crate::envoy::host::Scheduler;
use crate::envoy::types::Header;
use crate::tasks::mailbox::{Mailbox, Message};

/// The streams of one configuration. Every method runs on the main thread; the lock is for the
/// type's sake, and is not held while Envoy is called.
pub(crate) struct ClusterStreamManager {
    mailbox: Mailbox<Command>,
    open: Mutex<Open>,
}

/// The open streams, by the numbers of both sides.
#[derive(Default)]
struct Open {
    streams: HashMap<u64, u64>,
    callers: HashMap<u64, (u64, ResponseSender)>,
}

impl Open {
    fn add(&mut self, number: u64, stream: u64, caller: ResponseSender) {
        self.streams.insert(number, stream);
        self.callers.insert(stream, (number, caller));
    }

    fn take(&mut self, stream: u64) -> Option<ResponseSender> {
        let (number, caller) = self.callers.remove(&stream)?;
        self.streams.remove(&number);
        Some(caller)
    }
}

impl ClusterStreamManager {
    pub(crate) fn new(scheduler: Box<dyn Scheduler>) -> Self {
        Self { mailbox: Mailbox::new(scheduler), open: Mutex::default() }
    }

    /// The way here.
    pub(crate) fn clusters(&self) -> ClusterStreams {
        ClusterStreams::new(self.mailbox.outbox())
    }

    /// Carries out what was asked for, when Envoy fires `event`.
    pub(crate) fn scheduled(&self, host: &mut dyn ClusterHost, event: u64) {
        for mail in self.mailbox.drain(event) {
            let Message::Event(command) = mail else { continue };
            match command {
                Command::Open(_, _, caller) if caller.is_gone() => {}
                Command::Open(number, opening, caller) => match host.open_stream(&opening) {
                    Ok(stream) => self.open().add(number, stream, caller),
                    Err(error) => caller.send(ResponseEvent::Failed(error)),
                },
                Command::Send(number, bytes, end) => {
                    if let Some(stream) = self.stream(number) {
                        host.send_data(stream, &bytes, end);
                    }
                }
                Command::Reset(number) => {
                    if let Some(stream) = self.stream(number) {
                        self.open().take(stream);
                        host.reset_stream(stream);
                    }
                }
            }
        }
    }

    /// The answer's headers.
    pub(crate) fn headers(&self, stream: u64, lines: &[Header<'_>], end: bool) {
        self.with(stream, |caller| {
            let status = lines
                .iter()
                .find(|line| line.name == b":status")
                .and_then(|line| StatusCode::from_bytes(line.value).ok())
                .unwrap_or(StatusCode::BAD_GATEWAY);
            caller.send(ResponseEvent::Head(status, map(lines), end));
        });
    }

    /// A piece of the answer's body.
    pub(crate) fn data(
        &self,
        host: &mut dyn ClusterHost,
        stream: u64,
        chunks: &[&[u8]],
        end: bool,
    ) {
        let room = self.with(stream, |caller| {
            let room = caller.data(concat(chunks));
            if room && end {
                caller.send(ResponseEvent::End(None));
            }
            room
        });
        if room == Some(false) {
            self.ended(stream, ClusterError::TooLarge);
            host.reset_stream(stream);
        }
    }

    /// The answer's trailers.
    pub(crate) fn trailers(&self, stream: u64, lines: &[Header<'_>]) {
        self.with(stream, |caller| {
            caller.send(ResponseEvent::End(Some(map(lines))));
        });
    }

    /// Both sides ended, or the stream was reset: it is gone. Whoever has the whole answer no longer
    /// listens.
    pub(crate) fn ended(&self, stream: u64, error: ClusterError) {
        let caller = self.open().take(stream);
        if let Some(caller) = caller {
            caller.send(ResponseEvent::Failed(error));
        }
    }

    /// The configuration is gone, and Envoy with it: every call was reset.
    pub(crate) fn close(&self) {
        self.mailbox.close();
        drop(std::mem::take(&mut *self.open()));
    }

    fn stream(&self, number: u64) -> Option<u64> {
        self.open().streams.get(&number).copied()
    }

    fn with<T>(&self, stream: u64, tell: impl FnOnce(&ResponseSender) -> T) -> Option<T> {
        self.open().callers.get(&stream).map(|(_, caller)| tell(caller))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn concat(chunks: &[&[u8]]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
    for chunk in chunks {
        bytes.extend_from_slice(chunk);
    }
    bytes.freeze()
}

/// The lines without the pseudo headers. Envoy has checked names and values already.
fn map(lines: &[Header<'_>]) -> HeaderMap {
    lines
        .iter()
        .filter_map(|line| {
            let name = HeaderName::from_bytes(line.name).ok()?;
            Some((name, HeaderValue::from_bytes(line.value).ok()?))
        })
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}
