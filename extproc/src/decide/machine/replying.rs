//! `StreamedImmediateResponse`: the processor answers the client itself, part by part.

use callout_common::{Direction, Reply};
use callout_protos::envoy::service::ext_proc::v3::StreamedImmediateResponse;

use super::{Action, BodyMode, Machine, Part, Phase, Stat};

const SPURIOUS: &str = "spurious_message";
const NO_HEADERS: &str = "local_response_body_received_before_headers";
const NO_STATUS: &str =
    "filter_removed_required_response_headers{missing_required_header:_:status}";
/// What Envoy answers for a response without a status.
const BAD_GATEWAY: u16 = 502;

impl Machine {
    /// Whether the processor answers the client itself.
    pub(super) fn replies(&self) -> bool {
        self.request.phase == Phase::Replying
    }

    /// A part came. The first has to be the headers, in place of the answer to the request's headers,
    /// as long as nothing of the request went on.
    pub(super) fn reply_part(
        &mut self,
        message: StreamedImmediateResponse,
        metadata: Action,
        actions: &mut Vec<Action>,
    ) {
        let Some(part) = message.response else { return self.spurious(SPURIOUS, actions) };
        let begins = matches!(part, Part::HeadersResponse(_));
        if begins == self.replies() {
            let details = if begins { SPURIOUS } else { NO_HEADERS };
            return self.spurious(details, actions);
        }
        let whole =
            matches!(self.modes.body(Direction::Request), BodyMode::None | BodyMode::Duplex);
        if begins && !(whole && matches!(self.request.phase, Phase::Headers { .. })) {
            return self.spurious(SPURIOUS, actions);
        }
        actions.extend([Action::Count(Stat::Received), metadata]);
        if let Part::HeadersResponse(headers) = &part
            && !headers.headers.iter().flat_map(|map| &map.headers).any(|h| h.key == ":status")
        {
            self.finished = true;
            let reply =
                Reply::new(BAD_GATEWAY).body("missing required header: :status").details(NO_STATUS);
            let closed = Action::Count(Stat::Closed);
            return actions.extend([closed, Action::HalfClose, Action::Reply(reply)]);
        }
        self.enter(Direction::Request, Phase::Replying);
        let ends = match &part {
            Part::HeadersResponse(headers) => headers.end_of_stream,
            Part::BodyResponse(body) => body.end_of_stream || body.end_of_stream_without_message,
            Part::TrailersResponse(_) => true,
        };
        if ends {
            self.finished = true;
            actions.extend([Action::Count(Stat::Closed), Action::HalfClose]);
        } else {
            let side = &mut self.request;
            side.number += 1;
            let number = side.number;
            actions.extend(self.settings.stall_timeout.map(|within| Action::MoreTime {
                direction: Direction::Request,
                number,
                within,
            }));
        }
        actions.push(Action::Part(Box::new(part)));
    }
}
