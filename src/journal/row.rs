//! Several entries in one value: built from a batch, and read back link by link.
//!
//! ```text
//! row    key: u64, the first entry's sequence      value: entry, MAC, entry, MAC, …
//!        ┌────────────────────┬──────────┬───────────────────┬──────────┬─ ─ ─
//!        │ entry n            │ chain(n) │ entry n+1         │ chain…   │
//!        └────────────────────┴──────────┴───────────────────┴──────────┴─ ─ ─
//! ```
//!
//! **Why rows.** A value for each entry would cost B-tree work for each; a value for each whole batch would have no
//! bound, and redb rounds a large value up to a power of two of pages. So a batch becomes as few rows as fit under
//! [`ROW_BYTES_MAX`] each, which wastes less than an entry and bounds what a reader has to hold.
//!
//! Pure: nothing here knows redb. A MAC is compared before a byte of its entry is parsed.

use std::ops::Range;

use super::chain::Links;
use super::entry::{self, ENTRY_BYTES_MAX, TooLong};
use super::{ChainHash, JournalError};
use crate::domain::{Entry, Sequence};

/// The size a row may grow to with more than one entry in it: 64 KiB less what redb keeps beside it in its pages.
pub(super) const ROW_BYTES_MAX: usize = (64 << 10) - 64;

/// A MAC's length.
const MAC_BYTES: usize = 32;

/// A buffer larger than this is given back after the batch that needed it.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// A place in the list and the chain value there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub(super) sequence: Sequence,
    pub(super) chain: ChainHash,
}

/// The rows of one batch; kept from batch to batch for its memory.
#[derive(Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    rows: Vec<(Sequence, Range<usize>)>,
}

impl Rows {
    /// Makes rows of `batch`, which goes on from `end`; returns where the list ends with it.
    ///
    /// # Errors
    /// An entry has no form in the journal; there are then no rows.
    ///
    /// # Panics
    /// If the sequences leave a gap.
    pub(super) fn build(&mut self, links: &Links, end: Position, batch: &[Entry]) -> Result<Position, TooLong> {
        self.clear();
        let mut end = end;
        let mut row = 0;
        for entry in batch {
            let expected = end.sequence.next();
            assert!(
                entry.sequence == expected,
                "the writer gave the sequence {} where the list goes on with {expected}",
                entry.sequence
            );
            let start = self.bytes.len();
            if let Err(error) = entry::encode(entry, &mut self.bytes) {
                self.clear();
                return Err(error);
            }
            // There is a key for what goes on from the head: whoever commits has made sure.
            let chain = links.next(end, self.bytes.get(start..).unwrap_or_default()).unwrap_or_default();
            self.bytes.extend_from_slice(&chain.0);
            if self.rows.is_empty() || self.bytes.len() - row > ROW_BYTES_MAX {
                self.rows.push((entry.sequence, start..start));
                row = start;
            }
            if let Some((_, range)) = self.rows.last_mut() {
                range.end = self.bytes.len();
            }
            end = Position { sequence: entry.sequence, chain };
        }
        Ok(end)
    }

    /// The rows: the sequence of the first entry in each, and the bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Sequence, &[u8])> {
        self.rows.iter().map(|(first, range)| (*first, self.bytes.get(range.clone()).unwrap_or_default()))
    }

    /// Forgets the rows; keeps the memory unless it is much.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
    }
}

/// Reads a row's entries; each is chained to the one before, or the reading ends with an error.
pub(super) struct Walk<'r> {
    links: &'r Links,
    rest: &'r [u8],
    at: Position,
}

impl<'r> Walk<'r> {
    /// A walk through `row`, whose first entry follows `after`.
    pub(super) fn new(links: &'r Links, after: Position, row: &'r [u8]) -> Self {
        Self { links, rest: row, at: after }
    }

    /// The last entry that was read, or what the first one follows.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// The next entry and its chain value.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] with the sequence the entry should have had.
    pub(super) fn next(&mut self) -> Result<Option<(Entry, ChainHash)>, JournalError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let expected = self.at.sequence.next();
        let damaged = |what: &str| JournalError::Damaged { at: expected, what: what.into() };
        let (bytes, mac, rest) = split(self.rest).ok_or_else(|| damaged("the entry is cut off"))?;
        let Some(chain) = self.links.next(self.at, bytes) else {
            return Err(damaged("the entry is older than the oldest keys that are kept"));
        };
        if !chain.is(&mac) {
            return Err(damaged("the entry is not what was written here, or the journal key is another"));
        }
        if !self.links.agrees(Position { sequence: expected, chain }) {
            return Err(damaged("the list is another than the one at which the keys were rotated"));
        }
        let entry = entry::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
        if entry.sequence != expected {
            return Err(damaged(&format!("the entry calls itself {}", entry.sequence)));
        }
        self.rest = rest;
        self.at = Position { sequence: expected, chain };
        Ok(Some((entry, chain)))
    }
}

/// The chain value a row ends with; `None` if the row is too short to have one.
pub(super) fn last_chain(row: &[u8]) -> Option<ChainHash> {
    row.last_chunk().map(|mac| ChainHash(*mac))
}

/// The first entry's bytes, its MAC, and what follows.
fn split(row: &[u8]) -> Option<(&[u8], ChainHash, &[u8])> {
    let length = usize::try_from(u32::from_le_bytes(*row.first_chunk()?)).ok()?;
    let length = length.checked_add(4).filter(|length| *length <= ENTRY_BYTES_MAX)?;
    let (entry, rest) = row.split_at_checked(length)?;
    let (mac, rest) = rest.split_first_chunk::<MAC_BYTES>()?;
    Some((entry, ChainHash(*mac), rest))
}
