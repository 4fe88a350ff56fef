//! What one exchange consists of: what hooks and events find and leave.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use callout_common::Timer;
use callout_common::api::config::since_epoch;
use callout_common::filter::trace::CallSpan;
use callout_common::grpc::circuit_breaker::Permit;

use super::chain::{Member, Share};
use super::length::Lengths;
use super::outlet::{Outlet, RouterCopy};
use crate::ExtProc;
use crate::access_log::AccessLogRecord as Record;
use crate::call::event::Event;
use crate::call::exchange::Exchange;
use crate::config::{Config, MetadataOptions, Namespaces, Overrides, Route};
use crate::decide::machine::Machine;

/// One exchange.
#[derive(Debug)]
pub struct Stream {
    pub(crate) filter: Arc<ExtProc>,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) machine: Machine,
    pub(crate) session: Option<Exchange>,
    /// The breaker's leave for the exchange.
    pub(crate) permit: Option<Permit>,
    /// The span of the exchange, while it lasts.
    pub(crate) span: Option<CallSpan>,
    /// A message went to the processor.
    pub(crate) opened: bool,
    pub(crate) attributes_sent: [bool; 2],
    /// Bytes of the body in the latest message, of the request and of the response.
    pub(crate) shown: [usize; 2],
    /// Bytes that Envoy keeps for this filter, of the request and of the response.
    pub(crate) kept: [usize; 2],
    /// Bytes that it keeps for others: there is one buffer for all filters.
    pub(crate) shares: [Share; 2],
    pub(crate) router: RouterCopy,
    pub(crate) lengths: Lengths,
    /// When what was asked has to be answered, of the request and of the response.
    pub(crate) deadlines: [Timer<Event>; 2],
    /// How long pieces and output wait for others.
    pub(crate) gathers: [Timer<Event>; 2],
    pub(crate) outlets: [Outlet; 2],
    /// The place among the filters of this library in the chain.
    pub(crate) member: Option<Member>,
    /// The connection becomes something else, in which a piece may be empty.
    pub(crate) upgraded: bool,
    /// When the request began, since 1970.
    pub(crate) began: Duration,
    pub(crate) outcome: Record,
    /// The first headers were looked at.
    pub(crate) looked_at: bool,
}

impl Stream {
    pub(crate) fn new(filter: Arc<ExtProc>, route: Option<Arc<Route>>) -> Self {
        let mut settings = filter.config.settings.clone();
        if let Some(Route::Overrides(overrides)) = route.as_deref() {
            settings.modes = overrides.modes.unwrap_or(settings.modes);
            settings.failure_mode_allow =
                overrides.failure_mode_allow.unwrap_or(settings.failure_mode_allow);
            overrides.callout.change(&mut settings);
        }
        Self {
            machine: Machine::new(settings),
            filter,
            route,
            session: None,
            permit: None,
            span: None,
            opened: false,
            attributes_sent: [false; 2],
            shown: [0; 2],
            kept: [0; 2],
            shares: [Share::default(); 2],
            router: RouterCopy::default(),
            lengths: Lengths::default(),
            deadlines: Default::default(),
            gathers: Default::default(),
            outlets: Default::default(),
            member: None,
            upgraded: false,
            began: since_epoch(SystemTime::now()),
            outcome: Record::default(),
            looked_at: false,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.filter.config
    }

    pub(crate) fn disabled(&self) -> bool {
        matches!(self.route.as_deref(), Some(Route::Disabled))
    }

    pub(crate) fn overrides(&self) -> Option<&Overrides> {
        match self.route.as_deref() {
            Some(Route::Overrides(overrides)) => Some(overrides),
            _ => None,
        }
    }

    /// One list of namespaces: the route's if it has one, else the filter's.
    pub(crate) fn namespaces(
        &self,
        of: impl Fn(&MetadataOptions) -> Option<&Namespaces>,
    ) -> Option<&Namespaces> {
        self.overrides()
            .and_then(|overrides| of(&overrides.metadata))
            .or_else(|| of(&self.config().metadata))
    }
}
