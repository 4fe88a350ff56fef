//! `COMPANY.md`, written by a run over all cells.

use std::fmt::Write;
use std::path::PathBuf;

use crate::known::{self, KNOWN};
use crate::{Cell, Seen, VERSIONS, subjects};

const HEAD: &str = "# In the company of other filters

Each of our filters stands before and behind each of these neighbours, on Envoy 1.38.3, 1.39.3 and 1.40.0. The same requests go
through the same chain with the built-in filter of that Envoy in the place of ours, over HTTP/1.1 and HTTP/2: what the client, the
upstream, the filter's service and the neighbour's service see has to be the same (but for the `size` of a check that does not wait
for the body: it is what had come by then).

Written by `COMPANY=all cargo test -p callout-integration --test company`; `cargo test` itself takes a third of the cells.

*same*: on all three. A number: differs, twice in a row, for the reason below. `before`: the neighbour sees the request first.
";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("COMPANY.md")
}

/// One line for each known difference, as the file has it.
pub(crate) fn summary() -> String {
    let mut text = String::new();
    for (number, known) in KNOWN.iter().enumerate() {
        writeln!(text, "{}. {}", number + 1, known.why).unwrap();
    }
    if text.is_empty() {
        text.push_str("No cell differs.\n");
    }
    text
}

/// That part of the file.
pub(crate) fn published() -> String {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    text.split_once("## Differences\n\n").map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

pub(crate) fn write(seen: &Seen) {
    let subjects = subjects::all();
    let mut text = HEAD.to_owned();
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name).collect();
    write!(
        text,
        "\n| neighbour | | {} |\n|---|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    )
    .unwrap();
    let mut rows: Vec<(&str, bool)> = Vec::new();
    for neighbour in crate::neighbours::all() {
        rows.extend([(neighbour.name, true), (neighbour.name, false)]);
    }
    for (neighbour, before) in rows {
        let side = if before { "before" } else { "behind" };
        write!(text, "| {neighbour} | {side} |").unwrap();
        for subject in &names {
            let cell = |version| Cell { neighbour, subject, before, version };
            write!(text, " {} |", word(seen, &VERSIONS.map(|(version, _)| cell(version)))).unwrap();
        }
        text.push('\n');
    }
    write!(text, "\n## Differences\n\n{}", summary()).unwrap();
    std::fs::write(path(), text).unwrap();
}

fn word(seen: &Seen, cells: &[Cell]) -> String {
    let mut words = Vec::new();
    for cell in cells {
        let Some(found) = seen.get(cell).filter(|found| !found.is_empty()) else { continue };
        let number = known::reason(cell, found)
            .and_then(|known| KNOWN.iter().position(|one| std::ptr::eq(one, known)))
            .map_or_else(|| "?".to_owned(), |index| (index + 1).to_string());
        words.push(format!("{number} ({})", cell.version));
    }
    if words.is_empty() { "same".to_owned() } else { words.join(", ") }
}
