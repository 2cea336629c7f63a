//! The documents: relative links lead somewhere, and the book has every page of the guide and the reference.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

fn root() -> PathBuf {
    normal(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// The Markdown files below a folder, without those that are built or hidden.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "node_modules"].contains(&name.as_str()) && (!name.starts_with('.') || name == ".github") {
                pages(&path, found);
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The targets of the links of a page, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        }
        if code || line.starts_with("    ") {
            continue;
        }
        // Parts between backticks are code too; a link may have some in its words.
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find(')').unwrap_or(rest.len());
            found.push(rest[..end].to_string());
        }
    }
    found
}

/// The anchors of a page: its headings in small letters, with hyphens, without other signs.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            words.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
        })
        .collect()
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut all = Vec::new();
    pages(&root(), &mut all);
    let (mut count, mut broken) = (0, Vec::new());
    for page in &all {
        let text = fs::read_to_string(page).unwrap();
        for link in links(&text) {
            // Addresses, and items of Rust in the pages of rustdoc.
            if link.contains("://") || link.starts_with("mailto:") || link.contains("::") {
                continue;
            }
            let (path, part) = link.split_once('#').unwrap_or((&link, ""));
            let file = match path {
                "" => page.clone(),
                path => normal(&page.parent().unwrap().join(path)),
            };
            let heading = || {
                let is_page = part.is_empty() || file.extension().is_none_or(|end| end != "md");
                is_page || anchors(&fs::read_to_string(&file).unwrap()).contains(part)
            };
            if !file.exists() || !heading() {
                broken.push(format!("{}: {link}", page.display()));
            }
            count += 1;
        }
    }
    assert!(broken.is_empty(), "links to nowhere:\n{}", broken.join("\n"));
    assert!(count > 50, "found {count} links only");
}

#[test]
fn the_book_has_every_page() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = links(&summary).into_iter().map(|link| docs.join(link)).collect();
    let mut all = Vec::new();
    for folder in ["guide", "reference", "book"] {
        pages(&docs.join(folder), &mut all);
    }
    assert!(all.len() > 20);
    let missing: Vec<_> = all.iter().filter(|page| !listed.contains(*page)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
    // Pages of docs/book are includes of files elsewhere.
    for page in all.iter().filter(|page| page.parent() == Some(&docs.join("book"))) {
        let text = fs::read_to_string(page).unwrap();
        let file = text.trim().strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}"));
        let file = file.unwrap_or_else(|| panic!("{}: expected one include, found {text}", page.display()));
        assert!(docs.join("book").join(file).is_file(), "{}: no such file: {file}", page.display());
    }
}

/// The tests of links find what is wrong.
#[test]
fn links_and_headings_are_found() {
    let text = "# A `b` c, d\n[x](y.md) and ![z](w.png)\n```\n[a](b)\n```\n    [a](b)\n";
    assert_eq!(links(text), ["y.md", "w.png"]);
    assert!(anchors(text).contains("a-b-c-d"));
}
