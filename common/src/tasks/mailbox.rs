//! The hand-over from other threads to a stream: a mailbox on the worker, outboxes elsewhere.
//!
//! The mailbox owns what tells the stream: its worker, or where there is none a scheduler of the stream's
//! own. Pushing and committing, and closing, happen under one
//! lock: once `Mailbox::close` has returned, no other thread calls Envoy for this stream. At most
//! one commit is outstanding; its number is the generation, by which a late or doubled event is
//! recognised.

use std::collections::VecDeque;

#[cfg(feature = "loom")]
use loom::sync::{Arc, Mutex, MutexGuard};
#[cfg(not(feature = "loom"))]
use std::sync::{Arc, Mutex, MutexGuard};

use crate::envoy::host::Scheduler;

/// What reaches a stream from off its worker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<E> {
    /// The event that the work ended with, or sent.
    Event(E),
    /// The work ended without an event.
    Lost(TaskFailure),
    /// What could not go yet may be let go now.
    TryAgain,
}

/// Why work ended without its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskFailure {
    /// It panicked.
    Panicked,
    /// It was dropped before its end, or never started.
    Dropped,
}

/// The worker's end.
pub(crate) struct Mailbox<E> {
    shared: Arc<Mutex<Shared<E>>>,
}

struct Shared<E> {
    queue: VecDeque<Message<E>>,
    scheduler: Option<Box<dyn Scheduler>>,
    generation: u64,
    committed: bool,
    closed: bool,
}

/// The stream is over; the event was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended")]
pub struct Closed;

/// Sends events to a stream, from any thread.
pub struct Outbox<E> {
    shared: Arc<Mutex<Shared<E>>>,
}

impl<E> Clone for Outbox<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<E> std::fmt::Debug for Outbox<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

/// A poisoned lock still guards consistent data: no code that runs under it can leave it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl<E> Mailbox<E> {
    pub(crate) fn new(scheduler: Box<dyn Scheduler>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                queue: VecDeque::new(),
                scheduler: Some(scheduler),
                generation: 0,
                committed: false,
                closed: false,
            })),
        }
    }

    pub(crate) fn outbox(&self) -> Outbox<E> {
        Outbox { shared: Arc::clone(&self.shared) }
    }

    /// Takes what has gathered, if `generation` is the outstanding commit. Mail that comes later
    /// commits anew.
    pub(crate) fn drain(&self, generation: u64) -> VecDeque<Message<E>> {
        let mut shared = lock(&self.shared);
        if shared.closed || !shared.committed || shared.generation != generation {
            return VecDeque::new();
        }
        shared.committed = false;
        std::mem::take(&mut shared.queue)
    }

    /// Takes what has gathered. Mail that comes later commits anew.
    pub(crate) fn take(&self) -> VecDeque<Message<E>> {
        let mut shared = lock(&self.shared);
        shared.committed = false;
        std::mem::take(&mut shared.queue)
    }

    /// Ends the hand-over: later mail is dropped, and the scheduler is deleted here.
    pub(crate) fn close(&self) {
        let (queue, scheduler) = {
            let mut shared = lock(&self.shared);
            shared.closed = true;
            (std::mem::take(&mut shared.queue), shared.scheduler.take())
        };
        // Events may own what takes locks when dropped, so they go after ours is free.
        drop((queue, scheduler));
    }
}

impl<E> Drop for Mailbox<E> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<E> Outbox<E> {
    /// Sends `event`. Events of one sender arrive in order.
    ///
    /// # Errors
    /// [`Closed`] when the stream has ended.
    pub fn send(&self, event: E) -> Result<(), Closed> {
        self.push(Message::Event(event))
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.shared).closed
    }

    pub(crate) fn push(&self, mail: Message<E>) -> Result<(), Closed> {
        let mut shared = lock(&self.shared);
        if shared.closed {
            drop(shared);
            return Err(Closed);
        }
        shared.queue.push_back(mail);
        if !shared.committed {
            shared.committed = true;
            shared.generation += 1;
            let generation = shared.generation;
            if let Some(scheduler) = &shared.scheduler {
                scheduler.commit(generation);
            }
        }
        Ok(())
    }
}

/// Posts [`Message::Lost`] when dropped before the work delivered its event.
pub(crate) struct TaskGuard<E> {
    outbox: Option<Outbox<E>>,
}

impl<E> TaskGuard<E> {
    pub(crate) const fn new(outbox: Outbox<E>) -> Self {
        Self { outbox: Some(outbox) }
    }

    /// Delivers the event; the guard has nothing left to do.
    pub(crate) fn deliver(mut self, event: E) {
        if let Some(outbox) = self.outbox.take() {
            // A stream that has ended needs no answer.
            let _ = outbox.send(event);
        }
    }

    /// Says that the work panicked.
    pub(crate) fn panicked(mut self) {
        if let Some(outbox) = self.outbox.take() {
            let _ = outbox.push(Message::Lost(TaskFailure::Panicked));
        }
    }
}

impl<E> Drop for TaskGuard<E> {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            let _ = outbox.push(Message::Lost(TaskFailure::Dropped));
        }
    }
}

/// Every interleaving of the hand-over: `cargo test-loom`.
#[cfg(all(test, feature = "loom"))]
mod model {
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::thread;

    use super::*;

    #[derive(Clone)]
    struct Watched {
        commits: Arc<AtomicUsize>,
        latest: Arc<AtomicUsize>,
        ended: Arc<AtomicBool>,
    }

    impl Watched {
        fn new() -> Self {
            Self {
                commits: Arc::new(AtomicUsize::new(0)),
                latest: Arc::new(AtomicUsize::new(0)),
                ended: Arc::new(AtomicBool::new(false)),
            }
        }
    }

    impl Scheduler for Watched {
        fn commit(&self, event: u64) {
            assert!(!self.ended.load(Ordering::SeqCst), "a commit after the close");
            self.commits.fetch_add(1, Ordering::SeqCst);
            self.latest.store(usize::try_from(event).unwrap(), Ordering::SeqCst);
        }
    }

    #[test]
    fn no_commit_comes_after_the_close() {
        loom::model(|| {
            let watched = Watched::new();
            let mailbox = Mailbox::new(Box::new(watched.clone()));
            let senders: Vec<_> = (0..2)
                .map(|n| {
                    let outbox = mailbox.outbox();
                    thread::spawn(move || outbox.send(n))
                })
                .collect();
            mailbox.close();
            watched.ended.store(true, Ordering::SeqCst);
            for sender in senders {
                let _ = sender.join().unwrap();
            }
        });
    }

    #[test]
    fn every_event_is_drained_once_and_by_few_commits() {
        loom::model(|| {
            let watched = Watched::new();
            let mailbox = Mailbox::new(Box::new(watched.clone()));
            let senders: Vec<_> = (0..2)
                .map(|n| {
                    let outbox = mailbox.outbox();
                    thread::spawn(move || outbox.send(n).unwrap())
                })
                .collect();
            // Envoy may fire between the two, or after both.
            let fire = || {
                let latest = watched.latest.load(Ordering::SeqCst);
                mailbox.drain(u64::try_from(latest).unwrap()).len()
            };
            let early = fire();
            for sender in senders {
                sender.join().unwrap();
            }
            let late = fire();
            assert_eq!(early + late, 2, "{early} and {late}");
            // A commit that was fired already announces nothing.
            assert_eq!(fire(), 0);
            assert!(watched.commits.load(Ordering::SeqCst) <= 2);
        });
    }

    #[test]
    fn lost_work_is_told_unless_the_stream_ended() {
        loom::model(|| {
            let watched = Watched::new();
            let mailbox = Mailbox::<()>::new(Box::new(watched.clone()));
            let guard = TaskGuard::new(mailbox.outbox());
            let worker = thread::spawn(move || drop(guard));
            let early = mailbox.drain(1).len();
            worker.join().unwrap();
            let late = mailbox.drain(1);
            assert_eq!(early + late.len(), 1);
            mailbox.close();
        });
    }
}
