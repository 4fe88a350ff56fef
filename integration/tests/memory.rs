//! Back-pressure: a body far larger than any buffer, past a slow processor and to a slow peer, costs
//! Envoy no more memory than its limits allow.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use callout_integration::prelude::*;
use callout_integration::services::unchanged;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BODY: usize = 1 << 30;
/// Where exchanges run, and how much goes through them.
const PLACES: [(&str, usize); 2] = [("worker", BODY), ("off_thread", BODY / 4)];
const LIMIT: usize = 1 << 20;
const PIECE: usize = 1 << 20;
/// What a stream may cost: its limit in Envoy's buffer and as much on the way to the processor and
/// back, the processor's connection, and what the allocator keeps.
const COST: usize = 64 << 20;

/// The most memory that Envoy has had so far, in bytes.
fn peak(envoy: &Envoy) -> usize {
    let status = format!("/proc/{}/status", envoy.pid().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

/// An upstream that reads requests away, slowly at first, and then answers with `answer` bytes.
async fn upstream(answer: usize) -> (u16, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; PIECE];
        let (mut read, mut tail) = (0, Vec::new());
        // A chunked body ends with this; the body itself has no such bytes.
        let end: &[u8] = if answer > 0 { b"\r\n\r\n" } else { b"0\r\n\r\n" };
        while !tail.ends_with(end) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the request broke off after {read}");
            if read < PIECE {
                pause(500).await;
            }
            read += count;
            tail.extend_from_slice(&buffer[count.saturating_sub(5)..count]);
            tail.drain(..tail.len().saturating_sub(5));
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {answer}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'y'; PIECE];
        for _ in 0..answer / PIECE {
            stream.write_all(&piece).await.unwrap();
        }
        read
    });
    (port, task)
}

async fn gateway(upstream: u16, calls: &str) -> (Envoy, Services) {
    let script = Script::default().process(|request, n| async move {
        // Slow enough for everything before it to fill up.
        if n == 1 {
            pause(500).await;
        }
        Ok(unchanged(&request))
    });
    let services = Services::start(script.unrecorded()).await.unwrap();
    let modes = json!({"message_timeout": "30s", "processing_mode": {
        "request_body_mode": "STREAMED", "response_body_mode": "STREAMED",
    }});
    let filter = Kind::ExtProc.module_with(json!({"calls": calls}), modes, services.port());
    let mut bootstrap = Bootstrap::new(upstream, vec![filter]);
    bootstrap.listener = json!({"per_connection_buffer_limit_bytes": LIMIT});
    bootstrap.hcm = json!({"stream_idle_timeout": "60s"});
    bootstrap.routes[0]["route"]["timeout"] = json!("0s");
    (Envoy::start(Version::LATEST, &bootstrap).await.unwrap(), services)
}

/// What Envoy says of how it went.
async fn account(envoy: &Envoy) -> String {
    let stats = envoy.admin("/stats?filter=extproc").await.unwrap_or_default();
    let stats: Vec<&str> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
    format!("{}\n{:?}", stats.join("\n"), envoy.access_log())
}

async fn goes_up(calls: &str, body: usize) {
    let (port, received) = upstream(0).await;
    let (envoy, _services) = gateway(port, calls).await;
    let before = peak(&envoy);
    let mut client = TcpStream::connect(("127.0.0.1", envoy.port())).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut chunk = format!("{PIECE:x}\r\n").into_bytes();
    chunk.extend(vec![b'x'; PIECE]);
    chunk.extend_from_slice(b"\r\n");
    for _ in 0..body / PIECE {
        client.write_all(&chunk).await.unwrap();
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200", "{calls}: {}", account(&envoy).await);
    assert!(received.await.unwrap() > body);
    let cost = peak(&envoy) - before;
    assert!(cost < COST, "{calls}: {} KiB", cost >> 10);
}

async fn comes_down(calls: &str, body: usize) {
    let (port, _answered) = upstream(body).await;
    let (envoy, _services) = gateway(port, calls).await;
    let before = peak(&envoy);
    let mut client = TcpStream::connect(("127.0.0.1", envoy.port())).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let (mut buffer, mut read) = (vec![0; PIECE], 0);
    loop {
        let count = tokio::time::timeout(Duration::from_secs(30), client.read(&mut buffer));
        let count = count.await.unwrap().unwrap();
        if count == 0 {
            break;
        }
        if read < PIECE {
            pause(500).await;
        }
        read += count;
    }
    assert!(read > body, "{calls}: {read}: {}", account(&envoy).await);
    let cost = peak(&envoy) - before;
    assert!(cost < COST, "{calls}: {} KiB", cost >> 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_goes_up_through_a_mebibyte() {
    for (calls, body) in PLACES {
        goes_up(calls, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_comes_down_to_a_slow_client_through_a_mebibyte() {
    for (calls, body) in PLACES {
        comes_down(calls, body).await;
    }
}
