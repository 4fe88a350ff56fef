//! Differences that are known, each with its reason.

use crate::Cell;

/// Cells that differ, and why.
pub(crate) struct Known {
    pub(crate) subjects: &'static [&'static str],
    pub(crate) neighbours: &'static [&'static str],
    /// On which sides of our filter the neighbour stands: before it, or behind.
    pub(crate) before: &'static [bool],
    pub(crate) versions: &'static [&'static str],
    /// Each line of the difference has one of these.
    pub(crate) parts: &'static [&'static str],
    /// Whether the cell differs each time, and not by the timing of a run.
    pub(crate) always: bool,
    pub(crate) why: &'static str,
}

const ALL: &[&str] = &["1.38.3", "1.39.3", "1.40.0"];
const BEFORE_1_40: &[&str] = &["1.38.3", "1.39.3"];
const EITHER: &[bool] = &[true, false];
const IN_PIECES: &[&str] = &["extproc STREAMED", "extproc FULL_DUPLEX"];
/// What asks somebody while it holds the message.
const HOLDING: &[&str] = &[
    "ext_authz (built-in)",
    "ext_proc (built-in)",
    "ratelimit (built-in)",
    "authz",
    "ratelimit",
    "extproc",
    "extproc BUFFERED",
];
/// Of those, who is not told that a processor in front holds the end.
const HOLDING_UNTOLD: &[&str] = &[
    "ext_authz (built-in)",
    "ext_proc (built-in)",
    "ratelimit (built-in)",
    "extproc",
    "extproc BUFFERED",
];
/// What the built-in filter's client or upstream did not get.
const NOTHING: &[&str] =
    &["built-in \"\"", "built-in \"TimedOut\"", "built-in []", "built-in 0,", "endOfStream"];

pub(crate) static KNOWN: &[Known] = &[
    Known {
        subjects: &["authz with the body"],
        neighbours: &["decompressor", "grpc_json_transcoder"],
        before: &[true],
        versions: BEFORE_1_40,
        parts: &["http.size"],
        always: true,
        why: "Before 1.40 a module is not told how many bytes came: the `size` of a check is that of the body as the filter before left it.",
    },
    Known {
        subjects: IN_PIECES,
        neighbours: &["buffer"],
        before: &[false],
        versions: ALL,
        parts: &["content-length"],
        always: false,
        why: "Envoy's `buffer` behind a processor that takes a body in pieces counts pieces twice, behind the built-in and behind ours: both lengths are wrong. Put it before.",
    },
    Known {
        subjects: IN_PIECES,
        neighbours: &["buffer"],
        before: &[false],
        versions: ALL,
        parts: &[
            "content-length",
            "built-in \"\"",
            "built-in \"TimedOut\"",
            "built-in []",
            "built-in 0,",
            "built-in null",
        ],
        always: false,
        why: "For the same reason requests hang there at times with the built-in.",
    },
    Known {
        subjects: IN_PIECES,
        neighbours: &["decompressor"],
        before: &[false],
        versions: ALL,
        parts: &[".upstream"],
        always: false,
        why: "The built-in processor in front of Envoy's `decompressor` ends the body twice; ours does not.",
    },
    Known {
        subjects: IN_PIECES,
        neighbours: HOLDING,
        before: EITHER,
        versions: ALL,
        parts: NOTHING,
        always: false,
        why: "The built-in processor that takes bodies in pieces loses some of them at times beside a filter that holds the message; ours in its place did not.",
    },
    Known {
        subjects: IN_PIECES,
        neighbours: HOLDING_UNTOLD,
        before: EITHER,
        versions: ALL,
        parts: &[".upstream", ".others", "ours \"\""],
        always: false,
        why: "Seen in 4 of some 2500 runs: a body that our processor takes in pieces was cut beside a filter that held the message meanwhile (Envoy has one buffer for all filters).",
    },
];

impl Known {
    fn covers(&self, cell: &Cell) -> bool {
        self.subjects.contains(&cell.subject)
            && self.neighbours.contains(&cell.neighbour)
            && self.before.contains(&cell.before)
            && self.versions.contains(&cell.version)
    }
}

impl Known {
    fn explains(&self, found: &[String]) -> bool {
        found.iter().all(|line| self.parts.iter().any(|part| line.contains(part)))
    }
}

/// The reason of the cell's difference, if it is known.
pub(crate) fn reason(cell: &Cell, found: &[String]) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.covers(cell) && known.explains(found))
}

/// What is to be told about a cell: a difference that nobody knows, or one that is gone.
pub(crate) fn surprise(cell: &Cell, found: &[String]) -> Option<String> {
    if found.is_empty() {
        let gone = KNOWN.iter().find(|known| known.always && known.covers(cell))?;
        return Some(format!("{cell:?}: no longer differs ({})", gone.why));
    }
    if reason(cell, found).is_some() {
        return None;
    }
    let shown: Vec<&str> = found.iter().take(4).map(String::as_str).collect();
    Some(format!("{cell:?}: {} differences\n{}", found.len(), shown.join("\n")))
}
