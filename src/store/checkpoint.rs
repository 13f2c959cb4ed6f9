//! Snapshots: when one is written, and how far the journal may then be forgotten.
//!
//! A snapshot is written beside the running writer. The place it stands at is noted first; what goes on meanwhile may or
//! may not be in it, and is replayed anyway. Nothing is forgotten because of a snapshot until it was read back and
//! verified, and then only entries behind the *second* newest: if the newest turns out damaged, the one before and a
//! longer journal give the same state.
//!
//! The high-water mark is written with each snapshot, and now and then between them, so that a start knows how late it
//! was even after a kill, and which place of the list was acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::recovery::{HighWater, Keys, write_mark};
use super::writer::{Control, Discard, Position};
use crate::disk::{DataDir, DiskError, space_left};
use crate::domain::{Epoch, Revision, Sequence, Timestamp};
use crate::index::{Index, LoadError};
use crate::secrets::Ring;
use crate::snapshot::{self, Header, Section, SnapshotError};

impl From<LoadError> for SnapshotError {
    fn from(error: LoadError) -> Self {
        Self::GivenUp(error.to_string())
    }
}

/// What came of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotOutcome {
    /// Where in the list it stands.
    pub revision: Revision,
    /// The generation of keys it is sealed with.
    pub generation: u32,
    /// Its file's name; empty if there was nothing new to write.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// How long it took, with verification.
    pub took: Duration,
    /// When it was finished, by the service's clock at its beginning.
    pub finished: Timestamp,
}

/// Writes snapshots and tidies behind them. One at a time. Cheap to clone.
#[derive(Clone)]
pub struct Checkpoints {
    inner: Arc<Inner>,
}

struct Inner {
    dir: Arc<DataDir>,
    keys: Keys,
    index: Index,
    position: Position,
    /// Held while a snapshot is written; remembers the last.
    last: Mutex<Option<SnapshotOutcome>>,
    /// Snapshots that are kept, at least two.
    keep: usize,
    /// Held while the high-water mark is written; remembers the last. It never goes back.
    marked: Mutex<Option<(HighWater, u32)>>,
}

impl Inner {
    /// The keys of snapshots in force.
    fn keys(&self) -> Ring {
        self.position.keys().unwrap_or_else(|| self.keys.snapshot.clone())
    }
}

impl Checkpoints {
    /// Snapshots of `index` into `dir`, of which the newest `keep` (at least 2) stay.
    pub fn new(dir: Arc<DataDir>, keys: Keys, index: Index, control: &Control, keep: usize) -> Self {
        let position = control.for_checkpoints();
        let (last, marked) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { dir, keys, index, position, last, keep: keep.max(2), marked }) }
    }

    /// Bytes that its disk has left, if it can tell.
    pub fn space_left(&self) -> Option<u64> {
        space_left(self.inner.dir.path())
    }

    /// The last snapshot of this run.
    pub fn last(&self) -> Option<SnapshotOutcome> {
        self.inner.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many changes came after the last snapshot of this run (all of them, if there was none).
    pub fn changes_since_last(&self) -> u64 {
        let now = self.inner.position.now().last.0;
        now - self.last().map_or(0, |last| last.revision.sequence.0.min(now))
    }

    /// Writes a snapshot now, and forgets what it makes superfluous. Blocks; call it where blocking is allowed.
    ///
    /// # Errors
    /// The snapshot was not written; nothing was forgotten, and the older ones are as good as before.
    #[expect(clippy::disallowed_methods, reason = "measures, and decides nothing by it")]
    pub fn write(&self, now: Timestamp) -> Result<SnapshotOutcome, SnapshotError> {
        let inner = &*self.inner;
        let mut last = inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        // The place first: whatever is in the index from here on is at least this new.
        let head = inner.position.now();
        let revision = Revision { epoch: head.epoch, sequence: head.last };
        let keys = inner.keys();
        let generation = keys.newest().number;
        if let Some(last) = &*last
            && (last.revision, last.generation) == (revision, generation)
        {
            // No snapshot, but time has gone on.
            self.note(now)?;
            return Ok(last.clone());
        }
        let name = snapshot::file_name(revision);
        let known = snapshot::list(&inner.dir)?;
        let is_there = known.iter().any(|(at, _)| *at == revision)
            && snapshot::open_on(inner.dir.disk(), &inner.dir.file_path(&name)?, &keys)
                .is_ok_and(|there| there.generation() == generation);
        let written = if is_there {
            0 // This very place was written down by an earlier run, which verified it.
        } else {
            let (tokens, grants) = {
                let pin = inner.index.pin();
                (pin.tokens(), u64::from(pin.grants()))
            };
            let header = Header {
                epoch: head.epoch,
                sequence: head.last,
                chain: head.chain.0,
                pepper: inner.keys.pepper,
                created: now,
                highest_now: now,
                tokens,
                grants,
            };
            let give = |put: &mut snapshot::Put<'_>| {
                inner.index.sections(&mut |table, index, words| put(Section { table, index, words }))
            };
            snapshot::write(&inner.dir, &name, &keys, &header, give)?.bytes
        };
        self.note(now)?;
        self.forget(head.epoch)?;
        let outcome =
            SnapshotOutcome { revision, generation, name, bytes: written, took: begun.elapsed(), finished: now };
        *last = Some(outcome.clone());
        Ok(outcome)
    }

    /// Writes the high-water mark: what is durable by now was acknowledged, and it was `now`. A few syncs; blocks.
    ///
    /// # Errors
    /// It was not written; the one before stays, which says less.
    pub fn note(&self, now: Timestamp) -> Result<(), DiskError> {
        let inner = &*self.inner;
        let mut marked = inner.marked.lock().unwrap_or_else(PoisonError::into_inner);
        // Durable before it is noted: a mark beyond the journal would refuse the next start.
        let head = inner.position.now();
        let keys = inner.keys();
        let before = marked.map_or(Timestamp::ZERO, |(before, _)| before.highest_now);
        let mark =
            HighWater { revision: Revision { epoch: head.epoch, sequence: head.last }, highest_now: now.max(before) };
        let sealed = Some((mark, keys.newest().number));
        if *marked != sealed {
            write_mark(&inner.dir, &keys, mark)?;
            *marked = sealed;
        }
        Ok(())
    }

    /// Deletes all but the newest snapshots, and lets the writer forget the journal behind the second newest, and the
    /// keys that none of what stays is sealed with.
    fn forget(&self, epoch: Epoch) -> Result<(), SnapshotError> {
        let inner = &*self.inner;
        let mut kept: Vec<(Sequence, String)> = Vec::new();
        for (revision, name) in snapshot::list(&inner.dir)? {
            if revision.epoch == epoch && kept.len() < inner.keep {
                kept.push((revision.sequence, name));
            } else if revision.epoch <= epoch {
                inner.dir.remove(&name)?;
            }
        }
        if let Some((second, _)) = kept.get(1) {
            let generation = self.oldest_generation(&kept);
            inner.position.discard(Discard { through: *second, generation });
        }
        Ok(())
    }

    /// The oldest generation of keys that one of these snapshots is sealed with; the mark has just been sealed with the
    /// newest there was. Zero, which drops nothing, if a file cannot be read or is of another version.
    fn oldest_generation(&self, kept: &[(Sequence, String)]) -> u32 {
        let inner = &*self.inner;
        let keys = inner.keys();
        let of = |name: &String| {
            let path = inner.dir.file_path(name).map_err(|_| ())?;
            match snapshot::open_on(inner.dir.disk(), &path, &keys) {
                Ok(there) => Ok(Some(there.generation())),
                Err(SnapshotError::Io(_) | SnapshotError::Format { .. }) => Err(()),
                // No key opens it: none is needed for it.
                Err(_) => Ok(None),
            }
        };
        let marked = inner.marked.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, generation)| generation);
        let found: Result<Vec<Option<u32>>, ()> = kept.iter().map(|(_, name)| of(name)).collect();
        found.map_or(0, |found| found.into_iter().chain([marked]).flatten().min().unwrap_or(0))
    }
}
