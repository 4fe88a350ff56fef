use callout_protos::pbjson_types::Duration as ProtoDuration;
use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

fn terms(mode: Mode, server: Server) -> LeaseConfig {
    LeaseConfig {
        mode,
        server,
        max_error_percent: 5,
        expected_proxies: 3,
        max_refusal: Duration::from_secs(60),
    }
}

/// A service with one limit in fixed windows, which counts as envoyproxy/ratelimit does or as
/// limitador does.
struct Service {
    start: Instant,
    limit: u64,
    /// Batches that don't fit are counted all the same.
    counts_refused: bool,
    /// Rounds what is left of a window down.
    floors: bool,
    window: u64,
    counted: u64,
}

impl Service {
    fn new(start: Instant, limit: u64, server: Server) -> Self {
        let counts_refused = server == Server::EnvoyRatelimit;
        let floors = server == Server::Limitador;
        Self { start, limit, counts_refused, floors, window: 0, counted: 0 }
    }

    fn window_of(&self, now: Instant) -> u64 {
        now.duration_since(self.start).as_secs() / WINDOW.as_secs()
    }

    fn ask(&mut self, now: Instant, hits: u64) -> RateLimitResponse {
        let window = self.window_of(now);
        if window != self.window {
            (self.window, self.counted) = (window, 0);
        }
        let fits = self.counted + hits <= self.limit;
        if fits || self.counts_refused {
            self.counted += hits;
        }
        let code = if fits { "OK" } else { "OVER_LIMIT" };
        let remaining = self.limit.saturating_sub(self.counted);
        let past = now.duration_since(self.start).as_secs() % WINDOW.as_secs();
        let mut answer: RateLimitResponse = serde_json::from_str(&format!(
            r#"{{"overallCode": "{code}", "statuses": [{{"code": "{code}", "limitRemaining": {remaining},
                "currentLimit": {{"requestsPerUnit": {}, "unit": "SECOND", "unitMultiplier": 10}}}}]}}"#,
            self.limit
        ))
        .unwrap();
        // In whole seconds: up to one too late, or for limitador up to one too early.
        let floored = u64::from(self.floors && now.duration_since(self.start).subsec_nanos() > 0);
        let seconds = i64::try_from(WINDOW.as_secs() - past - floored).unwrap();
        answer.statuses[0].duration_until_reset = Some(ProtoDuration { seconds, nanos: 0 });
        answer
    }
}

/// What a run of several proxies came to, window by window.
#[derive(Debug, Default)]
struct Tally {
    admitted: Vec<u64>,
    wanted: Vec<u64>,
    calls: u64,
}

/// A call that is under way.
struct Flight {
    proxy: usize,
    arrives: Instant,
    batch: Batch,
    spent: u64,
}

struct Run {
    limit: u64,
    proxies: usize,
    mode: Mode,
    server: Server,
    requests: u64,
    between: Duration,
    latency: Duration,
    /// One call of so many is never made: refused on its way, or its task dropped. 0 loses none.
    lost: u64,
    seed: u64,
}

impl Run {
    /// Requests come to the proxies by chance; calls take their time.
    fn tally(&self) -> Tally {
        let terms = terms(self.mode, self.server);
        let start = Instant::now();
        let mut service = Service::new(start, self.limit, self.server);
        let mut accounts: Vec<LeaseState> =
            (0..self.proxies).map(|_| LeaseState::new(start)).collect();
        let mut tally = Tally::default();
        let mut flights: Vec<Flight> = Vec::new();
        let mut reports: Vec<(usize, Instant, Claim)> = Vec::new();
        let (mut now, mut random) = (start, self.seed | 1);
        for _ in 0..self.requests {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let draw = random >> 33;
            now += self.between * u32::try_from(draw % 3).unwrap();
            let is_lost = self.lost > 0 && draw / 7 % self.lost == 0;
            for (proxy, _, _claim) in drain(&mut reports, |(_, due, _)| *due <= now) {
                let hits = accounts[proxy].take_unreported();
                if hits > 0 {
                    tally.calls += 1;
                    let answer = service.ask(now, hits);
                    accounts[proxy].answered(&answer, hits, hits, now, now, &terms);
                }
            }
            for flight in drain(&mut flights, |flight| flight.arrives <= now) {
                let sent = flight.arrives - self.latency;
                let hits = flight.batch.hits;
                let answer = service.ask(flight.arrives.min(now), hits);
                let account = &mut accounts[flight.proxy];
                account.answered(&answer, hits, flight.spent, sent, now, &terms);
            }
            let proxy = usize::try_from(draw / 3).unwrap() % self.proxies;
            let window = usize::try_from(service.window_of(now)).unwrap();
            tally.admitted.resize(tally.admitted.len().max(window + 1), 0);
            tally.wanted.resize(tally.wanted.len().max(window + 1), 0);
            tally.wanted[window] += 1;
            let (turn, errand) = accounts[proxy].turn(now, &terms);
            match errand {
                Some(errand) if is_lost => drop(errand),
                Some(BackgroundCall::Prefetch(batch)) => {
                    tally.calls += 1;
                    flights.push(Flight { proxy, arrives: now + self.latency, batch, spent: 0 });
                }
                Some(BackgroundCall::Report(after, claim)) => {
                    reports.push((proxy, now + after, claim))
                }
                None => {}
            }
            match turn {
                Admission::Refused(_) => {}
                Admission::Admitted(_) => tally.admitted[window] += 1,
                Admission::Ask(batch) if is_lost => {
                    tally.wanted[window] -= 1;
                    drop(batch);
                }
                Admission::Ask(batch) => {
                    let mut hits = batch.hits;
                    loop {
                        tally.calls += 1;
                        let answer = service.ask(now, hits);
                        let account = &mut accounts[proxy];
                        account.answered(&answer, hits, 1, now, now, &terms);
                        if answer.overall_code != i32::from(Code::OverLimit) {
                            tally.admitted[window] += 1;
                        } else if hits > 1 && self.server != Server::EnvoyRatelimit {
                            hits = 1;
                            continue;
                        }
                        break;
                    }
                }
            }
        }
        tally
    }
}

fn drain<T>(all: &mut Vec<T>, due: impl Fn(&T) -> bool) -> Vec<T> {
    let (now, later) = std::mem::take(all).into_iter().partition(due);
    *all = later;
    now
}

fn server() -> impl Strategy<Value = Server> {
    prop::sample::select(vec![Server::Generic, Server::EnvoyRatelimit, Server::Limitador])
}

fn run(mode: Mode) -> impl Strategy<Value = Run> {
    let times = (0..40_u64, 0..300_u64).prop_map(|(between, latency)| {
        (Duration::from_millis(between), Duration::from_millis(latency))
    });
    (1..2000_u64, 1..4_usize, server(), 100..4000_u64, times, 0..5_u64, any::<u64>()).prop_map(
        move |(limit, proxies, server, requests, (between, latency), lost, seed)| Run {
            limit,
            proxies,
            mode,
            server,
            requests,
            between,
            latency,
            lost,
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn leases_and_kept_refusals_never_admit_more_than_the_limit(
        run in prop_oneof![run(Mode::Lease), run(Mode::CacheOverLimit)],
    ) {
        for (window, admitted) in run.tally().admitted.iter().enumerate() {
            prop_assert!(*admitted <= run.limit, "window {window}: {admitted} of {}", run.limit);
        }
    }

    #[test]
    fn leases_leave_no_more_unspent_than_the_error_allows(run in run(Mode::Lease)) {
        let tally = run.tally();
        let last = tally.admitted.len() - 1;
        for (window, (admitted, wanted)) in tally.admitted.iter().zip(&tally.wanted).enumerate() {
            let due = run.limit.min(*wanted);
            let allowed = run.limit * 5 / 100 + 1;
            // A window that was cut off at the end of the run proves nothing.
            if window < last {
                prop_assert!(admitted + allowed >= due, "window {window}: {admitted} of {due}");
            }
        }
    }

    #[test]
    fn reports_afterwards_admit_no_more_than_the_error_above_the_limit(run in run(Mode::Async)) {
        for (window, admitted) in run.tally().admitted.iter().enumerate() {
            let most = run.limit + run.limit * 5 / 100;
            prop_assert!(*admitted <= most, "window {window}: {admitted} of {}", run.limit);
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {:?}: limit {}, {} proxies, {} requests, {:?} between, {:?} latency, lost {}, seed {}",
            self.mode,
            self.server,
            self.limit,
            self.proxies,
            self.requests,
            self.between,
            self.latency,
            self.lost,
            self.seed
        )
    }
}

#[test]
fn a_hot_key_under_its_limit_is_a_tenth_of_the_calls_or_less() {
    // Every fifth call that would be made is lost on its way in the second run.
    for lost in [0, 5] {
        // 10 000 in 10 s, 500 requests a second, three proxies.
        let run = Run {
            limit: 10_000,
            proxies: 3,
            mode: Mode::Lease,
            server: Server::EnvoyRatelimit,
            requests: 20_000,
            between: Duration::from_millis(2),
            latency: Duration::from_millis(2),
            lost,
            seed: 7,
        };
        let tally = run.tally();
        assert!(tally.calls * 10 <= run.requests, "lost {lost}: {} calls", tally.calls);
        assert_eq!(tally.admitted, tally.wanted, "lost {lost}");
    }
}

/// An account in the middle of a window of 10 000, with a rate of requests that makes batches.
fn hot_account(mode: Mode) -> (LeaseState, LeaseConfig, Instant) {
    let start = Instant::now();
    let terms = terms(mode, Server::EnvoyRatelimit);
    let mut account = LeaseState::new(start);
    let answer = Service::new(start, 10_000, Server::EnvoyRatelimit).ask(start, 1);
    account.answered(&answer, 1, 1, start, start, &terms);
    account.rate = 500.0;
    (account, terms, start)
}

#[test]
fn a_batch_that_is_never_asked_for_does_not_end_the_lease() {
    let (mut account, terms, now) = hot_account(Mode::Lease);
    for _ in 0..3 {
        // Refused on its way, or its task dropped before its first poll.
        let (Admission::Ask(batch), None) = account.turn(now, &terms) else { panic!("no call") };
        assert!(batch.hits > 1, "the lease is dead");
        // Whoever comes meanwhile asks for itself alone.
        let (Admission::Ask(other), None) = account.turn(now, &terms) else { panic!("no call") };
        assert_eq!(other.hits, 1);
    }
}

#[test]
fn an_errand_that_is_never_run_is_asked_of_the_next_request() {
    let (mut account, terms, now) = hot_account(Mode::Lease);
    (account.tokens, account.batch) = (9, 100);
    for _ in 0..3 {
        let (_, errand) = account.turn(now, &terms);
        assert!(matches!(errand, Some(BackgroundCall::Prefetch(Batch { hits: 2.., .. }))));
        assert!(account.turn(now, &terms).1.is_none(), "two at a time");
    }
    let (mut account, terms, now) = hot_account(Mode::Async);
    for _ in 0..3 {
        let (_, errand) = account.turn(now, &terms);
        assert!(matches!(errand, Some(BackgroundCall::Report(..))));
        assert!(account.turn(now, &terms).1.is_none(), "two at a time");
    }
    assert_eq!(account.take_unreported(), 6);
}

#[test]
fn a_refusal_holds_until_the_window_surely_ends() {
    let now = Instant::now();
    let mut service = Service::new(now, 1, Server::Generic);
    let mut account = LeaseState::new(now);
    let terms = terms(Mode::CacheOverLimit, Server::Generic);
    service.ask(now, 1);
    let refusal = service.ask(now, 1);
    account.answered(&refusal, 1, 1, now, now, &terms);
    assert!(matches!(
        account.turn(now + 8 * Duration::from_secs(1), &terms).0,
        Admission::Refused(_)
    ));
    // The service's whole seconds may be one too many.
    let later = now + Duration::from_secs(9);
    assert!(matches!(account.turn(later, &terms).0, Admission::Ask(Batch { hits: 1, .. })));
}

#[test]
fn an_answer_that_is_for_one_request_alone_is_no_lease() {
    let now = Instant::now();
    let mut account = LeaseState::new(now);
    let terms = terms(Mode::Lease, Server::Generic);
    let mut answer = Service::new(now, 1000, Server::Generic).ask(now, 1);
    answer.dynamic_metadata = Some(callout_protos::pbjson_types::Struct::default());
    account.answered(&answer, 1, 1, now, now, &terms);
    assert!(matches!(account.turn(now, &terms).0, Admission::Ask(Batch { hits: 1, .. })));
}
