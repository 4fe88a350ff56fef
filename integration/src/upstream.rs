//! An HTTP/1.1 upstream that records what reaches it, piece by piece.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http1::{self, Framing};
use crate::{Headers, header};

/// What the upstream answers to every request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header lines besides the framing.
    pub headers: Headers,
    /// The body; more than one piece makes it chunked.
    pub body: Vec<Vec<u8>>,
    /// Trailer lines, which make it chunked, too.
    pub trailers: Headers,
    /// How long it takes.
    pub delay: Duration,
    /// Whether requests are kept for [`Upstream::seen`]; under a long load that would be all it does.
    pub recorded: bool,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: vec![b"upstream body".to_vec()],
            trailers: Vec::new(),
            delay: Duration::ZERO,
            recorded: true,
        }
    }
}

/// A request as it reached the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The header lines.
    pub headers: Headers,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// The trailer lines.
    pub trailers: Headers,
    /// The request came to its end.
    pub complete: bool,
}

impl Seen {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

type Record = Arc<Mutex<Vec<Seen>>>;
type Current = Arc<Mutex<Arc<Answer>>>;

/// A running upstream. Dropping it ends it.
pub struct Upstream {
    port: u16,
    seen: Record,
    answer: Current,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Starts an upstream on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Record::default();
        let record = Arc::clone(&seen);
        let answer: Current = Arc::new(Mutex::new(Arc::new(answer)));
        let current = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A broken connection is the client's business.
                tokio::spawn(serve(stream, Arc::clone(&current), Arc::clone(&record)));
            }
        });
        Ok(Self { port, seen, answer, task })
    }

    /// Answers later requests otherwise.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answer);
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What reached it, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, answers: Current, record: Record) -> Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(head) = http1::read_head(&mut reader).await? {
        let framing = Framing::of_request(&head);
        let (method, path) = (head.word(0).to_owned(), head.word(1).to_owned());
        let upgrade = header(&head.headers, "upgrade").is_some();
        let current = || Arc::clone(&answers.lock().unwrap_or_else(PoisonError::into_inner));
        let index = current().recorded.then(|| {
            let mut seen = record.lock().unwrap_or_else(PoisonError::into_inner);
            let (method, path) = (method.clone(), path);
            seen.push(Seen { method, path, headers: head.headers, ..Seen::default() });
            seen.len() - 1
        });
        let edit = |change: &dyn Fn(&mut Seen)| {
            let mut seen = record.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(one) = index.and_then(|index| seen.get_mut(index)) {
                change(one);
            }
        };
        if upgrade {
            writer
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                .await?;
            let piece = |piece: &[u8]| edit(&|seen| seen.body.extend_from_slice(piece));
            http1::read_body(&mut reader, Framing::UntilClose, piece).await?;
            return Ok(());
        }
        let piece = |piece: &[u8]| edit(&|seen| seen.body.extend_from_slice(piece));
        let trailers = http1::read_body(&mut reader, framing, piece).await?;
        edit(&|seen| {
            seen.trailers.clone_from(&trailers);
            seen.complete = true;
        });
        let answer = current();
        tokio::time::sleep(answer.delay).await;
        respond(&mut writer, &answer, &method).await?;
    }
    Ok(())
}

async fn respond(
    writer: &mut (impl AsyncWriteExt + Unpin),
    answer: &Answer,
    method: &str,
) -> Result<()> {
    let chunked = answer.body.len() > 1 || !answer.trailers.is_empty();
    let mut headers = answer.headers.clone();
    if chunked {
        headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
    } else if header(&headers, "content-length").is_none() {
        let length: usize = answer.body.iter().map(Vec::len).sum();
        headers.push(("content-length".to_owned(), length.to_string()));
    }
    let start = format!("HTTP/1.1 {} Status", answer.status);
    writer.write_all(&http1::head_bytes(&start, &headers)).await?;
    if method == "HEAD" {
        return Ok(());
    }
    for piece in &answer.body {
        let bytes = if chunked { http1::chunk(piece) } else { piece.clone() };
        writer.write_all(&bytes).await?;
    }
    if chunked {
        writer.write_all(&http1::last_chunk(&answer.trailers)).await?;
    }
    Ok(())
}
