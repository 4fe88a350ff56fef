//! Packages of the Python package index, kept in a cache outside the source tree: Envoy's releases,
//! and servers that nobody here wrote.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The folder called `name` in the cache, with the packages that `requirements` (the lines of a
/// requirements file) names; installed the first time, without what they depend on.
///
/// # Errors
/// When they can't be installed; the message says what is missing.
pub(crate) fn installed(name: &str, requirements: &str) -> Result<PathBuf> {
    let cache = cache()?;
    let home = cache.join(name);
    if home.is_dir() {
        return Ok(home);
    }
    // Tests run side by side: one fetches, the others wait.
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    if home.is_dir() {
        return Ok(home);
    }
    eprintln!("fetching {name} into {}", cache.display());
    let staging = tempfile::tempdir_in(&cache)?;
    let file = staging.path().join("requirements.txt");
    fs::write(&file, requirements)?;
    let target = staging.path().join("target");
    let pip = Command::new("python3")
        .args(["-m", "pip", "install", "--no-deps", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore"])
        .args(["--only-binary", ":all:", "--target"])
        .arg(&target)
        .arg("-r")
        .arg(&file)
        // What pip says is progress, and no output of this program.
        .stdout(std::io::stderr())
        .status()
        .context("python3 is needed to fetch packages")?;
    if !pip.success() {
        bail!("pip could not fetch {name}: python3 with pip is needed");
    }
    // A whole folder appears at once, or not at all.
    fs::rename(&target, &home).with_context(|| format!("moving {name} to {}", home.display()))?;
    Ok(home)
}

fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(base.join("callouts-for-envoy"))
}
