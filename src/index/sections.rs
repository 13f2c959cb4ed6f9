//! The index written down: its tables as sections of plain 32-bit words (`load.rs` reads them back).
//!
//! A section is a piece of one table, at most [`SECTION_WORDS`] long; it knows nothing of files. Writing goes beside the
//! running writer: it reads what readers may read. What is written may therefore contain changes later than the
//! revision noted before it began; applying the list again from there makes it exact (see `apply.rs`). Tables that refer
//! to others are written before those they refer to, so that what a row names is always there.
//!
//! ```text
//! table       words of a section
//! TOKENS      key ×4 | grant | when | life·used       per token, in no order
//! rows        lower half, upper half                   per 64-bit word of each row, from row number FIRST on; the
//!             section begins with FIRST. A grant's row has its terms as a fifth word
//! names       FIRST, then per text: its bytes' count, its bytes padded to words
//! SCOPES      per position: retired, count, bytes; then per alias: position or MAX, count, bytes; counts of both first
//! GLOBALS     all issued before | import marks: count, then for each: source ×8, lines ×2, first grant, grants
//! ```
//!
//! Links between rows (the chains of a subject's grants and members) are not read back but made again, and so are the
//! hash tables: they cannot be wrong.

use std::sync::atomic::Ordering;

use super::Index;
use super::dense::Dense;
use super::facts::{Tables, unpack};
use super::names::{Names, TEXT_BYTES_MAX};
use super::tokens::{SEGMENTS, SlotFacts};
use crate::domain::{ScopeCatalogue, TokenKey};

/// The most words in a section: 2 MiB.
pub const SECTION_WORDS: usize = 1 << 19;

/// Words of a token in a section.
pub(super) const TOKEN_WORDS: usize = 7;

/// Tables by number. A number is never given to another table.
pub(super) mod table {
    pub(in crate::index) const TOKENS: u32 = 1;
    pub(in crate::index) const DETAILS: u32 = 2;
    /// Grants as format 1 of snapshots had them: terms where masks are now, then links. Read, not written.
    pub(in crate::index) const GRANTS_LINKED: u32 = 3;
    pub(in crate::index) const ACCESS: u32 = 4;
    pub(in crate::index) const AUDIENCE_SETS: u32 = 6;
    pub(in crate::index) const AUDIENCE_WORDS: u32 = 7;
    pub(in crate::index) const SUBJECTS: u32 = 8;
    pub(in crate::index) const CLIENTS: u32 = 9;
    pub(in crate::index) const MEMBERS: u32 = 10;
    pub(in crate::index) const ENTRIES: u32 = 11;
    pub(in crate::index) const MARKS: u32 = 12;
    pub(in crate::index) const PLACES: u32 = 13;
    pub(in crate::index) const SUBJECT_NAMES: u32 = 14;
    pub(in crate::index) const CLIENT_NAMES: u32 = 15;
    pub(in crate::index) const PLACE_NAMES: u32 = 16;
    pub(in crate::index) const TEXTS: u32 = 17;
    pub(in crate::index) const SCOPES: u32 = 18;
    pub(in crate::index) const GLOBALS: u32 = 19;
    pub(in crate::index) const GRANTS: u32 = 20;
}

/// Why sections do not make an index. They were authenticated before, so this is a defect or a foreign file, and the
/// answer is to refuse it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table} of the snapshot cannot be read: {what}")]
pub struct LoadError {
    /// The table's number.
    pub table: u32,
    /// What is wrong.
    pub what: &'static str,
}

/// Takes sections away: table, number within the table, words.
pub type Sink<'s, E> = &'s mut dyn FnMut(u32, u32, Vec<u32>) -> Result<(), E>;

impl Index {
    /// Writes the whole index into `sink`, section by section.
    ///
    /// # Errors
    /// Whatever `sink` fails with, or [`LoadError`] turned into it if tokens moved so fast that no copy of a segment
    /// came out whole: then there is no snapshot this time.
    pub fn sections<E: From<LoadError>>(&self, sink: Sink<'_, E>) -> Result<(), E> {
        let tables = &*self.tables;
        self.token_sections(sink)?;
        rows(&tables.details, table::DETAILS, sink)?;
        grants(tables, sink)?;
        rows(&tables.members.rows, table::MEMBERS, sink)?;
        rows(&tables.entries.rows, table::ENTRIES, sink)?;
        rows(&tables.marks.rows, table::MARKS, sink)?;
        rows(&tables.access, table::ACCESS, sink)?;
        rows(&tables.audience_sets, table::AUDIENCE_SETS, sink)?;
        rows(&tables.audience_words, table::AUDIENCE_WORDS, sink)?;
        rows(&tables.subjects, table::SUBJECTS, sink)?;
        rows(&tables.clients, table::CLIENTS, sink)?;
        rows(&tables.places, table::PLACES, sink)?;
        names(&tables.subject_names, table::SUBJECT_NAMES, sink)?;
        names(&tables.client_names, table::CLIENT_NAMES, sink)?;
        names(&tables.place_names, table::PLACE_NAMES, sink)?;
        names(&tables.texts, table::TEXTS, sink)?;
        let guard = crossbeam_epoch::pin();
        let scopes = scope_words(tables.catalogue(&guard));
        drop(guard);
        sink(table::SCOPES, 0, scopes)?;
        sink(table::GLOBALS, 0, global_words(tables))
    }

    fn token_sections<E: From<LoadError>>(&self, sink: Sink<'_, E>) -> Result<(), E> {
        let tokens = &self.tables.tokens;
        let mut words: Vec<u32> = Vec::with_capacity(SECTION_WORDS);
        let mut copied = Vec::new();
        let mut number = 0;
        for segment in 0..SEGMENTS {
            let guard = crossbeam_epoch::pin();
            if !tokens.copy(segment, &guard, &mut copied) {
                return Err(LoadError { table: table::TOKENS, what: "tokens moved too fast to be copied" }.into());
            }
            drop(guard);
            words.extend(copied.drain(..).flat_map(|(key, facts)| token_words(&key, &facts)));
            while words.len() >= SECTION_WORDS {
                let rest = words.split_off(SECTION_WORDS / TOKEN_WORDS * TOKEN_WORDS);
                sink(table::TOKENS, number, std::mem::replace(&mut words, rest))?;
                number += 1;
            }
        }
        sink(table::TOKENS, number, words)
    }
}

fn token_words(key: &TokenKey, facts: &SlotFacts) -> [u32; TOKEN_WORDS] {
    let [a, b, c, d] = key.words();
    let (when, life) = facts.times.words();
    let grant = facts.grant | if facts.revoked { 1 << 31 } else { 0 };
    [a, b, c, d, grant, when, u32::from(life) << 16 | u32::from(facts.used)]
}

fn rows<const W: usize, E>(rows: &Dense<W>, table: u32, sink: Sink<'_, E>) -> Result<(), E> {
    let read = |row| rows.row(row).map(|words: &[_; W]| words.each_ref().map(|word| word.load(Ordering::Acquire)));
    row_sections(rows.len(), read, table, sink)
}

/// A grant with its terms behind it. They are read after it: a flag that says there are some is true of what is written.
fn grants<E>(tables: &Tables, sink: Sink<'_, E>) -> Result<(), E> {
    let read = |number| {
        let (row, terms) = (tables.grants.row(number)?, tables.grant_terms.row(number)?);
        let [parties, made, run, mask] = row.each_ref().map(|word| word.load(Ordering::Acquire));
        Some([parties, made, run, mask, terms[0].load(Ordering::Acquire)])
    };
    row_sections(tables.grants.len(), read, table::GRANTS, sink)
}

fn row_sections<const W: usize, E>(
    len: u32,
    read: impl Fn(u32) -> Option<[u64; W]>,
    table: u32,
    sink: Sink<'_, E>,
) -> Result<(), E> {
    let per_section = ((SECTION_WORDS - 1) / (2 * W)) as u32;
    let mut first = 0;
    for number in 0.. {
        let end = len.min(first + per_section);
        let mut words = Vec::with_capacity(1 + (end - first) as usize * 2 * W);
        words.push(first);
        for (high, low) in (first..end).filter_map(&read).flatten().map(unpack) {
            words.extend([low, high]);
        }
        sink(table, number, words)?;
        first = end;
        if first == len {
            break;
        }
    }
    Ok(())
}

fn push_text(words: &mut Vec<u32>, text: &str) {
    words.push(text.len() as u32);
    for chunk in text.as_bytes().chunks(4) {
        let mut bytes = [0; 4];
        bytes[..chunk.len()].copy_from_slice(chunk);
        words.push(u32::from_le_bytes(bytes));
    }
}

fn names<E>(names: &Names, table: u32, sink: Sink<'_, E>) -> Result<(), E> {
    let mut number = 0;
    let mut words = vec![0];
    for row in 0..names.len() {
        let Some(text) = names.text(row) else { continue };
        if words.len() + 1 + TEXT_BYTES_MAX / 4 > SECTION_WORDS {
            sink(table, number, std::mem::replace(&mut words, vec![row]))?;
            number += 1;
        }
        push_text(&mut words, text);
    }
    sink(table, number, words)
}

fn scope_words(catalogue: &ScopeCatalogue) -> Vec<u32> {
    let mut words = vec![catalogue.entries().len() as u32, catalogue.aliases().count() as u32];
    for entry in catalogue.entries() {
        words.push(u32::from(entry.retired));
        push_text(&mut words, &entry.name);
    }
    for (alias, position) in catalogue.aliases() {
        words.push(position.map_or(u32::MAX, |position| u32::from(position.number())));
        push_text(&mut words, alias);
    }
    words
}

fn global_words(tables: &Tables) -> Vec<u32> {
    let mut words = vec![tables.all_issued_before.load(Ordering::Acquire)];
    if let Ok(marks) = tables.imports.lock() {
        words.push(marks.len() as u32);
        for (source, lines, first_grant, grants) in &*marks {
            words.extend(source.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])));
            words.extend([*lines as u32, (*lines >> 32) as u32, *first_grant, *grants]);
        }
    }
    words
}
