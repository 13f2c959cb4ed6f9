//! New MAC keys: made by the writer, between two batches, because it alone knows where the list
//! ends.
//!
//! ```text
//! secrets file durable ─► the journal's head sealed anew ─► snapshots and the mark use the new key ─► answer
//!          │ refused: nothing has changed, go on      │ fails: poisoned, as after a failed commit
//!          └ unclear: poisoned, only a start finds out which file came through
//! ```
//!
//! A process that dies anywhere in between leaves a state that starts: a head sealed with the key before is believed as
//! long as it ends where the new generation begins, and is sealed anew by the start.
//!
//! No question and no change is refused meanwhile; changes wait for two syncs of a small file and one commit.

use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;

use super::{CommitError, Committer, Room, Shared, Worker};
use crate::domain::{Revision, Sequence};
use crate::secrets::RotateError;

/// A rotation that is done and durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotated {
    /// The number of the generation that is in force now.
    pub generation: u32,
    /// How many generations are kept with it, because something on the disk needs them.
    pub kept: usize,
    /// The last change that is sealed with the generation before.
    pub after: Sequence,
}

/// Where the outcome goes.
pub(super) type Asked = oneshot::Sender<Result<Rotated, CommitError>>;

impl Committer {
    /// Has new MAC keys made for journal and snapshots; waits until they are durable and in force.
    ///
    /// # Errors
    /// `Conflict`: too many generations are kept, or this store has no keys of its own. `Busy`: a rotation is under
    /// way. `Unavailable`: nothing has changed. `Unknown`: the writer has stopped, and a start finds out.
    pub async fn rotate_keys(&self) -> Result<Rotated, CommitError> {
        self.ask_for_keys()?.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The same, on a thread that may block.
    ///
    /// # Errors
    /// As [`Committer::rotate_keys`].
    pub fn rotate_keys_blocking(&self) -> Result<Rotated, CommitError> {
        self.ask_for_keys()?.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }

    /// The number of the generation in force, and how many are kept; zeros if this store has no keys of its own.
    pub fn key_generations(&self) -> (u32, u32) {
        let stats = &self.0.stats;
        (stats.key_generation.load(Relaxed), stats.key_generations.load(Relaxed))
    }

    fn ask_for_keys(&self) -> Result<oneshot::Receiver<Result<Rotated, CommitError>>, CommitError> {
        let (asked, outcome) = oneshot::channel();
        let mut queues = self.0.queues();
        if let Some(why) = &queues.closed {
            return Err(CommitError::Unavailable(why.clone()));
        }
        if queues.rotate.is_some() {
            return Err(CommitError::Busy);
        }
        queues.rotate = Some(asked);
        drop(queues);
        self.0.wake.notify_one();
        Ok(outcome)
    }
}

fn gone() -> CommitError {
    CommitError::Unknown("the writer went away before it answered".into())
}

impl Worker {
    /// Rotates and answers. Nobody has to wait for the answer.
    pub(super) fn rotate(&mut self, asked: Asked) {
        let outcome = self.rotated();
        drop(asked.send(outcome));
    }

    fn rotated(&mut self) -> Result<Rotated, CommitError> {
        if self.poisoned() {
            return Err(CommitError::Unavailable(self.shared.queues().closed.clone().unwrap_or_default()));
        }
        let Some(keys) = &mut self.keys else {
            return Err(CommitError::Conflict("this store has no file of keys".into()));
        };
        if Room::of(self.journal.space_left(), self.shared.limits.reserve_bytes) == Room::Nothing {
            return Err(CommitError::Unavailable("the disk of the data directory is full".into()));
        }
        let head = self.journal.head();
        let after = Revision { epoch: head.epoch, sequence: head.last };
        let failed = match keys.rotate(after, head.chain.0) {
            Ok(()) => self.journal.rekey(&keys.journal()).map_err(|error| error.to_string()),
            Err(error @ RotateError::Full) => return Err(CommitError::Conflict(error.to_string())),
            Err(error @ RotateError::NotWritten(_)) => return Err(CommitError::Unavailable(error.to_string())),
            Err(error @ RotateError::Unclear(_)) => Err(error.to_string()),
        };
        if let Err(why) = failed {
            self.shared.poison(&why);
            return Err(CommitError::Unknown(why));
        }
        self.shared.stats.key_rotations.fetch_add(1, Relaxed);
        self.shared.take_keys(keys);
        Ok(Rotated { generation: keys.snapshot().newest().number, kept: keys.kept(), after: head.last })
    }
}

impl Shared {
    /// Takes over what the file of keys says now.
    pub(super) fn take_keys(&self, keys: &crate::secrets::KeyFile) {
        let ring = keys.snapshot();
        self.stats.key_generation.store(ring.newest().number, Relaxed);
        self.stats.key_generations.store(u32::try_from(keys.kept()).unwrap_or(u32::MAX), Relaxed);
        *self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(ring);
    }
}
