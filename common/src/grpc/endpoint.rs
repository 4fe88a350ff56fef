//! The connections to one target: opened when they are needed, one attempt at a time for all who
//! wait, spread over the target's addresses, with a back-off after a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use h2::client::SendRequest;

use super::back_off::BackOff;
use super::connection::{Connection, Dialling, Entered, open_for_worker};
use super::destination::Destination;
use super::dial::{Address, is_exhaustion, resolve};
use super::error::CallError;
use super::race::{order, race};
use super::target::Target;
use super::tls::Tls;
use crate::worker::Opened;

/// Connections per target: one that breaks must not fail every call. More where there are more
/// addresses.
const CONNECTIONS: usize = 2;
const MOST_CONNECTIONS: usize = 4;
/// Longest time that an attempt to connect may take, name resolution and handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for a name, after which the addresses that it had last are used.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an address that failed is tried after all others.
const SHUNNED: Duration = Duration::from_secs(30);
/// A connection to a name, or by files, is replaced at this age, since they may have changed.
const LONGEST_AGE: Duration = Duration::from_secs(120);

type ConnectFuture = Shared<BoxFuture<'static, Result<Arc<Connection>, CallError>>>;

/// The connections to one destination.
pub(super) struct ConnectionPool {
    destination: Destination,
    dialling: Dialling,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Connection>>,
    attempt: Option<ConnectFuture>,
    back_off: BackOff,
    /// What the last attempt failed with.
    error: Option<CallError>,
    /// The addresses that the target had last.
    addresses: Vec<Address>,
    failed: HashMap<Address, Instant>,
    attempts: usize,
}

/// What a caller is to do for a connection.
enum Way {
    Use(Arc<Connection>),
    Wait(ConnectFuture),
    Fail(CallError),
}

impl ConnectionPool {
    /// The endpoint of `destination`; clients of one destination share it.
    pub(super) fn shared(destination: Destination) -> Arc<Self> {
        static ENDPOINTS: OnceLock<Mutex<HashMap<Destination, Weak<ConnectionPool>>>> =
            OnceLock::new();
        let mut endpoints = lock(ENDPOINTS.get_or_init(Mutex::default));
        if let Some(endpoint) = endpoints.get(&destination).and_then(Weak::upgrade) {
            return endpoint;
        }
        endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        // Proxies that start together begin with different addresses.
        let state = State { attempts: usize::from(rand::random::<u16>()), ..State::default() };
        let tls = destination.tls.clone().map(|settings| Arc::new(Tls::new(settings)));
        let dialling = Dialling { tls, keepalive: destination.keepalive };
        let endpoint =
            Arc::new(Self { destination: destination.clone(), dialling, state: Mutex::new(state) });
        endpoints.insert(destination, Arc::downgrade(&endpoint));
        endpoint
    }

    pub(super) const fn destination(&self) -> &Destination {
        &self.destination
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

    /// Whether workers can drive connections of their own: nobody sends keepalive pings there.
    pub(super) const fn serves_workers(&self) -> bool {
        self.dialling.keepalive.is_none()
    }

    /// A connection for a worker. Fails at once while the target rests after a failed attempt.
    pub(super) async fn open_for_worker(&self) -> Result<(Opened, SendRequest<Bytes>), CallError> {
        let resting = {
            let state = lock(&self.state);
            state.error.clone().filter(|_| state.back_off.rests(Instant::now()))
        };
        if let Some(error) = resting {
            return Err(error);
        }
        let open = |address| open_for_worker(address, self.dialling.tls.clone());
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, self.dial_by(open)).await;
        let dialled = dialled.unwrap_or_else(|_| Err(CallError::Connect("timed out".to_owned())));
        if let Err(error) = &dialled {
            self.failed(error.clone());
        }
        dialled
    }

    /// A connection of a worker's own could not be made, or ended at once.
    pub(super) fn failed(&self, error: CallError) {
        tracing::debug!(target_uri = %self.destination, %error, "a service can't be reached");
        lock(&self.state).rest(Instant::now(), error);
    }

    /// The service has answered a call on a connection of a worker's own.
    pub(super) fn proved(&self) {
        lock(&self.state).back_off.proved();
    }

    fn way(self: &Arc<Self>, now: Instant) -> Way {
        let mut state = lock(&self.state);
        state.sort_out(now);
        let best = state.open.iter().min_by_key(|connection| connection.pending()).cloned();
        let rests = state.back_off.rests(now);
        let Some(best) = best else {
            if let Some(attempt) = &state.attempt {
                return Way::Wait(attempt.clone());
            }
            if let (true, Some(error)) = (rests, &state.error) {
                return Way::Fail(error.clone());
            }
            let attempt = self.attempt();
            state.attempt = Some(attempt.clone());
            return Way::Wait(attempt);
        };
        let more = best.pending() > 0 && state.open.len() < state.wanted();
        if (more || self.aged(&state, now).is_some()) && state.attempt.is_none() && !rests {
            state.attempt = Some(self.attempt());
        }
        Way::Use(best)
    }

    /// A connection to where the name may not lead any more, or by a certificate that may have been
    /// replaced.
    fn aged(&self, state: &State, now: Instant) -> Option<usize> {
        state.open.iter().position(|connection| self.is_aged(connection.age(now)))
    }

    /// Whether a connection of this age is to be replaced.
    pub(super) fn is_aged(&self, age: Duration) -> bool {
        let moves = || {
            matches!(self.destination.target, Target::Name { .. })
                || self.dialling.tls.as_ref().is_some_and(|tls| tls.rotates())
        };
        age > LONGEST_AGE && moves()
    }

    /// Starts to connect, on a task of its own: no caller's end cancels it.
    fn attempt(self: &Arc<Self>) -> ConnectFuture {
        let endpoint = Arc::clone(self);
        let task = tokio::spawn(async move {
            let result = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.dial()).await;
            let result = result.unwrap_or_else(|_| Err(CallError::Connect("timed out".to_owned())));
            endpoint.attempted(&result);
            result
        });
        let ended = |result: Result<_, tokio::task::JoinError>| {
            result.unwrap_or_else(|_| Err(CallError::Internal("the attempt was lost".to_owned())))
        };
        task.map(ended).boxed().shared()
    }

    async fn dial(&self) -> Result<Arc<Connection>, CallError> {
        self.dial_by(|address| Connection::open(address, self.dialling.clone())).await
    }

    /// Opens a connection to one of the addresses, the first that can be had.
    async fn dial_by<T, F: Future<Output = std::io::Result<T>>>(
        &self,
        open: impl Fn(Address) -> F,
    ) -> Result<T, CallError> {
        let addresses = self.addresses().await?;
        let field = lock(&self.state).field(&addresses, Instant::now());
        let race = race(&field, open).await;
        let race = race.ok_or_else(|| CallError::Connect("the name has no address".to_owned()))?;
        let mut state = lock(&self.state);
        let now = Instant::now();
        state.failed.retain(|_, at| now.saturating_duration_since(*at) < SHUNNED);
        state.failed.extend(race.lost.into_iter().map(|address| (address, now)));
        match race.won {
            Ok((address, connection)) => {
                state.failed.remove(&address);
                Ok(connection)
            }
            Err(error) => Err(of_io(&error)),
        }
    }

    /// Where the target leads now, or led last where that can't be found out.
    async fn addresses(&self) -> Result<Vec<Address>, CallError> {
        let resolved =
            tokio::time::timeout(RESOLVE_TIMEOUT, resolve(&self.destination.target)).await;
        let error = match resolved {
            Ok(Ok(addresses)) => {
                lock(&self.state).addresses.clone_from(&addresses);
                return Ok(addresses);
            }
            Ok(Err(error)) => of_io(&error),
            Err(_) => CallError::Connect("the name was not resolved in time".to_owned()),
        };
        let last = lock(&self.state).addresses.clone();
        if last.is_empty() { Err(error) } else { Ok(last) }
    }

    fn attempted(&self, result: &Result<Arc<Connection>, CallError>) {
        let mut state = lock(&self.state);
        state.attempt = None;
        match result {
            Ok(connection) => {
                if let Some(aged) = self.aged(&state, Instant::now()) {
                    // Its calls end on it.
                    state.open.remove(aged);
                }
                state.open.push(Arc::clone(connection));
            }
            Err(error) => {
                tracing::debug!(target_uri = %self.destination, %error, "a service can't be reached");
                state.rest(Instant::now(), error.clone());
            }
        }
    }
}

impl State {
    /// Leaves out connections that can't be used any more, and learns from them.
    fn sort_out(&mut self, now: Instant) {
        if self.open.iter().any(|connection| connection.proved()) {
            self.back_off.proved();
        }
        let (open, gone): (Vec<_>, _) =
            std::mem::take(&mut self.open).into_iter().partition(|one| one.usable());
        self.open = open;
        if gone.iter().any(|connection| connection.was_fleeting()) {
            self.rest(now, CallError::Connect("the peer closes connections at once".to_owned()));
        }
    }

    fn rest(&mut self, now: Instant, error: CallError) {
        self.back_off.failed(now, rand::random());
        self.error = Some(error);
    }

    fn wanted(&self) -> usize {
        self.addresses.len().clamp(CONNECTIONS, MOST_CONNECTIONS)
    }

    /// In which order `addresses` are raced.
    fn field(&mut self, addresses: &[Address], now: Instant) -> Vec<Address> {
        self.attempts = self.attempts.wrapping_add(1);
        let sockets: Vec<_> = addresses.iter().filter_map(Address::socket).collect();
        if sockets.is_empty() {
            return addresses.to_vec();
        }
        let failed = |address: &std::net::SocketAddr| {
            let at = self.failed.get(&Address::Tcp(*address));
            at.is_some_and(|at| now.saturating_duration_since(*at) < SHUNNED)
        };
        let connections = |address: &std::net::SocketAddr| {
            let to = Address::Tcp(*address);
            self.open.iter().filter(|connection| *connection.address() == to).count()
        };
        let ordered = order(&sockets, failed, connections, self.attempts);
        ordered.into_iter().map(Address::Tcp).collect()
    }
}

fn of_io(error: &std::io::Error) -> CallError {
    if is_exhaustion(error) {
        CallError::Internal(error.to_string())
    } else {
        CallError::Connect(error.to_string())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_target_share_its_endpoint_while_one_of_them_lives() {
        let target = |port| Destination::from(Target::parse(&format!("127.0.0.1:{port}")).unwrap());
        let first = ConnectionPool::shared(target(1));
        assert!(Arc::ptr_eq(&first, &ConnectionPool::shared(target(1))));
        assert!(!Arc::ptr_eq(&first, &ConnectionPool::shared(target(2))));
    }
}
