//! What was counted of a request by an estimate, and how that is made up for (`callout.reserve`,
//! `callout.settle`).

use std::sync::Arc;

use callout_protos::envoy::service::ratelimit::v3::RateLimitRequest;
use callout_protos::pbjson_types::UInt64Value;

use super::state::{Context, Reserved, Stream};
use crate::request::budget::Settlement;
use crate::request::view::View;

impl Stream {
    /// Counts descriptors without hits of their own by an estimate of what the request will use.
    pub(crate) fn reserve(&mut self, cx: &Context<'_>, message: &mut RateLimitRequest) {
        let Some(budget) = &self.filter.config.callout.budget else { return };
        let hits = budget.reserved(&View { cx, traffic: self.traffic });
        let mut counted = RateLimitRequest { descriptors: Vec::new(), ..message.clone() };
        for descriptor in &mut message.descriptors {
            if descriptor.hits_addend.is_none() {
                descriptor.hits_addend = Some(UInt64Value { value: hits });
                counted.descriptors.push(descriptor.clone());
            }
        }
        if !counted.descriptors.is_empty() {
            self.reserved = Some(Reserved { message: counted, hits });
        }
    }

    /// The message that makes up for the difference between what was reserved and what was used.
    pub(crate) fn settlement(&mut self, cx: &mut Context<'_>) -> Option<RateLimitRequest> {
        let filter = Arc::clone(&self.filter);
        let (budget, stats) = (filter.config.callout.budget.as_ref()?, filter.stats);
        let Reserved { mut message, hits } = self.reserved.take()?;
        let used = budget.used(&View { cx, traffic: self.traffic });
        if used.is_none() {
            cx.count(stats.budget_without_usage);
        }
        let (hits, back) = match budget.settlement(hits, used)? {
            Settlement::Charge(hits) => (hits, false),
            Settlement::Refund(hits) => (hits, true),
        };
        cx.count_by(if back { stats.budget_refunded } else { stats.budget_charged }, hits);
        for descriptor in &mut message.descriptors {
            descriptor.hits_addend = Some(UInt64Value { value: hits });
            descriptor.is_negative_hits = back;
        }
        Some(message)
    }
}
