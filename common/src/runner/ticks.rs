//! What a configuration does again and again on Envoy's main thread.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::envoy::host::Scheduler;
use crate::runner::export::AnyFilter;
use crate::tasks::runtime;

/// How old what was read on the main thread may become.
const EVERY: Duration = Duration::from_secs(1);

/// Sends `event` to the configuration of `filter` once a second, as long as it lives.
pub(crate) fn send(filter: &Arc<dyn AnyFilter>, scheduler: Box<dyn Scheduler>, event: u64) {
    let filter: Weak<dyn AnyFilter> = Arc::downgrade(filter);
    // Without threads the first values stay, and nothing else works, either.
    let _ = runtime::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            if filter.strong_count() == 0 {
                return;
            }
            scheduler.commit(event);
        }
    });
}
