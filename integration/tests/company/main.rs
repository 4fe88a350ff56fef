//! Our filters in the company of others: each before and behind each neighbour, over HTTP/1.1 and
//! HTTP/2, on each Envoy, compared with the built-in filter of that Envoy in the same place.
//!
//! A run takes a part of the cells in which each filter meets each neighbour on each side once.
//! `COMPANY=all cargo test -p callout-integration --test company` takes all of them, and writes the
//! table into `COMPANY.md`; with the name of a filter it takes all of that filter. A difference has to
//! show twice: what a race does is the matter of `chains`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod known;
mod neighbours;
mod subjects;
mod table;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;

use callout_integration::envoy::Form;
use callout_integration::oracle::Scenario;
use callout_integration::prelude::*;
use futures::stream::{self, StreamExt};

/// Scenarios at a time.
const TOGETHER: usize = 4;

/// A filter, its neighbour, on which side of it that stands, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) neighbour: &'static str,
    pub(crate) subject: &'static str,
    /// Whether the neighbour stands before our filter.
    pub(crate) before: bool,
    pub(crate) version: &'static str,
}

/// In what a cell differs from the built-in filter.
pub(crate) type Seen = BTreeMap<Cell, Vec<String>>;

const VERSIONS: [(&str, Version); 3] =
    [("1.38.3", Version::V1_38), ("1.39.3", Version::V1_39), ("1.40.0", Version::V1_40)];

/// The `size` of a check is what came of the body until then: a matter of timing, with the built-in, too,
/// unless the body is waited for.
fn is_noise(cell: Cell, line: &str) -> bool {
    line.contains("request.http.size")
        && (line.trim_start().starts_with(".others") || cell.subject == "authz")
}

/// Which cells a run takes.
enum Choice {
    Sampled,
    All,
    Of(String),
}

impl Choice {
    fn of_this_run() -> Self {
        match std::env::var("COMPANY") {
            Err(_) => Self::Sampled,
            Ok(all) if all == "all" => Self::All,
            Ok(name) => Self::Of(name),
        }
    }

    fn takes(&self, cell: Cell, turn: usize, version: usize) -> bool {
        match self {
            // The versions take turns.
            Self::Sampled => turn % VERSIONS.len() == version,
            Self::All => true,
            Self::Of(name) => cell.neighbour == name || cell.subject == name,
        }
    }
}

async fn run(choice: &Choice) -> Seen {
    let (neighbours, subjects) = (neighbours::all(), subjects::all());
    let mut cells = Vec::new();
    for (n, neighbour) in neighbours.iter().enumerate() {
        for (s, subject) in subjects.iter().enumerate() {
            for before in [true, false] {
                for (v, (name, version)) in VERSIONS.into_iter().enumerate() {
                    let cell = Cell {
                        neighbour: neighbour.name,
                        subject: subject.name,
                        before,
                        version: name,
                    };
                    if !choice.takes(cell, n + s + usize::from(before), v) {
                        continue;
                    }
                    let beside = vec![Arc::clone(&neighbour.filter)];
                    let (before, behind) =
                        if before { (beside, Vec::new()) } else { (Vec::new(), beside) };
                    let scenario = Scenario::new(subject.kind, subject.fields.clone())
                        .script(subject.script())
                        .upstream(traffic::answer())
                        .requests(traffic::requests())
                        .bootstrap(neighbour.bootstrap)
                        .among(before, behind);
                    cells.push((cell, scenario, version));
                }
            }
        }
    }
    stream::iter(cells)
        .map(|(cell, scenario, version)| async move {
            let mut found = differences(cell, &scenario, version).await;
            if !found.is_empty() {
                found = differences(cell, &scenario, version).await;
            }
            (cell, found)
        })
        .buffer_unordered(TOGETHER)
        .collect()
        .await
}

async fn differences(cell: Cell, scenario: &Scenario, version: Version) -> Vec<String> {
    let differences = scenario.differences(version, &[Form::Message]).await;
    let differences = differences.unwrap_or_else(|error| panic!("{cell:?}: {error:#}"));
    let lines = differences.into_iter().flat_map(|(_, differences)| differences);
    lines.filter(|line| !is_noise(cell, line)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_builtin_in_the_company_of_others() {
    let choice = Choice::of_this_run();
    let seen = run(&choice).await;
    if let Choice::All = choice {
        table::write(&seen);
    }
    let surprises: Vec<String> =
        seen.iter().filter_map(|(cell, found)| known::surprise(cell, found)).collect();
    assert!(
        surprises.is_empty(),
        "{} of {}:\n{}",
        surprises.len(),
        seen.len(),
        surprises.join("\n")
    );
    assert_eq!(table::published(), table::summary(), "COMPANY.md is of another set of differences");
}
