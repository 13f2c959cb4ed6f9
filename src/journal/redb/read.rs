//! Reading the journal: finding where to begin, walking row by row, checking everything on the way.
//!
//! One row is in memory at a time. While somebody reads nobody can commit (that takes the journal by `&mut`), so a long
//! read transaction pins no pages that anybody wants.

use ::redb::{ReadOnlyTable, ReadableDatabase, ReadableTable};

use super::shelter::{Fault, sheltered};
use super::{ENTRIES, RedbJournal};
use crate::domain::{Entry, Sequence};
use crate::journal::entry::ENTRY_BYTES_MAX;
use crate::journal::head::HeadRow;
use crate::journal::row::{Position, ROW_BYTES_MAX, Walk, last_chain};
use crate::journal::{ChainHash, Head, JournalError};

/// The longest row that can be: one entry of the largest size. Anything longer is not taken into memory.
const ROW_BYTES_LIMIT: usize = ENTRY_BYTES_MAX + 32;

const _: () = assert!(ROW_BYTES_MAX <= ROW_BYTES_LIMIT);

impl RedbJournal {
    fn table(&self) -> Result<ReadOnlyTable<u64, &'static [u8]>, Fault> {
        sheltered(|| Ok(self.database.begin_read()?.open_table(ENTRIES)?))
    }

    /// Whether the first and the last row fit the head: cheap, and finds a missing end at once.
    pub(super) fn check_ends(&self) -> Result<(), JournalError> {
        let HeadRow { start, end, .. } = self.head;
        let first = start.sequence.next();
        for place in [start, end] {
            if !self.links.agrees(place) {
                return Err(damaged(place.sequence, "the list is another than the one at which the keys were rotated"));
            }
        }
        let table = self.table().map_err(|fault| fault.at(first))?;
        let ends = sheltered(|| {
            let first = table.first()?.map(|(key, _)| key.value());
            let last = table.last()?.map(|(key, row)| (key.value(), last_chain(row.value())));
            Ok(first.zip(last))
        });
        match ends.map_err(|fault| fault.at(first))? {
            None if start == end => Ok(()),
            None => Err(damaged(first, "the entries are gone")),
            Some((key, _)) if key != first.0 => Err(damaged(first, "the first entry is another than the head says")),
            Some((_, (key, chain))) => {
                let fits = key <= end.sequence.0 && chain.is_some_and(|chain| chain.is(&end.chain));
                if fits { Ok(()) } else { Err(damaged(end.sequence, "the last entry is another than the head says")) }
            }
        }
    }

    /// As [`crate::journal::Journal::read_after`]; `each_row` also sees how long each row is.
    pub(in crate::journal) fn read(
        &self,
        after: Sequence,
        chain: Option<ChainHash>,
        each_row: &mut dyn FnMut(usize),
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        self.sound()?;
        let HeadRow { start, end, .. } = self.head;
        if after < start.sequence {
            return Err(JournalError::Discarded { discarded: start.sequence, wanted: after.next() });
        }
        if after > end.sequence {
            return Err(damaged(end.sequence.next(), &format!("the journal ends here, but {after} is known of")));
        }
        let as_known = |at: Position| match chain {
            Some(known) if at.sequence == after && !known.is(&at.chain) => {
                Err(damaged(after, "the entry is another than the one that is known: not the same list"))
            }
            _ => Ok(()),
        };
        if after == end.sequence {
            as_known(end)?;
            return Ok(self.head.head());
        }
        let table = self.table().map_err(|fault| fault.at(after.next()))?;
        let (first, mut at) = self.row_of(&table, after.next())?;
        as_known(at)?;
        let mut rows = sheltered(|| Ok(table.range(first..)?)).map_err(|fault| fault.at(after.next()))?;
        let mut bytes = Vec::new();
        loop {
            let expected = at.sequence.next();
            let key = sheltered(|| {
                let Some(row) = rows.next() else { return Ok(None) };
                let (key, row) = row?;
                copy_row(row.value(), &mut bytes)?;
                Ok(Some(key.value()))
            });
            let Some(key) = key.map_err(|fault| fault.at(expected))? else { break };
            if key != expected.0 || bytes.is_empty() {
                return Err(damaged(expected, &format!("the next row begins with {key}")));
            }
            each_row(bytes.len());
            let mut walk = Walk::new(&self.links, at, &bytes);
            while let Some((entry, chain)) = walk.next()? {
                as_known(walk.position())?;
                if entry.sequence > after {
                    visit(&entry, chain)?;
                }
            }
            at = walk.position();
        }
        if at.sequence != end.sequence {
            return Err(damaged(at.sequence.next(), &format!("the journal ends here, and not at {}", end.sequence)));
        }
        if !at.chain.is(&end.chain) {
            return Err(damaged(at.sequence, "the last entry is another than the head says"));
        }
        Ok(self.head.head())
    }

    /// The key of the row that has the entry `wanted`, and what that row's first entry follows. The chain value comes
    /// from the end of the row before and is believed only because the row's first entry has to fit it.
    fn row_of(
        &self,
        table: &ReadOnlyTable<u64, &'static [u8]>,
        wanted: Sequence,
    ) -> Result<(u64, Position), JournalError> {
        let found = sheltered(|| {
            let Some(row) = table.range(..=wanted.0)?.next_back() else { return Ok(None) };
            let first = row?.0.value();
            let before = table.range(..first)?.next_back().transpose()?;
            Ok(Some((first, before.map(|(_, row)| last_chain(row.value())))))
        });
        let start = self.head.start;
        match found.map_err(|fault| fault.at(wanted))? {
            Some((first, None)) if first == start.sequence.next().0 => Ok((first, start)),
            Some((first, Some(Some(chain)))) if first > start.sequence.next().0 => {
                Ok((first, Position { sequence: Sequence(first - 1), chain }))
            }
            _ => Err(damaged(wanted, "the row with this entry, or the one before it, is gone")),
        }
    }

    /// Up to `rows_max` rows that end at or before `through`, and what the first entry that stays follows; `None` if
    /// there is no such row. That the entry which stays fits is checked here: a chain value damaged in what goes would
    /// otherwise make all that stays unreadable.
    pub(super) fn discardable(
        &self,
        through: Sequence,
        rows_max: usize,
    ) -> Result<Option<(Vec<u64>, Position)>, JournalError> {
        let HeadRow { start, end, .. } = self.head;
        let oldest = start.sequence.next();
        let table = self.table().map_err(|fault| fault.at(oldest))?;
        let keys = sheltered(|| {
            let keys = table.iter()?.take(rows_max.saturating_add(1)).map(|row| row.map(|(key, _)| key.value()));
            Ok(keys.collect::<Result<Vec<u64>, _>>()?)
        });
        let mut keys = keys.map_err(|fault| fault.at(oldest))?;
        // A row ends before the next one begins, and the last one with the list.
        let next = keys.get(rows_max).copied();
        let ends = keys.iter().skip(1).map(|next| next.saturating_sub(1));
        let ends = ends.chain((!keys.is_empty() && next.is_none()).then_some(end.sequence.0));
        let Some((gone, last)) = (1..).zip(ends).take_while(|(_, last)| *last <= through.0).last() else {
            return Ok(None);
        };
        let stays = keys.get(gone).copied();
        keys.truncate(gone);
        let (Some(stays), Some(goes)) = (stays, keys.last()) else {
            return Ok(Some((keys, end)));
        };
        let mut kept = Vec::new();
        let chain = sheltered(|| {
            if let Some(row) = table.get(stays)? {
                copy_row(row.value(), &mut kept)?;
            }
            Ok(table.get(goes)?.and_then(|row| last_chain(row.value())))
        });
        let chain = chain.map_err(|fault| fault.at(oldest))?;
        let chain = chain.ok_or_else(|| damaged(Sequence(last), "the entry is cut off"))?;
        let after = Position { sequence: Sequence(last), chain };
        if Walk::new(&self.links, after, &kept).next()?.is_none() {
            return Err(damaged(after.sequence.next(), "the row is empty"));
        }
        Ok(Some((keys, after)))
    }
}

/// Copies a row, unless it is longer than any row can be.
fn copy_row(row: &[u8], into: &mut Vec<u8>) -> Result<(), ::redb::Error> {
    if row.len() > ROW_BYTES_LIMIT {
        return Err(::redb::Error::Corrupted(format!("a row of {} bytes", row.len())));
    }
    into.clear();
    into.extend_from_slice(row);
    Ok(())
}

fn damaged(at: Sequence, what: &str) -> JournalError {
    JournalError::Damaged { at, what: what.into() }
}
