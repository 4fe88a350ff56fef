//! `ProcessingMode`: what the processor sees.

use callout_common::api::config::refuse_if;
use callout_common::{ConfigError, Direction};
use callout_protos::envoy::extensions::filters::http::ext_proc::v3 as proto;
use proto::processing_mode::{BodySendMode, HeaderSendMode};

/// What the processor sees of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyMode {
    None,
    Buffered,
    Partial,
    Streamed,
    Duplex,
}

/// What the processor sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) request_headers: bool,
    pub(crate) response_headers: bool,
    pub(crate) request_body: BodyMode,
    pub(crate) response_body: BodyMode,
    pub(crate) request_trailers: bool,
    pub(crate) response_trailers: bool,
}

/// A body mode that is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnsupportedMode(&'static str);

impl Default for Modes {
    fn default() -> Self {
        Self {
            request_headers: true,
            response_headers: true,
            request_body: BodyMode::None,
            response_body: BodyMode::None,
            request_trailers: false,
            response_trailers: false,
        }
    }
}

impl Modes {
    pub(crate) const fn headers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.request_headers,
            Direction::Response => self.response_headers,
        }
    }

    pub(crate) const fn body(&self, direction: Direction) -> BodyMode {
        match direction {
            Direction::Request => self.request_body,
            Direction::Response => self.response_body,
        }
    }

    pub(crate) const fn trailers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.request_trailers,
            Direction::Response => self.response_trailers,
        }
    }

    /// Whether a body goes both ways at once in either direction.
    pub(crate) fn any_duplex(&self) -> bool {
        self.request_body == BodyMode::Duplex || self.response_body == BodyMode::Duplex
    }

    /// A body that goes both ways at once needs its trailers shown, too: they end it.
    pub(crate) fn check_duplex(&self) -> Result<(), ConfigError> {
        for (body, trailers, field) in [
            (self.request_body, self.request_trailers, "request_trailer_mode"),
            (self.response_body, self.response_trailers, "response_trailer_mode"),
        ] {
            refuse_if(
                body == BodyMode::Duplex && !trailers,
                field,
                "has to be SEND where the body is FULL_DUPLEX_STREAMED",
            )?;
        }
        Ok(())
    }

    /// Reads a `ProcessingMode`.
    pub(crate) fn configure(config: &proto::ProcessingMode) -> Result<Self, ConfigError> {
        let send = |mode: i32, default: bool, field: &str| {
            send(mode, default).ok_or_else(|| ConfigError::field(field, "is unknown"))
        };
        let body = |mode: i32, field: &str| {
            body(mode).map_err(|UnsupportedMode(name)| {
                ConfigError::field(field, format!("{name} is not supported yet"))
            })
        };
        let proto::ProcessingMode {
            request_header_mode,
            response_header_mode,
            request_body_mode,
            response_body_mode,
            request_trailer_mode,
            response_trailer_mode,
        } = *config;
        Ok(Self {
            request_headers: send(request_header_mode, true, "request_header_mode")?,
            response_headers: send(response_header_mode, true, "response_header_mode")?,
            request_body: body(request_body_mode, "request_body_mode")?,
            response_body: body(response_body_mode, "response_body_mode")?,
            request_trailers: send(request_trailer_mode, false, "request_trailer_mode")?,
            response_trailers: send(response_trailer_mode, false, "response_trailer_mode")?,
        })
    }

    /// These modes under a `mode_override`: header and trailer modes that it leaves out stay, body
    /// modes never do, as in the built-in.
    pub(crate) fn overridden(&self, by: &proto::ProcessingMode) -> Result<Self, UnsupportedMode> {
        let keep = |mode: i32, current: bool| send(mode, current).unwrap_or(current);
        Ok(Self {
            // The request's headers are past.
            request_headers: self.request_headers,
            response_headers: keep(by.response_header_mode, self.response_headers),
            request_body: body(by.request_body_mode)?,
            response_body: body(by.response_body_mode)?,
            request_trailers: keep(by.request_trailer_mode, self.request_trailers),
            response_trailers: keep(by.response_trailer_mode, self.response_trailers),
        })
    }
}

fn send(mode: i32, default: bool) -> Option<bool> {
    Some(match HeaderSendMode::try_from(mode).ok()? {
        HeaderSendMode::Default => default,
        HeaderSendMode::Send => true,
        HeaderSendMode::Skip => false,
    })
}

fn body(mode: i32) -> Result<BodyMode, UnsupportedMode> {
    match BodySendMode::try_from(mode) {
        Ok(BodySendMode::None) => Ok(BodyMode::None),
        Ok(BodySendMode::Buffered) => Ok(BodyMode::Buffered),
        Ok(BodySendMode::BufferedPartial) => Ok(BodyMode::Partial),
        Ok(BodySendMode::Streamed) => Ok(BodyMode::Streamed),
        Ok(BodySendMode::FullDuplexStreamed) => Ok(BodyMode::Duplex),
        Ok(other) => Err(UnsupportedMode(other.as_str_name())),
        Err(_) => Err(UnsupportedMode("this mode")),
    }
}
