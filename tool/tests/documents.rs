//! The documents: every link leads to a file, or to a heading, that is there.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every document of the project.
fn documents(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "dist", ".git"].contains(&name.as_str()) {
                documents(&path, found);
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The links of a document, those in code left out.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            links.push(rest.split([')', ' ']).next().unwrap().to_owned());
        }
    }
    links
}

/// The anchor of a heading, as hosts of Markdown make it.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = Vec::new();
    documents(&root(), &mut files);
    assert!(files.len() > 15, "{files:?}");
    let mut checked = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", file.display());
            if !fragment.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let there = text.lines().any(|l| l.starts_with('#') && anchor(l) == fragment);
                assert!(there, "{}: no heading for {link}", file.display());
            }
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn every_page_of_the_book_is_in_its_index() {
    let index = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    for entry in root().join("docs").read_dir().unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let listed = index.contains(&format!("({name})")) || name == "README.md";
        assert!(listed, "{name}");
    }
}

/// The YAML of a document that configures a module.
fn configurations(text: &str) -> Vec<String> {
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|block| block.contains("filter_config")).map(str::to_owned).collect()
}

#[test]
fn every_configuration_that_a_document_shows_is_one() {
    let mut checked = 0;
    for file in ["docs/recipes.md", "docs/install.md", "README.md"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for yaml in configurations(&text) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("part.yaml");
            std::fs::write(&path, &yaml).unwrap();
            let said = Command::new(env!("CARGO_BIN_EXE_callout"))
                .args(["check", "--deny-warnings"])
                .arg(&path)
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&said.stderr);
            assert!(errors.contains("1 configurations"), "{file}: {errors}\n{yaml}");
            let findings = String::from_utf8_lossy(&said.stdout);
            assert!(said.status.success(), "{file}: {findings}\n{yaml}");
            checked += 1;
        }
    }
    assert!(checked >= 9, "{checked}");
}
