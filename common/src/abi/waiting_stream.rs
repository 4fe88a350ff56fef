//! A stream as its worker keeps it.

use core::ffi::c_void;

use super::host::AbiHost;
use super::objects::{Stream, guard};
use super::scheduler::StreamScheduler;
use crate::envoy::host::{Scheduler, WaitingStream};

/// A stream that waits on its worker. The worker has it from a hook of the stream until
/// `stream_complete` or `filter_destroy`, whichever comes first: both take it away
/// ([`crate::runner`]), and so does the stream's own end. In between its filter is live.
pub(super) struct AbiWaitingStream {
    filter: *mut c_void,
    stream: Stream,
}

impl AbiWaitingStream {
    /// Of the stream whose hook runs.
    pub(super) const fn new(filter: *mut c_void, stream: Stream) -> Self {
        Self { filter, stream }
    }
}

impl WaitingStream for AbiWaitingStream {
    fn scheduler(&self) -> Box<dyn Scheduler> {
        Box::new(StreamScheduler::new(self.filter))
    }

    fn deliver(&self) {
        guard((), || {
            let mut host = AbiHost::new(self.filter, Stream::clone(&self.stream));
            self.stream.answered(&mut host);
        });
    }
}
