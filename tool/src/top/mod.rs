//! `callout top`: what the filters of a running Envoy do, by its admin interface and nothing else.

mod screen;
mod stats;
mod view;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use screen::{Key, Screen};
use stats::Snapshot;
use view::table;

/// How long the admin interface may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shows the filters of the Envoy whose admin interface is at `admin`, until a key ends it; with `once`
/// a single table, of one interval.
pub(crate) fn run(admin: &str, interval: Duration, once: bool) -> Result<ExitCode> {
    let source = Source::new(admin);
    let mut before = source.look()?;
    if once {
        std::thread::sleep(interval);
        let now = source.look()?;
        anstream::print!("{}", table(&before, &now, admin));
        return Ok(ExitCode::SUCCESS);
    }
    let mut screen = Screen::open().context("this is not a terminal: use --once")?;
    screen.show(&format!("{admin}: the first numbers come in {interval:?}\n"))?;
    while screen.key(interval)? != Some(Key::End) {
        match source.look() {
            Ok(now) => {
                screen.show(&table(&before, &now, admin))?;
                before = now;
            }
            // It may be restarting.
            Err(error) => screen.show(&format!("{error:#}\n\nq ends\n"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The admin interface of an Envoy.
struct Source {
    agent: ureq::Agent,
    url: String,
}

impl Source {
    fn new(admin: &str) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build();
        let base = admin.trim_start_matches("http://").trim_end_matches('/');
        let url = format!("http://{base}/stats?format=json&filter=\\.(authz|ratelimit|extproc)\\.");
        Self { agent: config.into(), url }
    }

    fn look(&self) -> Result<Snapshot> {
        let asked = || -> Result<String> {
            Ok(self.agent.get(&self.url).call()?.body_mut().read_to_string()?)
        };
        let text = asked().with_context(|| format!("asking {}", self.url))?;
        Snapshot::read(&text, Instant::now())
    }
}
