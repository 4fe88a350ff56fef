//! `content-length`: a length that the processor set goes on only when it is that of what goes on.

use callout_common::Direction;
use callout_common::filter::headers::Headers;

use crate::apply::direction::{headers_of, of_direction};
use crate::call::event::Context;

/// The lengths that the messages came with, of the request and of the response.
#[derive(Debug, Default)]
pub(crate) struct Lengths([Option<Came>; 2]);

/// What a message came with; `None` without a length.
type Came = Option<Vec<u8>>;

impl Lengths {
    /// Remembers what the message came with. Comes before every change; the first one counts.
    pub(crate) fn remember(&mut self, direction: Direction, headers: Headers<'_>) {
        of_direction(&mut self.0, direction)
            .get_or_insert_with(|| headers.get("content-length").map(<[u8]>::to_vec));
    }

    /// Puts back what the message came with, where it says something else by now: nobody compared
    /// that with the body. Without a length the message is whole in any case.
    pub(crate) fn restore(&mut self, cx: &mut Context<'_>, direction: Direction) {
        let map = headers_of(direction);
        let Some(came) = of_direction(&mut self.0, direction) else { return };
        let lines: Vec<&[u8]> = cx.headers(map).get_all("content-length").collect();
        let settled = match lines.as_slice() {
            [] => true,
            [line] => came.as_deref() == Some(line) || (is_number(line) && is_told(cx, direction)),
            _ => false,
        };
        if settled {
            return;
        }
        let mut headers = cx.headers_mut(map);
        match came {
            Some(came) => headers.set("content-length", came),
            None => headers.remove("content-length"),
        };
    }
}

/// Whether the length is only told, and frames nothing: of a response to HEAD, and of a 304 (RFC 9110
/// section 8.6).
fn is_told(cx: &Context<'_>, direction: Direction) -> bool {
    direction == Direction::Response
        && (cx.request().get(":method") == Some(b"HEAD")
            || cx.response().get(":status") == Some(b"304"))
}

/// Whether the headers name no other length than `body`.
pub(crate) fn fits(headers: Headers<'_>, body: usize) -> bool {
    let mut lines = headers.get_all("content-length");
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(line), None) => {
            let length = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
            is_number(line) && length == Some(body)
        }
        _ => false,
    }
}

/// Whether it has digits alone: other readers of numbers take more.
fn is_number(line: &[u8]) -> bool {
    !line.is_empty() && line.iter().all(u8::is_ascii_digit)
}
