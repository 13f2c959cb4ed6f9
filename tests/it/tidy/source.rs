//! The sources as text: found, read, and stripped of what is not code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub struct Source {
    /// From the top of the project, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Every byte of a comment or a literal is a space, lines stay where they are; what only tests see is cut off.
    pub code: String,
}

impl Source {
    fn read(path: &str) -> Self {
        let text = read(path);
        let mut code = code_only(&text);
        if let Some(tests) = code.find("#[cfg(test)]\nmod tests {") {
            code.truncate(tests);
        }
        Self { path: path.to_owned(), text, code }
    }

    /// Whether the file is compiled for tests alone.
    pub fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The room a file of `src` belongs to: `lib` and `main` for the two that stand in none.
    pub fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split(['/', '.']).next().unwrap_or(inside)
    }

    /// How many modules lie between the crate's root and this file's own, itself included.
    fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        inside.split('/').count()
    }

    /// The rooms this file names, by paths from the crate's root: `crate::room…`, or enough `super::`.
    pub fn uses(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (word, at) in words(&self.code) {
            let rest = &self.code[at + word.len()..];
            let below = match word {
                "crate" => rest.strip_prefix("::"),
                "super" if !self.code[..at].ends_with("::") => {
                    let up = 1 + rest.matches_prefix("::super");
                    (up == self.depth()).then(|| &rest["::super".len() * (up - 1)..]).and_then(|r| r.strip_prefix("::"))
                }
                _ => None,
            };
            found.extend(below.into_iter().flat_map(heads));
        }
        found.remove(self.room());
        found
    }

    /// Whether a path into this crate of others (`name::…`, `use name;`) stands in the file.
    pub fn names_crate(&self, name: &str) -> bool {
        words(&self.code).any(|(word, at)| {
            let (before, after) = (&self.code[..at], self.code[at + word.len()..].trim_start());
            // `a::name::…` is a module of somebody else's; `::name::…` is the crate.
            let head = before.strip_suffix("::").is_none_or(|path| !path.ends_with(|c: char| c.is_alphanumeric()));
            word == name && head && (after.starts_with("::") || before.ends_with("use ") && after.starts_with(';'))
        })
    }

    /// Lines with code in them: neither empty nor only a comment.
    pub fn code_lines(&self) -> usize {
        self.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
    }
}

trait MatchesPrefix {
    fn matches_prefix(&self, part: &str) -> usize;
}

impl MatchesPrefix for str {
    /// How often `part` stands at the beginning.
    fn matches_prefix(&self, part: &str) -> usize {
        self.strip_prefix(part).map_or(0, |rest| 1 + rest.matches_prefix(part))
    }
}

/// The first words of what follows `crate::`: one, or those of a group in braces.
fn heads(path: &str) -> Vec<String> {
    let word = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned();
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut items, mut item) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {}
        }
        if c != ',' || depth > 0 {
            item.push(c);
        }
    }
    items.push(item);
    items.iter().map(|item| word(item.trim())).filter(|item| !item.is_empty()).collect()
}

/// Every word of a text, with where it begins.
pub fn words(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c| !in_word(c)).filter(|word| !word.is_empty()).map(move |word| {
        let at = word.as_ptr() as usize - text.as_ptr() as usize;
        (word, at)
    })
}

/// The top of the project.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project.
pub fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder, from the top of the project, in order; none if the folder is not there. Folders that are
/// packages of their own are left out.
pub fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top().join(&folder)).into_iter().flatten() {
            let entry = entry.expect("a folder that can be read");
            let path = folder.join(entry.file_name());
            if !entry.path().is_dir() {
                found.push(path.to_str().expect("a name in UTF-8").to_owned());
            } else if !entry.path().join("Cargo.toml").exists() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file below a folder.
pub fn sources(folder: &str) -> Vec<Source> {
    files(folder).iter().filter(|path| path.ends_with(".rs")).map(|path| Source::read(path)).collect()
}

/// A text of Rust whose comments and literals are spaces.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = match bytes[at] {
            b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => block_comment(rest),
            b'r' if !after_word || bytes[at - 1] == b'b' => raw_string(rest).unwrap_or(0),
            b'"' => quoted(rest, '"'),
            b'\'' => {
                let mut ahead = rest[1..].chars();
                let (first, second) = (ahead.next(), ahead.next());
                if first == Some('\\') || second == Some('\'') { quoted(rest, '\'') } else { 0 }
            }
            _ => 0,
        };
        for byte in &mut code[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length.max(rest.chars().next().map_or(1, char::len_utf8));
    }
    String::from_utf8(code).expect("whole literals and comments were replaced")
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            [] => return at,
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text.len() - body.len() + body.find(&end)? + end.len())
}

fn quoted(text: &str, mark: char) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            _ if c == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn what_is_not_code_becomes_spaces() {
    let cases = [
        ("a // crate::b\nc", "a            \nc"),
        ("a /* x /* y */ z */ b", "a                   b"),
        (r#"f("cra\"te::x", 'y')"#, "f(            ,    )"),
        ("r#\"a\"b\"#;x", "        ;x"),
        ("fn f<'a>(x: &'a u8) {'\\'';}", "fn f<'a>(x: &'a u8) {    ;}"),
        ("bar(\"ä\")", "bar(    )"),
    ];
    for (text, code) in cases {
        assert_eq!(code_only(text), code, "{text}");
    }
}

#[test]
fn paths_from_the_root_are_found() {
    let cases = [
        ("src/a/mod.rs", "use crate::b::C; fn f() { crate::d::e() }", vec!["b", "d"]),
        ("src/a/b.rs", "use crate::{c, d::{e, f}, g as h};", vec!["c", "d", "g"]),
        ("src/a/b.rs", "use super::c; use super::super::d;", vec!["d"]),
        ("src/a.rs", "use super::b::{c, d}; // crate::e", vec!["b"]),
        ("src/a/mod.rs", "use crate::a::x; use crate_of::y; use self::super::z;", vec![]),
    ];
    for (path, text, rooms) in cases {
        let source = Source { path: path.into(), text: text.into(), code: code_only(text) };
        assert_eq!(source.uses().into_iter().collect::<Vec<_>>(), rooms, "{path}: {text}");
    }
}
