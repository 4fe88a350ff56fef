//! `FAULTS.md`, written by a run and compared with each.

use std::fmt::Write;
use std::path::PathBuf;

use callout_integration::prelude::*;

use crate::rows::ROWS;
use crate::{Lane, Seen};

const HEAD: &str = "# When a service fails

What each filter does when its service fails: closed (`failure_mode_allow: false`, for ratelimit `failure_mode_deny: true`) and
open. Each cell is the status that the client got and the kind of failure, by the names of `failure_mode_allow_on`; in brackets
what differs through Envoy's cluster (`envoy_grpc`). An open filter forwards the request once; a closed one never. After each
fault the service was asked again, and at the end no gauge was left, no panic and no lost work counted.

Written by `FAULTS=all cargo test -p callout-integration --test faults`, in which Envoy 1.38.3, 1.39.3 and 1.40.0 do the same;
`cargo test` compares 1.40.0 with it.

";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("FAULTS.md")
}

fn word(seen: &Seen) -> String {
    match (seen.status, seen.class) {
        (0, _) => "-".to_owned(),
        (status, "") => status.to_string(),
        (status, class) => format!("{status} {class}"),
    }
}

/// The table, line by line.
pub(crate) fn rows(seen: &[(Lane, Vec<Seen>)]) -> String {
    let mut text = "| the service | authz, closed | open | ratelimit, closed | open | extproc, closed | open |\n|---|---|---|---|---|---|---|\n".to_owned();
    for (index, row) in ROWS.iter().enumerate() {
        write!(text, "| {} |", row.name).unwrap();
        for kind in Kind::ALL {
            for open in [false, true] {
                let of = |cluster| {
                    let lane = Lane { kind, open, cluster };
                    let (_, seen) = seen.iter().find(|(one, _)| *one == lane).unwrap();
                    word(&seen[index])
                };
                let (dialled, cluster) = (of(false), of(true));
                if dialled == cluster {
                    write!(text, " {dialled} |").unwrap();
                } else {
                    write!(text, " {dialled} ({cluster}) |").unwrap();
                }
            }
        }
        text.push('\n');
    }
    text
}

/// The table of the file.
pub(crate) fn published() -> String {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines.map(|line| format!("{line}\n")).collect()
}

pub(crate) fn write(table: &str) {
    std::fs::write(path(), format!("{HEAD}{table}")).unwrap();
}
