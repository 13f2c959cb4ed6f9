//! The index written down: its tables as sections of plain 32-bit words, and read back.
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
//!             section begins with FIRST
//! names       FIRST, then per text: its bytes' count, its bytes padded to words
//! SCOPES      per position: retired, count, bytes; then per alias: position or MAX, count, bytes; counts of both first
//! GLOBALS     all issued before | import marks: count, then for each: source ×8, lines ×2, first grant, grants
//! ```
//!
//! Links between rows (the chains of a subject's grants and members) are not read back but made again, and so are the
//! hash tables: they cannot be wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dense::Dense;
use super::facts::{GRANT_WORDS, IMPORT_MARKS_MAX, MASKS_MAX, PairTable, Tables, pack, unpack};
use super::names::{Names, TEXT_BYTES_MAX};
use super::tokens::{SEGMENTS, SlotFacts, SlotTimes};
use super::{Index, Writer};
use crate::domain::{ScopeCatalogue, ScopePosition, Sequence, TokenKey};

/// The most words in a section: 2 MiB.
pub const SECTION_WORDS: usize = 1 << 19;

/// Words of a token in a section.
const TOKEN_WORDS: usize = 7;

/// Tables by number. A number is never given to another table.
mod table {
    pub(super) const TOKENS: u32 = 1;
    pub(super) const DETAILS: u32 = 2;
    /// Grants as format 1 of snapshots had them: rows of five words, the last of them links. Read, not written.
    pub(super) const GRANTS_LINKED: u32 = 3;
    pub(super) const ACCESS: u32 = 4;
    pub(super) const AUDIENCE_SETS: u32 = 6;
    pub(super) const AUDIENCE_WORDS: u32 = 7;
    pub(super) const SUBJECTS: u32 = 8;
    pub(super) const CLIENTS: u32 = 9;
    pub(super) const MEMBERS: u32 = 10;
    pub(super) const ENTRIES: u32 = 11;
    pub(super) const MARKS: u32 = 12;
    pub(super) const PLACES: u32 = 13;
    pub(super) const SUBJECT_NAMES: u32 = 14;
    pub(super) const CLIENT_NAMES: u32 = 15;
    pub(super) const PLACE_NAMES: u32 = 16;
    pub(super) const TEXTS: u32 = 17;
    pub(super) const SCOPES: u32 = 18;
    pub(super) const GLOBALS: u32 = 19;
    pub(super) const GRANTS: u32 = 20;
    pub(super) const MASKS: u32 = 21;
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
        rows(&tables.grants, table::GRANTS, sink)?;
        rows(&tables.members.rows, table::MEMBERS, sink)?;
        rows(&tables.entries.rows, table::ENTRIES, sink)?;
        rows(&tables.marks.rows, table::MARKS, sink)?;
        rows(&tables.access, table::ACCESS, sink)?;
        rows(&tables.masks, table::MASKS, sink)?;
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
    let per_section = ((SECTION_WORDS - 1) / (2 * W)) as u32;
    let len = rows.len();
    let mut first = 0;
    for number in 0.. {
        let end = len.min(first + per_section);
        let mut words = Vec::with_capacity(1 + (end - first) as usize * 2 * W);
        words.push(first);
        for row in (first..end).filter_map(|row| rows.row(row)) {
            for word in row {
                let (high, low) = unpack(word.load(Ordering::Acquire));
                words.extend([low, high]);
            }
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

/// Puts sections together into an index.
pub struct Loader {
    index: Index,
    writer: Writer,
}

impl Loader {
    /// Begins an index for about so many tokens.
    pub fn new(tokens: u64) -> Self {
        let (index, writer) = super::new();
        let guard = crossbeam_epoch::pin();
        // A sixteenth more than the mean, because segments differ.
        let each = tokens as usize / SEGMENTS;
        for segment in 0..SEGMENTS {
            index.tables.tokens.reserve(segment, each + each / 32, &guard);
        }
        drop(guard);
        Self { index, writer }
    }

    /// Takes one section. Sections of one table must come in their order.
    ///
    /// # Errors
    /// The words are not what this table's words can be. Nothing is believed of the loader after that.
    pub fn section(&mut self, table: u32, words: impl ExactSizeIterator<Item = u32>) -> Result<(), LoadError> {
        let tables = &*self.index.tables;
        let words = &mut words.into_iter();
        match table {
            table::TOKENS => load_tokens(tables, words),
            table::DETAILS => load_rows(&tables.details, 1, table, words),
            table::GRANTS_LINKED => load_grants::<{ GRANT_WORDS + 1 }>(tables, table, words),
            table::GRANTS => load_grants::<GRANT_WORDS>(tables, table, words),
            table::MASKS => load_masks(tables, words),
            table::ACCESS => load_rows(&tables.access, 0, table, words),
            table::AUDIENCE_SETS => load_rows(&tables.audience_sets, 1, table, words),
            table::AUDIENCE_WORDS => load_rows(&tables.audience_words, 0, table, words),
            table::SUBJECTS => load_subjects(tables, words),
            // The personal client's row is there from the beginning; it is overwritten.
            table::CLIENTS => load_rows(&tables.clients, 1, table, words),
            table::MEMBERS => load_pairs(&tables.members, table, words),
            table::ENTRIES => load_pairs(&tables.entries, table, words),
            table::MARKS => load_pairs(&tables.marks, table, words),
            table::PLACES => load_rows(&tables.places, 0, table, words),
            table::SUBJECT_NAMES => load_names(&tables.subject_names, table, words),
            table::CLIENT_NAMES => load_names(&tables.client_names, table, words),
            table::PLACE_NAMES => load_names(&tables.place_names, table, words),
            table::TEXTS => load_names(&tables.texts, table, words),
            table::SCOPES => load_scopes(tables, words),
            table::GLOBALS => load_globals(tables, words),
            _ => Err(LoadError { table, what: "no such table is known" }),
        }
    }

    /// The index, complete up to `sequence`.
    ///
    /// # Errors
    /// Rows name others that are not there.
    pub fn finish(mut self, sequence: Sequence) -> Result<(Index, Writer), LoadError> {
        let tables = Arc::clone(&self.index.tables);
        link_members(&tables)?;
        link_grants(&tables)?;
        check_names(&tables)?;
        let free = free_details(&tables);
        self.writer.adopt(free);
        // Tables that were outgrown while loading are freed now, not whenever somebody pins next.
        for _ in 0..16 {
            crossbeam_epoch::pin().flush();
        }
        self.writer.start_at(sequence);
        Ok((self.index, self.writer))
    }
}

type Words<'w> = &'w mut dyn ExactSizeIterator<Item = u32>;

fn load_tokens(tables: &Tables, words: Words<'_>) -> Result<(), LoadError> {
    let error = |what| LoadError { table: table::TOKENS, what };
    if !words.len().is_multiple_of(TOKEN_WORDS) {
        return Err(error("its length is not a whole number of tokens"));
    }
    let guard = crossbeam_epoch::pin();
    while words.len() > 0 {
        let mut next = || words.next().unwrap_or(0);
        let key = TokenKey::from_words([next(), next(), next(), next()]);
        let (grant, when, life_used) = (next(), next(), next());
        if grant & !(1 << 31) == 0 {
            return Err(error("a token without a grant"));
        }
        let life = (life_used >> 16) as u16;
        let times = SlotTimes::read(when, life);
        // Such as a lifetime of no seconds, or one that began before 1970: nobody can have written that.
        if matches!(times, SlotTimes::Here(here) if !SlotTimes::fit(&here) || times.words() != (when, life)) {
            return Err(error("a token with times that do not belong together"));
        }
        let facts = SlotFacts { grant: grant & !(1 << 31), revoked: grant >> 31 == 1, times, used: life_used as u16 };
        // Met twice if it was swept and registered again while the snapshot was written: the list tells which counts.
        if tables.tokens.find(&key, &guard).is_none() {
            tables.tokens.insert(&key, facts, &guard);
        }
    }
    Ok(())
}

fn first_row(len: u32, preset: u32, words: Words<'_>, table: u32) -> Result<u32, LoadError> {
    let first = words.next().ok_or(LoadError { table, what: "an empty section" })?;
    if first == len || (first == 0 && len == preset) {
        return Ok(first);
    }
    Err(LoadError { table, what: "sections are missing or out of order" })
}

fn row_words<const W: usize>(words: Words<'_>) -> [u64; W] {
    std::array::from_fn(|_| {
        let low = words.next().unwrap_or(0);
        pack(words.next().unwrap_or(0), low)
    })
}

/// The rows of a section whose table has `len` of them so far.
fn rows_in<const W: usize>(
    len: u32,
    table: u32,
    words: Words<'_>,
) -> Result<impl Iterator<Item = [u64; W]>, LoadError> {
    first_row(len, 0, words, table)?;
    if !words.len().is_multiple_of(2 * W) {
        return Err(LoadError { table, what: "its length is not a whole number of rows" });
    }
    Ok((0..words.len() / (2 * W)).map(move |_| row_words::<W>(words)))
}

/// Grants in rows of `W` words; what is more than a row here has are links, which are made again.
fn load_grants<const W: usize>(tables: &Tables, table: u32, words: Words<'_>) -> Result<(), LoadError> {
    for row in rows_in::<W>(tables.grants.len(), table, words)? {
        let (row, _) = row.split_first_chunk().ok_or(LoadError { table, what: "rows that are too short" })?;
        tables.grant_links.push([0]);
        tables.grants.push(*row);
    }
    Ok(())
}

fn load_subjects(tables: &Tables, words: Words<'_>) -> Result<(), LoadError> {
    rows_in(tables.subjects.len(), table::SUBJECTS, words)?.for_each(|row| tables.push_subject(row));
    Ok(())
}

fn load_masks(tables: &Tables, words: Words<'_>) -> Result<(), LoadError> {
    load_rows(&tables.masks, 1, table::MASKS, words)?;
    match tables.masks.len() {
        0..=MASKS_MAX => Ok(()),
        _ => Err(LoadError { table: table::MASKS, what: "more lists of scopes than have numbers" }),
    }
}

/// Loads rows; `preset` rows at the beginning are there already and are overwritten.
fn load_rows<const W: usize>(rows: &Dense<W>, preset: u32, table: u32, words: Words<'_>) -> Result<(), LoadError> {
    let mut row = first_row(rows.len(), preset, words, table)?;
    if !words.len().is_multiple_of(2 * W) {
        return Err(LoadError { table, what: "its length is not a whole number of rows" });
    }
    while words.len() > 0 {
        let values = row_words::<W>(words);
        match rows.row(row) {
            Some(known) => known.iter().zip(values).for_each(|(word, value)| word.store(value, Ordering::Relaxed)),
            None => {
                rows.push(values);
            }
        }
        row += 1;
    }
    Ok(())
}

fn load_pairs<const W: usize>(pairs: &PairTable<W>, table: u32, words: Words<'_>) -> Result<(), LoadError> {
    first_row(pairs.rows.len(), 0, words, table)?;
    if !words.len().is_multiple_of(2 * W) {
        return Err(LoadError { table, what: "its length is not a whole number of rows" });
    }
    let guard = crossbeam_epoch::pin();
    while words.len() > 0 {
        let values = row_words::<W>(words);
        if pairs.find(values[0], &guard).is_some() {
            return Err(LoadError { table, what: "a pair stands twice" });
        }
        pairs.push(values, &guard);
    }
    Ok(())
}

fn read_text(words: Words<'_>, table: u32) -> Result<String, LoadError> {
    let error = |what| LoadError { table, what };
    let count = words.next().ok_or_else(|| error("a text is cut off"))? as usize;
    if count > TEXT_BYTES_MAX || words.len() < count.div_ceil(4) {
        return Err(error("a text is longer than texts can be"));
    }
    let mut bytes: Vec<u8> = (0..count.div_ceil(4)).filter_map(|_| words.next()).flat_map(u32::to_le_bytes).collect();
    bytes.truncate(count);
    String::from_utf8(bytes).map_err(|_| error("a text is not UTF-8"))
}

fn load_names(names: &Names, table: u32, words: Words<'_>) -> Result<(), LoadError> {
    let preset = names.len();
    let mut row = first_row(names.len(), preset, words, table)?;
    let guard = crossbeam_epoch::pin();
    while words.len() > 0 {
        let text = read_text(words, table)?;
        if names.intern(&text, &guard) != row {
            return Err(LoadError { table, what: "a text stands twice" });
        }
        row += 1;
    }
    Ok(())
}

fn load_scopes(tables: &Tables, words: Words<'_>) -> Result<(), LoadError> {
    let error = |what| LoadError { table: table::SCOPES, what };
    let next = |words: Words<'_>| words.next().ok_or_else(|| error("cut off"));
    let (entries, aliases) = (next(words)?, next(words)?);
    let mut catalogue = ScopeCatalogue::new();
    let mut retired = Vec::new();
    for _ in 0..entries {
        let is_retired = next(words)? != 0;
        let name = read_text(words, table::SCOPES)?;
        catalogue.add(&name).map_err(|_| error("a scope name that cannot be"))?;
        if is_retired {
            retired.push(name);
        }
    }
    for _ in 0..aliases {
        let position = next(words)?;
        let alias = read_text(words, table::SCOPES)?;
        let of = match u8::try_from(position).ok().map(ScopePosition::new) {
            None => crate::domain::scope::WILDCARD.to_owned(),
            Some(position) => match catalogue.entries().get(usize::from(position.number())) {
                Some(entry) => entry.name.to_string(),
                None => return Err(error("an alias of a position that does not exist")),
            },
        };
        catalogue.alias(&alias, &of).map_err(|_| error("an alias that cannot be"))?;
    }
    for name in retired {
        catalogue.retire(&name).map_err(|_| error("a retired name that does not exist"))?;
    }
    let guard = crossbeam_epoch::pin();
    let old = tables.catalogue.swap(crossbeam_epoch::Owned::new(catalogue), Ordering::AcqRel, &guard);
    // SAFETY: unreachable from now on; retired exactly once, here.
    unsafe { guard.defer_destroy(old) };
    Ok(())
}

/// Words of an import mark.
const MARK_WORDS: usize = 12;

fn load_globals(tables: &Tables, words: Words<'_>) -> Result<(), LoadError> {
    let words: Vec<u32> = words.collect();
    let error = LoadError { table: table::GLOBALS, what: "cut off" };
    let [issued_before, count, words @ ..] = &*words else { return Err(error) };
    tables.all_issued_before.store(*issued_before, Ordering::Release);
    if *count as usize > IMPORT_MARKS_MAX || words.len() < *count as usize * MARK_WORDS {
        return Err(error);
    }
    let mark = |words: &[u32; MARK_WORDS]| {
        let mut source = [0; 32];
        for (chunk, word) in source.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        (source, pack(words[9], words[8]), words[10], words[11])
    };
    if let Ok(mut marks) = tables.imports.lock() {
        *marks = words.as_chunks().0.iter().take(*count as usize).map(mark).collect();
    }
    Ok(())
}

fn link_members(tables: &Tables) -> Result<(), LoadError> {
    let error = |what| LoadError { table: table::MEMBERS, what };
    for row in (0..tables.subjects.len()).filter_map(|row| tables.subjects.row(row)) {
        row[2].store(0, Ordering::Relaxed);
    }
    for number in 0..tables.members.rows.len() {
        let Some(row) = tables.members.rows.row(number) else { continue };
        let (subject, place) = unpack(row[0].load(Ordering::Relaxed));
        let subject = tables.subjects.row(subject).ok_or_else(|| error("a member that is no subject"))?;
        tables.places.row(place).ok_or_else(|| error("a member of no place"))?;
        let (first_grant, first_member) = unpack(subject[2].load(Ordering::Relaxed));
        row[3].store(u64::from(first_member), Ordering::Relaxed);
        subject[2].store(pack(first_grant, number + 1), Ordering::Relaxed);
    }
    Ok(())
}

fn link_grants(tables: &Tables) -> Result<(), LoadError> {
    let error = |what| LoadError { table: table::GRANTS, what };
    for row in (0..tables.clients.len()).filter_map(|row| tables.clients.row(row)) {
        row[2].store(0, Ordering::Relaxed);
    }
    for number in 0..tables.grants.len() {
        let (Some(row), Some(links)) = (tables.grants.row(number), tables.grant_links.row(number)) else { continue };
        let (subject, client) = unpack(row[0].load(Ordering::Relaxed));
        let subject = tables.subjects.row(subject).ok_or_else(|| error("a grant of no subject"))?;
        let client = tables.clients.row(client).ok_or_else(|| error("a grant to no client"))?;
        let (subject_first, members) = unpack(subject[2].load(Ordering::Relaxed));
        let (client_first, rest) = unpack(client[2].load(Ordering::Relaxed));
        links[0].store(pack(subject_first, client_first), Ordering::Relaxed);
        subject[2].store(pack(number + 1, members), Ordering::Relaxed);
        client[2].store(pack(number + 1, rest), Ordering::Relaxed);
    }
    Ok(())
}

/// Every row that stands for a name has one, so that numbers given from now on go on where the list left off.
fn check_names(tables: &Tables) -> Result<(), LoadError> {
    let counts = [
        (table::SUBJECT_NAMES, tables.subject_names.len(), tables.subjects.len()),
        (table::CLIENT_NAMES, tables.client_names.len(), tables.clients.len()),
        (table::PLACE_NAMES, tables.place_names.len(), tables.places.len()),
    ];
    match counts.into_iter().find(|(_, names, rows)| names < rows) {
        Some((table, ..)) => Err(LoadError { table, what: "rows without a name" }),
        None => Ok(()),
    }
}

/// Rows of `details` that no token uses.
fn free_details(tables: &Tables) -> Vec<u32> {
    let mut used = vec![false; tables.details.len() as usize];
    let guard = crossbeam_epoch::pin();
    for segment in 0..SEGMENTS {
        tables.tokens.for_each(segment, &guard, |_, facts| {
            if let SlotTimes::Details(row) = facts.times
                && let Some(flag) = used.get_mut(row as usize)
            {
                *flag = true;
            }
        });
    }
    (1..).zip(used.into_iter().skip(1)).filter(|(_, used)| !used).map(|(row, _)| row).collect()
}
