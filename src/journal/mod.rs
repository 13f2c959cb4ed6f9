//! The ordered list of changes, durable.
//!
//! A [`Journal`] keeps entries in their order and gives them back, nothing else: it has never heard of the index, of
//! snapshots or of the network. Every entry is chained to the one before it by a keyed MAC, so that what is read back
//! is exactly what was committed, in its place, or an error. `journal/FORMAT.md` draws the bytes.
//!
//! Which way it falls: a commit that returned an error may or may not be on disk; the journal refuses all work from
//! then on ([`JournalError::Poisoned`]) and the next start finds out.

// Bytes from outside are read here: nothing may be able to panic on them.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

// The MACs that chain entries to each other and seal the head.
mod chain;
// Entries as bytes, and back.
pub mod entry;
// The parts entries are made of, as bytes, and back.
mod fields;
// The file: made, found, measured.
mod file;
// The head, as it stands in the file.
mod head;
// The kinds of change, numbered.
mod kind;
// The journal on redb.
mod redb;
// Several entries in one value.
mod row;
// What a journal holds, counted.
mod survey;
#[cfg(test)]
mod tests;

pub use redb::{Options, PageCheck, RedbJournal};
pub use survey::Survey;

use crate::domain::{Entry, Epoch, Sequence};
use crate::secrets::Ring;

/// The version of the format this program writes and the only one it reads; `journal/FORMAT.md` says what it means.
pub const FORMAT: u32 = 1;

/// The MAC of the last entry, which the next one is chained to. Before the first, a value that stands for the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct ChainHash(pub [u8; 32]);

/// Where the list ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The incarnation of the list.
    pub epoch: Epoch,
    /// The last entry; zero if there is none.
    pub last: Sequence,
    /// The last entry's MAC.
    pub chain: ChainHash,
    /// Entries up to and including this one have been discarded.
    pub discarded: Sequence,
}

/// Why the journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The storage below failed while reading, or before anything was written.
    #[error("the journal cannot be used: {0}")]
    Storage(String),
    /// A commit failed; whether its entries are on disk is unknown until the next start.
    #[error("the journal failed while making changes durable and refuses all further work: {0}")]
    Poisoned(String),
    /// What is on disk is not what was written.
    #[error("the journal is damaged at sequence {at}: {what}")]
    Damaged {
        /// The first entry that cannot be believed.
        at: Sequence,
        /// What is wrong with it.
        what: String,
    },
    /// The file is of a version this program does not know, or not a journal.
    #[error("the journal has format {found}; this program reads format {known}")]
    Format {
        /// The version found.
        found: u32,
        /// The version known.
        known: u32,
    },
    /// Entries that were asked for have been discarded.
    #[error("entries up to {discarded} have been discarded; {wanted} was asked for")]
    Discarded {
        /// The last one gone.
        discarded: Sequence,
        /// The first one wanted.
        wanted: Sequence,
    },
    /// The file is held by another process.
    #[error("the journal is in use by another process")]
    InUse,
}

/// The list, durable. One writer has it, by ownership.
pub trait Journal: Send {
    /// Where the list ends.
    fn head(&self) -> Head;

    /// Does what opening left for later and has to be done before anything is written; it may take as long as reading
    /// everything once. The first commit does it if nobody has asked before.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`]: what is on disk cannot be written to.
    fn make_ready(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Appends a batch; all of it is durable on return, or the journal is poisoned. The entries' sequences go on from
    /// the head without a gap.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`], now and from then on.
    ///
    /// # Panics
    /// If the sequences do not go on from the head: that is the writer's error, found before anything is written.
    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError>;

    /// Gives every entry after `after` to `visit`, in order, each checked against the chain. `chain` is the MAC of the
    /// entry `after`, if the caller knows it (from a snapshot); it is checked too.
    ///
    /// # Errors
    /// The entries are damaged, discarded, or `visit` failed.
    fn read_after(
        &self,
        after: Sequence,
        chain: Option<ChainHash>,
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError>;

    /// Forgets entries up to and including `through`.
    ///
    /// # Errors
    /// The storage failed; nothing that is needed is lost.
    fn discard_through(&mut self, through: Sequence) -> Result<(), JournalError>;

    /// From here on seals with the newest key of this ring, which begins where the list ends; what stands there already
    /// keeps the key it has. The head is sealed anew, durable on return. A ring with the same newest key only takes
    /// older ones away, which nothing that is kept may need.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`], now and from then on.
    fn rekey(&mut self, ring: &Ring) -> Result<(), JournalError> {
        let _ = ring;
        Err(JournalError::Storage("it has no keys that could be rotated".into()))
    }

    /// Bytes on disk.
    fn bytes(&self) -> u64;

    /// Bytes its storage has left, if it can tell. The writer asks before every batch: a storage that runs full in the
    /// middle of a commit poisons the journal, so it must not come to that.
    fn space_left(&self) -> Option<u64> {
        None
    }

    /// Closes the journal and says whether that went well.
    ///
    /// # Errors
    /// The storage failed while closing; everything committed is still durable.
    fn close(self: Box<Self>) -> Result<(), JournalError>;
}
