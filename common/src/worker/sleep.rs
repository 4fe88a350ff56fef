//! Waiting for an instant, wherever it is waited: on a worker in its turns, elsewhere by tokio's clock.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::timers::Alarm;
use super::{existing, now, turn_began};

/// What stands for a time that no clock reaches: thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Ready at an instant, as exactly as the worker's loop turns.
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Sleep {
    at: Instant,
    alarm: Option<Alarm>,
    elsewhere: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// Waits for `delay`, on a worker as well as on the runtime's threads.
pub fn sleep(delay: Duration) -> Sleep {
    let now = now();
    sleep_until(now.checked_add(delay).unwrap_or_else(|| now + FAR))
}

/// Waits until `at`, on a worker as well as on the runtime's threads.
pub(crate) const fn sleep_until(at: Instant) -> Sleep {
    Sleep { at, alarm: None, elsewhere: None }
}

impl Sleep {
    fn clear(&mut self) {
        if let Some(alarm) = self.alarm.take()
            && let Some(worker) = existing()
        {
            worker.timers.borrow_mut().clear(&alarm);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let Some(now) = turn_began() else {
            // An alarm that was set on a worker wakes nobody any more.
            self.alarm = None;
            let elsewhere =
                self.elsewhere.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
            return elsewhere.as_mut().poll(cx);
        };
        if now >= at {
            self.clear();
            return Poll::Ready(());
        }
        // A task keeps its waker for life, so once is enough.
        if self.alarm.is_none()
            && let Some(worker) = existing()
        {
            self.alarm = Some(worker.timers.borrow_mut().set(at, cx.waker().clone()));
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
    let (mut work, mut sleep) = (pin!(work), pin!(sleep_until(at)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
