//! Does what a decision says, whether the service just made it or it was kept.

pub(crate) mod headers;
pub(crate) mod state;

use std::sync::Arc;
use std::time::Duration;

use callout_common::EventAction;
use callout_protos::pbjson_types::{Struct, Value, value::Kind};

use self::state::Stream;
use crate::access_log;
use crate::access_log::Source;
use crate::access_log::shadow;
use crate::call::check_call::Context;
use crate::decide::edits::Edits;
use crate::decide::verdict::{Decision, Verdict, invalid, refusal};

/// Where the built-in puts an answer's metadata, whatever the filter is called.
const NAMESPACE: &str = "envoy.filters.http.ext_authz";

/// What came of carrying out a decision.
#[derive(Debug)]
pub(crate) enum Applied {
    /// It was done as a whole.
    Applied(EventAction),
    /// It can't be done to this request.
    Invalid(EventAction),
}

impl Applied {
    pub(crate) fn resume(self) -> EventAction {
        match self {
            Self::Applied(resume) | Self::Invalid(resume) => resume,
        }
    }
}

impl Stream {
    /// Does what a decision says.
    pub(crate) fn apply(
        &mut self,
        cx: &mut Context<'_>,
        judged: &Arc<Decision>,
        source: Source,
        took: Duration,
    ) -> Applied {
        let stats = self.authz.stats;
        let Decision { verdict, metadata, cause, passed_over, .. } = &**judged;
        // What was left out was counted when the answer came.
        let news = matches!(source, Source::Service | Source::Coalesced);
        let count_dropped = |cx: &mut Context<'_>, dropped| {
            if news {
                cx.count_by(stats.dropped_headers, dropped);
            }
        };
        access_log::record(cx, verdict, *cause, source, took);
        self.keep_metadata(cx, metadata.as_ref(), took, matches!(verdict, Verdict::Allow(_)));
        let shadow_mode = self.config().shadow_mode;
        match verdict {
            Verdict::Allow(edits) => {
                if *passed_over > 0 {
                    self.passed_over(cx, *passed_over);
                }
                count_dropped(cx, edits.dropped);
                self.allow(cx, judged, edits)
            }
            Verdict::Deny { reply, dropped } => {
                cx.tag_span("ext_authz_status", "ext_authz_unauthorized");
                self.flag(cx);
                cx.count(stats.denied);
                count_dropped(cx, *dropped);
                if shadow_mode {
                    cx.count(stats.shadow_denied);
                    shadow::record(cx, shadow::Outcome::Denied(reply));
                    return Applied::Applied(EventAction::Request);
                }
                Applied::Applied(EventAction::Reply(reply.clone()))
            }
            Verdict::Pass => {
                cx.tag_span("ext_authz_status", "ext_authz_error");
                cx.count(stats.error);
                if shadow_mode {
                    cx.count(stats.shadow_error);
                    shadow::record(cx, shadow::Outcome::Error(&refusal(self.config())));
                    return Applied::Applied(EventAction::Request);
                }
                cx.count(stats.failure_mode_allowed);
                self.mark_failure(cx);
                Applied::Applied(EventAction::Request)
            }
            Verdict::Refuse { reply, dropped } => {
                cx.tag_span("ext_authz_status", "ext_authz_error");
                self.flag(cx);
                cx.count(stats.error);
                count_dropped(cx, *dropped);
                if shadow_mode {
                    cx.count(stats.shadow_error);
                    shadow::record(cx, shadow::Outcome::Error(reply));
                    return Applied::Applied(EventAction::Request);
                }
                Applied::Applied(EventAction::Reply(reply.clone()))
            }
            Verdict::Invalid { denied } => {
                if *denied {
                    cx.count(stats.denied);
                }
                self.invalid(cx)
            }
        }
    }

    /// The built-in's response flag, for `%CUSTOM_FLAGS%`: a module can't set the flag itself.
    fn flag(&self, cx: &mut Context<'_>) {
        if !self.config().shadow_mode {
            cx.add_custom_flag("UAEX");
        }
    }

    /// Some of several services failed, and the others allowed the request.
    fn passed_over(&self, cx: &mut Context<'_>, services: u64) {
        cx.count_by(self.authz.stats.error, services);
        cx.count_by(self.authz.stats.failure_mode_allowed, services);
        self.mark_failure(cx);
    }

    fn mark_failure(&self, cx: &mut Context<'_>) {
        if self.config().failure_mode_allow_header_add && !self.config().shadow_mode {
            cx.request_mut().add("x-envoy-auth-failure-mode-allowed", b"true");
        }
    }

    fn invalid(&self, cx: &mut Context<'_>) -> Applied {
        cx.count(self.authz.stats.invalid);
        let shadow_mode = self.config().shadow_mode;
        Applied::Invalid(if shadow_mode {
            EventAction::Request
        } else {
            EventAction::Reply(invalid())
        })
    }

    fn allow(&mut self, cx: &mut Context<'_>, judged: &Arc<Decision>, edits: &Edits) -> Applied {
        let stats = self.authz.stats;
        cx.tag_span("ext_authz_status", "ext_authz_ok");
        if edits.clear_route_cache {
            cx.clear_route_cache();
        }
        if !headers::request(cx, edits, &self.config().callout.header_limits) {
            cx.count(stats.request_header_limits_reached);
            return self.invalid(cx);
        }
        if !edits.response.is_empty() {
            self.allowed = Some(Arc::clone(judged));
        }
        cx.count(stats.ok);
        if self.config().shadow_mode {
            shadow::record(cx, shadow::Outcome::Allowed);
        }
        Applied::Applied(EventAction::Request)
    }

    fn keep_metadata(
        &self,
        cx: &mut Context<'_>,
        metadata: Option<&Struct>,
        took: Duration,
        allowed: bool,
    ) {
        let Some(metadata) = metadata else { return };
        if !self.config().enable_dynamic_metadata_ingestion {
            cx.count(self.authz.stats.ignored_dynamic_metadata);
            return;
        }
        let mut metadata = metadata.clone();
        if allowed {
            #[allow(clippy::cast_precision_loss, reason = "no call takes 2^53 milliseconds")]
            let millis = took.as_millis() as f64;
            let duration = Value { kind: Some(Kind::NumberValue(millis)) };
            metadata.fields.insert("ext_authz_duration".to_owned(), duration);
        }
        if !cx.metadata_mut().merge_struct(NAMESPACE, &metadata) {
            cx.count(self.authz.stats.ignored_dynamic_metadata);
        }
    }
}
