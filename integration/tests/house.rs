//! The order of the house, read from its own files: floors, circles, rooms, and the facts that comments
//! cite. No Envoy runs here.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 4] = ["common", "authz", "ratelimit", "extproc"];
const FILTERS: [&str; 3] = ["authz", "ratelimit", "extproc"];
/// What a filter's `src` may hold.
const ROOMS: [&str; 11] = [
    "lib",
    "stream",
    "apply",
    "access_log",
    "call",
    "memory",
    "decide",
    "request",
    "config",
    "stats",
    "fuzzing",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One module of a crate: its path below the crate, and the text that is no test.
struct Module {
    path: Vec<String>,
    file: String,
    text: String,
}

/// Every module of `krate`; files of tests and models are left out.
fn modules(krate: &str) -> Vec<Module> {
    let src = root().join(krate).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["tests", "bindings", "bin"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "rs")
                && !["tests", "model"].contains(&name.as_str())
            {
                let below = path.strip_prefix(&src).unwrap().with_extension("");
                let mut module: Vec<String> =
                    below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                if name == "mod" || module == ["lib"] {
                    module.pop();
                }
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                let file = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push(Module { path: module, file, text });
            }
        }
    }
    found
}

/// The leaves of the `use` lines in `text`, and whether each is handed on (`pub use`).
fn uses(text: &str) -> Vec<(Vec<String>, bool)> {
    let mut leaves = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rsplit('\n').next().unwrap().trim();
        let tree = rest[at + 4..].split(';').next().unwrap();
        rest = &rest[at + 4..];
        if line.is_empty() || line.starts_with("pub") && !line.contains("//") {
            expand(&[], tree, !line.is_empty(), &mut leaves);
        }
    }
    leaves
}

fn expand(before: &[String], tree: &str, public: bool, into: &mut Vec<(Vec<String>, bool)>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path =
            tree.split(" as ").next().unwrap().split("::").map(|part| part.trim().to_owned());
        into.push((before.iter().cloned().chain(path).collect(), public));
        return;
    };
    let head = head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
    let head: Vec<String> = before.iter().cloned().chain(head).collect();
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    expand(&head, &group[start..at], public, into);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// From which module each module takes something, by `use` lines.
fn arrows(modules: &[Module]) -> BTreeSet<(usize, usize)> {
    let by_path: BTreeMap<&[String], usize> =
        modules.iter().enumerate().map(|(at, module)| (module.path.as_slice(), at)).collect();
    let mut arrows = BTreeSet::new();
    for (from, module) in modules.iter().enumerate() {
        for (leaf, public) in uses(&module.text) {
            let Some(path) = absolute(&module.path, &leaf) else { continue };
            let Some(to) = resolve(modules, &by_path, &path, 0) else { continue };
            // A module may hand on what its own children have.
            let own = modules[to].path.starts_with(&module.path);
            if to != from && !(public && own) {
                arrows.insert((from, to));
            }
        }
    }
    arrows
}

fn absolute(module: &[String], leaf: &[String]) -> Option<Vec<String>> {
    let mut base = match leaf.first()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module.to_vec(),
        _ => return None,
    };
    for part in leaf {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => {
                base.pop()?;
            }
            part => base.push(part.to_owned()),
        }
    }
    Some(base)
}

/// The module that has what `path` names, through what others hand on.
fn resolve(
    modules: &[Module],
    by_path: &BTreeMap<&[String], usize>,
    path: &[String],
    depth: usize,
) -> Option<usize> {
    let (mut at, mut rest) = (path.len(), None);
    while at > 0 && !by_path.contains_key(&path[..at]) {
        rest = path.get(at - 1);
        at -= 1;
    }
    let found = *by_path.get(&path[..at])?;
    let Some(item) = rest.filter(|_| depth < 4) else { return Some(found) };
    let module = &modules[found];
    let handed = uses(&module.text)
        .into_iter()
        .find(|(leaf, public)| *public && leaf.last() == Some(item))
        .and_then(|(leaf, _)| {
            let path = match leaf.first().map(String::as_str) {
                Some("crate" | "self" | "super") => absolute(&module.path, &leaf)?,
                _ => module.path.iter().cloned().chain(leaf).collect(),
            };
            resolve(modules, by_path, &path, depth + 1)
        });
    Some(handed.unwrap_or(found))
}

/// The rooms of a crate from the top down, as its `lib.rs` lists them.
fn floors(krate: &str) -> Vec<String> {
    let lib = fs::read_to_string(root().join(krate).join("src/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_file_uses_only_what_stands_below_its_room() {
    let mut up = Vec::new();
    for krate in CRATES {
        let (floors, modules) = (floors(krate), modules(krate));
        let floor = |module: &Module| {
            let room = module.path.first()?;
            floors.iter().position(|name| name == room)
        };
        for (from, to) in arrows(&modules) {
            let (from, to) = (&modules[from], &modules[to]);
            if let (Some(here), Some(there)) = (floor(from), floor(to))
                && there < here
            {
                up.push(format!("{} uses {}", from.file, to.file));
            }
        }
    }
    assert!(up.is_empty(), "arrows that go up:\n{}", up.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for krate in CRATES {
        let modules = modules(krate);
        let arrows = arrows(&modules);
        let reaches = |from: usize| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(at) = open.pop() {
                for (_, to) in arrows.iter().filter(|(start, _)| *start == at) {
                    if seen.insert(*to) {
                        open.push(*to);
                    }
                }
            }
            seen
        };
        let reach: Vec<BTreeSet<usize>> = (0..modules.len()).map(reaches).collect();
        for at in 0..modules.len() {
            let round: Vec<&str> = (0..modules.len())
                .filter(|other| reach[at].contains(other) && reach[*other].contains(&at))
                .map(|other| modules[other].file.as_str())
                .collect();
            if round.first() == Some(&modules[at].file.as_str()) {
                circles.push(round.join(", "));
            }
        }
    }
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}

/// How many rooms stand on each other, from this one down.
fn height(room: &str, below: &BTreeMap<String, BTreeSet<String>>) -> usize {
    let rooms = below.get(room).into_iter().flatten();
    1 + rooms.map(|room| height(room, below)).max().unwrap_or_default()
}

#[test]
fn common_has_at_most_eight_floors() {
    let modules = modules("common");
    let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in arrows(&modules) {
        if let (Some(from), Some(to)) = (modules[from].path.first(), modules[to].path.first())
            && from != to
        {
            below.entry(from.clone()).or_default().insert(to.clone());
        }
    }
    let heights: Vec<(usize, String)> =
        floors("common").into_iter().map(|room| (height(&room, &below), room)).collect();
    assert!(heights.iter().all(|(height, _)| *height <= 8), "{heights:?}");
}

#[test]
fn the_filters_have_the_same_rooms() {
    for krate in FILTERS {
        let rooms: BTreeSet<String> = fs::read_dir(root().join(krate).join("src"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        for room in &rooms {
            assert!(ROOMS.contains(&room.as_str()), "{krate}/src/{room} is none of the rooms");
        }
        for room in ["stream", "access_log", "call", "decide", "request", "config", "stats"] {
            assert!(rooms.contains(room), "{krate} has no room {room}");
        }
    }
}

/// Every Rust file of the workspace.
fn sources() -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_fact_names_tests_that_exist_and_every_cited_fact_is_written_down() {
    let facts = fs::read_to_string(root().join("docs/ENVOY-FACTS.md")).unwrap();
    let sources = sources();
    let written: BTreeSet<&str> = facts
        .lines()
        .filter_map(|line| line.strip_prefix("**F")?.split_once('.'))
        .map(|(n, _)| n)
        .collect();
    for guards in facts.split("Guard").skip(1) {
        let guards = guards.split("\n\n").next().unwrap();
        for test in guards.split('`').skip(1).step_by(2) {
            let head = format!("fn {test}(");
            assert!(sources.iter().any(|text| text.contains(&head)), "no test is called {test}");
        }
    }
    for text in &sources {
        for cited in text.split("(F").skip(1) {
            let number: String = cited.chars().take_while(char::is_ascii_digit).collect();
            if !number.is_empty() && cited[number.len()..].starts_with([')', ',']) {
                assert!(
                    written.contains(number.as_str()),
                    "F{number} is cited and not written down"
                );
            }
        }
    }
}
