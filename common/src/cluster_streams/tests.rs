//! A desk whose Envoy writes down what it is asked.

use crate::envoy::cluster::ClusterError;
use crate::envoy::cluster::OpenRequest;
use std::future::poll_fn;

use futures::FutureExt;

use super::*;
use crate::envoy::cluster::ClusterHost;
use crate::envoy::host::Scheduler;
use crate::envoy::types::Header;

/// Streams are numbered from 100; every one of them can be opened, unless `full`.
#[derive(Default)]
struct Log {
    full: bool,
    lines: Vec<String>,
}

impl ClusterHost for Log {
    fn open_stream(&mut self, opening: &OpenRequest) -> Result<u64, ClusterError> {
        if self.full {
            return Err(ClusterError::NotOpened);
        }
        self.lines.push(format!("open {} {}", opening.cluster, opening.end));
        Ok(99 + self.lines.len() as u64)
    }

    fn send_data(&mut self, stream: u64, bytes: &[u8], end: bool) {
        self.lines.push(format!("send {stream} {} {end}", bytes.len()));
    }

    fn reset_stream(&mut self, stream: u64) {
        self.lines.push(format!("reset {stream}"));
    }
}

struct Ignored;

impl Scheduler for Ignored {
    fn commit(&self, _event: u64) {}
}

fn cluster_streams() -> ClusterStreamManager {
    ClusterStreamManager::new(Box::new(Ignored))
}

fn opening() -> OpenRequest {
    OpenRequest {
        cluster: "c".into(),
        headers: Vec::new(),
        body: Bytes::new(),
        end: false,
        timeout: 0,
    }
}

fn next(call: &mut ClusterStream) -> Option<ResponseEvent> {
    poll_fn(|cx| call.poll_part(cx)).now_or_never()
}

const OK: [Header<'_>; 2] =
    [Header { name: b":status", value: b"200" }, Header { name: b"a", value: b"1" }];

#[test]
fn commands_reach_envoy_in_their_order_and_answers_their_call() {
    let (desk, mut host) = (cluster_streams(), Log::default());
    let clusters = desk.clusters();
    let mut call = clusters.open(opening());
    clusters.send(call.number(), Bytes::from_static(b"abc"), true);
    desk.scheduled(&mut host, 1);
    assert_eq!(host.lines, ["open c false", "send 100 3 true"]);
    desk.headers(100, &OK, false);
    desk.data(&mut host, 100, &[b"x", b"y"], false);
    desk.trailers(100, &OK[1..]);
    desk.ended(100, ClusterError::Reset);
    let Some(ResponseEvent::Head(status, headers, ended)) = next(&mut call) else {
        panic!("no headers")
    };
    assert!(status == 200 && headers.len() == 1 && headers["a"] == "1" && !ended);
    assert!(matches!(next(&mut call), Some(ResponseEvent::Data(bytes)) if bytes == "xy"));
    assert!(
        matches!(next(&mut call), Some(ResponseEvent::End(Some(trailers))) if trailers["a"] == "1")
    );
}

#[test]
fn a_call_that_is_dropped_resets_its_stream_or_never_opens_it() {
    let (desk, mut host) = (cluster_streams(), Log::default());
    let clusters = desk.clusters();
    let call = clusters.open(opening());
    desk.scheduled(&mut host, 1);
    drop(call);
    drop(clusters.open(opening()));
    desk.scheduled(&mut host, 2);
    assert_eq!(host.lines, ["open c false", "reset 100"]);
    // What comes late finds nobody.
    desk.headers(100, &OK, true);
    desk.ended(100, ClusterError::Reset);
}

#[test]
fn what_envoy_can_not_open_fails_at_once() {
    let (desk, mut host) = (cluster_streams(), Log { full: true, ..Log::default() });
    let mut call = desk.clusters().open(opening());
    desk.scheduled(&mut host, 1);
    assert!(matches!(next(&mut call), Some(ResponseEvent::Failed(ClusterError::NotOpened))));
}

#[test]
fn a_configuration_that_goes_resets_every_call() {
    let (desk, mut host) = (cluster_streams(), Log::default());
    let clusters = desk.clusters();
    let mut open = clusters.open(opening());
    desk.scheduled(&mut host, 1);
    let mut asked_for = clusters.open(opening());
    desk.close();
    let mut late = clusters.open(opening());
    let mut nowhere = ClusterStreams::default().open(opening());
    for call in [&mut open, &mut asked_for, &mut late, &mut nowhere] {
        assert!(matches!(next(call), Some(ResponseEvent::Failed(ClusterError::Reset))));
    }
}

#[test]
fn an_answer_that_nobody_reads_is_bounded() {
    let (desk, mut host) = (cluster_streams(), Log::default());
    let mut call = desk.clusters().open(opening());
    desk.scheduled(&mut host, 1);
    let piece = vec![0; MAX_WAITING / 2 + 1];
    for _ in 0..2 {
        desk.data(&mut host, 100, &[&piece], false);
    }
    // What was read makes room.
    assert!(matches!(next(&mut call), Some(ResponseEvent::Data(_))));
    desk.data(&mut host, 100, &[&piece], false);
    assert_eq!(host.lines.len(), 1);
    desk.data(&mut host, 100, &[&piece], false);
    assert_eq!(host.lines[1], "reset 100");
    for _ in 0..2 {
        assert!(matches!(next(&mut call), Some(ResponseEvent::Data(_))));
    }
    assert!(matches!(next(&mut call), Some(ResponseEvent::Failed(ClusterError::TooLarge))));
}
