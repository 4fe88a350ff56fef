//! Where the filters' libraries are.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The folder with the filters' libraries, as cargo built them beside this program.
///
/// # Errors
/// When they are not there.
pub fn dir() -> Result<PathBuf> {
    let dir = profile_dir()?.join("deps");
    for name in ["authz", "ratelimit", "extproc"] {
        let library = dir.join(format!("libcallout_{name}.so"));
        ensure!(library.exists(), "{} is missing: run `cargo build`", library.display());
    }
    Ok(dir)
}

/// The folder with the libraries of `common/examples`, which `cargo test` builds.
///
/// # Errors
/// When they are not there.
pub fn examples() -> Result<PathBuf> {
    let dir = profile_dir()?.join("examples");
    let library = dir.join("libapi_key.so");
    ensure!(
        library.exists(),
        "{} is missing: run `cargo build -p callout-common --examples`",
        library.display()
    );
    Ok(dir)
}

/// `target/debug` or `target/release`, from where this program runs.
fn profile_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    program
        .ancestors()
        .find(|dir| dir.join("deps").is_dir())
        .map(Into::into)
        .context("this program does not lie in cargo's target folder")
}
