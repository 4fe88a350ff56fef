//! Every interleaving of workers and answers: `cargo test-loom`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Admission, BackgroundCall, Batch, LeaseConfig, LeaseTable, Mode, Server};
use crate::memory::key::Key;
use crate::memory::table::Room;

const TERMS: LeaseConfig = LeaseConfig {
    mode: Mode::Lease,
    server: Server::EnvoyRatelimit,
    max_error_percent: 50,
    expected_proxies: 1,
    max_refusal: Duration::from_secs(60),
};

/// A service that grants all it is asked for, and counts it.
#[derive(Default)]
struct Books {
    granted: AtomicU64,
    spent: AtomicU64,
}

impl Books {
    fn answer(&self, hits: u64) -> &'static RateLimitResponse {
        static ANSWER: OnceLock<RateLimitResponse> = OnceLock::new();
        self.granted.fetch_add(hits, Ordering::SeqCst);
        ANSWER.get_or_init(|| {
            let answer = r#"{"overallCode": "OK", "statuses": [{"code": "OK", "limitRemaining": 9000,
                "currentLimit": {"requestsPerUnit": 10000, "unit": "MINUTE"}, "durationUntilReset": "50s"}]}"#;
            serde_json::from_str(answer).unwrap()
        })
    }
}

/// Whether a request's call is made, or lost on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    DescriptorEntry,
    Lost,
}

/// One request: it spends a hit that is paid for, or pays for some and spends one of them.
fn request(ledger: &LeaseTable, books: &Books, key: Key, call: Call) {
    let sent = Instant::now();
    let next = ledger.turn(key, sent, &TERMS);
    let (turn, errand) =
        next.map_or_else(|_| (Admission::Ask(Batch::ONE), None), |next| (next.turn, next.errand));
    match turn {
        Admission::Ask(_) if call == Call::Lost => return,
        Admission::Ask(batch) => {
            let answer = books.answer(batch.hits);
            ledger.answered(key, answer, (batch.hits, 1), (sent, sent), &TERMS);
        }
        Admission::Admitted(_) => {}
        Admission::Refused(_) => panic!("nothing was refused"),
    }
    books.spent.fetch_add(1, Ordering::SeqCst);
    if let Some(BackgroundCall::Prefetch(batch)) = errand
        && call == Call::DescriptorEntry
    {
        let answer = books.answer(batch.hits);
        ledger.answered(key, answer, (batch.hits, 0), (sent, sent), &TERMS);
    }
}

#[test]
fn no_more_is_spent_than_was_granted() {
    let mut model = loom::model::Builder::new();
    // More than any fault here needs, and a second's work.
    model.preemption_bound = Some(3);
    model.check(|| {
        let ledger = loom::sync::Arc::new(LeaseTable::new(Room { entries: 100, bytes: 1 << 20 }));
        let books = loom::sync::Arc::new(Books::default());
        let key = Key::of(b"a set of descriptors", &[]);
        // The first tells the limit, the second begins a lease.
        request(&ledger, &books, key, Call::DescriptorEntry);
        request(&ledger, &books, key, Call::DescriptorEntry);
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (ledger, books) = (ledger.clone(), books.clone());
                let first = if worker == 0 { Call::Lost } else { Call::DescriptorEntry };
                thread::spawn(move || {
                    request(&ledger, &books, key, first);
                    request(&ledger, &books, key, Call::DescriptorEntry);
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        // What is left is there to be spent, and no more than that. Whoever finds nothing left may
        // ask for many again: no claim is left behind.
        let mut left = 0;
        while let Ok(next) = ledger.turn(key, Instant::now(), &TERMS) {
            match next.turn {
                Admission::Admitted(_) => left += 1,
                Admission::Ask(batch) => {
                    assert!(batch.hits > 1, "a claim is left behind");
                    break;
                }
                Admission::Refused(_) => panic!("nothing was refused"),
            }
        }
        let (granted, spent) =
            (books.granted.load(Ordering::SeqCst), books.spent.load(Ordering::SeqCst));
        assert!((5..=6).contains(&spent), "{spent}");
        assert!(spent + left <= granted, "{spent} and {left} of {granted}");
    });
}
