//! How long a target is left alone after an attempt to connect failed. Time is an argument.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
/// With jitter and a request now and then a service is found again within a second of its return.
const LONGEST: Duration = Duration::from_millis(700);

/// The back-off of one target: 100 ms growing by 1.6 up to 0.7 s, 20 % either way. (gRPC's goes up to
/// two minutes: there nobody waits for a verdict meanwhile.) It begins anew only when a connection has
/// proved itself.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
    until: Option<Instant>,
}

impl BackOff {
    /// An attempt failed at `now`; `jitter` lies in 0..1.
    pub(crate) fn failed(&mut self, now: Instant, jitter: f64) {
        self.until = Some(now + pause(self.failures, jitter));
        self.failures = self.failures.saturating_add(1);
    }

    /// The service has answered.
    pub(crate) const fn proved(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// Whether no attempt may be made at `now`.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

fn pause(failures: u32, jitter: f64) -> Duration {
    let factor = 1.6_f64.powi(i32::try_from(failures.min(30)).unwrap_or(30));
    FIRST.mul_f64(factor).min(LONGEST).mul_f64(0.8 + 0.4 * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_bound_and_jitters_by_a_fifth() {
        assert_eq!(pause(0, 0.5), Duration::from_millis(100));
        assert_eq!(pause(1, 0.5), Duration::from_millis(160));
        assert_eq!(pause(u32::MAX, 0.5), LONGEST);
        assert_eq!(pause(0, 0.0), Duration::from_millis(80));
        assert!(pause(0, 0.999) < Duration::from_millis(120));
    }

    #[test]
    fn however_long_an_outage_lasts_a_target_rests_for_less_than_a_second() {
        let (mut back_off, now) = (BackOff::default(), Instant::now());
        for _ in 0..1000 {
            back_off.failed(now, 0.999);
        }
        assert!(back_off.rests(now) && !back_off.rests(now + Duration::from_millis(900)));
    }

    #[test]
    fn only_an_answer_ends_it() {
        let (mut back_off, now) = (BackOff::default(), Instant::now());
        back_off.failed(now, 0.5);
        let later = now + Duration::from_millis(100);
        assert!(!back_off.rests(later));
        back_off.failed(later, 0.5);
        assert!(back_off.rests(later + Duration::from_millis(150)));
        back_off.proved();
        assert!(!back_off.rests(later));
        back_off.failed(later, 0.5);
        assert!(!back_off.rests(later + Duration::from_millis(100)));
    }
}
