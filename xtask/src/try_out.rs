//! A release, tried as its users get it: the sums, what the files say of themselves, and every file and
//! the image in every supported Envoy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use callout_integration::envoy::Options;
use callout_integration::prelude::*;
use flate2::read::GzDecoder;

use crate::build::{Arch, library, run};
use crate::{FILTERS, VERSION, elf, sha256};

/// Tries everything in `dist`, whose libraries have to do with this `glibc`.
pub(crate) async fn everything(dist: &Path, glibc: Option<&str>) -> Result<()> {
    sums(dist)?;
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let folder = dist.join(arch.name());
        if !folder.exists() {
            println!("{}: not in this release", arch.name());
            continue;
        }
        files(&folder, arch, glibc)?;
        if arch.name() != std::env::consts::ARCH {
            println!("{}: not loaded into Envoy, as this machine is another", arch.name());
        }
    }
    schemas(&dist.join("schema"))?;
    run(Command::new(dist.join(format!("tool/callout-{VERSION}"))).arg("--version"))?;
    if cfg!(target_arch = "x86_64") && dist.join("x86_64").exists() {
        serve(&dist.join("x86_64"), &|filter| {
            library(filter).trim_start_matches("lib").trim_end_matches(".so").to_owned()
        })
        .await?;
        let unpacked = tempfile::tempdir()?;
        unpack(&dist.join("image"), "amd64", unpacked.path())?;
        for file in ["manifest.yaml", "LICENSES.txt", "schema/envoy.json"] {
            ensure!(unpacked.path().join(file).exists(), "{file} is not in the image");
        }
        serve(unpacked.path(), &|filter| format!("callout_{filter}")).await?;
    }
    println!("the release in {} is as it should be", dist.display());
    Ok(())
}

fn sums(dist: &Path) -> Result<()> {
    let text = fs::read_to_string(dist.join("SHA256SUMS")).context("reading SHA256SUMS")?;
    let mut known = BTreeMap::new();
    for line in text.lines() {
        let (sum, name) = line.split_once("  ").context("SHA256SUMS has a strange line")?;
        known.insert(name.to_owned(), sum.to_owned());
    }
    for file in crate::files(dist)? {
        let name = file.strip_prefix(dist)?.display().to_string();
        if name == "SHA256SUMS" {
            continue;
        }
        let sum = known.remove(&name).with_context(|| format!("{name} has no sum"))?;
        ensure!(sum == sha256(&fs::read(&file)?), "{name} is not what its sum says");
    }
    ensure!(known.is_empty(), "files are missing: {known:?}");
    Ok(())
}

/// Each is JSON, and says of which draft it is.
fn schemas(folder: &Path) -> Result<()> {
    for name in ["envoy"].iter().chain(FILTERS.iter()) {
        let text = fs::read(folder.join(format!("{name}.json")))
            .with_context(|| format!("reading the schema {name}"))?;
        let schema: Value = serde_json::from_slice(&text)?;
        ensure!(schema.get("$schema").is_some(), "{name}.json is not a schema");
    }
    Ok(())
}

/// What the files of one architecture say of themselves.
fn files(folder: &Path, arch: Arch, glibc: Option<&str>) -> Result<()> {
    let floor = glibc.map(|text| elf::version(text.as_bytes()).context("2.28, for example"));
    let floor = floor.transpose()?;
    const NEEDED: [&[u8]; 2] =
        [b"envoy_dynamic_module_on_program_init", b"envoy_dynamic_module_on_http_filter_new"];
    for filter in FILTERS {
        let name = library(filter);
        let bytes = fs::read(folder.join(&name)).with_context(|| format!("reading {name}"))?;
        ensure!(elf::machine(&bytes)? == arch.elf(), "{name} is for another machine");
        for symbol in NEEDED {
            let there = bytes.windows(symbol.len()).any(|window| window == symbol);
            ensure!(there, "{name} has no {}", String::from_utf8_lossy(symbol));
        }
        let (major, minor) = elf::glibc(&bytes).unwrap_or_default();
        let fits = floor.is_none_or(|floor| (major, minor) <= floor);
        ensure!(
            fits,
            "{name} needs glibc {major}.{minor}, and is to do with {}",
            glibc.unwrap_or("")
        );
        let mebibytes = bytes.len() >> 20;
        ensure!(mebibytes < 24, "{name} is {mebibytes} MiB: is it stripped?");
        ensure!(folder.join(format!("debug/{name}.debug")).exists(), "{name} has no debug file");
        println!("{} {name}: {mebibytes} MiB, needs glibc {major}.{minor}", arch.name());
    }
    Ok(())
}

/// Every library in every Envoy, under the names that `module` gives: a request goes through all three.
async fn serve(folder: &Path, module: &dyn Fn(&str) -> String) -> Result<()> {
    for version in Version::ALL {
        let upstream = Upstream::start(Answer::default()).await?;
        let services = Services::start(Script::default()).await?;
        let filters = Kind::ALL.map(|kind| {
            let mut filter = kind.module(json!({}), services.port());
            if let Some(name) = filter.pointer_mut("/typed_config/dynamic_module_config/name") {
                *name = json!(module(kind.name()));
            }
            filter
        });
        let bootstrap = Bootstrap::new(upstream.port(), filters.to_vec());
        let options = Options { modules: Some(folder.to_owned()), ..Options::default() };
        let envoy = Envoy::start_with(version, &bootstrap, options).await?;
        let status = Request::get("/").send(envoy.port()).await.status;
        ensure!(status == 200, "Envoy {version}: status {status}\n{}", envoy.log());
        ensure!(services.asked().len() >= 4, "Envoy {version}: not everybody was asked");
        for filter in FILTERS {
            let line = format!("callout {filter} {VERSION} (");
            ensure!(envoy.log().contains(&line), "Envoy {version}: no line `{line}` in its log");
        }
        println!("Envoy {version} serves with {}", module("*"));
    }
    Ok(())
}

/// The layers of an image, one over the other. Every blob has to be what its name says.
fn unpack(image: &Path, arch: &str, to: &Path) -> Result<()> {
    let read = |digest: &Value| -> Result<Vec<u8>> {
        let digest = digest.as_str().unwrap_or_default();
        let sum = digest.strip_prefix("sha256:").context("a digest is missing")?;
        let bytes = fs::read(image.join("blobs/sha256").join(sum))?;
        ensure!(sha256(&bytes) == sum, "the blob {sum} is not what its name says");
        Ok(bytes)
    };
    let json = |bytes: &[u8]| -> Result<Value> { Ok(serde_json::from_slice(bytes)?) };
    let list = |value: &Value, name: &str| -> Vec<Value> {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let digest = |value: &Value| value.get("digest").cloned().unwrap_or_default();
    let top = json(&fs::read(image.join("index.json"))?)?;
    let whole = list(&top, "manifests").first().map(digest).context("the image is empty")?;
    let manifests = list(&json(&read(&whole)?)?, "manifests");
    let fits = |manifest: &&Value| manifest.pointer("/platform/architecture") == Some(&json!(arch));
    let manifest =
        manifests.iter().find(fits).with_context(|| format!("no {arch} in the image"))?;
    let manifest = json(&read(&digest(manifest))?)?;
    read(&digest(manifest.get("config").unwrap_or(&Value::Null)))?;
    for layer in list(&manifest, "layers") {
        tar::Archive::new(GzDecoder::new(read(&digest(&layer))?.as_slice())).unpack(to)?;
    }
    Ok(())
}
