//! What a check counts and tells while it runs off the worker: kept until the worker can tell Envoy.

use std::sync::{Arc, Mutex, PoisonError};

use crate::filter::context::StreamContext;
use crate::filter::stats::{Counter, Histogram, LabelledCounter};

/// One thing to tell Envoy.
#[derive(Debug, Clone)]
enum Note {
    Count(Counter, u64),
    CountLabelled(LabelledCounter, String),
    Record(Histogram, u64),
    Text(String, String),
    Number(String, f64),
}

/// What was noted of one request so far. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<Note>>>);

impl Notes {
    pub(super) fn count(&self, counter: Counter, by: u64) {
        self.push(Note::Count(counter, by));
    }

    pub(super) fn count_labelled(&self, counter: LabelledCounter, label: &str) {
        self.push(Note::CountLabelled(counter, label.to_owned()));
    }

    pub(super) fn record(&self, histogram: Histogram, value: u64) {
        self.push(Note::Record(histogram, value));
    }

    pub(super) fn text(&self, key: &str, value: &str) {
        self.push(Note::Text(key.to_owned(), value.to_owned()));
    }

    pub(super) fn number(&self, key: &str, value: f64) {
        self.push(Note::Number(key.to_owned(), value));
    }

    fn push(&self, note: Note) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    /// Tells Envoy what was noted since the last time; texts and numbers under `namespace` in the
    /// dynamic metadata.
    pub(super) fn settle<E: Send + 'static>(&self, cx: &mut StreamContext<'_, E>, namespace: &str) {
        let notes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for note in notes {
            match note {
                Note::Count(counter, by) => cx.count_by(counter, by),
                Note::CountLabelled(counter, label) => cx.count_labelled(counter, &label),
                Note::Record(histogram, value) => cx.record(histogram, value),
                Note::Text(key, value) => _ = cx.metadata_mut().set_str(namespace, &key, &value),
                Note::Number(key, value) => {
                    cx.metadata_mut().set_number(namespace, &key, value);
                }
            }
        }
    }
}
