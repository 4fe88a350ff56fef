//! The messages to the processor.

use std::collections::HashMap;

use bytes::Bytes;
use callout_common::Direction;
use callout_common::api::matching::HeaderFilter;
use callout_common::api::text::sanitized;
use callout_common::envoy::types::Header;
use callout_protos::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use callout_protos::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use callout_protos::envoy::service::ext_proc::v3 as proto;
use callout_protos::pbjson_types::Struct;
use proto::processing_request::Request;

use crate::decide::machine::{BodyMode, Modes};

/// The key of the attributes, whatever the filter is called.
const ATTRIBUTES: &str = "envoy.filters.http.ext_proc";

/// The headers that the processor sees.
pub(crate) fn headers(lines: &[Header<'_>], choice: &HeaderFilter) -> HeaderMap {
    let headers = lines
        .iter()
        .filter(|line| choice.includes(line.name))
        .map(|line| HeaderValue {
            key: sanitized(line.name),
            value: String::new(),
            raw_value: line.value.to_vec(),
        })
        .collect();
    HeaderMap { headers }
}

pub(crate) fn of_headers(direction: Direction, headers: HeaderMap, end: bool) -> Request {
    let headers = proto::HttpHeaders {
        headers: Some(headers),
        attributes: HashMap::new(),
        end_of_stream: end,
    };
    match direction {
        Direction::Request => Request::RequestHeaders(headers),
        Direction::Response => Request::ResponseHeaders(headers),
    }
}

pub(crate) fn of_body(direction: Direction, body: Bytes, end: bool) -> Request {
    let body = proto::HttpBody { body: body.into(), end_of_stream: end, ..Default::default() };
    match direction {
        Direction::Request => Request::RequestBody(body),
        Direction::Response => Request::ResponseBody(body),
    }
}

pub(crate) fn of_trailers(direction: Direction, trailers: HeaderMap) -> Request {
    let trailers = proto::HttpTrailers { trailers: Some(trailers) };
    match direction {
        Direction::Request => Request::RequestTrailers(trailers),
        Direction::Response => Request::ResponseTrailers(trailers),
    }
}

/// What a message says about its exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MessageContext<'a> {
    /// It is the first: the modes in force, and whether bodies go without waiting for headers.
    First(&'a Modes, bool),
    Later,
    /// The processor only observes.
    Observed,
}

/// A whole message.
pub(crate) fn message(
    request: Request,
    metadata: Metadata,
    attributes: Option<Struct>,
    exchange: MessageContext<'_>,
) -> proto::ProcessingRequest {
    let protocol_config = match exchange {
        MessageContext::First(modes, without_waiting) => Some(proto::ProtocolConfiguration {
            request_body_mode: body_mode(modes.request_body),
            response_body_mode: body_mode(modes.response_body),
            send_body_without_waiting_for_header_response: without_waiting,
        }),
        MessageContext::Later | MessageContext::Observed => None,
    };
    proto::ProcessingRequest {
        request: Some(request),
        metadata_context: Some(metadata),
        attributes: attributes.map(|values| (ATTRIBUTES.to_owned(), values)).into_iter().collect(),
        observability_mode: matches!(exchange, MessageContext::Observed),
        protocol_config,
        ..Default::default()
    }
}

fn body_mode(mode: BodyMode) -> i32 {
    i32::from(match mode {
        BodyMode::None => BodySendMode::None,
        BodyMode::Buffered => BodySendMode::Buffered,
        BodyMode::Partial => BodySendMode::BufferedPartial,
        BodyMode::Streamed => BodySendMode::Streamed,
        BodyMode::Duplex => BodySendMode::FullDuplexStreamed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_travel_raw_and_the_modes_go_once() {
        let lines = [Header { name: b"x-a", value: b"\xff" }];
        let map = headers(&lines, &HeaderFilter::default());
        assert_eq!(map.headers[0].raw_value, b"\xff");
        assert!(map.headers[0].value.is_empty());
        let request = of_headers(Direction::Request, map, true);
        let first = message(
            request.clone(),
            Metadata::default(),
            None,
            MessageContext::First(&Modes::default(), false),
        );
        assert!(first.protocol_config.is_some() && first.attributes.is_empty());
        let later =
            message(request, Metadata::default(), Some(Struct::default()), MessageContext::Later);
        assert!(later.protocol_config.is_none() && later.attributes.contains_key(ATTRIBUTES));
    }
}
