//! Timers of a stream: one task each, however often they are set anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::tasks::mailbox::Outbox;
use crate::worker;

/// What stands for a time that no clock reaches: thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A timer of a stream: it sends one event when its time comes. [`StreamContext::set_timer`] sets it;
/// setting it again replaces both the event and the time. However often that happens, a timer is one task,
/// which ends with the stream.
///
/// [`StreamContext::set_timer`]: crate::StreamContext::set_timer
pub struct Timer<E>(Option<Arc<Shared<E>>>);

struct Shared<E> {
    due: Mutex<Option<(Instant, E)>>,
    /// Something is due earlier than the task sleeps for.
    earlier: Notify,
}

impl<E> Default for Timer<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E> std::fmt::Debug for Timer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("started", &self.0.is_some()).finish_non_exhaustive()
    }
}

impl<E: Send + 'static> Timer<E> {
    /// Forgets what it was set to.
    pub fn cancel(&mut self) {
        if let Some(shared) = &self.0 {
            *shared.lock() = None;
        }
    }

    /// Sets it. The first time there is a task to be run.
    pub(crate) fn set(&mut self, delay: Duration, event: E) -> Option<Task<E>> {
        let now = worker::now();
        let at = now.checked_add(delay).unwrap_or_else(|| now + FAR);
        if let Some(shared) = &self.0 {
            shared.set(at, event);
            return None;
        }
        let due = Mutex::new(Some((at, event)));
        let shared = Arc::new(Shared { due, earlier: Notify::new() });
        self.0 = Some(Arc::clone(&shared));
        Some(Task(shared))
    }
}

/// What waits for the time.
pub(crate) struct Task<E>(Arc<Shared<E>>);

impl<E> Task<E> {
    pub(crate) async fn run(self, outbox: Outbox<E>) {
        let Self(shared) = self;
        loop {
            match shared.take_due() {
                Ok(event) => {
                    if outbox.send(event).is_err() {
                        return;
                    }
                }
                Err(Some(at)) => {
                    tokio::select! {
                        biased;
                        () = worker::sleep_until(at) => {}
                        () = shared.earlier.notified() => {}
                    }
                }
                Err(None) => shared.earlier.notified().await,
            }
        }
    }
}

impl<E> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, Option<(Instant, E)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: Instant, event: E) {
        let before = self.lock().replace((at, event));
        // A later time is seen when the earlier one comes.
        if before.is_none_or(|(before, _)| at < before) {
            self.earlier.notify_one();
        }
    }

    /// The event, if its time has come; else when that is.
    fn take_due(&self) -> Result<E, Option<Instant>> {
        let mut due = self.lock();
        match due.take() {
            Some((at, event)) if at <= worker::now() => Ok(event),
            later => {
                let at = later.as_ref().map(|(at, _)| *at);
                *due = later;
                Err(at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::envoy::host::Scheduler;
    use crate::tasks::mailbox::{Mailbox, Message};

    const SECOND: Duration = Duration::from_secs(1);

    const NOTHING: [u32; 0] = [];

    /// The number of the latest commit.
    #[derive(Clone, Default)]
    struct Commits(Arc<AtomicU64>);

    impl Scheduler for Commits {
        fn commit(&self, event: u64) {
            self.0.store(event, Ordering::SeqCst);
        }
    }

    /// A mailbox, and a timer whose task runs.
    struct Bench {
        mailbox: Mailbox<u32>,
        commits: Commits,
        timer: Timer<u32>,
        tasks: usize,
    }

    impl Bench {
        fn new() -> Self {
            let commits = Commits::default();
            let mailbox = Mailbox::new(Box::new(commits.clone()));
            Self { mailbox, commits, timer: Timer::default(), tasks: 0 }
        }

        fn set(&mut self, delay: Duration, event: u32) {
            if let Some(task) = self.timer.set(delay, event) {
                self.tasks += 1;
                tokio::spawn(task.run(self.mailbox.outbox()));
            }
        }

        /// What has come after `wait`.
        async fn after(&self, wait: Duration) -> Vec<u32> {
            tokio::time::sleep(wait).await;
            let commit = self.commits.0.load(Ordering::SeqCst);
            let event = |mail| match mail {
                Message::Event(event) => Some(event),
                Message::Lost(_) | Message::TryAgain => None,
            };
            self.mailbox.drain(commit).into_iter().filter_map(event).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_set_last_counts_and_all_of_it_is_one_task() {
        let mut bench = Bench::new();
        for event in 0..1000 {
            bench.set(SECOND, event);
        }
        // Later, and then earlier than before.
        bench.set(5 * SECOND, 1);
        assert_eq!(bench.after(2 * SECOND).await, NOTHING);
        bench.set(SECOND, 2);
        assert_eq!(bench.after(2 * SECOND).await, [2]);
        assert_eq!(bench.after(10 * SECOND).await, NOTHING);
        bench.set(SECOND, 3);
        assert_eq!(bench.after(2 * SECOND).await, [3]);
        assert_eq!(bench.tasks, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cancelled_or_can_never_come_does_not_come() {
        let mut bench = Bench::new();
        bench.set(SECOND, 1);
        bench.timer.cancel();
        assert_eq!(bench.after(2 * SECOND).await, NOTHING);
        bench.set(Duration::MAX, 2);
        assert_eq!(bench.after(2 * SECOND).await, NOTHING);
    }
}
