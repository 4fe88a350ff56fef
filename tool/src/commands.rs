//! The commands: files in, text out.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use similar::TextDiff;

use crate::check::{Severity, check_file};
use crate::envoy::{Kind, Level};
use crate::explain;
use crate::migrate::migrate as carry_over;
use crate::schema;
use crate::yaml::File;

/// Text and name of a file; `-` is standard input.
fn read(path: &Path) -> Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        return Ok((text, "standard input".to_owned()));
    }
    let name = path.display().to_string();
    Ok((std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?, name))
}

fn parsed(text: &str, name: &str) -> Result<File> {
    File::parse(text).with_context(|| format!("{name} is not valid YAML or JSON"))
}

const fn code(failed: bool) -> ExitCode {
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `callout migrate`.
pub(crate) fn migrate(
    path: &Path,
    diff: bool,
    output: Option<&Path>,
    strict: bool,
) -> Result<ExitCode> {
    let (text, name) = read(path)?;
    let migrated = carry_over(&parsed(&text, &name)?);
    for remark in &migrated.remarks {
        anstream::eprintln!("{name}:{}: \u{1b}[1;33mnote\u{1b}[0m: {}", remark.line, remark.text);
    }
    if migrated.wrapped == 0 {
        anstream::eprintln!("{name}: no ext_authz, ratelimit or ext_proc filter in it");
    }
    let checked = check_file(&parsed(&migrated.text, &name)?);
    for finding in &checked.findings {
        let line = finding.line(&format!("{name} (migrated)"));
        anstream::eprintln!("{line}");
    }
    if diff {
        let changes = TextDiff::from_lines(&text, &migrated.text);
        let mut changes = changes.unified_diff();
        anstream::print!("{}", coloured(&changes.header(&name, "migrated").to_string()));
    } else if let Some(output) = output {
        std::fs::write(output, &migrated.text)
            .with_context(|| format!("writing {}", output.display()))?;
    } else {
        print!("{}", migrated.text);
    }
    Ok(code(strict && !(migrated.remarks.is_empty() && checked.findings.is_empty())))
}

/// A diff with its lines in colour.
fn coloured(diff: &str) -> String {
    let paint = |line: &str| match line.chars().next() {
        Some('+') => format!("\u{1b}[32m{line}\u{1b}[0m\n"),
        Some('-') => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
        Some('@') => format!("\u{1b}[36m{line}\u{1b}[0m\n"),
        _ => format!("{line}\n"),
    };
    diff.lines().map(paint).collect()
}

/// `callout check`.
pub(crate) fn check(paths: &[PathBuf], json: bool, deny_warnings: bool) -> Result<ExitCode> {
    let (mut errors, mut warnings, mut modules) = (0, 0, 0);
    for path in paths {
        let (text, name) = read(path)?;
        let checked = check_file(&parsed(&text, &name)?);
        modules += checked.modules;
        for finding in checked.findings {
            match finding.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
            if json {
                println!("{}", finding.json(&name));
            } else {
                anstream::println!("{}", finding.line(&name));
            }
        }
    }
    anstream::eprintln!(
        "{modules} configurations of our modules: {errors} errors, {warnings} warnings"
    );
    Ok(code(errors > 0 || deny_warnings && warnings > 0))
}

/// `callout schema`.
pub(crate) fn schema(filter: Option<Kind>, route: bool) -> Result<ExitCode> {
    let level = if route { Level::Route } else { Level::Filter };
    let schema = filter.map_or_else(schema::envoy_file, |kind| schema::fields(kind, level));
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(ExitCode::SUCCESS)
}

/// `callout explain`.
pub(crate) fn explain(word: Option<&str>) -> Result<ExitCode> {
    let Some(word) = word else {
        for entry in explain::ENTRIES {
            println!("{:32} {}", entry.word, entry.meaning);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let found = explain::find(word);
    if found.is_empty() {
        bail!("`{word}` is not known{}", explain::nearest(word));
    }
    for entry in found {
        anstream::println!("\u{1b}[1m{}\u{1b}[0m ({})", entry.word, entry.kind);
        println!("  {}", entry.meaning);
        if !entry.remedy.is_empty() {
            println!("  What to do: {}", entry.remedy);
        }
    }
    Ok(ExitCode::SUCCESS)
}
