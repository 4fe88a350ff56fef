//! What is linked in: a bill of materials in CycloneDX's JSON, and the licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{FILTERS, VERSION};

/// A package that is linked in.
struct Package {
    name: String,
    version: String,
    license: String,
    source: String,
    /// The folder of its source.
    folder: std::path::PathBuf,
}

/// Writes `callout-<version>.cdx.json` and `LICENSES.txt`.
pub(crate) fn write(out: &Path) -> Result<()> {
    let packages = linked()?;
    let components: Vec<Value> = packages.iter().map(component).collect();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "library", "name": "callouts-for-envoy", "version": VERSION,
            "licenses": [{"expression": "Apache-2.0"}],
        }},
        "components": components,
    });
    let file = out.join(format!("callout-{VERSION}.cdx.json"));
    fs::write(file, serde_json::to_string_pretty(&bill)?)?;
    fs::write(out.join("LICENSES.txt"), licenses(&packages)?)?;
    Ok(())
}

fn component(package: &Package) -> Value {
    json!({
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": format!("pkg:cargo/{}@{}", package.name, package.version),
        "licenses": [{"expression": package.license}],
    })
}

/// The packages that the filters' libraries and the tool are made of, those for tests and for building left out.
fn linked() -> Result<Vec<Package>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let list = |value: &Value, key: &str| -> Vec<Value> {
        value.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut needs = BTreeMap::new();
    for node in list(metadata.get("resolve").unwrap_or(&Value::Null), "nodes") {
        let normal = list(&node, "deps").into_iter().filter(|dep| {
            list(dep, "dep_kinds").iter().any(|kind| kind.get("kind").is_some_and(Value::is_null))
        });
        needs.insert(text(&node, "id"), normal.map(|dep| text(&dep, "pkg")).collect::<Vec<_>>());
    }
    let packages = list(&metadata, "packages");
    let ours: BTreeSet<String> = FILTERS
        .iter()
        .map(|name| format!("callout-{name}"))
        .chain(["callout-tool".into()])
        .collect();
    let mut waiting: Vec<String> = packages
        .iter()
        .filter(|package| ours.contains(&text(package, "name")))
        .map(|package| text(package, "id"))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(id.clone()) {
            waiting.extend(needs.get(&id).cloned().unwrap_or_default());
        }
    }
    ensure!(seen.len() > ours.len(), "no dependency was found");
    Ok(packages
        .iter()
        .filter(|package| seen.contains(&text(package, "id")))
        .map(|package| Package {
            name: text(package, "name"),
            version: text(package, "version"),
            license: text(package, "license"),
            source: text(package, "source"),
            folder: Path::new(&text(package, "manifest_path"))
                .parent()
                .unwrap_or_else(|| Path::new(""))
                .to_owned(),
        })
        .collect())
}

/// Name, licence and the texts that the package comes with, each text once.
fn licenses(packages: &[Package]) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages.iter().filter(|package| !package.source.is_empty()) {
        let title = format!("{} {} ({})", package.name, package.version, package.license);
        let mut found = false;
        for entry in fs::read_dir(&package.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
            let is_text = ["LICENSE", "LICENCE", "COPYING", "NOTICE"]
                .iter()
                .any(|start| name.starts_with(start));
            if let (true, Ok(text)) = (is_text && path.is_file(), fs::read_to_string(&path)) {
                texts.entry(text.trim().to_owned()).or_default().push(title.clone());
                found = true;
            }
        }
        if !found {
            texts
                .entry(format!("(its package has no text: {})", package.license))
                .or_default()
                .push(title);
        }
    }
    let mut out = String::from("Callouts for Envoy is licensed under Apache-2.0. It contains:\n");
    for (text, titles) in texts {
        let titles: BTreeSet<String> = titles.into_iter().collect();
        out.push_str(&format!("\n{}\n", "=".repeat(80)));
        out.push_str(&titles.into_iter().collect::<Vec<_>>().join("\n"));
        out.push_str(&format!("\n\n{text}\n"));
    }
    Ok(out)
}
