//! The furniture says what is so: manifest, lock file, pages, commands.

use std::path::Path;
use std::process::Command;

use super::assert_none;
use super::source::{Source, files, read, sources, top};

/// Crates that may not come in by any way: a second TLS provider, a second runtime, a crate nobody keeps.
const BANNED: [&str; 15] = [
    "async-executor",
    "async-std",
    "aws-lc-fips-sys",
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "boring-sys",
    "glommio",
    "monoio",
    "native-tls",
    "openssl",
    "openssl-sys",
    "rustls-openssl",
    "rustls-pemfile",
    "smol",
];

/// The dependencies of a section of a manifest, each with the line above it.
pub fn dependencies<'m>(manifest: &'m str, section: &str) -> impl Iterator<Item = (&'m str, &'m str)> {
    let lines: Vec<&str> = manifest.lines().skip_while(|line| *line != section).collect();
    let pairs: Vec<(&str, &str)> = lines.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let inside = pairs.into_iter().take_while(|(_, line)| !line.starts_with('['));
    inside
        .filter_map(|(above, line)| Some((line.split_once(" = ")?.0, above)))
        .filter(|(name, _)| !name.starts_with('#'))
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let manifest = read("Cargo.toml");
    let mut wrong = Vec::new();
    for section in ["[dependencies]", "[dev-dependencies]"] {
        let listed: Vec<_> = dependencies(&manifest, section).collect();
        assert!(!listed.is_empty(), "{section} is empty");
        let silent = listed.into_iter().filter(|(_, above)| !above.starts_with("# "));
        wrong.extend(silent.map(|(name, _)| format!("{name} in {section}")));
    }
    assert_none(wrong, "the line above a dependency says why it is here");
}

#[test]
fn one_tls_provider_and_one_runtime_are_locked() {
    let lock = read("Cargo.lock");
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let found: Vec<String> = names.iter().filter(|name| BANNED.contains(name)).map(|name| (*name).to_owned()).collect();
    assert_none(found, "crates in Cargo.lock that may not be there (`cargo tree -i NAME` says who brings them)");
    for once in ["ring", "rustls", "tokio", "quinn-proto"] {
        assert_eq!(names.iter().filter(|name| **name == once).count(), 1, "{once} is in Cargo.lock exactly once");
    }
    let deny = read("deny.toml");
    let missing = BANNED.iter().filter(|name| !deny.contains(&format!("\"{name}\"")));
    assert_none(missing.map(|name| (*name).to_owned()).collect(), "deny.toml bans what is banned here");
}

#[test]
fn the_client_alone_brings_only_what_is_listed() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.current_dir(top()).args(["tree", "--offline", "--locked", "--package", "tokenscope", "--edges", "normal"]);
    // One target, so that the list is the same wherever the test runs.
    tree.args(["--target", "x86_64-unknown-linux-gnu", "--no-default-features", "--features", "client"]);
    tree.args(["--prefix", "none", "--format", "{p}"]);
    let output = match tree.output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            return eprintln!("SKIPPED: cargo tree did not work here: {}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => return eprintln!("SKIPPED: cargo tree cannot be run here: {error}"),
    };
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let mut found: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    found.sort_unstable();
    found.dedup();
    let list = read("tests/client-dependencies.txt");
    let listed: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    let wrong = found.iter().filter(|name| !listed.contains(name)).map(|name| format!("{name} is new"));
    let gone = listed.iter().filter(|name| !found.contains(name)).map(|name| format!("{name} is gone"));
    assert_none(wrong.chain(gone).collect(), "tests/client-dependencies.txt lists what the feature `client` brings");
}

#[test]
fn the_commands_of_the_readme_are_those_of_the_ci() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    let block = readme.split("```").nth(1).expect("the README begins with a block of commands");
    let commands: Vec<&str> = block
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line).trim())
        .filter(|line| line.starts_with("cargo "))
        .collect();
    assert_eq!(commands.len(), 2, "the two commands: {commands:?}");
    let missing = commands.iter().filter(|command| !ci.lines().any(|line| line.trim().ends_with(**command)));
    assert_none(
        missing.map(|command| (*command).to_owned()).collect(),
        ".ci/run runs the README's commands as they are",
    );
}

#[test]
fn every_link_of_a_page_leads_to_a_file() {
    let mut wrong = Vec::new();
    for page in pages() {
        let folder = Path::new(&page).parent().map(|folder| top().join(folder)).expect("a page lies in a folder");
        let text = read(&page);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or(target);
            if !folder.join(file).exists() {
                wrong.push(format!("{page}: {target}"));
            }
        }
    }
    assert_none(wrong, "links of pages lead to files");
}

#[test]
fn every_test_and_file_that_a_page_names_exists() {
    // The models are a package of their own.
    let folders = ["src", "tests", "tests/models/src"];
    let tests: String = folders.into_iter().flat_map(sources).filter(Source::is_test).map(|s| s.text).collect();
    let mut wrong = Vec::new();
    for page in ["README.md", "src/ARCHITECTURE.md", "CHANGELOG.md", "RELIABILITY.md", "docs/NEAR-CACHE.md"] {
        for word in read(page).split('`').skip(1).step_by(2) {
            let is_test = word.matches('_').count() >= 3 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_test && !tests.contains(&format!("{word}(")) && !tests.contains(&format!("fn {word}<")) {
                wrong.push(format!("{page}: no test is called {word}"));
            }
            let in_src = Path::new("src").join(word);
            let is_file = word.ends_with(".rs") || word.ends_with(".md");
            if is_file && !word.contains(['*', ' ']) && !top().join(word).exists() && !top().join(in_src).exists() {
                wrong.push(format!("{page}: no file is called {word}"));
            }
        }
    }
    assert_none(wrong, "what a page names exists");
}

#[test]
fn the_changelog_has_a_heading_for_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading), "CHANGELOG.md has no{heading}");
}

fn pages() -> Vec<String> {
    let mut pages: Vec<String> = ["src", "docs", "loadtest"].into_iter().flat_map(files).collect();
    pages.extend(["README.md", "CHANGELOG.md", "loadtest/README.md"].map(str::to_owned));
    pages.retain(|page| page.ends_with(".md") && top().join(page).exists());
    pages.sort();
    pages.dedup();
    pages
}
