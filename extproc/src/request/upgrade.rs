//! Messages whose bytes have no end: what is upgraded, and tunnels.

use callout_common::filter::headers::Headers;
use callout_common::{Direction, StreamContext};

/// Whether Envoy makes a tunnel of the message of `direction`, whose headers came.
pub(crate) fn is_upgraded<E: Send + 'static>(
    cx: &StreamContext<'_, E>,
    direction: Direction,
) -> bool {
    match direction {
        Direction::Request => asks(cx.request()),
        Direction::Response => grants(cx.response(), cx.request().get(":method")),
    }
}

/// What Envoy would not upgrade it refuses, or takes the headers off.
fn asks(request: Headers<'_>) -> bool {
    let connection: Vec<&[u8]> = request.get_all("connection").collect();
    let mut tokens = connection.iter().flat_map(|line| line.split(|byte| *byte == b','));
    request.get(":method") == Some(b"CONNECT")
        || (request.get("upgrade").is_some()
            && tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade")))
}

fn grants(response: Headers<'_>, method: Option<&[u8]>) -> bool {
    match response.get(":status") {
        Some(b"101") => true,
        Some([b'2', ..]) => method == Some(b"CONNECT"),
        _ => false,
    }
}
