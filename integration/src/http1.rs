//! HTTP/1.1 as it is on the wire: nothing is normalised, so that a test sees what was sent.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::{Headers, header, text};

/// The start line and the header lines of a message.
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: Headers,
}

impl Head {
    /// The n-th word of the start line.
    pub(crate) fn word(&self, n: usize) -> &str {
        self.start.split(' ').nth(n).unwrap_or_default()
    }
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    pub(crate) fn of_request(head: &Head) -> Self {
        Self::of(&head.headers, Self::Empty)
    }

    pub(crate) fn of_response(head: &Head, method: &str) -> Self {
        let status: u16 = head.word(1).parse().unwrap_or(0);
        if method == "HEAD" || matches!(status, 204 | 304) || (100..200).contains(&status) {
            return Self::Empty;
        }
        Self::of(&head.headers, Self::UntilClose)
    }

    fn of(headers: &Headers, otherwise: Self) -> Self {
        if header(headers, "transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            return Self::Chunked;
        }
        header(headers, "content-length")
            .and_then(|v| v.parse().ok())
            .map_or(otherwise, Self::Length)
    }
}

async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await?;
    if !line.ends_with(b"\n") {
        if line.is_empty() {
            return Ok(None);
        }
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while line.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(Some(text(&line)))
}

async fn fields(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Headers> {
    let mut fields = Vec::new();
    loop {
        let line = line(from).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Reads a head; `None` when the peer closed before the first byte.
pub(crate) async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
    let Some(start) = line(from).await? else { return Ok(None) };
    Ok(Some(Head { start, headers: fields(from).await? }))
}

/// Reads a body to its end, handing each piece over as it arrives; returns the trailers. An error is
/// a body that was cut off.
pub(crate) async fn read_body(
    from: &mut (impl AsyncBufRead + Unpin),
    framing: Framing,
    mut piece: impl FnMut(&[u8]),
) -> io::Result<Headers> {
    match framing {
        Framing::Empty => {}
        Framing::Length(length) => exactly(from, length, &mut piece).await?,
        Framing::Chunked => loop {
            let size = line(from).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = size.split(';').next().unwrap_or_default().trim().to_owned();
            let size = u64::from_str_radix(&size, 16)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "bad chunk size"))?;
            if size == 0 {
                return fields(from).await;
            }
            exactly(from, size, &mut piece).await?;
            line(from).await?;
        },
        Framing::UntilClose => loop {
            let got = from.fill_buf().await?;
            if got.is_empty() {
                break;
            }
            let n = got.len();
            piece(got);
            from.consume(n);
        },
    }
    Ok(Vec::new())
}

async fn exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    length: u64,
    piece: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut rest = from.take(length);
    while rest.limit() > 0 {
        let got = rest.fill_buf().await?;
        if got.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let n = got.len();
        piece(got);
        rest.consume(n);
    }
    Ok(())
}

/// The bytes of a head.
pub(crate) fn head_bytes(start: &str, headers: &[(String, String)]) -> Vec<u8> {
    let mut out = crate::bytes(start);
    out.extend_from_slice(b"\r\n");
    out.extend(field_bytes(headers));
    out
}

/// One chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

/// The end of a chunked body.
pub(crate) fn last_chunk(trailers: &[(String, String)]) -> Vec<u8> {
    let mut out = b"0\r\n".to_vec();
    out.extend(field_bytes(trailers));
    out
}

fn field_bytes(fields: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.extend(crate::bytes(&format!("{name}: {value}\r\n")));
    }
    out.extend_from_slice(b"\r\n");
    out
}
