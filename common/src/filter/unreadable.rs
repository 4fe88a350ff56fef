//! `callout.on_unreadable_metadata`: what a filter does about metadata that its service was to be
//! told and that Envoy's module interface does not hand out.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

use crate::api::config::ConfigError;
use crate::filter::context::StreamContext;
use crate::filter::metadata::{Missing, Unread};
use crate::filter::nested;
use crate::filter::stats::{Counter, Setup};

/// `callout.on_unreadable_metadata`.
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnreadable {
    /// `omit`, the default: the service is told what can be read.
    #[default]
    Omit,
    /// `fail`: the service is not asked, and the request is refused, whatever the failure mode says
    /// about failures of the service.
    Fail,
}

/// Counts what could not be read, and warns of the first.
#[derive(Debug)]
pub struct UnreadableMetadata {
    filter: &'static str,
    on: OnUnreadable,
    counter: Counter,
    warned: AtomicBool,
}

impl UnreadableMetadata {
    /// The word for the access log.
    pub const CAUSE: &'static str = "unreadable_metadata";

    /// Defines the counter `unreadable_metadata` for the filter called `filter`.
    ///
    /// # Errors
    /// When Envoy refuses it.
    pub fn define(
        setup: &mut Setup<'_>,
        filter: &'static str,
        on: OnUnreadable,
    ) -> Result<Self, ConfigError> {
        let counter = setup.counter(Self::CAUSE)?;
        Ok(Self { filter, on, counter, warned: AtomicBool::new(false) })
    }

    /// Whether a request of which `unread` could not be read is to be refused.
    #[must_use]
    pub fn refuses(&self, unread: &Unread) -> bool {
        self.on == OnUnreadable::Fail && unread.count() > 0
    }

    /// Counts what the running hook could not read, and warns of it once per configuration. What was
    /// counted is forgotten.
    pub fn count<E: Send + 'static>(&self, cx: &mut StreamContext<'_, E>) {
        let count = cx.unread().count();
        if count == 0 {
            return;
        }
        let first = cx.unread().take_first();
        cx.count_by(self.counter, count);
        if self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        let effect = match self.on {
            OnUnreadable::Omit => "is left out of what the service is told",
            OnUnreadable::Fail => "makes requests fail",
        };
        let filter = self.filter;
        match first {
            Some(Missing::Value(source, namespace, key)) => {
                let way_out = nested::remedy(source, &namespace)
                    .map(|yaml| format!("; to have it read put in front: {yaml}"))
                    .unwrap_or_default();
                tracing::warn!(
                    namespace,
                    key,
                    "{filter}: a metadata value that is an object, null, or a list with these, which Envoy does not hand to modules, {effect}{way_out}"
                );
            }
            Some(Missing::Typed(namespace)) => tracing::warn!(
                namespace,
                "{filter}: typed metadata, which Envoy hands to modules since 1.40, {effect}"
            ),
            Some(Missing::State { key, format }) => {
                let yaml = nested::in_front(key, format);
                tracing::warn!(
                    "{filter}: {format}, which Envoy does not hand to modules, {effect}; to have it read put in front: {yaml}"
                );
            }
            None => {}
        }
    }
}
