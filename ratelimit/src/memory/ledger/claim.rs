//! Who may act for an account: ask for many hits at once, or report what it owes.

use std::sync::{Arc, Weak};

/// The right to ask for many hits of an account, or to report what it owes. One at a time has it, and
/// it ends when it is dropped: with the request, the call or the task that held it, in whatever way
/// that ends.
#[derive(Debug)]
pub(crate) struct Claim {
    _alive: Arc<()>,
}

/// An account's side of its claims.
#[derive(Debug, Default)]
pub(super) struct Claims(Weak<()>);

impl Claims {
    pub(super) const fn new() -> Self {
        Self(Weak::new())
    }

    /// Whether a claim is alive.
    pub(super) fn is_taken(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// A claim; `None` while another one lives.
    pub(super) fn take(&mut self) -> Option<Claim> {
        if self.is_taken() {
            return None;
        }
        let alive = Arc::new(());
        self.0 = Arc::downgrade(&alive);
        Some(Claim { _alive: alive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_claim_until_it_is_dropped() {
        let mut claims = Claims::new();
        let first = claims.take().unwrap();
        assert!(claims.is_taken() && claims.take().is_none());
        drop(first);
        assert!(!claims.is_taken());
        assert!(claims.take().is_some());
    }

    #[test]
    fn a_task_that_is_dropped_before_its_first_poll_gives_its_claim_back() {
        let mut claims = Claims::new();
        let claim = claims.take().unwrap();
        let task = async move {
            let _claim = claim;
        };
        assert!(claims.is_taken());
        drop(task);
        assert!(!claims.is_taken());
    }
}
