//! The index read back from its sections (see `sections.rs` for what they look like).
//!
//! Nobody looks into the index while it is filled, so rows are laid down in runs, tokens go straight to their place, and
//! every table is made in its final size. What costs is memory that is not in the cache: names, pairs and links are put in
//! a [`GROUP`] at a time, after all their lines have been asked for.
//!
//! What is believed: nothing beyond the words' own bounds. They were authenticated before; what still does not fit is a
//! defect or a foreign file, and is refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dense::Dense;
use super::facts::{GRANT_WORDS, IMPORT_MARKS_MAX, NO_TERMS, PairTable, Tables, grant as granted, pack, unpack};
use super::names::{Names, TEXT_BYTES_MAX};
use super::sections::{LoadError, TOKEN_WORDS, table};
use super::tokens::{SEGMENTS, SlotTimes};
use super::{Index, Writer};
use crate::domain::{ScopeCatalogue, ScopePosition, Sequence};

/// How many rows are looked up together, so that the waits for their lines overlap.
const GROUP: usize = 32;

/// Puts sections together into an index.
pub struct Loader {
    index: Index,
    writer: Writer,
    /// Rows of `details` that tokens name, in the order of the tokens.
    details: Vec<u32>,
}

impl Loader {
    /// Begins an index for about so many tokens.
    pub fn new(tokens: u64) -> Self {
        let (index, writer) = super::new();
        let guard = crossbeam_epoch::pin();
        // A little more than the mean, because segments differ.
        let each = tokens as usize / SEGMENTS;
        for segment in 0..SEGMENTS {
            index.tables.tokens.reserve(segment, each + each / 32, &guard);
        }
        drop(guard);
        Self { index, writer, details: Vec::new() }
    }

    /// Takes one section. Sections of one table must come in their order.
    ///
    /// # Errors
    /// The words are not what this table's words can be. Nothing is believed of the loader after that.
    pub fn section(&mut self, table: u32, words: impl ExactSizeIterator<Item = u32>) -> Result<(), LoadError> {
        let tables = &*self.index.tables;
        match table {
            table::TOKENS => load_tokens(tables, &mut self.details, words),
            table::DETAILS => load_rows(&tables.details, 1, table, words),
            // Links are made again.
            table::GRANTS_LINKED => {
                let of = |[parties, made, run, terms, _links]: [u64; 5]| ([parties, made, run, 0], terms);
                load_grants(tables, of, table, words)
            }
            table::GRANTS => {
                let of = |[parties, made, run, mask, terms]: [u64; 5]| ([parties, made, run, mask], terms);
                load_grants(tables, of, table, words)
            }
            table::ACCESS => load_rows(&tables.access, 0, table, words),
            table::AUDIENCE_SETS => load_rows(&tables.audience_sets, 1, table, words),
            table::AUDIENCE_WORDS => load_rows(&tables.audience_words, 0, table, words),
            table::SUBJECTS => load_subjects(tables, words),
            // The personal client's row is there from the beginning; it is overwritten.
            table::CLIENTS => load_rows(&tables.clients, 1, table, words),
            // Found by their pairs only once all of them are there, see `finish`.
            table::MEMBERS => load_rows(&tables.members.rows, 0, table, words),
            table::ENTRIES => load_rows(&tables.entries.rows, 0, table, words),
            table::MARKS => load_rows(&tables.marks.rows, 0, table, words),
            table::PLACES => load_rows(&tables.places, 0, table, words),
            // What they name comes before them: so many there will be.
            table::SUBJECT_NAMES => load_names(&tables.subject_names, tables.subjects.len(), table, words),
            table::CLIENT_NAMES => load_names(&tables.client_names, tables.clients.len(), table, words),
            table::PLACE_NAMES => load_names(&tables.place_names, tables.places.len(), table, words),
            table::TEXTS => load_names(&tables.texts, 0, table, words),
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
        find_pairs(&tables.members, table::MEMBERS)?;
        find_pairs(&tables.entries, table::ENTRIES)?;
        find_pairs(&tables.marks, table::MARKS)?;
        link_members(&tables)?;
        link_grants(&tables)?;
        check_names(&tables)?;
        let free = free_details(tables.details.len(), &self.details);
        self.writer.adopt(free);
        // Tables that were outgrown while loading are freed now, not whenever somebody pins next.
        for _ in 0..16 {
            crossbeam_epoch::pin().flush();
        }
        self.writer.start_at(sequence);
        Ok((self.index, self.writer))
    }
}

fn load_tokens(
    tables: &Tables,
    details: &mut Vec<u32>,
    mut words: impl ExactSizeIterator<Item = u32>,
) -> Result<(), LoadError> {
    let error = |what| LoadError { table: table::TOKENS, what };
    if !words.len().is_multiple_of(TOKEN_WORDS) {
        return Err(error("its length is not a whole number of tokens"));
    }
    let guard = crossbeam_epoch::pin();
    for _ in 0..words.len() / TOKEN_WORDS {
        let token: [u32; TOKEN_WORDS] = std::array::from_fn(|_| words.next().unwrap_or(0));
        let [_, _, _, _, grant, when, life_used] = token;
        if grant & !(1 << 31) == 0 {
            return Err(error("a token without a grant"));
        }
        let life = (life_used >> 16) as u16;
        // Such as a lifetime of no seconds, or one that began before 1970: nobody can have written that.
        if life != 0 && !SlotTimes::can_be(when, life) {
            return Err(error("a token with times that do not belong together"));
        }
        // Met twice if it was swept and registered again while the snapshot was written: the list tells which counts.
        let is_new = tables.tokens.lay(&token, &guard);
        if is_new.map_err(|_| error("so many tokens with nearly the same key as no keyed hash makes"))? && life == 0 {
            details.push(when);
        }
    }
    Ok(())
}

fn first_row(len: u32, preset: u32, first: Option<u32>, table: u32) -> Result<u32, LoadError> {
    let first = first.ok_or(LoadError { table, what: "an empty section" })?;
    if first == len || (first == 0 && len == preset) {
        return Ok(first);
    }
    Err(LoadError { table, what: "sections are missing or out of order" })
}

/// The rows of a section, and the number of the first: the table has `len` of them so far, `preset` from the beginning.
fn rows_in<const W: usize>(
    len: u32,
    preset: u32,
    table: u32,
    mut words: impl ExactSizeIterator<Item = u32>,
) -> Result<(u32, impl ExactSizeIterator<Item = [u64; W]>), LoadError> {
    let first = first_row(len, preset, words.next(), table)?;
    if !words.len().is_multiple_of(2 * W) {
        return Err(LoadError { table, what: "its length is not a whole number of rows" });
    }
    let count = words.len() / (2 * W);
    let row = move |_| {
        std::array::from_fn(|_| {
            let low = words.next().unwrap_or(0);
            pack(words.next().unwrap_or(0), low)
        })
    };
    Ok((first, (0..count).map(row)))
}

/// Loads rows; `preset` rows at the beginning are there already and are overwritten.
fn load_rows<const W: usize>(
    rows: &Dense<W>,
    preset: u32,
    table: u32,
    words: impl ExactSizeIterator<Item = u32>,
) -> Result<(), LoadError> {
    let (first, mut values) = rows_in::<W>(rows.len(), preset, table, words)?;
    let known = (rows.len() - first) as usize;
    for (row, values) in (first..).zip(values.by_ref().take(known)) {
        let row = rows.row(row).into_iter().flatten();
        row.zip(values).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    }
    rows.extend(values);
    Ok(())
}

/// Grants; `of` says what is a grant's row in a row that was written, and what its terms.
fn load_grants(
    tables: &Tables,
    of: impl Fn([u64; 5]) -> ([u64; GRANT_WORDS], u64),
    table: u32,
    words: impl ExactSizeIterator<Item = u32>,
) -> Result<(), LoadError> {
    let (_, rows) = rows_in(tables.grants.len(), 0, table, words)?;
    for (mut row, terms) in rows.map(of) {
        if terms != NO_TERMS {
            row[2] |= granted::TERMS;
        }
        tables.grant_terms.push([terms]);
        tables.grant_links.push([0]);
        tables.grants.push(row);
    }
    Ok(())
}

fn load_subjects(tables: &Tables, words: impl ExactSizeIterator<Item = u32>) -> Result<(), LoadError> {
    let (_, rows) = rows_in(tables.subjects.len(), 0, table::SUBJECTS, words)?;
    rows.for_each(|row| tables.push_subject(row));
    Ok(())
}

/// Makes all rows of a table found by their pairs.
fn find_pairs<const W: usize>(pairs: &PairTable<W>, table: u32) -> Result<(), LoadError> {
    let guard = crossbeam_epoch::pin();
    let len = pairs.rows.len();
    pairs.reserve(len, &guard);
    let pair = |row| pairs.rows.row(row).map_or(0, |words| words[0].load(Ordering::Relaxed));
    let mut first = 0;
    while first < len {
        let group = first..len.min(first + GROUP as u32);
        group.clone().for_each(|row| pairs.fetch_slot(pair(row), &guard));
        for row in group.clone() {
            if !pairs.find_from_now_on(row, &guard) {
                return Err(LoadError { table, what: "a pair stands twice" });
            }
        }
        first = group.end;
    }
    Ok(())
}

/// Reads the bytes of a text into `bytes`, which is empty.
fn read_bytes(
    words: &mut impl ExactSizeIterator<Item = u32>,
    bytes: &mut Vec<u8>,
    table: u32,
) -> Result<(), LoadError> {
    let error = |what| LoadError { table, what };
    let count = words.next().ok_or_else(|| error("a text is cut off"))? as usize;
    if count > TEXT_BYTES_MAX || words.len() < count.div_ceil(4) {
        return Err(error("a text is longer than texts can be"));
    }
    for _ in 0..count.div_ceil(4) {
        bytes.extend_from_slice(&words.next().unwrap_or(0).to_le_bytes());
    }
    bytes.truncate(count);
    Ok(())
}

fn as_text(bytes: &[u8], table: u32) -> Result<&str, LoadError> {
    std::str::from_utf8(bytes).map_err(|_| LoadError { table, what: "a text is not UTF-8" })
}

fn read_text(words: &mut impl ExactSizeIterator<Item = u32>, table: u32) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    read_bytes(words, &mut bytes, table)?;
    as_text(&bytes, table).map(str::to_owned)
}

/// Loads names, of which there will be at least `expected` in all. Those that are there already are the first.
fn load_names(
    names: &Names,
    expected: u32,
    table: u32,
    mut words: impl ExactSizeIterator<Item = u32>,
) -> Result<(), LoadError> {
    let mut row = first_row(names.len(), names.len(), words.next(), table)?;
    let guard = crossbeam_epoch::pin();
    names.reserve(expected, &guard);
    let (mut bytes, mut texts) = (Vec::new(), String::new());
    let mut group = Vec::with_capacity(GROUP);
    while words.len() > 0 {
        texts.clear();
        while group.len() < GROUP && words.len() > 0 {
            bytes.clear();
            read_bytes(&mut words, &mut bytes, table)?;
            let text = as_text(&bytes, table)?;
            let start = texts.len();
            texts.push_str(text);
            group.push((names.fetch(text, &guard), start..texts.len()));
        }
        for (hash, range) in group.drain(..) {
            if names.intern_hashed(texts.get(range).unwrap_or_default(), hash, &guard) != row {
                return Err(LoadError { table, what: "a text stands twice" });
            }
            row += 1;
        }
    }
    Ok(())
}

fn load_scopes(tables: &Tables, mut words: impl ExactSizeIterator<Item = u32>) -> Result<(), LoadError> {
    let words = &mut words;
    let error = |what| LoadError { table: table::SCOPES, what };
    let cut_off = || error("cut off");
    let (entries, aliases) = (words.next().ok_or_else(cut_off)?, words.next().ok_or_else(cut_off)?);
    let mut catalogue = ScopeCatalogue::new();
    let mut retired = Vec::new();
    for _ in 0..entries {
        let is_retired = words.next().ok_or_else(cut_off)? != 0;
        let name = read_text(words, table::SCOPES)?;
        catalogue.add(&name).map_err(|_| error("a scope name that cannot be"))?;
        if is_retired {
            retired.push(name);
        }
    }
    for _ in 0..aliases {
        let position = words.next().ok_or_else(cut_off)?;
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

fn load_globals(tables: &Tables, words: impl ExactSizeIterator<Item = u32>) -> Result<(), LoadError> {
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

/// Begins to load the subject of a row that comes later: its first word names it.
fn fetch_subject<const W: usize>(tables: &Tables, rows: &Dense<W>, number: u32) {
    if let Some(row) = rows.row(number) {
        tables.subjects.fetch(unpack(row[0].load(Ordering::Relaxed)).0);
    }
}

fn link_members(tables: &Tables) -> Result<(), LoadError> {
    let error = |what| LoadError { table: table::MEMBERS, what };
    for row in (0..tables.subjects.len()).filter_map(|row| tables.subjects.row(row)) {
        row[2].store(0, Ordering::Relaxed);
    }
    for number in 0..tables.members.rows.len() {
        fetch_subject(tables, &tables.members.rows, number.saturating_add(GROUP as u32));
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
        fetch_subject(tables, &tables.grants, number.saturating_add(GROUP as u32));
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

/// Those of `len` rows of `details` that no token uses.
fn free_details(len: u32, named: &[u32]) -> Vec<u32> {
    let mut used = vec![false; len as usize];
    for row in named {
        if let Some(flag) = used.get_mut(*row as usize) {
            *flag = true;
        }
    }
    (1..).zip(used.into_iter().skip(1)).filter(|(_, used)| !used).map(|(row, _)| row).collect()
}
