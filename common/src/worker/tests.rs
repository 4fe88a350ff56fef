use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::FutureExt;

use super::testing::{Loop, Waiter};
use super::*;

fn now_or_never(events: &Loop) -> bool {
    events.fire(Duration::ZERO)
}

#[test]
fn work_runs_in_a_turn_and_its_stream_is_told_in_the_same() {
    let events = Loop::new();
    let (mut place, waiter) = events.register();
    let ran = Rc::new(Cell::new(false));
    let flag = Rc::clone(&ran);
    place.start(async move { flag.set(true) });
    assert!(!ran.get());
    assert!(now_or_never(&events));
    assert!(ran.get());
    assert_eq!(waiter.told.get(), 1);
    assert!(!now_or_never(&events));
}

#[test]
fn all_that_one_round_of_the_loop_starts_takes_one_event() {
    let events = Loop::new();
    let mut streams: Vec<_> = (0..50).map(|_| events.register()).collect();
    for (place, _) in &mut streams {
        place.start(async {});
    }
    assert!(now_or_never(&events));
    assert!(streams.iter().all(|(_, waiter)| waiter.told.get() == 1));
    assert!(!now_or_never(&events));
}

#[test]
fn one_turn_tells_64_streams_and_the_rest_are_told_in_the_next() {
    let events = Loop::new();
    let mut streams: Vec<_> = (0..100).map(|_| events.register()).collect();
    for (place, _) in &mut streams {
        place.start(async {});
    }
    let told = |streams: &[(Registration, Rc<Waiter>)]| {
        streams.iter().map(|(_, waiter)| waiter.told.get()).sum::<usize>()
    };
    assert!(now_or_never(&events));
    assert_eq!(told(&streams), 64);
    assert!(now_or_never(&events));
    assert_eq!(told(&streams), 100);
}

#[test]
fn work_ends_with_its_stream_and_nobody_else_is_told() {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let events = Loop::new();
    let (mut place, waiter) = events.register();
    let dropped = Rc::new(Cell::new(false));
    let guard = Dropped(Rc::clone(&dropped));
    place.start(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
    assert!(now_or_never(&events));
    drop(place);
    assert!(dropped.get());
    let (mut next, other) = events.register();
    next.start(async {});
    events.until(|| other.told.get() == 1);
    assert_eq!(waiter.told.get(), 0);
}

#[test]
fn what_a_stream_took_with_it_is_announced_through_the_next() {
    let events = Loop::new();
    let (mut first, _) = events.register();
    let (mut second, waiter) = events.register();
    first.start(async {});
    second.start(async {});
    // Both were announced by one event, on the scheduler of the first.
    let lost = events.events.try_recv().unwrap();
    drop(first);
    turn(lost);
    assert_eq!(waiter.told.get(), 0, "an event of a stream that has ended is no turn");
    assert!(now_or_never(&events));
    assert_eq!(waiter.told.get(), 1);
}

#[test]
fn other_threads_wake_work_and_the_poller_wakes_for_deadlines() {
    let events = Loop::new();
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || send.send(7).unwrap());
    assert_eq!(events.run(receive).unwrap(), 7);
    let at = Instant::now() + Duration::from_millis(20);
    events.run(sleep_until(at));
    assert!(Instant::now() >= at);
    assert_eq!(events.run(until(Some(at), std::future::pending::<()>())), None);
    assert_eq!(events.run(until(Some(at), async { 1 })), Some(1));
}

#[test]
fn a_panic_of_one_task_is_its_own_end_only() {
    let events = Loop::new();
    let (mut place, waiter) = events.register();
    place.start(async { panic!("a fault") });
    let (mut other, second) = events.register();
    other.start(async {});
    events.until(|| second.told.get() == 1);
    assert_eq!(waiter.told.get(), 1);
}

#[test]
fn the_poller_survives_a_panic_in_its_thread() {
    struct Broken;
    impl Scheduler for Broken {
        fn commit(&self, _: u64) {
            assert!(std::thread::current().name() != Some("callout-poll"), "a fault");
        }
    }
    let wakeups = Arc::new(Wakeups::new());
    let poller = Poller::join(&wakeups).unwrap();
    let _ = wakeups.set_carrier(Some(Box::new(Broken)));
    let (earlier, _) = wakeups.finish(false, Some(Instant::now()));
    assert!(earlier);
    poller.wake();
    let events = Loop::new();
    for _ in 0..3 {
        events.run(sleep(Duration::from_millis(5)));
    }
    poller.leave(&wakeups);
}

#[test]
fn a_worker_that_ends_with_work_and_connections_open_ends_cleanly() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let events = Loop::new();
        let (mut place, _) = events.register();
        let socket = std::net::TcpStream::connect(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = BufferedSocket::new(socket.into());
        let transport: Box<dyn Transport> = Box::new(Io(Arc::clone(&socket)));
        let opening = h2::client::Builder::new().handshake(transport);
        let (send, http2) = opening.now_or_never().unwrap().unwrap();
        let _connection = adopt(Opened { socket, http2 }).unwrap();
        place.start(async move {
            let (answer, _) =
                send.ready().await.unwrap().send_request(http::Request::new(()), true).unwrap();
            let _ = answer.await;
        });
        assert!(now_or_never(&events));
        // As when Envoy ends a worker with its streams already gone, but not their remains.
        detach(std::future::pending());
        std::mem::forget(place);
    })
    .join()
    .unwrap();
}
