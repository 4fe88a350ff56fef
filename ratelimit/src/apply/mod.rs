//! Does what an answer, or the lack of one, says.

pub(crate) mod reserved;
pub(crate) mod state;

use std::sync::Arc;
use std::time::Duration;

use callout_common::api::format::CommandOperator;
use callout_common::grpc::Failure;
use callout_common::http::mutation::Lines;
use callout_common::{Direction, EventAction, HookStatus};
use callout_protos::envoy::service::ratelimit::v3::RateLimitResponse;
use callout_protos::envoy::service::ratelimit::v3::rate_limit_response::Code;

use self::state::{Asked, Context, Stream};
use crate::access_log;
use crate::access_log::Source;
use crate::decide::verdict::{
    Decision, LIMITED_DETAILS, Sampling, Verdict, decide, limited, refusal,
};

impl Stream {
    /// Refuses a request about which nobody is asked.
    pub(crate) fn refuse(&self, cx: &mut Context<'_>, cause: &str) -> HookStatus {
        access_log::record(cx, "refused", Source::Filter, Some(cause), None, Duration::ZERO);
        HookStatus::Reply(refusal(&self.filter.config.replies))
    }

    /// Does what an answer, or the lack of one, says.
    pub(crate) fn apply(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked,
        answer: Result<RateLimitResponse, Failure>,
        source: Source,
        took: Duration,
    ) -> EventAction {
        let filter = Arc::clone(&self.filter);
        let (config, stats) = (&filter.config, filter.stats);
        let draw = Sampling {
            enforced: config.filter_enforced.contains(rand::random()),
            deny_failure: asked
                .handling
                .failure_mode_deny
                .unwrap_or_else(|| config.failure_mode_deny.contains(rand::random())),
        };
        // Only what the service counted is settled.
        let counted = source == Source::Service
            && answer.as_ref().is_ok_and(|answer| answer.overall_code == i32::from(Code::Ok));
        if !counted {
            self.reserved = None;
        }
        let cause = answer.as_ref().err().map(Failure::cause);
        let descriptors = &asked.question.message.descriptors;
        let shadowed = match &answer {
            Ok(answer) => asked.handling.shadows(&answer.statuses),
            Err(_) => asked.handling.is_shadow(),
        };
        let hit =
            answer.as_ref().ok().and_then(|answer| access_log::hit(descriptors, &answer.statuses));
        let Decision { verdict, metadata, dropped } =
            decide(&config.replies, &asked.shown, draw, answer);
        let (name, hit) = match &verdict {
            Verdict::Allow { over_limit: false, .. } => ("ok", None),
            Verdict::Allow { over_limit: true, .. } | Verdict::Limit { .. } => {
                ("over_limit", hit.as_ref())
            }
            Verdict::Pass => ("failure_mode_allowed", None),
            Verdict::Refuse(_) => ("refused", None),
        };
        access_log::record(cx, name, source, cause, hit, took);
        cx.count_by(stats.dropped_headers, dropped);
        if let Some(metadata) = metadata.filter(|metadata| !metadata.fields.is_empty())
            && !cx.metadata_mut().merge_struct(&config.metadata_namespace, &metadata)
        {
            cx.count(stats.dropped_metadata);
        }
        self.carry_out(cx, verdict, shadowed)
    }

    fn carry_out(&mut self, cx: &mut Context<'_>, verdict: Verdict, shadowed: bool) -> EventAction {
        let filter = Arc::clone(&self.filter);
        let (config, stats) = (&filter.config, filter.stats);
        match verdict {
            Verdict::Allow { over_limit, request, response } => {
                cx.count(if over_limit { stats.over_limit } else { stats.ok });
                let mut headers = cx.request_mut();
                for (name, value) in &request {
                    headers.add(name, value);
                }
                self.response = response;
                EventAction::Request
            }
            Verdict::Limit { mut response, body } => {
                cx.count(stats.over_limit);
                if shadowed {
                    cx.count(stats.shadow_over_limit);
                    return EventAction::Request;
                }
                // The built-in's response flag, for `%CUSTOM_FLAGS%`: a module can't set the flag itself.
                cx.add_custom_flag("RL");
                for added in &config.response_headers_to_add {
                    added.apply(&mut response, |lines, operator| of_refusal(cx, lines, operator));
                }
                // No hook of this filter sees its own reply.
                self.traffic.passed(Direction::Response, body.len());
                EventAction::Reply(limited(&config.replies, response, body))
            }
            Verdict::Pass => {
                cx.count(stats.error);
                cx.count(stats.failure_mode_allowed);
                EventAction::Request
            }
            Verdict::Refuse(_) if shadowed => {
                cx.count(stats.error);
                EventAction::Request
            }
            Verdict::Refuse(reply) => {
                cx.count(stats.error);
                cx.add_custom_flag("RLSE");
                EventAction::Reply(reply)
            }
        }
    }
}

/// What an operator stands for in the reply to a request over a limit, before there is that reply, but
/// for these `lines` of it.
fn of_refusal(cx: &Context<'_>, lines: &Lines, operator: &CommandOperator) -> Option<Vec<u8>> {
    match operator {
        CommandOperator::ResponseCode => Some(b"0".to_vec()),
        CommandOperator::ResponseFlags => Some(b"RL".to_vec()),
        CommandOperator::ResponseCodeDetails => Some(LIMITED_DETAILS.as_bytes().to_vec()),
        CommandOperator::Response { names, limit } => {
            let first = |name: &String| lines.iter().find(|(line, _)| line == name);
            let (_, value) = names.iter().find_map(first)?;
            Some(value.get(..*limit).unwrap_or(value).to_vec())
        }
        operator => cx.operator(operator),
    }
}
