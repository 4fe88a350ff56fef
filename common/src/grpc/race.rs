//! Several addresses of one service, raced (RFC 8305): an address that does not answer costs a tenth
//! of a second, and nobody a call.

use std::future::Future;
use std::hash::Hash;
use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

/// How long an address has before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(100);
/// How long all have before they are tried again beside what is under way. A service that comes back
/// behind a lost packet is found sooner than by the kernel's own attempts, which double their pauses.
const ROUND: Duration = Duration::from_millis(700);
/// Addresses that one race tries. The next race begins with others.
pub(crate) const FIELD: usize = 8;

/// What came of a race.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Race<A, T, E> {
    /// The winner, or the last error.
    pub(crate) won: Result<(A, T), E>,
    /// Those that failed, or had not made it when a later one won.
    pub(crate) lost: Vec<A>,
}

/// Runs `dial` for each of `field`, one after the other with a stagger, and at once where one fails,
/// until one succeeds or all have failed. Runs for ever while one neither succeeds nor fails. `None`
/// where there is nobody to race.
pub(crate) async fn race<A, T, E, F>(field: &[A], dial: impl Fn(A) -> F) -> Option<Race<A, T, E>>
where
    A: Clone + Eq + Hash,
    F: Future<Output = Result<T, E>>,
{
    let mut running = FuturesUnordered::new();
    let mut lost: Vec<A> = Vec::new();
    let (mut next, mut started) = (0, 0);
    let mut last = None;
    loop {
        if let Some(address) = field.get(next) {
            let address = address.clone();
            running.push(dial(address.clone()).map(move |result| (address, result)));
            next += 1;
            started = started.max(next);
        }
        let more = next < field.len();
        tokio::select! {
            biased;
            Some((address, result)) = running.next() => match result {
                Ok(value) => {
                    lost = field.iter().take(started).filter(|one| **one != address).cloned().collect();
                    return Some(Race { won: Ok((address, value)), lost });
                }
                Err(error) => {
                    if !lost.contains(&address) {
                        lost.push(address);
                    }
                    last = Some(error);
                    if !more && running.is_empty() {
                        return Some(Race { won: Err(last?), lost });
                    }
                }
            },
            () = tokio::time::sleep(if more { STAGGER } else { ROUND }), if !running.is_empty() => {
                if !more {
                    next = 0;
                }
            }
            else => return Some(Race { won: Err(last?), lost }),
        }
    }
}

/// In which order addresses are raced: those of late failures last, those with fewer connections
/// first, else as the resolver has them, turned by `turn`; then the families alternate (RFC 8305).
pub(crate) fn order(
    addresses: &[SocketAddr],
    failed: impl Fn(&SocketAddr) -> bool,
    connections: impl Fn(&SocketAddr) -> usize,
    turn: usize,
) -> Vec<SocketAddr> {
    let mut turned = addresses.to_vec();
    turned.dedup();
    if let Some(by) = turn.checked_rem(turned.len()) {
        turned.rotate_left(by);
    }
    let (failed, mut well): (Vec<_>, Vec<_>) = turned.into_iter().partition(failed);
    well.sort_by_key(connections);
    let first_is_v6 = well.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        well.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut ordered = Vec::with_capacity(addresses.len());
    while !(first.is_empty() && second.is_empty()) {
        ordered.extend(first.pop());
        ordered.extend(second.pop());
    }
    ordered.extend(failed);
    ordered.truncate(FIELD);
    ordered
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// Each runner: after how many milliseconds it succeeds (or fails, with a minus).
    async fn run(runners: &[i64]) -> (Race<usize, (), usize>, u128, Vec<usize>) {
        let starts = RefCell::new(Vec::new());
        let began = Instant::now();
        let field: Vec<usize> = (0..runners.len()).collect();
        let result = race(&field, |index| {
            starts.borrow_mut().push(index);
            let takes = runners[index];
            async move {
                sleep(Duration::from_millis(takes.unsigned_abs())).await;
                if takes < 0 { Err(index) } else { Ok(()) }
            }
        });
        let result = result.await.unwrap();
        (result, began.elapsed().as_millis(), starts.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_a_tenth_of_a_second() {
        let (race, took, starts) = run(&[1_000_000, 5, 5]).await;
        assert_eq!(race, Race { won: Ok((1, ())), lost: vec![0] });
        assert!((100..120).contains(&took) && starts == [0, 1], "{took} {starts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_address_costs_nothing() {
        let (race, took, _) = run(&[-1, -1, 5]).await;
        assert_eq!(race, Race { won: Ok((2, ())), lost: vec![0, 1] });
        assert!(took < 20, "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_error_is_told_at_once() {
        let (race, took, _) = run(&[-1, -2]).await;
        assert_eq!(race, Race { won: Err(1), lost: vec![0, 1] });
        assert!(took < 20, "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_tried_again_beside_itself() {
        let slow = race(&[7], |_| async {
            // The first packets were lost; what is sent later arrives.
            sleep(Duration::from_secs(3)).await;
            Ok::<_, ()>(())
        });
        let tries = RefCell::new(0);
        let counted = race(&[7], |_| {
            *tries.borrow_mut() += 1;
            let takes = if *tries.borrow() < 3 { 100_000 } else { 1 };
            async move {
                sleep(Duration::from_millis(takes)).await;
                Ok::<_, ()>(())
            }
        });
        assert!(counted.await.unwrap().won.is_ok() && slow.await.unwrap().won.is_ok());
        assert_eq!(tries.into_inner(), 3);
        assert_eq!(race(&[], |_: u8| async { Ok::<_, ()>(()) }).await, None);
    }

    #[test]
    fn the_order_spreads_alternates_and_puts_failures_last() {
        let list = |words: &[&str]| -> Vec<SocketAddr> {
            words.iter().map(|word| word.parse().unwrap()).collect()
        };
        let all = list(&["[::1]:1", "[::2]:1", "10.0.0.1:1", "10.0.0.2:1"]);
        let of = |failed: &str, used: &str, turn| {
            order(
                &all,
                |address| address.to_string() == failed,
                |address| usize::from(address.to_string() == used),
                turn,
            )
        };
        assert_eq!(of("", "", 0), list(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1"]));
        assert_eq!(of("", "", 1), list(&["[::2]:1", "10.0.0.1:1", "[::1]:1", "10.0.0.2:1"]));
        assert_eq!(of("", "[::1]:1", 0).first(), list(&["[::2]:1"]).first());
        assert_eq!(of("[::1]:1", "", 0).last(), list(&["[::1]:1"]).first());
        assert_eq!(of("", "", usize::MAX).len(), 4);
    }
}
