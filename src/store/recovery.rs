//! From what is on disk to a running store, or a clear refusal.
//!
//! ```text
//! newest snapshot ─ sound? ─► the journal goes on from its chain ─► rest of the journal ─► ready
//!        │ no: set aside, keep the file
//!        ▼
//! the one before ─ … ─► no snapshot left: the whole journal, if nothing of it was discarded ─ else refuse
//! ```
//!
//! Snapshots save time, the journal is the truth: a snapshot is believed only if the journal contains the very entry it
//! was taken at, so an old one put back by hand cannot undo anything. A third note, the high-water mark, stands outside
//! both: it names an entry that was acknowledged, so that journal and snapshots put back *together* are found out too,
//! as far as the mark is newer than they are.
//!
//! Which way it falls: refuse. There is no start with less than was acknowledged.

use std::time::{Duration, Instant};

use crate::disk::{DataDir, DiskError};
use crate::domain::{Epoch, Revision, Sequence, Timestamp};
use crate::index::{self, Index, Loader, Writer};
use crate::journal::{ChainHash, Head, Journal, JournalError};
use crate::secrets::Ring;
use crate::snapshot::{self, SnapshotError};

/// The name of the journal's file in the data directory.
pub const JOURNAL_NAME: &str = "journal.redb";
/// Whether a file of this name is part of a store: where one is, an empty journal would be a loss.
pub fn belongs_to_a_store(name: &str) -> bool {
    name == MARK_NAME || snapshot::parse_file_name(name).is_some()
}

/// The name of the high-water mark's file.
const MARK_NAME: &str = "high-water";
/// Threads that verify a snapshot ahead of the one that fills the index.
const VERIFY_THREADS: usize = 1;

/// The keys of the store.
#[derive(Clone)]
pub struct Keys {
    /// Chains and seals the journal's entries.
    pub journal: Ring,
    /// Seals snapshots and the high-water mark.
    pub snapshot: Ring,
    /// Names the pepper: a snapshot made under another cannot be used.
    pub pepper: u64,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// Why the store cannot be opened. Nothing was changed on disk, except that damaged snapshots were set aside.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No snapshot is sound, and the journal alone does not reach back to the beginning.
    #[error(
        "no sound snapshot is left, and the journal's entries up to {discarded} were discarded behind one: \
         restore a snapshot of epoch {epoch:016x} at or after sequence {discarded} from a backup; \
         this program will not start with less than was acknowledged"
    )]
    NothingSound {
        /// The journal begins after this.
        discarded: Sequence,
        /// Its epoch.
        epoch: u64,
    },
    /// The only snapshots there are were written by a program of another version.
    #[error("{0}; nothing was changed")]
    OtherVersion(String),
    /// The journal ends before something that is known to have been acknowledged.
    #[error(
        "the journal ends at {journal}, but {what} knows of {known}: an older copy of the data was put back; \
         starting from it would bring revoked tokens back to life"
    )]
    RolledBack {
        /// Where the journal ends.
        journal: Revision,
        /// What was acknowledged.
        known: Revision,
        /// Who says so.
        what: String,
    },
    /// The high-water mark cannot be believed.
    #[error(
        "the high-water mark is damaged or of another key; remove {0} only if you are sure the journal is the newest there is"
    )]
    Mark(String),
}

/// How the start went, for the log and the metrics.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The snapshot that was used.
    pub snapshot: Option<Revision>,
    /// Snapshots that were set aside, with the reason.
    pub set_aside: Vec<String>,
    /// Entries of the journal that were applied after it.
    pub replayed: u64,
    /// Reading, verifying and filling from the snapshot.
    pub snapshot_took: Duration,
    /// Replaying the journal.
    pub journal_took: Duration,
}

/// The store as it was found, before its writer runs.
pub struct Opened {
    /// The readers' half.
    pub index: Index,
    /// The one writer's half.
    pub writer: Writer,
    /// The list.
    pub journal: Box<dyn Journal>,
    /// The incarnation of the list.
    pub epoch: Epoch,
    /// The highest moment any record on disk names: the clock must not tell less.
    pub clock_floor: Timestamp,
    /// How it went.
    pub recovered: Recovered,
}

/// Brings index and journal together from what is in the data directory. `journal` is the opened journal; `mark` is
/// believed only under the snapshot key.
///
/// # Errors
/// See [`OpenError`].
///
/// # Panics
/// If what the journal gave is not all that was applied: a defect of this program, found before anything is served.
pub fn open(dir: &DataDir, journal: Box<dyn Journal>, keys: &Keys) -> Result<Opened, OpenError> {
    let head = journal.head();
    for (known, what) in newer_than(dir, head, keys)? {
        refuse_rollback(head, known, &what)?;
    }
    open_as_it_is(dir, journal, keys)
}

/// The same for a list that is to begin a new epoch, because it is known to be older than what was acknowledged: what
/// [`open`] would refuse because of that is passed over. Whoever calls this has to ask what becomes of the lost stretch.
///
/// # Errors
/// As [`open`], but never [`OpenError::RolledBack`].
///
/// # Panics
/// As [`open`].
pub fn open_behind(dir: &DataDir, journal: Box<dyn Journal>, keys: &Keys) -> Result<(Opened, Revision), OpenError> {
    let head = journal.head();
    let here = Revision { epoch: head.epoch, sequence: head.last };
    let known = newer_than(dir, head, keys)?.into_iter().map(|(known, _)| known).fold(here, Revision::max);
    Ok((open_as_it_is(dir, journal, keys)?, known))
}

/// What on this disk knows of places after the head: what place, and who says so. Snapshots by their names alone: those
/// that do not lie are found when they are read.
fn newer_than(dir: &DataDir, head: Head, keys: &Keys) -> Result<Vec<(Revision, String)>, OpenError> {
    let here = Revision { epoch: head.epoch, sequence: head.last };
    // The newest keys begin at a place that was durable: the file of keys knows of it as the mark does.
    let mut known = vec![(keys.journal.newest().after, "the secrets file".to_owned())];
    known.extend(read_mark(dir, keys)?.map(|mark| (mark.revision, "the high-water mark".to_owned())));
    for (revision, name) in listed(dir)? {
        let path = dir.file_path(&name)?;
        // A name can be anybody's; only a seal says that there was such a place.
        if revision > here && snapshot::open_on(dir.disk(), &path, &keys.snapshot).is_ok() {
            known.push((revision, format!("the snapshot {name}")));
        }
    }
    known.retain(|(revision, _)| *revision > here);
    Ok(known)
}

fn listed(dir: &DataDir) -> Result<Vec<(Revision, String)>, OpenError> {
    snapshot::list(dir).map_err(|error| match error {
        SnapshotError::Io(disk) => OpenError::Disk(disk),
        other => OpenError::Mark(other.to_string()),
    })
}

#[expect(clippy::disallowed_methods, reason = "measures, and decides nothing by it")]
fn open_as_it_is(dir: &DataDir, journal: Box<dyn Journal>, keys: &Keys) -> Result<Opened, OpenError> {
    let head = journal.head();
    let mark = read_mark(dir, keys)?;
    let mut recovered = Recovered::default();
    let begun = Instant::now();
    let loaded = newest_sound(dir, head, keys, &mut recovered)?;
    recovered.snapshot_took = begun.elapsed();
    let (index, mut writer, after, chain, mut floor) = match loaded {
        Some(loaded) => loaded,
        None if head.discarded == Sequence::ZERO => {
            let (index, writer) = index::new();
            (index, writer, Sequence::ZERO, None, Timestamp::ZERO)
        }
        None => return Err(OpenError::NothingSound { discarded: head.discarded, epoch: head.epoch.0 }),
    };
    let begun = Instant::now();
    let end = journal.read_after(after, chain, &mut |entry, _| {
        writer.apply(entry);
        floor = floor.max(entry.at);
        recovered.replayed += 1;
        Ok(())
    })?;
    recovered.journal_took = begun.elapsed();
    assert_eq!(end.last, writer.applied(), "the whole journal has been applied");
    let clock_floor = floor.max(mark.map_or(Timestamp::ZERO, |mark| mark.highest_now));
    Ok(Opened { index, writer, epoch: head.epoch, journal, clock_floor, recovered })
}

fn refuse_rollback(head: Head, known: Revision, what: &str) -> Result<(), OpenError> {
    let journal = Revision { epoch: head.epoch, sequence: head.last };
    if known.epoch > journal.epoch || (known.epoch == journal.epoch && known.sequence > journal.sequence) {
        return Err(OpenError::RolledBack { journal, known, what: what.to_owned() });
    }
    Ok(())
}

type Loaded = (Index, Writer, Sequence, Option<ChainHash>, Timestamp);

fn newest_sound(
    dir: &DataDir,
    head: Head,
    keys: &Keys,
    recovered: &mut Recovered,
) -> Result<Option<Loaded>, OpenError> {
    let snapshots = listed(dir)?;
    let here = Revision { epoch: head.epoch, sequence: head.last };
    // A seal that does not match is damage or another key. Only when an older one opens under this key is it damage for
    // sure; until then nothing is set aside, so that a mistaken key file moves no sound snapshot away.
    let mut doubtful: Vec<(String, String)> = Vec::new();
    let mut of_another_version: Option<String> = None;
    for (revision, name) in snapshots {
        let of_this_list = revision.epoch == head.epoch;
        if revision > here || (of_this_list && revision.sequence < head.discarded) {
            // Sound or not, the journal does not go on from it. Whoever may not pass newer ones over has asked before.
            continue;
        }
        match load(dir, &name, keys) {
            Ok((header, index, writer)) => {
                if header.epoch != head.epoch {
                    recovered.set_aside.push(format!("{name}: of an older epoch; left where it is"));
                    continue;
                }
                for (name, why) in doubtful {
                    let aside = dir.quarantine(&name)?;
                    recovered.set_aside.push(format!("{name} is now {aside}: {why}"));
                }
                recovered.snapshot = Some(header.revision());
                let floor = header.highest_now.max(header.created);
                return Ok(Some((index, writer, header.sequence, Some(ChainHash(header.chain)), floor)));
            }
            Err(SnapshotError::Io(error)) => return Err(error.into()),
            // Sound for the program that wrote it, which may come back: never moved.
            Err(error @ SnapshotError::Format { .. }) => {
                recovered.set_aside.push(format!("{name} is left where it is and not used: {error}"));
                of_another_version.get_or_insert(error.to_string());
            }
            Err(error @ SnapshotError::WrongKey { .. }) => {
                recovered.set_aside.push(format!("{name} is not used: {error}"));
                doubtful.push((name, error.to_string()));
            }
            Err(error) => {
                let aside = dir.quarantine(&name)?;
                recovered.set_aside.push(format!("{name} is now {aside}: {error}"));
            }
        }
    }
    match of_another_version {
        // Without it the journal cannot be gone on from.
        Some(text) if head.discarded > Sequence::ZERO => Err(OpenError::OtherVersion(text)),
        _ => Ok(None),
    }
}

fn load(dir: &DataDir, name: &str, keys: &Keys) -> Result<(snapshot::Header, Index, Writer), SnapshotError> {
    let path = dir.file_path(name)?;
    let opened = snapshot::open_on(dir.disk(), &path, &keys.snapshot)?;
    let header = *opened.header();
    let damaged = |what: String| SnapshotError::Damaged { path: path.clone(), what, at: "in its content".into() };
    if header.pepper != keys.pepper {
        return Err(damaged("its tokens are kept under another pepper".into()));
    }
    let mut loader = Loader::new(header.tokens);
    opened.for_each_ahead(VERIFY_THREADS, &mut |table, _, words| {
        loader.section(table, words.iter().map(|word| word.to_native())).map_err(|error| error.to_string())
    })?;
    let (index, writer) = loader.finish(header.sequence).map_err(|error| damaged(error.to_string()))?;
    Ok((header, index, writer))
}

/// A place in the list that was acknowledged, and the highest moment told by then.
///
/// ```text
/// magic "TKSHIGH1" ×8 | epoch u64 | sequence u64 | highest now u32 | HMAC-SHA-256 ×32        little-endian, 60 bytes
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HighWater {
    pub(super) revision: Revision,
    pub(super) highest_now: Timestamp,
}

const MARK_MAGIC: &[u8; 8] = b"TKSHIGH1";
const MARK_SEALED: usize = 28;

fn mark_key(key: &[u8; 32]) -> ring::hmac::Key {
    let root = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let derived = ring::hmac::sign(&root, b"tokenscope high-water mark v1");
    ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived.as_ref())
}

/// Writes the mark, sealed with the newest key. A mark that could not be written protects less; it endangers nothing.
pub(super) fn write_mark(dir: &DataDir, keys: &Ring, mark: HighWater) -> Result<(), DiskError> {
    let mut bytes = Vec::with_capacity(MARK_SEALED + 32);
    bytes.extend_from_slice(MARK_MAGIC);
    bytes.extend_from_slice(&mark.revision.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&mark.revision.sequence.0.to_le_bytes());
    bytes.extend_from_slice(&mark.highest_now.raw().to_le_bytes());
    let tag = ring::hmac::sign(&mark_key(&keys.newest().bytes), &bytes);
    bytes.extend_from_slice(tag.as_ref());
    dir.write(MARK_NAME, &bytes)
}

fn read_mark(dir: &DataDir, keys: &Keys) -> Result<Option<HighWater>, OpenError> {
    let Some(bytes) = dir.read(MARK_NAME, 4_096)? else { return Ok(None) };
    let damaged = || OpenError::Mark(dir.path().join(MARK_NAME).display().to_string());
    let (sealed, tag) = bytes.split_at_checked(MARK_SEALED).ok_or_else(damaged)?;
    let sealed_by = keys.snapshot.find(|key| ring::hmac::verify(&mark_key(&key.bytes), sealed, tag).is_ok());
    let generation = sealed_by.ok_or_else(damaged)?.number;
    let field = |at: usize| sealed.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let now = sealed.get(24..28).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match (sealed.get(..8) == Some(MARK_MAGIC), field(8), field(16), now) {
        (true, Some(epoch), Some(sequence), Some(now)) => {
            let revision = Revision { epoch: Epoch(epoch), sequence: Sequence(sequence) };
            // Not by a key that had been replaced before the place it tells of.
            if !keys.snapshot.may_seal(generation, revision) {
                return Err(damaged());
            }
            Ok(Some(HighWater { revision, highest_now: Timestamp::from_raw(now) }))
        }
        _ => Err(damaged()),
    }
}
