//! `cargo xtask release`: libraries, tool, checksums, bill of materials and image of a release, each
//! tried before it is kept.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod build;
mod elf;
mod image;
mod materials;
mod try_out;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use sha2::{Digest, Sha256};

/// The filters, whose libraries are `libcallout_<name>.so`.
const FILTERS: [&str; 3] = ["authz", "ratelimit", "extproc"];
/// The version of the suite.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Tasks of the project
#[derive(Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make a release under `dist` and try it in every supported Envoy
    Release(Release),
    /// Try what `release` has made: sums, names, glibc, image, and every Envoy
    Try {
        /// The folder of the release
        #[arg(default_value = "dist")]
        dist: PathBuf,
        /// The oldest glibc that the libraries have to do with; any unless given
        #[arg(long)]
        glibc: Option<String>,
    },
}

#[derive(clap::Args)]
struct Release {
    /// Where the release goes; what is there is replaced
    #[arg(long, default_value = "dist")]
    out: PathBuf,
    /// Architectures: x86_64, aarch64 (whose Rust target has to be installed)
    #[arg(long, value_delimiter = ',', default_value = "x86_64")]
    arch: Vec<build::Arch>,
    /// The oldest glibc that the libraries may need
    #[arg(long, default_value = "2.28")]
    glibc: String,
    /// Build for this machine, with its own linker, so that its glibc is needed: for a quick try
    #[arg(long)]
    native: bool,
    /// Cargo's profile
    #[arg(long, default_value = "release")]
    profile: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Release(release) => make(&release).await,
        Task::Try { dist, glibc } => try_out::everything(&dist, glibc.as_deref()).await,
    }
}

async fn make(release: &Release) -> Result<()> {
    let out = &release.out;
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("emptying {}", out.display()))?;
    }
    fs::create_dir_all(out)?;
    let glibc = (!release.native).then_some(release.glibc.as_str());
    for arch in &release.arch {
        build::has_target(*arch)?;
    }
    for arch in &release.arch {
        let options = build::Options { arch: *arch, glibc, profile: &release.profile };
        build::libraries(&options, &out.join(arch.name()))?;
    }
    build::tool(&release.profile, &out.join("tool"))?;
    build::schemas(out)?;
    materials::write(out)?;
    image::write(out, &release.arch)?;
    sums(out)?;
    try_out::everything(out, glibc).await
}

/// Every file below `dir`, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The SHA-256 of `bytes`, in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `SHA256SUMS`, which `sha256sum -c` reads.
fn sums(out: &Path) -> Result<()> {
    let mut lines = String::new();
    for file in files(out)? {
        let name = file.strip_prefix(out)?.display().to_string();
        lines.push_str(&format!("{}  {name}\n", sha256(&fs::read(&file)?)));
    }
    Ok(fs::write(out.join("SHA256SUMS"), lines)?)
}
