//! Which core does what: with `--pin` Envoy has one to itself, and all others share the next.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The core of the measured Envoy, and that of load, service and upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    envoy: usize,
    others: usize,
}

impl Cores {
    /// The first two cores that this process may use.
    pub(crate) fn choose() -> Result<Self> {
        let mine = sched_getaffinity(Pid::from_raw(0))?;
        let mut cores = (0..CpuSet::count()).filter(|core| mine.is_set(*core).unwrap_or(false));
        let mut next = || cores.next().context("pinning takes two cores");
        Ok(Self { envoy: next()?, others: next()? })
    }

    /// Puts this process, and whatever it starts, on the core of the others.
    pub(crate) fn pin_others(self) -> Result<()> {
        pin(std::process::id(), self.others)
    }

    /// Puts the Envoy `pid` with all of its threads on its core.
    pub(crate) fn pin_envoy(self, pid: u32) -> Result<()> {
        pin(pid, self.envoy)
    }
}

/// Pins every thread of `pid`. Threads that it starts later have the core of those that start them.
fn pin(pid: u32, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = thread?.file_name();
        let thread = name.to_str().and_then(|name| name.parse().ok()).context("no thread id")?;
        sched_setaffinity(Pid::from_raw(thread), &set)?;
    }
    Ok(())
}
