//! The account of one set of descriptors: what was paid for and not spent, what is owed, and for how
//! long the service surely refuses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::Code;
use prost::Message;

use super::claim::{Claim, Claims};
use super::quota::Quota;
use super::{IDLE, LeaseConfig, Mode, Server};
use crate::memory::table::Kept;

/// A window shorter than this can't be told from the next one.
const SHORTEST_WINDOW: Duration = Duration::from_secs(4);
/// The earliest ends that two answers tell of lie closer than this in one window.
const SAME_WINDOW: Duration = Duration::from_millis(1500);
/// Bytes that an answer takes beside its own: two counts, and what the allocator rounds up.
const ANSWER_OVERHEAD: usize = 32;
/// Over how long the rate of requests is measured.
const RATE_OVER: f64 = 1.0;

/// What a request is to do.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is refused as the service refused the last one.
    Refused(CachedResponse),
    /// It is paid for, or will be reported; with what the service said last.
    Admitted(CachedResponse),
    /// It asks the service, and spends one of the hits that it is granted.
    Ask(Batch),
}

/// Hits that the service is asked for at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) hits: u64,
    /// The right to ask for more than one.
    _claim: Option<Claim>,
}

impl Batch {
    /// The one hit of a request.
    pub(crate) const ONE: Self = Self { hits: 1, _claim: None };

    /// So many hits, if nobody else asks for many; else one.
    fn claimed(hits: u64, claims: &mut Claims) -> Self {
        match (hits > 1).then(|| claims.take()).flatten() {
            Some(claim) => Self { hits, _claim: Some(claim) },
            None => Self::ONE,
        }
    }
}

/// What the service said before, and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CachedResponse {
    /// The serialized answer.
    pub(crate) answer: Arc<[u8]>,
    pub(crate) said: Instant,
    /// Hits that are paid for and not spent.
    pub(crate) unspent: u64,
}

/// A call that is to be made beside the request.
#[derive(Debug)]
pub(crate) enum BackgroundCall {
    /// Ask for so many hits, before the last ones are spent.
    Prefetch(Batch),
    /// Report what is owed, after so long.
    Report(Duration, Claim),
}

/// The account of one set of descriptors.
#[derive(Debug)]
pub(crate) struct LeaseState {
    /// Hits that are paid for and not spent.
    tokens: u64,
    /// The earliest end of the window that they were counted in. Each answer of a window bounds its
    /// end by whole seconds; the latest of these bounds is the closest.
    window_end: Instant,
    /// The size of the last batch.
    batch: u64,
    /// Hits that were admitted and not reported.
    owed: u64,
    /// Whether somebody asks for many hits, or reports.
    claims: Claims,
    /// The last answer that allowed, serialized, when it was asked for, and what it told.
    allowed: Option<(Arc<[u8]>, Instant, Quota)>,
    /// The last refusal, serialized, when it was asked for, and until when it holds.
    refused: Option<(Arc<[u8]>, Instant, Instant)>,
    /// How many batches were asked for.
    asked: u64,
    /// Requests a second.
    rate: f64,
    used: Instant,
}

impl LeaseState {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            tokens: 0,
            window_end: now,
            batch: 1,
            owed: 0,
            claims: Claims::new(),
            allowed: None,
            refused: None,
            asked: 0,
            rate: 0.0,
            used: now,
        }
    }

    /// The limit that the service told of last.
    pub(crate) fn quota(&self) -> Option<Quota> {
        self.allowed.as_ref().map(|(_, _, quota)| *quota)
    }

    /// A request came.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        terms: &LeaseConfig,
    ) -> (Admission, Option<BackgroundCall>) {
        self.arrive(now);
        if terms.mode == Mode::Exact {
            return (Admission::Ask(Batch::ONE), None);
        }
        if let Some((answer, said, until)) = &self.refused {
            if now < *until {
                let known = CachedResponse { answer: Arc::clone(answer), said: *said, unspent: 0 };
                return (Admission::Refused(known), None);
            }
            self.refused = None;
        }
        match terms.mode {
            Mode::Exact | Mode::CacheOverLimit => (Admission::Ask(Batch::ONE), None),
            Mode::Lease => self.spend(now, terms),
            Mode::Async => self.owe(now, terms),
        }
    }

    fn arrive(&mut self, now: Instant) {
        let past = now.saturating_duration_since(self.used).as_secs_f64();
        self.rate = self.rate * (-past / RATE_OVER).exp() + 1.0 / RATE_OVER;
        self.used = now;
    }

    fn spend(&mut self, now: Instant, terms: &LeaseConfig) -> (Admission, Option<BackgroundCall>) {
        if now >= self.window_end {
            self.tokens = 0;
            return (Admission::Ask(Batch::ONE), None);
        }
        // Batches of many sizes: answers that come at the same part of each second would all bound
        // the window's end alike.
        let part = 50 + self.asked * 37 % 51;
        let left = self.window_end.saturating_duration_since(now);
        let batch = |quota: &Quota, rate| (quota.batch(rate, left, terms) * part / 100).max(1);
        let Some((answer, said, quota)) = &self.allowed else {
            return (Admission::Ask(Batch::ONE), None);
        };
        if self.tokens == 0 {
            // Whoever comes while somebody asks for many asks for itself alone.
            let batch = Batch::claimed(batch(quota, self.rate), &mut self.claims);
            self.asked += 1;
            return (Admission::Ask(batch), None);
        }
        self.tokens -= 1;
        let known =
            CachedResponse { answer: Arc::clone(answer), said: *said, unspent: self.tokens };
        let low = self.tokens <= self.batch / 4 && !self.claims.is_taken();
        let many = batch(quota, self.rate);
        let errand = (low && many > 1).then(|| {
            self.asked += 1;
            BackgroundCall::Prefetch(Batch::claimed(many, &mut self.claims))
        });
        (Admission::Admitted(known), errand)
    }

    fn owe(&mut self, now: Instant, terms: &LeaseConfig) -> (Admission, Option<BackgroundCall>) {
        let current = self.allowed.as_ref().filter(|_| now < self.window_end);
        let Some((answer, said, quota)) = current else {
            return (Admission::Ask(Batch::ONE), None);
        };
        if self.owed >= quota.credit(terms) {
            return (Admission::Ask(Batch::ONE), None);
        }
        let known = CachedResponse { answer: Arc::clone(answer), said: *said, unspent: 0 };
        let window = quota.until.saturating_duration_since(*said);
        self.owed += 1;
        // Often enough that little is owed when the window ends.
        let after = (window / 40).clamp(Duration::from_millis(50), Duration::from_secs(1));
        let errand = self.claims.take().map(|claim| BackgroundCall::Report(after, claim));
        (Admission::Admitted(known), errand)
    }

    /// What is owed, to be reported now.
    pub(crate) fn take_unreported(&mut self) -> u64 {
        std::mem::take(&mut self.owed)
    }

    /// A report of so many hits failed.
    pub(crate) const fn restore_unreported(&mut self, hits: u64) {
        self.owed = self.owed.saturating_add(hits);
    }

    /// The service answered a call for `hits`, sent at `sent`. `spent` of them are spent already.
    pub(crate) fn answered(
        &mut self,
        answer: &RateLimitResponse,
        hits: u64,
        spent: u64,
        sent: Instant,
        now: Instant,
        terms: &LeaseConfig,
    ) {
        if answer.overall_code == i32::from(Code::OverLimit) {
            self.refused_by(answer, hits, sent, now, terms);
            return;
        }
        let Some(quota) = Quota::told(answer, sent, terms.server).filter(|_| is_plain(answer))
        else {
            self.allowed = None;
            return;
        };
        if !self.is_current(&quota, terms.server) {
            return;
        }
        let granted = hits.saturating_sub(spent);
        if granted > 0 {
            self.tokens = self.tokens.saturating_add(granted);
            self.batch = hits;
        }
        // A window too short to tell from the next one is no place for a lease.
        let long = quota.until.saturating_duration_since(sent).max(quota.window) >= SHORTEST_WINDOW;
        self.allowed = long.then(|| (serialized(answer), sent, quota));
    }

    /// Whether an answer whose window ends at `end` at the earliest is of the current window, or of one
    /// that begins with it. Bounds of one window lie within a second of each other, and what calls
    /// take; those of two windows are further apart.
    fn is_current(&mut self, quota: &Quota, server: Server) -> bool {
        let end = quota.until;
        if end + SAME_WINDOW < self.window_end {
            return false;
        }
        if self.window_end + SAME_WINDOW < end {
            self.tokens = 0;
            self.owed = 0;
            if server == Server::EnvoyRatelimit {
                self.window_end = self.next_ends(quota).unwrap_or(self.window_end);
            }
        }
        self.window_end = self.window_end.max(end);
        true
    }

    /// Windows that are aligned to the clock follow each other without a gap: what is known of the end
    /// of one is known of those soon after it.
    fn next_ends(&self, quota: &Quota) -> Option<Instant> {
        let since = quota.until.saturating_duration_since(self.window_end) + SAME_WINDOW;
        let windows = since.as_millis().checked_div(quota.window.as_millis())?;
        let windows = u32::try_from(windows).ok().filter(|windows| (1..=3).contains(windows))?;
        let end = self.window_end + quota.window * windows;
        // No bound is more than a second from the end.
        (end <= quota.until + Duration::from_secs(1)).then_some(end)
    }

    fn refused_by(
        &mut self,
        answer: &RateLimitResponse,
        hits: u64,
        sent: Instant,
        now: Instant,
        terms: &LeaseConfig,
    ) {
        if terms.mode == Mode::Async {
            // What was reported may not have been counted: no more credit.
            self.allowed = None;
        }
        // A batch may be refused where one hit would pass; only envoyproxy/ratelimit is known to
        // have counted it all the same.
        if hits > 1 && terms.server != Server::EnvoyRatelimit {
            return;
        }
        let longest = now.checked_add(terms.max_refusal).unwrap_or(now);
        self.refused = Quota::refused_until(answer, sent, terms.server)
            .map(|until| (serialized(answer), sent, until.min(longest)));
    }
}

impl Kept for LeaseState {
    fn expires(&self) -> Instant {
        self.used + IDLE
    }

    fn heap_bytes(&self) -> usize {
        let allowed = self.allowed.as_ref().map(|(answer, ..)| answer);
        let refused = self.refused.as_ref().map(|(answer, ..)| answer);
        let kept = allowed.into_iter().chain(refused);
        kept.map(|answer| answer.len() + ANSWER_OVERHEAD).sum()
    }

    fn shed(&mut self) {
        (self.allowed, self.refused) = (None, None);
    }
}

/// Answers are kept as they came over the wire: their size is known, and it is small.
fn serialized(answer: &RateLimitResponse) -> Arc<[u8]> {
    answer.encode_to_vec().into()
}

/// Whether an allowing answer holds nothing that is meant for one request alone.
fn is_plain(answer: &RateLimitResponse) -> bool {
    answer.dynamic_metadata.is_none()
        && answer.request_headers_to_add.is_empty()
        && answer.raw_body.is_empty()
}

#[cfg(test)]
mod tests;
