//! `cargo soak -- --minutes N`: random load, clients that leave, services that die, reloads, in one Envoy
//! with two workers and all three filters. Every response has to carry what its own verdict was, and
//! afterwards nothing may be left: gauges at 0, memory flat, counters that add up.
#![allow(clippy::print_stdout, reason = "its output is what this program is for")]

mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use callout_integration::envoy::Options;
use callout_integration::prelude::*;
use tokio::task::JoinSet;
use verdict::{Seen, Verdict, script};

/// Clients at a time.
const CLIENTS: u64 = 48;
/// Growth of Envoy's memory from the first third to the end that is still flat.
const FLAT: u64 = 32 << 20;

/// What the clients saw.
#[derive(Default)]
struct Tally {
    verdicts: AtomicU64,
    failed: AtomicU64,
    aborted: AtomicU64,
}

impl Tally {
    fn count(&self, seen: Seen) {
        let count = match seen {
            Seen::Verdict => &self.verdicts,
            Seen::Failed => &self.failed,
            Seen::Aborted => &self.aborted,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (length, seed) = settings()?;
    let upstream = Upstream::start(Answer { recorded: false, ..Answer::default() }).await?;
    let services = Services::start(script()).await?;
    let port = services.port();
    let bootstrap = Bootstrap::new(upstream.port(), filters(port));
    let options = Options { concurrency: 2, lds: true, log_level: "warn", ..Options::default() };
    let mut envoy = Envoy::start_with(Version::LATEST, &bootstrap, options).await?;
    let (tally, over) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
    let numbers = Arc::new(AtomicU64::new(1));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (tally, over, numbers) = (Arc::clone(&tally), Arc::clone(&over), Arc::clone(&numbers));
        let random = spread(seed ^ (client << 32));
        clients.spawn(run_client(envoy.port(), random, tally, over, numbers));
    }
    let memory = disturb(&mut envoy, &bootstrap, services, length, seed).await?;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        if let Err((number, wrong)) = ended.context("a client panicked")? {
            // The log is written now and then.
            pause(500).await;
            let path = format!("/r/{number}");
            let told: Vec<Value> =
                envoy.access_log().into_iter().filter(|entry| entry["path"] == path).collect();
            bail!("request {number}: {wrong}\nthe access log: {}", json!(told));
        }
    }
    check_each_verdict(envoy.port(), &numbers).await?;
    check_what_is_left(&envoy, &tally, memory).await?;
    let (status, log) = envoy.stop().await?;
    ensure!(status.success(), "Envoy ended with {status}:\n{log}");
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "soak: {} requests in {} s got their own verdict, {} failed closed, {} left; nothing is left behind",
        of(&tally.verdicts),
        length.as_secs(),
        of(&tally.failed),
        of(&tally.aborted)
    );
    Ok(())
}

/// `--minutes N` or `--seconds N`, and `--seed N`.
fn settings() -> Result<(Duration, u64)> {
    let (mut length, mut seed) = (Duration::from_secs(60), 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
        let number: u64 = value.parse().with_context(|| format!("{name} {value}"))?;
        match name.as_str() {
            "--minutes" => length = Duration::from_secs(60 * number),
            "--seconds" => length = Duration::from_secs(number),
            "--seed" => seed = number,
            _ => bail!("no option is called {name}: --minutes, --seconds, --seed"),
        }
    }
    Ok((length, seed))
}

/// All three, closed where they can't ask; with deadlines that a silent service reaches.
fn filters(port: u16) -> Vec<Value> {
    vec![
        Kind::Authz.module(json!({"grpc_service": {"timeout": "0.3s"}}), port),
        Kind::RateLimit.module(
            json!({"timeout": "0.3s", "failure_mode_deny": true, "rate_limits": [
                {"actions": [{"request_headers": {"header_name": ":path", "descriptor_key": "path"}}]},
            ]}),
            port,
        ),
        Kind::ExtProc.module(
            json!({
                "message_timeout": "0.5s",
                "response_attributes": ["request.path"],
                "processing_mode": {"request_body_mode": "BUFFERED", "response_body_mode": "STREAMED"},
            }),
            port,
        ),
    ]
}

/// A spread of numbers that looks random and is the same for the same seed.
const fn spread(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn request(number: u64, random: u64) -> Request {
    let path = format!("/r/{number}");
    let request = match random % 3 {
        0 => Request::get(&path),
        1 => Request::post(&path).body(vec![b'x'; 2000]),
        _ => Request::post(&path).pieces(["ab", "cd"]).gap(Duration::from_millis(1)),
    };
    let request = if random & 16 == 0 { request.http2() } else { request };
    request.timeout(Duration::from_secs(20))
}

/// One client after another request, one in six of which it leaves.
async fn run_client(
    port: u16,
    mut random: u64,
    tally: Arc<Tally>,
    over: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
) -> Result<(), (u64, String)> {
    while !over.load(Ordering::Relaxed) {
        random = spread(random);
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let mut request = request(number, random);
        if random.is_multiple_of(6) {
            request = request.abort_after(Duration::from_micros((random >> 20) % 20_000));
        }
        let response = request.send(port).await;
        match Verdict::of(number).check(number, &response) {
            Ok(seen) => tally.count(seen),
            Err(wrong) => return Err((number, wrong)),
        }
    }
    Ok(())
}

/// Kills services and replaces the listener until the time is up. Returns Envoy's memory after the first
/// third, in bytes.
async fn disturb(
    envoy: &mut Envoy,
    bootstrap: &Bootstrap,
    mut services: Services,
    length: Duration,
    seed: u64,
) -> Result<u64> {
    let (began, mut random, mut early) = (Instant::now(), seed, 0);
    while began.elapsed() < length {
        pause(1500).await;
        random = spread(random);
        match random % 3 {
            0 => {
                let port = services.port();
                drop(services);
                pause(300).await;
                services = Services::start_on(port, script()).await?;
            }
            1 => ensure!(envoy.replace_listener(bootstrap).await?, "the listener was refused"),
            _ => {}
        }
        if began.elapsed() < length / 3 || early == 0 {
            early = memory(envoy)?;
        }
    }
    // What follows needs them.
    std::mem::forget(services);
    Ok(early)
}

/// Resident memory of Envoy, in bytes.
fn memory(envoy: &Envoy) -> Result<u64> {
    let pid = envoy.pid().context("Envoy has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib << 10)
}

/// With everything up and quiet, each request gets exactly its verdict, and none fails.
async fn check_each_verdict(port: u16, numbers: &AtomicU64) -> Result<()> {
    // The services may have been restarted a moment ago.
    pause(2000).await;
    for _ in 0..100 {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let response = request(number, spread(number)).send(port).await;
        let seen = Verdict::of(number).check(number, &response);
        ensure!(seen == Ok(Seen::Verdict), "request {number}, alone: {seen:?}, {response:?}");
    }
    Ok(())
}

async fn check_what_is_left(envoy: &Envoy, tally: &Tally, early: u64) -> Result<()> {
    for kind in Kind::ALL {
        envoy.stat_becomes(&format!("{}.live_streams", kind.name()), 0).await?;
        for name in ["panics", "lost"] {
            let value = envoy.stat(&format!("{}.{name}", kind.name())).await;
            ensure!(value == 0, "{}.{name} is {value}", kind.name());
        }
    }
    for kind in [Kind::Authz, Kind::RateLimit] {
        envoy.stat_becomes(&format!("{}.in_flight", kind.name()), 0).await?;
    }
    let mut decided = 0;
    for name in ["ok", "denied", "error"] {
        decided += envoy.stat(&format!("authz.{name}")).await;
    }
    let (verdicts, aborted) =
        (tally.verdicts.load(Ordering::Relaxed), tally.aborted.load(Ordering::Relaxed));
    let most = verdicts + aborted + tally.failed.load(Ordering::Relaxed) + 100;
    ensure!(
        (verdicts..=most).contains(&decided),
        "authz counted {decided} decisions for {verdicts} verdicts of {most} requests"
    );
    let (now, limit) = (memory(envoy)?, early + FLAT);
    ensure!(now <= limit, "memory grew from {early} to {now} bytes");
    Ok(())
}
