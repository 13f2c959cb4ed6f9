//! What is wrong with a configuration: the file, the line, the column, the key, and what was probably meant.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Why a configuration is refused. The text is for the operator; it never shows a value of a secret's key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value that is none.
    #[error("{path}:{line}:{column}: {what}{excerpt}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong, with a suggestion if there is one.
        what: String,
        /// The line with a mark below, or nothing if it may hold a secret.
        excerpt: String,
    },
    /// A value that is sound in itself, and wrong beside another.
    #[error("{path}{at}: {key}: {what}", path = path.display(), at = at_words(*at))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line and column from 1, if known.
        at: Option<(usize, usize)>,
        /// The key, with its section.
        key: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A certificate or key file cannot be used.
    #[error("{key} = {path}: {what}", path = path.display())]
    Material {
        /// The key in the configuration.
        key: &'static str,
        /// The file it names.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
}

fn at_words(at: Option<(usize, usize)>) -> String {
    at.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default()
}

/// Line and column, from 1, of a byte in `text`.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The error that `toml` reports, with its place and a suggestion.
pub(super) fn of_toml(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(0..0);
    let (line, column) = position(text, span.start);
    let mut what = error.message().trim().to_owned();
    if let Some(unknown) = Unknown::read(&what) {
        what = unknown.says();
    }
    let excerpt = excerpt(text, line, column, span.len());
    ConfigError::Syntax { path: path.to_owned(), line, column, what, excerpt }
}

/// The error of a key that is wrong beside another; its line is looked up in the text.
pub(super) fn wrong(path: &Path, text: &str, key: &str, what: &str) -> ConfigError {
    let at = find_key(text, key).map(|offset| position(text, offset));
    ConfigError::Wrong { path: path.to_owned(), at, key: key.to_owned(), what: what.to_owned() }
}

/// The same, when the place is known.
pub(super) fn wrong_at(path: &Path, text: &str, offset: usize, key: &str, what: &str) -> ConfigError {
    let at = Some(position(text, offset));
    ConfigError::Wrong { path: path.to_owned(), at, key: key.to_owned(), what: what.to_owned() }
}

/// Where `section.key` begins, if it stands as `key = …` below a line `[section]`.
fn find_key(text: &str, dotted: &str) -> Option<usize> {
    let (section, key) = dotted.split_once('.')?;
    let mut inside = false;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') {
            inside = trimmed.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(section);
        } else if inside && trimmed.split('=').next().is_some_and(|left| left.trim() == key) {
            return Some(offset + (line.len() - trimmed.len()));
        }
        offset += line.len();
    }
    None
}

/// The line, and a mark below the place. Lines of secrets are not repeated: somebody may have written one there.
fn excerpt(text: &str, line: usize, column: usize, width: usize) -> String {
    let Some(content) = text.lines().nth(line - 1) else { return String::new() };
    let secret = ["secret", "bearer", "password"].iter().any(|word| content.contains(word));
    if secret || content.len() > 160 {
        return String::new();
    }
    let shown: String = content.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let room = shown.chars().count().saturating_sub(column - 1).max(1);
    let marks = "^".repeat(width.clamp(1, room));
    let gutter = " ".repeat(line.to_string().len());
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(out, "\n {gutter} |\n {line} | {shown}\n {gutter} | {}{marks}", " ".repeat(column - 1));
    out
}

/// serde's complaint about a key or a word that is not one of those expected.
struct Unknown<'a> {
    kind: &'static str,
    given: &'a str,
    expected: Vec<&'a str>,
}

impl<'a> Unknown<'a> {
    /// Reads "unknown field `a`, expected one of `b`, `c`".
    fn read(message: &'a str) -> Option<Self> {
        let kinds = [("unknown field", "key"), ("unknown variant", "value")];
        let (rest, kind) = kinds.iter().find_map(|(start, kind)| Some((message.strip_prefix(start)?, *kind)))?;
        let mut quoted = rest.split('`').skip(1).step_by(2);
        let given = quoted.next()?;
        Some(Self { kind, given, expected: quoted.collect() })
    }

    fn says(&self) -> String {
        let Self { kind, given, expected } = self;
        let given: String = given.chars().take(64).flat_map(char::escape_default).collect();
        let nearest = expected.iter().map(|word| (distance(&given, word), *word)).min();
        match nearest {
            Some((far, word)) if far <= (word.len() / 3).max(1) => {
                format!("unknown {kind} `{given}`; did you mean `{word}`?")
            }
            _ => format!("unknown {kind} `{given}`; known here: {}", expected.join(", ")),
        }
    }
}

/// How many letters must be added, taken away, replaced or swapped with their neighbour to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(swap)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}
