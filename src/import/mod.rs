//! Bulk import: a source of lines becomes batches of changes, exactly once, however often it is interrupted.
//!
//! Every batch ends with a mark that says how far the source with this digest has come; batch and mark become durable
//! together. Repeating an interrupted import goes on behind the last mark, and repeating a finished one does nothing.
//! A file is read through once before anything is changed, so that a mistake in its last line does not leave half of
//! it behind. This room does not know the store: what takes the batches is an [`ImportSink`].

// The `cnf` member.
pub mod confirmation;
// Which grant a label names.
mod labels;
// One line of the format.
pub mod line;
#[cfg(test)]
mod tests;
mod translate;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::domain::{Audience, Change, GrantId, ScopeCatalogue, TokenDigest, TokenKey};
use line::{LINE_BYTES_MAX, Line};
use translate::Translation;

/// Changes in one batch, the mark not counted: large enough that the disk is not waited for all the time, small enough
/// that an interruption loses less than a second of work.
pub const BATCH_CHANGES: usize = 10_000;

/// How far the import of one source has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Lines that are in the list of changes.
    pub lines: u64,
    /// The number of the source's first grant; 0 if it has made none.
    pub first_grant: u32,
    /// How many grants it has made.
    pub grants: u32,
}

/// What takes the batches: a store that nobody else has open.
pub trait ImportSink {
    /// The last mark of the source with this digest.
    fn resume(&self, source: &[u8; 32]) -> Option<Mark>;
    /// The number the next grant will have.
    fn next_grant(&self) -> u32;
    /// The scopes there are already.
    fn catalogue(&self) -> ScopeCatalogue;
    /// Whether this client is registered already.
    fn knows_client(&self, client: &str) -> bool;
    /// The resource servers of grants that name none; empty if none are configured.
    fn default_audience(&self) -> Vec<Audience>;
    /// The kept identity of a token.
    fn key(&self, digest: &TokenDigest) -> TokenKey;
    /// The pepper's fingerprint; token handles mean something under one pepper only.
    fn pepper(&self) -> u64;
    /// Makes a batch durable and visible, all of it or nothing.
    ///
    /// # Errors
    /// A sentence; the batch is not in, or (as the store says) its outcome is unknown until the next start.
    fn commit(&mut self, batch: Vec<Change>) -> Result<(), String>;
}

/// Why an import stopped. What was committed before stays, and repeating the import goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source cannot be read.
    #[error("{source_name} cannot be read: {error}")]
    Io {
        /// The file.
        source_name: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// A line is wrong.
    #[error("line {line}, column {column}: {what}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// The byte in it, from 1.
        column: usize,
        /// What is wrong.
        what: String,
    },
    /// Grants were made by somebody else since the import was interrupted, so that the numbers of its own would no
    /// longer follow one another.
    #[error(
        "this source was imported up to line {lines} and interrupted, and {others} grants were made by others since; \
         cut the first {lines} lines' grants off into their own file and import the rest under a new name, or restore \
         the backup from before"
    )]
    Overtaken {
        /// Lines already in.
        lines: u64,
        /// Grants made since.
        others: u32,
    },
    /// The store did not take a batch.
    #[error("the import stopped after line {lines}: {what}; repeat the command to go on from there")]
    Store {
        /// Lines that are in for certain.
        lines: u64,
        /// What the store said.
        what: String,
    },
}

/// What an import has done so far, or did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines behind us, skipped ones included.
    pub lines: u64,
    /// Lines that an earlier run had brought in already.
    pub skipped: u64,
    /// Grants made by this run.
    pub grants: u64,
    /// Tokens registered by this run.
    pub tokens: u64,
    /// Changes committed by this run.
    pub changes: u64,
}

/// Who is shown how far an import has come. Called once a batch.
pub trait Progress {
    /// So far now.
    fn at(&mut self, tally: &Tally);
}

impl Progress for () {
    fn at(&mut self, _tally: &Tally) {}
}

/// Imports `lines`, whose digest is `source`. Whoever calls this promises that the same digest always means the same
/// lines.
///
/// # Errors
/// See [`ImportError`].
pub fn import(
    lines: impl Iterator<Item = Result<Line, ImportError>>,
    source: [u8; 32],
    sink: &mut dyn ImportSink,
    progress: &mut dyn Progress,
) -> Result<Tally, ImportError> {
    let resumed = sink.resume(&source);
    let mark = resumed.unwrap_or(Mark { lines: 0, first_grant: 0, grants: 0 });
    let next = sink.next_grant();
    if mark.grants > 0 && next != mark.first_grant.saturating_add(mark.grants) {
        let others = next.saturating_sub(mark.first_grant.saturating_add(mark.grants));
        // A finished import is not overtaken: there is nothing left to number. Only lines behind the mark matter.
        return finished_or(lines, mark, ImportError::Overtaken { lines: mark.lines, others });
    }
    let first_grant = if mark.grants > 0 { mark.first_grant } else { next };
    let mut translation = Translation::new(&*sink, first_grant);
    let mut tally = Tally { skipped: mark.lines, ..Tally::default() };
    let mut batch: Vec<Change> = Vec::with_capacity(BATCH_CHANGES + 1);
    let mut committed = mark.lines;
    for (line, number) in lines.zip(1u64..) {
        let line = line?;
        let made = batch.len();
        translation.changes(line, &*sink, &mut batch).map_err(|what| ImportError::Line {
            line: number,
            column: 1,
            what,
        })?;
        tally.lines = number;
        if number <= mark.lines {
            // Already in; it was read only to learn its labels and scopes.
            batch.truncate(made);
            continue;
        }
        for change in &batch[made..] {
            match change {
                Change::MakeGrant(_) => tally.grants += 1,
                Change::RegisterToken(_) => tally.tokens += 1,
                _ => {}
            }
        }
        if batch.len() >= BATCH_CHANGES {
            commit(&mut batch, source, number, &translation, sink, &mut tally, committed)?;
            committed = number;
            progress.at(&tally);
        }
    }
    if !batch.is_empty() {
        let lines = tally.lines;
        commit(&mut batch, source, lines, &translation, sink, &mut tally, committed)?;
    }
    progress.at(&tally);
    Ok(tally)
}

fn commit(
    batch: &mut Vec<Change>,
    source: [u8; 32],
    lines: u64,
    translation: &Translation,
    sink: &mut dyn ImportSink,
    tally: &mut Tally,
    committed: u64,
) -> Result<(), ImportError> {
    let grants = translation.grants();
    let first_grant = if grants == 0 { 0 } else { translation.first_grant() };
    tally.changes += batch.len() as u64;
    batch.push(Change::ImportMark { source, lines, first_grant, grants });
    let batch = std::mem::replace(batch, Vec::with_capacity(BATCH_CHANGES + 1));
    sink.commit(batch).map_err(|what| ImportError::Store { lines: committed, what })
}

fn finished_or(
    lines: impl Iterator<Item = Result<Line, ImportError>>,
    mark: Mark,
    otherwise: ImportError,
) -> Result<Tally, ImportError> {
    let mut count = 0;
    for line in lines {
        line?;
        count += 1;
    }
    if count <= mark.lines { Ok(Tally { lines: count, skipped: count, ..Tally::default() }) } else { Err(otherwise) }
}

/// A source that was read through and found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many lines it has.
    pub lines: u64,
    /// How many grants and tokens are in them.
    pub grants: u64,
    /// Tokens.
    pub tokens: u64,
}

/// Reads a file through, changing nothing: its digest, and whether every line of it could be imported now.
///
/// # Errors
/// The first line that could not.
pub fn check(path: &Path, sink: &dyn ImportSink) -> Result<Checked, ImportError> {
    let mut lines = Lines::open(path)?;
    let first = sink.next_grant();
    let mut translation = Translation::new(sink, first);
    let mut checked = Checked { sha256: [0; 32], lines: 0, grants: 0, tokens: 0 };
    let mut changes = Vec::new();
    for (line, number) in lines.by_ref().zip(1u64..) {
        translation.changes(line?, sink, &mut changes).map_err(|what| ImportError::Line {
            line: number,
            column: 1,
            what,
        })?;
        for change in changes.drain(..) {
            match change {
                Change::MakeGrant(_) => checked.grants += 1,
                Change::RegisterToken(_) => checked.tokens += 1,
                _ => {}
            }
        }
        checked.lines = number;
    }
    checked.sha256 = lines.sha256();
    Ok(checked)
}

/// Imports a file: reads it through first, then imports it.
///
/// # Errors
/// See [`ImportError`]. A wrong line is found before anything is changed.
pub fn import_file(
    path: &Path,
    sink: &mut dyn ImportSink,
    progress: impl FnOnce(&Checked) -> Box<dyn Progress>,
) -> Result<(Checked, Tally), ImportError> {
    let checked = check(path, &*sink)?;
    let mut progress = progress(&checked);
    let tally = import(Lines::open(path)?, checked.sha256, sink, &mut *progress)?;
    Ok((checked, tally))
}

/// The lines of a file, read one by one; also the digest of what was read. A blank line is an error like any other.
pub struct Lines<R> {
    name: String,
    reader: R,
    digest: ring::digest::Context,
    number: u64,
    buffer: Vec<u8>,
}

impl Lines<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| ImportError::Io { source_name: name.clone(), error })?;
        Ok(Self::new(name, BufReader::with_capacity(1 << 20, file)))
    }
}

impl<R: BufRead> Lines<R> {
    /// The lines that `reader` gives; `name` is for messages.
    pub fn new(name: String, reader: R) -> Self {
        let digest = ring::digest::Context::new(&ring::digest::SHA256);
        Self { name, reader, digest, number: 0, buffer: Vec::new() }
    }

    /// SHA-256 of all that was read so far.
    pub fn sha256(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.digest.clone().finish().as_ref());
        bytes
    }

    fn wrong(&self, column: usize, what: impl Into<String>) -> ImportError {
        ImportError::Line { line: self.number, column, what: what.into() }
    }

    fn read(&mut self) -> Result<Option<Line>, ImportError> {
        self.buffer.clear();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.buffer);
        let bytes = read.map_err(|error| ImportError::Io { source_name: self.name.clone(), error })?;
        if bytes == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.digest.update(&self.buffer);
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(self.wrong(LINE_BYTES_MAX, format!("the line is longer than {LINE_BYTES_MAX} bytes")));
        }
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text =
            std::str::from_utf8(text).map_err(|error| self.wrong(error.valid_up_to() + 1, "not UTF-8 from here on"))?;
        Line::parse(text).map(Some).map_err(|error| self.wrong(error.column, error.what))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The most grants one data directory can hold; kept here so that the message can name it.
pub(crate) const GRANTS_MAX: u32 = GrantId::MAX;
