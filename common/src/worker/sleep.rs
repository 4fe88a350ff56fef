//! Waiting for an instant, on a worker.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use super::timers::Alarm;
use super::{now, worker};

/// Ready at an instant.
#[derive(Debug)]
pub(crate) struct Sleep {
    at: Instant,
    alarm: Option<Alarm>,
}

/// Waits until `at`, as exactly as the worker's loop turns.
pub(crate) const fn sleep(at: Instant) -> Sleep {
    Sleep { at, alarm: None }
}

impl Sleep {
    fn clear(&mut self) {
        if let Some(alarm) = self.alarm.take()
            && let Some(worker) = worker()
        {
            worker.timers.borrow_mut().clear(&alarm);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if now() >= self.at {
            self.clear();
            return Poll::Ready(());
        }
        // A task keeps its waker for life, so once is enough.
        if self.alarm.is_none()
            && let Some(worker) = worker()
        {
            self.alarm = Some(worker.timers.borrow_mut().set(self.at, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Runs `work`, but no longer than until `at`; `None` when that passed first.
pub(crate) async fn until<T>(at: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    let Some(at) = at else { return Some(work.await) };
    let (mut work, mut sleep) = (pin!(work), pin!(sleep(at)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
