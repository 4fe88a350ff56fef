//! The connections to one target: opened when they are needed, one attempt at a time for all who
//! wait, with a back-off after a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::connection::{Connection, Entered};
use super::error::CallError;
use super::target::Target;

/// Connections per target: one hostile reply must not fail every call.
const CONNECTIONS: usize = 2;
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

type ConnectFuture = Shared<BoxFuture<'static, Result<Arc<Connection>, CallError>>>;

/// The connections to one target.
pub(super) struct ConnectionPool {
    target: Target,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Connection>>,
    attempt: Option<ConnectFuture>,
    failures: u32,
    /// Until when no attempt is made, and what the last one failed with.
    resting: Option<(Instant, CallError)>,
}

/// What a caller is to do for a connection.
enum Way {
    Use(Arc<Connection>),
    Wait(ConnectFuture),
    Fail(CallError),
}

impl ConnectionPool {
    /// The endpoint of `target`; clients of one target share it.
    pub(super) fn shared(target: Target) -> Arc<Self> {
        static ENDPOINTS: OnceLock<Mutex<HashMap<Target, Weak<ConnectionPool>>>> = OnceLock::new();
        let mut endpoints = lock(ENDPOINTS.get_or_init(Mutex::default));
        if let Some(endpoint) = endpoints.get(&target).and_then(Weak::upgrade) {
            return endpoint;
        }
        endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Arc::new(Self { target: target.clone(), state: Mutex::default() });
        endpoints.insert(target, Arc::downgrade(&endpoint));
        endpoint
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// A connection for one call: the one with the fewest calls pending. Fails at once while the
    /// target rests after a failed attempt.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Entered, CallError> {
        match self.way(Instant::now()) {
            Way::Use(connection) => Ok(connection.enter()),
            Way::Wait(attempt) => attempt.await.map(Connection::enter),
            Way::Fail(error) => Err(error),
        }
    }

    fn way(self: &Arc<Self>, now: Instant) -> Way {
        let mut state = lock(&self.state);
        state.open.retain(|connection| connection.usable());
        let best = state.open.iter().min_by_key(|connection| connection.pending()).cloned();
        let resting = state.resting.as_ref().filter(|(until, _)| *until > now);
        match (best, &state.attempt, resting) {
            (Some(best), attempt, resting) => {
                let more = best.pending() > 0 && state.open.len() < CONNECTIONS;
                if more && attempt.is_none() && resting.is_none() {
                    state.attempt = Some(self.attempt());
                }
                Way::Use(best)
            }
            (None, Some(attempt), _) => Way::Wait(attempt.clone()),
            (None, None, Some((_, error))) => Way::Fail(error.clone()),
            (None, None, None) => {
                let attempt = self.attempt();
                state.attempt = Some(attempt.clone());
                Way::Wait(attempt)
            }
        }
    }

    /// Starts to connect, on a task of its own: no caller's end cancels it.
    fn attempt(self: &Arc<Self>) -> ConnectFuture {
        let endpoint = Arc::clone(self);
        let task = tokio::spawn(async move {
            let result = Connection::open(&endpoint.target).await;
            endpoint.attempted(&result);
            result
        });
        let ended = |result: Result<_, tokio::task::JoinError>| {
            result.unwrap_or_else(|_| Err(CallError::Connect("the attempt was dropped".to_owned())))
        };
        task.map(ended).boxed().shared()
    }

    fn attempted(&self, result: &Result<Arc<Connection>, CallError>) {
        let mut state = lock(&self.state);
        state.attempt = None;
        match result {
            Ok(connection) => {
                state.open.push(Arc::clone(connection));
                state.failures = 0;
                state.resting = None;
            }
            Err(error) => {
                let rest = back_off(state.failures, rand::random());
                state.failures = state.failures.saturating_add(1);
                state.resting = Some((Instant::now() + rest, error.clone()));
                tracing::debug!(target_uri = %self.target, %error, "a service can't be reached");
            }
        }
    }
}

/// How long to rest after `failures` failures before this one: 100 ms growing by 1.6 up to 10 s, 20 %
/// either way by `jitter` in 0..1 (gRPC's connection back-off, with a shorter start).
fn back_off(failures: u32, jitter: f64) -> Duration {
    let factor = 1.6_f64.powi(i32::try_from(failures.min(30)).unwrap_or(30));
    FIRST_BACK_OFF.mul_f64(factor).min(LONGEST_BACK_OFF).mul_f64(0.8 + 0.4 * jitter)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_to_its_bound_and_jitters_by_a_fifth() {
        assert_eq!(back_off(0, 0.5), Duration::from_millis(100));
        assert_eq!(back_off(1, 0.5), Duration::from_millis(160));
        assert_eq!(back_off(u32::MAX, 0.5), LONGEST_BACK_OFF);
        assert_eq!(back_off(0, 0.0), Duration::from_millis(80));
        assert!(back_off(0, 0.999) < Duration::from_millis(120));
    }

    #[test]
    fn clients_of_one_target_share_its_endpoint_while_one_of_them_lives() {
        let target = |port| Target::Tcp { host: "127.0.0.1".to_owned(), port };
        let first = ConnectionPool::shared(target(1));
        assert!(Arc::ptr_eq(&first, &ConnectionPool::shared(target(1))));
        assert!(!Arc::ptr_eq(&first, &ConnectionPool::shared(target(2))));
    }
}
