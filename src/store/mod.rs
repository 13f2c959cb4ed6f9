//! Where index, journal and snapshots are kept in agreement: the one writer, recovery, checkpoints.
//!
//! The order of events, everywhere and always: **journal, then index, then feed, then receipt**. So what was
//! acknowledged is durable and visible, what is announced is both, and whatever dies in between loses only what nobody
//! was told.
//!
//! [`open`] finds the newest sound state on disk and starts the writer. It refuses rather than begin with less than was
//! acknowledged: no sound state is never an empty start.

mod checkpoint;
mod receipt;
mod recovery;
mod writer;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoints, SnapshotOutcome};
pub use receipt::{Arrived, Receipt, Tray};
pub use recovery::{JOURNAL_NAME, Keys, OpenError, Opened, Recovered, belongs_to_a_store, open, open_behind};
pub use writer::{
    CommitError, Committed, Committer, Control, KINDS, Limits, Room, Rotated, WriterStats, start, start_with,
};
