//! The warnings that a filter gives while it reads its configuration.

use std::cell::RefCell;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What `work` came to, and the warnings it gave on the way.
pub(super) fn collected<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    SEEN.with_borrow_mut(Vec::clear);
    let subscriber = tracing_subscriber::registry().with(Collector);
    let result = tracing::subscriber::with_default(subscriber, work);
    (result, SEEN.take())
}

struct Collector;

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            let mut message = Message(String::new());
            event.record(&mut message);
            SEEN.with_borrow_mut(|seen| seen.push(message.0));
        }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String does not fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
