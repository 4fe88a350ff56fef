//! Programs that a few tests need beside Envoy: found, or installed from the distribution.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

/// The program `name` of the Debian package `package`.
///
/// # Errors
/// When it is not there and can't be installed; the message says what to do.
pub fn find(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(found) = on_path(name) {
        return Ok(found);
    }
    eprintln!("{name} is missing: installing {package}");
    let install = "apt-get update -q && apt-get install -qy --no-install-recommends";
    let sudo = if nix::unistd::geteuid().is_root() { "" } else { "sudo -n " };
    let output = Command::new("sh")
        .args(["-c", &format!("{sudo}sh -c 'DEBIAN_FRONTEND=noninteractive; {install} {package}'")])
        .output()?;
    match on_path(name) {
        Some(found) => Ok(found),
        None => bail!(
            "this test needs `{name}`: install the package {package} ({})",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}
