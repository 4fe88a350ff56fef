//! What the filter measures of a stream because Envoy can't be asked for it.

use std::time::{Duration, Instant};

use callout_common::Direction;
use callout_common::envoy::version::EnvoyVersion;

/// Whether Envoy can be asked for the sizes of bodies; before 1.40 it logs an error instead.
pub(crate) fn envoy_tells_bytes() -> bool {
    EnvoyVersion::running() >= EnvoyVersion::V1_40
}

/// When a stream's request began and was whole, and the bytes of its bodies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    begun: Instant,
    request_took: Option<Duration>,
    received: u64,
    sent: u64,
}

impl Traffic {
    /// Of a stream that begins `now`.
    pub(crate) const fn begin(now: Instant) -> Self {
        Self { begun: now, request_took: None, received: 0, sent: 0 }
    }

    /// The last of the request has come.
    pub(crate) fn request_ended(&mut self, now: Instant) {
        self.request_took.get_or_insert_with(|| now.saturating_duration_since(self.begun));
    }

    /// So many bytes of a body have passed.
    pub(crate) fn passed(&mut self, direction: Direction, bytes: usize) {
        let count = match direction {
            Direction::Request => &mut self.received,
            Direction::Response => &mut self.sent,
        };
        *count = count.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The bytes of a direction's body that have passed.
    pub(crate) const fn bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Request => self.received,
            Direction::Response => self.sent,
        }
    }

    /// From the begin of the request to the end of its body, in milliseconds; `None` before that.
    pub(crate) fn request_millis(&self) -> Option<u128> {
        self.request_took.map(|took| took.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_direction() {
        let mut traffic = Traffic::begin(Instant::now());
        traffic.passed(Direction::Request, 5);
        traffic.passed(Direction::Request, 2);
        traffic.passed(Direction::Response, 3);
        assert_eq!(traffic.bytes(Direction::Request), 7);
        assert_eq!(traffic.bytes(Direction::Response), 3);
    }

    #[test]
    fn a_request_takes_until_its_end() {
        let now = Instant::now();
        let mut traffic = Traffic::begin(now);
        assert_eq!(traffic.request_millis(), None);
        traffic.request_ended(now + Duration::from_micros(2500));
        traffic.request_ended(now + Duration::from_secs(9));
        assert_eq!(traffic.request_millis(), Some(2));
    }
}
