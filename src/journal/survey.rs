//! What a journal holds, counted: for `tokenscope journal inspect` and `verify`.

use super::entry::Kind;
use super::{FORMAT, Head, Journal, JournalError, RedbJournal};
use crate::domain::{Sequence, Timestamp};

/// Everything counted on one walk over the whole journal. That there is one means the walk found nothing wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// The format of the file.
    pub format: u32,
    /// Where the list ends and from where on it is kept.
    pub head: Head,
    /// The first entry that is kept, if there is one.
    pub first: Option<Sequence>,
    /// How many entries are kept.
    pub entries: u64,
    /// How many rows they stand in.
    pub rows: u64,
    /// How long they are together, with their MACs, in bytes.
    pub entry_bytes: u64,
    /// How long the file is, in bytes. It has room to reuse, and never shrinks.
    pub file_bytes: u64,
    /// The earliest moment at which the writer took an entry.
    pub earliest: Option<Timestamp>,
    /// The latest such moment.
    pub latest: Option<Timestamp>,
    counts: [u64; Kind::ALL.len()],
}

impl Survey {
    /// How many entries there are of each kind, in the order of the kinds' numbers; none left out.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL.into_iter().zip(self.counts)
    }
}

impl RedbJournal {
    /// Reads the whole journal, checks every entry, and counts. `progress` is told each sequence after it was read.
    ///
    /// # Errors
    /// The first thing that is wrong; entries before it were sound.
    pub fn verify(&self, progress: &mut dyn FnMut(Sequence)) -> Result<Survey, JournalError> {
        let mut survey = Survey {
            format: FORMAT,
            head: self.head(),
            first: None,
            entries: 0,
            rows: 0,
            entry_bytes: 0,
            file_bytes: self.bytes(),
            earliest: None,
            latest: None,
            counts: [0; Kind::ALL.len()],
        };
        let (mut rows, mut entry_bytes) = (0, 0);
        let mut each_row = |bytes: usize| {
            rows += 1;
            entry_bytes += bytes as u64;
        };
        self.read(survey.head.discarded, None, &mut each_row, &mut |entry, _| {
            survey.first.get_or_insert(entry.sequence);
            survey.entries += 1;
            let earliest = survey.earliest.get_or_insert(entry.at);
            *earliest = entry.at.min(*earliest);
            survey.latest = survey.latest.max(Some(entry.at));
            let kind = Kind::of(&entry.change);
            for (_, count) in Kind::ALL.iter().zip(&mut survey.counts).filter(|(one, _)| **one == kind) {
                *count += 1;
            }
            progress(entry.sequence);
            Ok(())
        })?;
        Ok(Survey { rows, entry_bytes, ..survey })
    }
}
