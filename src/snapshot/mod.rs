//! Snapshots: the index written down at a known place in the list of changes.
//!
//! A snapshot is a [`Header`] and any number of [`Section`]s of plain 32-bit words. This room does not know what the
//! words mean; the index gives them and takes them. It promises that what is read is what was written, by somebody
//! who had the key, for this very snapshot, in this very place, all of it; or an error. `FORMAT.md` draws the bytes.
//!
//! * [`write()`](write()) streams sections into a temporary file, syncs it, reads it back and verifies every byte,
//!   and only then gives it its name. It holds one section in memory, whatever the size of the whole.
//! * [`open()`] authenticates the header and the table of sections; [`Snapshot::for_each`] and its parallel form
//!   authenticate each section before they look inside.
//! * **Zero copy.** A section is read into one aligned buffer that is reused, and its words are handed out as they lie
//!   there (rkyv's checked access; nothing is deserialised). The bytes are *copied before they are verified*, never
//!   mapped: a shared file mapping could change, or vanish, after its check.
//! * Order of trust: magic and version, then the keyed MAC, then rkyv with its own checks, then ours.
//!
//! It does not encrypt (mode 0600 and the pepper do what is done for secrecy), does not find out that an older, valid
//! snapshot was put in place of a newer one (the journal does: it must go on from the header's chain), and deletes
//! nothing.
//!
//! Which way it falls: anything that does not check out is an error, and nothing of it has been believed except the
//! sections [`Snapshot::for_each`] had already handed out; whoever fills an index throws it away then.

// Bytes from outside are read here: nothing may be able to panic on them.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

mod inspect;
mod layout;
mod open;
#[cfg(any(test, feature = "testing"))]
mod reseal;
mod seal;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::disk::{DataDir, DiskError};
use crate::domain::{Epoch, Revision, Sequence, Timestamp};

pub use inspect::{Inspection, Report, inspect, verify};
pub use layout::{FORMAT, SECTION_WORDS_MAX, SECTIONS_MAX, Word};
pub use open::{Buffer, SectionInfo, Snapshot, Visit, open, open_on};
#[cfg(any(test, feature = "testing"))]
pub use reseal::reseal;
pub use write::{Put, write};

/// What a snapshot says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The incarnation of the list it was taken from.
    pub epoch: Epoch,
    /// Every change up to this one is in; later ones may be, and replaying them changes nothing.
    pub sequence: Sequence,
    /// The MAC of that change's entry in the journal, which must go on from it.
    pub chain: [u8; 32],
    /// Names the pepper the kept identities were made with: `Pepper::fingerprint`.
    pub pepper: u64,
    /// When it was taken.
    pub created: Timestamp,
    /// The highest moment the clock had told: the next run must not tell less.
    pub highest_now: Timestamp,
    /// How many tokens are in, for people and for making room in advance.
    pub tokens: u64,
    /// How many grants are in, likewise.
    pub grants: u64,
}

impl Header {
    /// The place in the list it was taken at.
    pub fn revision(&self) -> Revision {
        Revision { epoch: self.epoch, sequence: self.sequence }
    }
}

/// A piece of one table of the index, as words. What `table` and `index` mean is the index's affair; sections come
/// back in the order they were given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Which table.
    pub table: u32,
    /// Which piece of it.
    pub index: u32,
    /// Its content, at most [`SECTION_WORDS_MAX`] words.
    pub words: Vec<u32>,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Length of the file.
    pub bytes: u64,
    /// How many sections.
    pub sections: u64,
}

/// Why a snapshot could not be written, or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// What is in the file is not what was written.
    #[error("the snapshot {} is damaged: {what}, {at}; set it aside and use an older one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// Where: `in the header`, `in section 12 (table 3, index 5, at byte 4096)`.
        at: String,
    },
    /// The file is a snapshot of a version this program does not know.
    #[error(
        "the snapshot {} has {what} {found:#x}, this program reads {known:#x}: use the version that wrote it, \
         or let the journal be replayed from an older snapshot", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Which number: `format` or `archive layout`.
        what: &'static str,
        /// The number found.
        found: u32,
        /// The number known.
        known: u32,
    },
    /// The seal over header and table does not match. Made under another key, or damaged there: the two cannot be
    /// told apart, because a MAC under a wrong key says nothing.
    #[error(
        "the seal of the snapshot {} does not match: it was made under another key, or its header, table or seal is \
         damaged (the two cannot be told apart); check the key, else set it aside and use an older one", path.display()
    )]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// The index wants to write more than the format holds.
    #[error("a snapshot holds at most {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// Whoever gave the sections gave up.
    #[error("the snapshot was given up: {0}")]
    GivenUp(String),
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] DiskError),
}

const NAME_START: &str = "snapshot-";
const NAME_END: &str = ".tks";

/// The name of a snapshot's file: `snapshot-<epoch, 16 hex digits>-<sequence, 20 digits>.tks`, so that sorting names
/// sorts revisions.
pub fn file_name(revision: Revision) -> String {
    format!("{NAME_START}{:016x}-{:020}{NAME_END}", revision.epoch.0, revision.sequence.0)
}

/// The revision in a file name, if it is exactly one that [`file_name`] makes.
pub fn parse_file_name(name: &str) -> Option<Revision> {
    let (epoch, sequence) = name.strip_prefix(NAME_START)?.strip_suffix(NAME_END)?.split_once('-')?;
    let epoch = Epoch(u64::from_str_radix(epoch, 16).ok()?);
    let revision = Revision { epoch, sequence: Sequence(sequence.parse().ok()?) };
    // Making the name again refuses signs, capitals and missing digits, which the parsers above let pass.
    (file_name(revision) == name).then_some(revision)
}

/// The snapshots in a data directory, newest first, by their names alone.
///
/// # Errors
/// The directory could not be read.
pub fn list(dir: &DataDir) -> Result<Vec<(Revision, String)>, SnapshotError> {
    let names = dir.list()?.into_iter();
    let mut found: Vec<_> = names.filter_map(|name| Some((parse_file_name(&name)?, name))).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}
