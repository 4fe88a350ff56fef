//! The libraries, built for an old glibc, and the tool, stripped, with their debug information apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{FILTERS, VERSION};

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name in an image.
    pub(crate) const fn oci(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The machine in an ELF header.
    pub(crate) const fn elf(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }

    fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }
}

/// How to build.
pub(crate) struct Options<'a> {
    pub(crate) arch: Arch,
    /// The oldest glibc; none for this machine's own.
    pub(crate) glibc: Option<&'a str>,
    pub(crate) profile: &'a str,
}

/// The file of a filter's library in a release: its version is a part of its name, because Envoy keeps
/// a library that it has loaded until it restarts, whatever its file becomes.
pub(crate) fn library(filter: &str) -> String {
    format!("libcallout_{filter}-{VERSION}.so")
}

/// Refuses an architecture whose Rust target is not installed, before anything is built.
pub(crate) fn has_target(arch: Arch) -> Result<()> {
    let target = arch.target();
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", &target])
        .output()
        .context("running rustc")?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success() && Path::new(&folder).exists(),
        "the Rust target {target} is not installed: `rustup target add {target}`, or leave {} out of --arch, and the release serves the others alone",
        arch.name()
    );
    Ok(())
}

/// Writes the JSON Schemas, as the tool of this release makes them, into `schema`.
pub(crate) fn schemas(out: &Path) -> Result<()> {
    let dir = out.join("schema");
    fs::create_dir_all(&dir)?;
    let tool = out.join("tool").join(format!("callout-{VERSION}"));
    for (name, arguments) in [("envoy", &[][..])]
        .into_iter()
        .chain(FILTERS.iter().map(|name| (*name, std::slice::from_ref(name))))
    {
        let made = Command::new(&tool).arg("schema").args(arguments).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(dir.join(format!("{name}.json")), made.stdout)?;
    }
    Ok(())
}

/// Builds everything for one architecture into `out`.
pub(crate) fn libraries(options: &Options<'_>, out: &Path) -> Result<()> {
    let target = options.arch.target();
    let build = if options.glibc.is_some() { "zigbuild" } else { "build" };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([build, "--locked", "--profile", options.profile]);
    for filter in FILTERS {
        cargo.args(["-p", &format!("callout-{filter}")]);
    }
    if let Some(glibc) = options.glibc {
        cargo.args(["--target", &format!("{target}.{glibc}")]);
    }
    cargo.env("CALLOUT_REVISION", revision()?);
    println!("building {} for {target}", FILTERS.join(", "));
    let needs = match options.glibc {
        Some(_) => {
            "cargo-zigbuild and zig are needed (pip install cargo-zigbuild ziglang), and the target (rustup target add)"
        }
        None => "building",
    };
    run(&mut cargo).context(needs)?;
    let mut built = target_dir()?;
    if options.glibc.is_some() {
        built.push(&target);
    }
    built.push(folder(options.profile));
    fs::create_dir_all(out.join("debug"))?;
    for filter in FILTERS {
        strip(&built.join(format!("libcallout_{filter}.so")), &out.join(library(filter)), out)?;
    }
    Ok(())
}

/// Builds the tool into `out`, for this machine: it links all three filters, whose entries have one name,
/// and zig's linker has no option for that.
pub(crate) fn tool(profile: &str, out: &Path) -> Result<()> {
    println!("building callout for this machine");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--profile", profile, "-p", "callout-tool"]);
    run(cargo.env("CALLOUT_REVISION", revision()?))?;
    fs::create_dir_all(out.join("debug"))?;
    let built = target_dir()?.join(folder(profile)).join("callout");
    strip(&built, &out.join(format!("callout-{VERSION}")), out)
}

/// The folder of a profile.
fn folder(profile: &str) -> &str {
    if profile == "dev" { "debug" } else { profile }
}

/// Copies `from` to `to` without its debug information, which goes into a file of its own that a
/// debugger finds by the link in `to`.
fn strip(from: &Path, to: &Path, out: &Path) -> Result<()> {
    let name = to.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    let debug = out.join("debug").join(format!("{name}.debug"));
    let objcopy = objcopy()?;
    run(Command::new(objcopy).arg("--only-keep-debug").arg(from).arg(&debug))?;
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(&debug);
    run(Command::new(objcopy).arg("--strip-unneeded").arg(link).arg(from).arg(to))
}

/// `llvm-objcopy` knows every architecture; binutils' own is there on most machines.
fn objcopy() -> Result<&'static str> {
    ["llvm-objcopy", "objcopy"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .context("objcopy is needed (Debian: binutils)")
}

/// The revision that is built, with `+` when the files are not those of the revision.
fn revision() -> Result<String> {
    if let Ok(revision) = std::env::var("CALLOUT_REVISION") {
        return Ok(revision);
    }
    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git").args(arguments).output().context("running git")?;
        ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(git(&["rev-parse", "--short=12", "HEAD"])? + if clean { "" } else { "+" })
}

fn target_dir() -> Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("running cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let dir = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(dir.context("cargo metadata names no target folder")?.into())
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
