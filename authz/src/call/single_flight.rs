//! Calls that several requests wait for: identical ones in flight share one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

use crate::memory::key::Key;

/// A call that others may join. It runs while anybody waits, and is cancelled when nobody does.
pub(crate) type SharedCall<T> = Shared<BoxFuture<'static, T>>;

/// The calls in flight, by key.
#[derive(Debug)]
pub(crate) struct SingleFlight<T: Clone + Send + Sync + 'static> {
    open: Mutex<Open<T>>,
}

#[derive(Debug)]
struct Open<T: Clone + Send + Sync + 'static> {
    next: u64,
    flights: HashMap<Key, (u64, WeakShared<BoxFuture<'static, T>>)>,
}

/// Whether a request began a call or joined one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    Follower,
}

impl<T: Clone + Send + Sync + 'static> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { open: Mutex::new(Open { next: 0, flights: HashMap::new() }) }
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Joins the call for `key`, or begins `call`.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: Key,
        call: impl FnOnce() -> BoxFuture<'static, T>,
    ) -> (SharedCall<T>, Role) {
        let mut open = self.lock();
        if let Some(flight) = open.flights.get(&key).and_then(|(_, flight)| flight.upgrade()) {
            return (flight, Role::Follower);
        }
        let number = open.next;
        open.next += 1;
        let landing = InFlightGuard { flights: Arc::clone(self), key, number };
        let call = call();
        let flight = async move {
            let _landing = landing;
            call.await
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            open.flights.insert(key, (number, weak));
        }
        (flight, Role::Leader)
    }

    /// Nobody joins the calls that are under way any more.
    pub(crate) fn part(&self) {
        self.lock().flights.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Open<T>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a flight off the list when it ends, in whatever way: nobody joins what is over.
struct InFlightGuard<T: Clone + Send + Sync + 'static> {
    flights: Arc<SingleFlight<T>>,
    key: Key,
    number: u64,
}

impl<T: Clone + Send + Sync + 'static> Drop for InFlightGuard<T> {
    fn drop(&mut self) {
        let mut open = self.flights.lock();
        if open.flights.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            open.flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_bytes([byte; 32])
    }

    fn slow(calls: &Arc<AtomicUsize>, answer: u32) -> BoxFuture<'static, u32> {
        let calls = Arc::clone(calls);
        async move {
            calls.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer
        }
        .boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn identical_requests_share_a_call_and_others_do_not() {
        let (flights, calls) = (Arc::new(SingleFlight::default()), Arc::new(AtomicUsize::new(0)));
        let (first, role) = flights.join(key(1), || slow(&calls, 1));
        assert_eq!(role, Role::Leader);
        let (second, role) = flights.join(key(1), || slow(&calls, 2));
        assert_eq!(role, Role::Follower);
        let (other, role) = flights.join(key(2), || slow(&calls, 3));
        assert_eq!(role, Role::Leader);
        assert_eq!(futures::future::join3(first, second, other).await, (1, 1, 3));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert!(flights.lock().flights.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_leaves_does_not_end_the_call_of_the_others() {
        let (flights, calls) = (Arc::new(SingleFlight::default()), Arc::new(AtomicUsize::new(0)));
        let (leader, _) = flights.join(key(1), || slow(&calls, 1));
        let (follower, _) = flights.join(key(1), || slow(&calls, 2));
        let leader = tokio::spawn(leader);
        let follower = tokio::spawn(follower);
        tokio::time::sleep(Duration::from_millis(500)).await;
        leader.abort();
        assert_eq!(follower.await.unwrap(), 1);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_everybody_left_is_over_and_nobody_joins_it() {
        let (flights, calls) = (Arc::new(SingleFlight::default()), Arc::new(AtomicUsize::new(0)));
        let (left, _) = flights.join(key(1), || slow(&calls, 1));
        assert!(left.clone().now_or_never().is_none());
        drop(left);
        assert!(flights.lock().flights.is_empty());
        let (next, role) = flights.join(key(1), || slow(&calls, 2));
        assert_eq!((next.await, role), (2, Role::Leader));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_joins_a_call_from_before_a_parting() {
        let (flights, calls) = (Arc::new(SingleFlight::default()), Arc::new(AtomicUsize::new(0)));
        let (before, _) = flights.join(key(1), || slow(&calls, 1));
        flights.part();
        let (after, role) = flights.join(key(1), || slow(&calls, 2));
        assert_eq!(role, Role::Leader);
        assert_eq!(futures::future::join(before, after).await, (1, 2));
        assert!(flights.lock().flights.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_joins_a_call_that_has_ended() {
        let (flights, calls) = (Arc::new(SingleFlight::default()), Arc::new(AtomicUsize::new(0)));
        let (first, _) = flights.join(key(1), || slow(&calls, 1));
        assert_eq!(first.clone().await, 1);
        let (second, role) = flights.join(key(1), || slow(&calls, 2));
        assert_eq!((second.await, role), (2, Role::Leader));
    }
}
