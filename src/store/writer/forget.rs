//! What checkpoints want of the writer: where the list stands, and to forget what a verified snapshot has made superfluous.
//!
//! Which way it falls: to forgetting less. What is not forgotten now is forgotten behind the next snapshot.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use super::{Room, Shared, Worker};
use crate::domain::{Revision, Sequence};
use crate::journal::Head;
use crate::secrets::Ring;

/// What the writer may forget: entries, and keys that nothing else needs.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Discard {
    pub(in crate::store) through: Sequence,
    /// The oldest generation of keys that a snapshot or the high-water mark is sealed with; zero if that is not known.
    pub(in crate::store) generation: u32,
}

/// Where the list stands, and the way to tell the writer what it may forget.
#[derive(Clone)]
pub(in crate::store) struct Position(pub(super) Arc<Shared>);

impl Position {
    pub(in crate::store) fn now(&self) -> Head {
        self.0.position()
    }

    /// The keys of snapshots in force, if they can be another than at the start. Asked for *after* the place that is
    /// sealed: an older place may be sealed with a newer key, never the other way round.
    pub(in crate::store) fn keys(&self) -> Option<Ring> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::store) fn discard(&self, discard: Discard) {
        self.0.queues().discard = Some(discard);
        self.0.wake.notify_one();
    }
}

impl Worker {
    pub(super) fn discard(&mut self, discard: Discard) {
        if self.shared.stats.room() == Room::Nothing {
            // Even forgetting writes first.
            return;
        }
        // Nothing that is needed is lost if this fails; the next snapshot tries again. A backend that failed will say so
        // at the next commit.
        if self.journal.discard_through(discard.through).is_ok() {
            self.drop_keys(discard);
        }
        let (stats, head) = (&self.shared.stats, self.journal.head());
        stats.journal_bytes.store(self.journal.bytes(), Relaxed);
        stats.journal_entries.store(head.last.0 - head.discarded.0, Relaxed);
    }

    /// Forgets the keys that nothing on the disk needs any more. If it fails, more are kept than needed, and the next
    /// snapshot tries again.
    fn drop_keys(&mut self, discard: Discard) {
        let Some(keys) = &mut self.keys else { return };
        let head = self.journal.head();
        let discarded = Revision { epoch: head.epoch, sequence: head.discarded };
        let oldest = keys.journal().oldest_needed(discarded, discard.generation);
        if keys.drop_before(oldest).unwrap_or(false) && self.journal.rekey(&keys.journal()).is_ok() {
            self.shared.take_keys(keys);
        }
    }
}
