//! Carries decisions out. Here, and nowhere else, are the calls that can re-enter the stream or end
//! it: no filter is borrowed, and whether the stream has ended is looked at after each.

use super::flow::Mark;
use super::{Outcome, Runner};
use crate::envoy::attributes::Attribute;
use crate::envoy::host::HostEnd;
use crate::envoy::reply::{Reply, ReplyPart};
use crate::envoy::types::Direction;
use crate::envoy::types::{Body, Map};
use crate::filter::decision::{BodyEdit, EventAction, HookStatus, StopMode};
use crate::filter::{Filter, HttpStream, held_end};
use crate::http::arrival::Arrival;

impl<F: Filter> Runner<F> {
    /// Ends the stream for this filter: no more hooks, no more work. Comes before the call to Envoy,
    /// which may destroy the stream.
    fn finish(&self) {
        self.update(|flow| {
            flow.done = true;
            flow.request = None;
            flow.response = None;
        });
        self.close_work();
    }

    /// Nothing that Envoy calls while a hook of the filter runs may panic; what is borrowed then is
    /// closed when the hook has ended.
    pub(super) fn close_work(&self) {
        if let Ok(mut work) = self.work.try_borrow_mut() {
            work.close();
        }
    }

    /// Answers the request. When a response is on its way already, it is too late: if the request
    /// has not even left and nothing of the response is held here, the response is somebody's local
    /// reply and stands; else the exchange can't go on and is reset.
    pub(super) fn reply(&self, host: &mut dyn HostEnd, reply: &Reply) {
        let flow = self.flow.get();
        self.finish();
        if flow.replying {
            host.reset(reply.details_str());
        } else if !flow.response_left {
            let arrived = Arrival::of(|name| host.header(Map::Request, name, 0));
            if arrived == Arrival::Converted && !flow.response_began {
                self.reply_plainly(host, reply);
            } else {
                host.send_reply(reply);
            }
        } else if flow.request_left || flow.response.is_some() {
            host.reset(reply.details_str());
        }
    }

    /// Answers as Envoy does a request that is not gRPC. Its own local reply would need a gRPC status
    /// if the request arrived as gRPC, and must have none if it did not.
    fn reply_plainly(&self, host: &mut dyn HostEnd, reply: &Reply) {
        let bodiless = reply.body_bytes().is_empty()
            || host.header(Map::Request, ":method", 0) == Some(b"HEAD");
        host.send_part(&ReplyPart::Headers { reply: reply.framed(), end: bodiless });
        if !bodiless && !self.flow.get().ended {
            host.send_part(&ReplyPart::Data { bytes: reply.body_bytes().to_vec(), end: true });
        }
    }

    fn reset(&self, host: &mut dyn HostEnd, details: &str) {
        self.finish();
        host.reset(details);
    }

    /// Changes bodies, in order. `false` when Envoy answered or ended the stream meanwhile: what was
    /// to follow must not.
    fn edit(&self, host: &mut dyn HostEnd, edits: Vec<BodyEdit>) -> bool {
        let began = self.flow.get().response_began;
        for edit in edits {
            match edit {
                BodyEdit::TakePiece(direction) => host.drain_body(Body::received(direction)),
                BodyEdit::Keep(direction, bytes) => {
                    host.drain_body(Body::buffered(direction));
                    host.append_body(direction, &bytes);
                }
                BodyEdit::Limit(bytes) => host.set_buffer_limit(bytes),
            }
            let flow = self.flow.get();
            if flow.ended || flow.done || flow.response_began != began {
                // The request is answered; it never goes on.
                self.update(|flow| flow.request = None);
                return false;
            }
        }
        true
    }

    /// Carries `step` out; says how the direction is held afterwards, or `None` to go on.
    pub(super) fn act(
        &self,
        host: &mut dyn HostEnd,
        direction: Direction,
        step: HookStatus,
    ) -> Option<StopMode> {
        match step {
            // Only a filter that says so in this very hook has taken this very piece.
            HookStatus::Continue if self.flow.get().held(direction) == Some(StopMode::NoBuffer) => {
                return Some(StopMode::Watermark);
            }
            HookStatus::Continue => {}
            HookStatus::Edit(edits, then) => {
                if !self.edit(host, edits) {
                    return Some(StopMode::NoBuffer);
                }
                return self.act(host, direction, *then);
            }
            HookStatus::Pause(hold) => self.update(|flow| flow.hold(direction, Some(hold))),
            HookStatus::Flush(hold) => {
                if self.flow.get().held(direction).is_some() {
                    self.update(|flow| flow.left(direction));
                    self.let_go(host, direction);
                    // Letting data go on may have ended the stream.
                    if self.flow.get().ended {
                        return Some(hold);
                    }
                }
                self.update(|flow| flow.hold(direction, Some(hold)));
            }
            HookStatus::Release => self.update(|flow| flow.hold(direction, None)),
            HookStatus::Reply(reply) => {
                if direction == Direction::Response {
                    // The piece at hand is held by this very hook.
                    self.update(|flow| flow.response = Some(StopMode::NoBuffer));
                }
                self.reply(host, &reply);
                return Some(StopMode::NoBuffer);
            }
            HookStatus::Reset(details) => {
                self.reset(host, details);
                return Some(StopMode::NoBuffer);
            }
        }
        let held = self.flow.get().held(direction);
        if held.is_none() {
            self.update(|flow| flow.left(direction));
        }
        held
    }

    pub(super) fn resume(&self, host: &mut dyn HostEnd, resume: EventAction) {
        match resume {
            EventAction::Stay => {}
            EventAction::Edit(edits, then) => {
                if self.edit(host, edits) {
                    self.resume(host, *then);
                }
            }
            EventAction::Request => self.open_held(host, Direction::Request),
            EventAction::Response => self.open_held(host, Direction::Response),
            EventAction::Both => {
                self.open_held(host, Direction::Request);
                self.open_held(host, Direction::Response);
            }
            EventAction::Reply(reply) => self.reply(host, &reply),
            EventAction::Send(parts) => self.send(host, &parts),
            EventAction::Reset(details) => self.reset(host, details),
        }
    }

    /// Sends parts of a reply, which has to begin with its headers, while the request is held.
    fn send(&self, host: &mut dyn HostEnd, parts: &[ReplyPart]) {
        for part in parts {
            let flow = self.flow.get();
            if flow.done || flow.ended {
                return;
            }
            let begins = matches!(part, ReplyPart::Headers { .. });
            let fits = if begins { flow.request.is_some() && !flow.response_left } else { true };
            if begins == flow.replying || !fits {
                return self.reset(host, "callout_reply_out_of_order");
            }
            self.update(|flow| flow.replying = true);
            if part.ends() {
                self.finish();
            }
            host.send_part(part);
        }
    }

    /// Lets a held direction go on. A direction that is not held has nothing to resume; asking
    /// Envoy all the same would crash it. A request that was answered before it left never leaves.
    fn open_held(&self, host: &mut dyn HostEnd, direction: Direction) {
        let flow = self.flow.get();
        if flow.ended || flow.done || flow.replying || flow.held(direction).is_none() {
            return;
        }
        if direction == Direction::Request
            && (flow.response_began && !flow.request_left || self.waits_for_its_end(host))
        {
            return;
        }
        if direction == Direction::Response && flow.mark == Mark::Set && !self.clear_mark(host) {
            return self.reset(host, "callout_response_can_not_go_on");
        }
        self.update(|flow| {
            flow.hold(direction, None);
            flow.left(direction);
        });
        self.let_go(host, direction);
    }

    /// Whether the request can't go on yet, because a filter in front holds its end. It tries again.
    fn waits_for_its_end(&self, host: &mut dyn HostEnd) -> bool {
        let before = self.flow.get();
        let waits = !F::Stream::HOLDS_ENDS && !before.request_bodiless && held_end::is_held(host);
        self.update(|flow| flow.request_waits = waits);
        if waits && !before.request_waits {
            self.work.borrow_mut().try_again(host);
        }
        waits
    }

    /// The moment has passed for which the request was to wait.
    pub(super) fn try_again(&self, host: &mut dyn HostEnd) {
        let waits = self.flow.get().request_waits;
        self.update(|flow| flow.request_waits = false);
        if waits {
            self.open_held(host, Direction::Request);
        }
    }

    /// Makes Envoy listen again: see [`Mark`]. The held response is complete, a local reply, so it
    /// can be given trailers without lines, which end a message as well as its body does. That calls
    /// the trailers hook, and the hook clears the mark.
    fn clear_mark(&self, host: &mut dyn HostEnd) -> bool {
        let protocol = host.attribute_str(Attribute::RequestProtocol).unwrap_or_default();
        let trailers = if protocol.starts_with(b"HTTP/1") {
            if self.flow.get().bodiless && host.body_len(Body::BufferedResponse) == 0 {
                say_there_is_no_body(host);
            }
            Vec::new()
        } else {
            take_grpc_status(host)
        };
        self.update(|flow| flow.mark = Mark::Clearing);
        host.end_with_trailers(&trailers);
        self.flow.get().mark == Mark::Clear
    }

    fn let_go(&self, host: &mut dyn HostEnd, direction: Direction) {
        self.update(|flow| flow.resuming = direction == Direction::Request);
        host.resume(direction);
        self.update(|flow| flow.resuming = false);
        let flow = self.flow.get();
        if !flow.ended && !flow.done {
            // A panic here is counted; what was let go has gone.
            let edit = self.run(host, |stream, cx| stream.resumed(cx, direction));
            if let Outcome::Decided(Some(edit)) = edit {
                self.edit(host, vec![edit]);
            }
        }
    }

    pub(super) fn end(&self) {
        self.update(|flow| flow.ended = true);
        self.close_work();
    }
}

/// A response over HTTP/1.1 that does not end with its headers is chunked; one without a body says so
/// instead, as Envoy does where it ends with them.
fn say_there_is_no_body(host: &mut dyn HostEnd) {
    let is = |map, name, value: &[u8]| host.header(map, name, 0) == Some(value);
    let silent = is(Map::Request, ":method", b"HEAD")
        || [b"204", b"304"].into_iter().any(|status| is(Map::Response, ":status", status));
    if !silent && host.header(Map::Response, "content-length", 0).is_none() {
        host.set_header(Map::Response, "content-length", b"0");
    }
}

/// The lines of gRPC's status, which have to be the last of a message: they leave the headers.
fn take_grpc_status(host: &mut dyn HostEnd) -> Vec<(String, Vec<u8>)> {
    let lines: Vec<(String, Vec<u8>)> = host
        .headers(Map::Response)
        .iter()
        .filter(|line| line.name.starts_with(b"grpc-"))
        .map(|line| (String::from_utf8_lossy(line.name).into_owned(), line.value.to_vec()))
        .collect();
    for (name, _) in &lines {
        host.remove_header(Map::Response, name);
    }
    lines
}
