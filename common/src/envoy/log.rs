//! `tracing` events to Envoy's log: one line each, foreign bytes escaped, level checked first.

use std::fmt::{self, Write};
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::envoy::types::Level;

/// Longest line that is logged, in bytes; more is cut.
const MAX_LINE: usize = 2000;

/// Where lines go. Called from any thread.
pub(crate) trait Sink: Send + Sync + 'static {
    fn enabled(&self, level: Level) -> bool;
    fn log(&self, level: Level, line: &str);
}

/// Sends this library's events, and a line for each of its panics, to `sink`; once per process.
pub(crate) fn install(sink: impl Sink) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(ToSink(sink));
        // Fails only where a test has installed its own.
        let _ = tracing::subscriber::set_global_default(subscriber);
        std::panic::set_hook(Box::new(|info| {
            let payload = info.payload();
            let message = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("(no message)");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!("panic: {message} at {place}");
        }));
    });
}

struct ToSink<S>(S);

impl<S: Sink, R: Subscriber> Layer<R> for ToSink<S> {
    /// The level may change at any time (`POST /logging`): each event asks anew.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, R>) -> bool {
        self.0.enabled(level(*metadata.level()))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, R>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.log(level(*event.metadata().level()), &escape(&line.0));
    }
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

/// `text` as one line of printable characters, cut at 2000 bytes. Text of others in it can
/// then not forge a line of its own.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_LINE));
    for c in text.chars() {
        if line.len() >= MAX_LINE {
            line.push_str("...");
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Lines, while it is switched on.
    #[derive(Clone, Default)]
    struct Switched(Arc<AtomicBool>, Arc<Mutex<Vec<String>>>);

    impl Sink for Switched {
        fn enabled(&self, _: Level) -> bool {
            self.0.load(Ordering::SeqCst)
        }

        fn log(&self, _: Level, line: &str) {
            self.1.lock().unwrap().push(line.to_owned());
        }
    }

    #[test]
    fn a_place_that_was_silent_speaks_when_the_level_is_lowered() {
        let sink = Switched::default();
        let say = |number: u32| tracing::debug!("event {number}");
        let subscriber = tracing_subscriber::registry().with(ToSink(sink.clone()));
        tracing::subscriber::with_default(subscriber, || {
            say(1);
            sink.0.store(true, Ordering::SeqCst);
            say(2);
            sink.0.store(false, Ordering::SeqCst);
            say(3);
        });
        assert_eq!(*sink.1.lock().unwrap(), ["event 2"]);
    }

    #[test]
    fn a_logged_text_stays_one_bounded_line() {
        assert_eq!(escape("a\r\n[critical] b\u{7}"), "a\\r\\n[critical] b\\u{7}");
        assert!(escape(&"x".repeat(10_000)).len() <= MAX_LINE + 3);
    }
}
