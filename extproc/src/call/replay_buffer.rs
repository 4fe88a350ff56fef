//! What was sent to the processor, as long as it may have to be sent again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use callout_common::grpc::Framed;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt};

/// The most that is kept, in bytes; with more an exchange can't be begun again.
const MOST: usize = 64 << 10;

/// The messages to the processor: those that are kept, and those to come.
#[derive(Debug, Clone)]
pub(crate) struct ReplayBuffer(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    to_come: UnboundedReceiver<Framed>,
    kept: Vec<Framed>,
    bytes: usize,
    /// All that was sent is kept.
    whole: bool,
    /// The latest playing; earlier ones are over.
    playing: u32,
}

/// One playing of a tape, from its beginning.
#[derive(Debug)]
pub(crate) struct Replay {
    tape: ReplayBuffer,
    number: u32,
    next: usize,
}

impl ReplayBuffer {
    /// A tape that keeps what comes if it may be played `again`.
    pub(crate) fn new(to_come: UnboundedReceiver<Framed>, again: bool) -> Self {
        let state = State { to_come, kept: Vec::new(), bytes: 0, whole: again, playing: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Plays it from its beginning; an earlier playing ends.
    pub(crate) fn play(&self) -> Replay {
        let mut state = self.lock();
        state.playing += 1;
        Replay { tape: self.clone(), number: state.playing, next: 0 }
    }

    /// Whether it can be played again.
    pub(crate) fn is_whole(&self) -> bool {
        self.lock().whole
    }

    /// It will not be played again.
    pub(crate) fn forget(&self) {
        self.lock().forget();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        self.whole = false;
        self.kept = Vec::new();
    }
}

impl Stream for Replay {
    type Item = Framed;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Framed>> {
        let tape = self.tape.clone();
        let mut state = tape.lock();
        if state.playing != self.number {
            return Poll::Ready(None);
        }
        if let Some(message) = state.kept.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(message.clone()));
        }
        let message = ready!(state.to_come.poll_next_unpin(cx));
        if let Some(message) = message.as_ref().filter(|_| state.whole) {
            state.bytes += message.len();
            if state.bytes > MOST {
                state.forget();
            } else {
                state.kept.push(message.clone());
                self.next += 1;
            }
        }
        Poll::Ready(message)
    }
}

#[cfg(test)]
mod tests {
    use callout_protos::pbjson_types::StringValue;
    use futures::FutureExt;
    use futures::channel::mpsc;

    use super::*;

    fn next(playing: &mut Replay) -> Option<Option<Framed>> {
        playing.next().now_or_never()
    }

    fn message(text: &str) -> Framed {
        Framed::of(&StringValue { value: text.to_owned() })
    }

    #[test]
    fn it_is_played_from_its_beginning_until_it_is_forgotten() {
        let (sender, receiver) = mpsc::unbounded();
        let tape = ReplayBuffer::new(receiver, true);
        let mut first = tape.play();
        sender.unbounded_send(message("a")).unwrap();
        sender.unbounded_send(message("b")).unwrap();
        assert_eq!(next(&mut first), Some(Some(message("a"))));
        let mut second = tape.play();
        assert_eq!(next(&mut first), Some(None));
        for text in ["a", "b"] {
            assert_eq!(next(&mut second), Some(Some(message(text))));
        }
        assert_eq!(next(&mut second), None);
        tape.forget();
        assert!(!tape.is_whole());
        sender.unbounded_send(message("c")).unwrap();
        assert_eq!(next(&mut second), Some(Some(message("c"))));
        drop(sender);
        assert_eq!(next(&mut second), Some(None));
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let (sender, receiver) = mpsc::unbounded();
        let tape = ReplayBuffer::new(receiver, true);
        let mut playing = tape.play();
        let overhead = message(&"x".repeat(MOST / 2)).len() - MOST / 2;
        sender.unbounded_send(message(&"x".repeat(MOST - overhead))).unwrap();
        next(&mut playing);
        assert!(tape.is_whole());
        sender.unbounded_send(message("x")).unwrap();
        assert_eq!(next(&mut playing), Some(Some(message("x"))));
        assert!(!tape.is_whole());
        let (_sender, receiver) = mpsc::unbounded();
        assert!(!ReplayBuffer::new(receiver, false).is_whole());
    }
}
