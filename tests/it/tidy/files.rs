//! Every file is reached, can be read in a sitting, and is finished.

use std::collections::BTreeSet;

use super::assert_none;
use super::source::{files, read, sources, words};

/// Code lines of a file, without comments and empty lines; tests have no limit.
const LINES_MAX: usize = 480;

/// Files that are longer: path, the lines they may have, why. They may only shrink.
const LONGER: [(&str, usize, &str); 2] = [
    (
        "src/index/apply.rs",
        610,
        "whether a change can be made and what it does belong side by side; to be cut along the kinds of changes",
    ),
    (
        "src/index/tokens.rs",
        490,
        "the models compile this very text; the times of a slot can go to a file that they take as well",
    ),
];

/// Where the compiler begins.
const ROOTS: [&str; 5] =
    ["src/lib.rs", "src/main.rs", "tests/it/main.rs", "loadtest/src/lib.rs", "loadtest/src/main.rs"];

#[test]
fn every_file_can_be_read_in_a_sitting() {
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        let lines = source.code_lines();
        let longer = LONGER.iter().find(|(path, ..)| *path == source.path);
        let max = longer.map_or(LINES_MAX, |(_, lines, _)| *lines);
        if lines > max {
            wrong.push(format!("{} has {lines} lines of code; at most {max}", source.path));
        }
        if longer.is_some() && lines <= LINES_MAX {
            wrong.push(format!("{} has {lines} lines: strike it from the exceptions", source.path));
        }
    }
    assert_none(wrong, "a file can be read in a sitting: cut it along what it does, not at a line");
}

#[test]
fn every_file_is_reached_from_a_root() {
    let all: Vec<_> =
        ["src", "tests", "benches", "loadtest/src", "loadtest/tests"].into_iter().flat_map(sources).collect();
    let alone = |path: &str| {
        let inside = path.split_once('/').map_or("", |(folder, inside)| match folder {
            "tests" | "benches" => inside,
            _ => path.strip_prefix("loadtest/tests/").unwrap_or(""),
        });
        !inside.is_empty()
            && (!inside.contains('/') || inside.matches('/').count() == 1 && inside.ends_with("/main.rs"))
    };
    let is_root = |path: &str| ROOTS.contains(&path) || alone(path);
    let mut open: Vec<String> = all.iter().map(|source| source.path.clone()).filter(|path| is_root(path)).collect();
    let mut reached = BTreeSet::new();
    let mut wrong = Vec::new();
    while let Some(path) = open.pop() {
        let Some(source) = all.iter().find(|source| source.path == path) else { continue };
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let stem = name.trim_end_matches(".rs");
        let of_folder = stem == "mod" || is_root(&path);
        let below = if of_folder { folder.to_owned() } else { format!("{folder}/{stem}") };
        let mut elsewhere = None;
        for line in source.text.lines().map(str::trim) {
            let named = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]"));
            elsewhere = named.or(elsewhere);
            let declared = line.split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';'));
            let Some(module) = declared.filter(|_| ["pub", "mod "].iter().any(|start| line.starts_with(start))) else {
                continue;
            };
            let mut places = vec![format!("{below}/{module}.rs"), format!("{below}/{module}/mod.rs")];
            // Only the forms `beside.rs` and `../folder/file.rs` occur.
            if let Some(path) = elsewhere.take() {
                let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
                places =
                    vec![path.strip_prefix("../").map_or(format!("{folder}/{path}"), |up| format!("{above}/{up}"))];
            }
            match places.iter().find(|place| all.iter().any(|source| source.path == **place)) {
                Some(place) => open.push(place.clone()),
                None => wrong.push(format!("{path}: mod {module} is nowhere")),
            }
        }
        reached.insert(path);
    }
    let dead = all.iter().filter(|source| !reached.contains(&source.path));
    wrong.extend(dead.map(|source| format!("{} is compiled by nobody", source.path)));
    assert_none(wrong, "no dead files");
}

#[test]
fn nothing_is_left_unfinished() {
    let words_of_shame = ["todo", "unimplemented", "dbg"];
    let mut wrong = Vec::new();
    for source in ["src", "tests", "benches", "loadtest/src"].into_iter().flat_map(sources) {
        for (word, at) in words(&source.code) {
            if words_of_shame.contains(&word) && source.code[at + word.len()..].starts_with('!') {
                let line = source.code[..at].matches('\n').count() + 1;
                wrong.push(format!("{}:{line}: {word}!", source.path));
            }
        }
    }
    assert_none(wrong, "nothing is left unfinished");
}

#[test]
fn every_other_file_is_used_by_some_source_or_page() {
    let mut texts: Vec<String> = ["src", "tests"].into_iter().flat_map(sources).map(|source| source.text).collect();
    let pages: Vec<String> = ["src", "docs"].into_iter().flat_map(files).filter(|path| path.ends_with(".md")).collect();
    texts.extend(pages.iter().map(|page| read(page)));
    texts.push(read("README.md"));
    let mut wrong = Vec::new();
    for path in ["src", "docs", "tests"].into_iter().flat_map(files).filter(|path| !path.ends_with(".rs")) {
        let name = path.rsplit('/').next().unwrap_or(&path);
        let stem = name.split('.').next().unwrap_or(name);
        // A golden vector may be found by what it is a vector of, or by a name with a number in it.
        let numberless = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        let of_vector = path.starts_with("tests/vectors/");
        let used = |text: &String| {
            text.contains(name)
                || of_vector
                    && (text.contains(&format!("\"{stem}\"")) || numberless != stem && text.contains(numberless))
        };
        // A page that tells of the folder it lies in.
        let of_folder = name == "README.md";
        // A golden data directory is read whole; `golden` holds its files against the index.
        let of_directory = path.starts_with("tests/vectors/data-");
        if !of_folder && !of_directory && !texts.iter().any(used) {
            wrong.push(format!("{path} is named by no source and no page"));
        }
    }
    assert_none(wrong, "no file lies about");
}
