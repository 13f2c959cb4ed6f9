//! A new epoch: what a data directory needs after a backup was put back, so that nothing of the lost stretch is ever taken
//! for something of the new list.
//!
//! The list goes on from where the backup ends, under a new epoch; so every revision anybody remembers is of another list:
//! followers start over, and whoever demands an old one gets no verdict. What may have been revoked in the lost stretch is
//! the operator's decision, which [`Lost`] makes him say.
//!
//! ```text
//! the new journal, beside the old one, with the entry that voids ─ a snapshot of the new epoch ─│─ rename over the old journal
//!                                                                                   ─ snapshot, high-water mark, older ones go
//! ```
//!
//! Which way it falls: before the rename the directory is the old one, and is refused by a start as it was, or because the new
//! snapshot is newer than its journal; the command can be repeated. After it the directory is of the new epoch, whole.
//! There is no moment in which a start would accept the new epoch without what voids.

use std::io::ErrorKind;

use super::StartError;
use super::store::{EPOCH_RANDOM_BITS, NOBODY_FOLLOWS, StoreParts, failed, journal_options, keys, new_epoch, open_dir};
use super::store::{recover, run};
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::DataDir;
use crate::domain::{Among, CallerId, Change, Entry, Epoch, Revision, Target, Timestamp};
use crate::index::Index;
use crate::journal::{Journal, RedbJournal};
use crate::secrets::{self, Secrets};
use crate::snapshot::{self, Header, Section};
use crate::store::{self, JOURNAL_NAME, Opened};

/// The new journal, until it takes the place of the old one.
const BESIDE_NAME: &str = "journal.redb.next";

/// What happens to tokens that may have been revoked in the stretch that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// All that were issued before this moment are void.
    VoidIssuedBefore(Timestamp),
    /// The same, up to now: as late as the data or the clock says it is.
    VoidIssuedBeforeNow,
    /// Somebody knows that there was no revocation, or repeats them all.
    NothingWasRevoked,
}

/// What was done, or would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewEpoch {
    /// Where the data that is there ends.
    pub ends: Revision,
    /// The latest place that anything in the directory knows of; the same as `ends` if nothing is known to be lost.
    pub known: Revision,
    /// The new list: its epoch, and where it stands.
    pub begins: Revision,
    /// Tokens issued before this moment are void.
    pub voids_before: Option<Timestamp>,
    /// How many tokens that were not revoked this hits.
    pub voided: u64,
}

/// Gives the data directory a new epoch, or (`dry_run`) says what it would be: the number itself is drawn anew then.
///
/// # Errors
/// A server has the directory, nothing sound is in it, or the disk failed. The directory is then as it was, or can be
/// made whole by doing this again.
pub fn begin(config: &Config, lost: Lost, dry_run: bool) -> Result<NewEpoch, StartError> {
    let secrets = Secrets::open(&config.secrets_path())?;
    let dir = open_dir(config)?;
    secrets::settle(dir.disk(), &config.secrets_path())?;
    let path = dir.file_path(JOURNAL_NAME).map_err(failed)?;
    let journal = RedbJournal::open(&path, secrets.journal(), journal_options(config)).map_err(failed)?;
    let (opened, known) = store::open_behind(&dir, Box::new(journal), &keys(&secrets)).map_err(failed)?;
    let ends = Revision { epoch: opened.epoch, sequence: opened.writer.applied() };
    let epoch = above(known.epoch.max(ends.epoch))?;
    let now = Clock::system(opened.clock_floor).now();
    let voids_before = match lost {
        Lost::VoidIssuedBefore(moment) => Some(moment),
        // What was issued in this very second too.
        Lost::VoidIssuedBeforeNow => Some(now.plus(1)),
        Lost::NothingWasRevoked => None,
    };
    let voided = voids_before.map_or(0, |moment| count_issued_before(&opened.index, moment));
    let begins = Revision { epoch, sequence: ends.sequence };
    let told = NewEpoch { ends, known, begins, voids_before, voided };
    if dry_run {
        opened.journal.close().map_err(failed)?;
        return Ok(told);
    }
    let begins = replace(config, &secrets, &dir, opened, epoch, voids_before, now)?;
    drop(dir);
    finish(config, &secrets)?;
    Ok(NewEpoch { begins, ..told })
}

/// A new epoch that is above `known`, whatever the clock says.
fn above(known: Epoch) -> Result<Epoch, StartError> {
    let drawn = new_epoch()?;
    if drawn > known {
        return Ok(drawn);
    }
    let next = (known.0 >> EPOCH_RANDOM_BITS).checked_add(1).filter(|next| *next < 1 << (64 - EPOCH_RANDOM_BITS));
    let next = next.ok_or_else(|| failed(format!("there is no epoch above {:016x}", known.0)))?;
    Ok(Epoch(next << EPOCH_RANDOM_BITS | (drawn.0 & ((1 << EPOCH_RANDOM_BITS) - 1))))
}

fn count_issued_before(index: &Index, moment: Timestamp) -> u64 {
    let mut count = 0;
    index.pin().for_each_token(|token| count += u64::from(!token.revoked && token.times.issued < moment));
    count
}

/// Writes the snapshot and the journal of the new epoch, and puts the journal in the place of the old one. Where the new
/// list stands.
fn replace(
    config: &Config,
    secrets: &Secrets,
    dir: &DataDir,
    opened: Opened,
    epoch: Epoch,
    voids_before: Option<Timestamp>,
    now: Timestamp,
) -> Result<Revision, StartError> {
    let Opened { index, writer, journal: old, .. } = opened;
    let last = writer.applied();
    let beside = dir.file_path(BESIDE_NAME).map_err(failed)?;
    // What an attempt that was cut off has left.
    match dir.disk().remove(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let options = journal_options(config);
    let mut new = RedbJournal::create_after(&beside, secrets.journal(), epoch, last, options).map_err(failed)?;
    let start = new.head();
    if let Some(moment) = voids_before {
        let by = CallerId::parse("new-epoch").map_err(failed)?;
        let change = Change::Revoke(Target::IssuedBefore(moment, Among::All));
        new.commit(&[Entry { sequence: last.next(), at: now, by, change }]).map_err(failed)?;
    }
    let end = new.head();
    Box::new(new).close().map_err(failed)?;

    // As of the place before the entry, which is replayed.
    let revision = Revision { epoch, sequence: last };
    let (tokens, grants) = {
        let pin = index.pin();
        (pin.tokens(), u64::from(pin.grants()))
    };
    let header = Header {
        epoch,
        sequence: last,
        chain: start.chain.0,
        pepper: secrets.pepper.fingerprint(),
        created: now,
        highest_now: now,
        tokens,
        grants,
    };
    let give =
        |put: &mut snapshot::Put<'_>| index.sections(&mut |table, index, words| put(Section { table, index, words }));
    snapshot::write(dir, &snapshot::file_name(revision), secrets.snapshot(), &header, give).map_err(failed)?;
    old.close().map_err(failed)?;
    let path = dir.file_path(JOURNAL_NAME).map_err(failed)?;
    // From here on the directory is of the new epoch.
    dir.disk().rename(&beside, &path).map_err(failed)?;
    dir.sync().map_err(failed)?;
    Ok(Revision { epoch: end.epoch, sequence: end.last })
}

/// Opens the new list as any start would, and writes a snapshot and the high-water mark; files of the epoch before go.
fn finish(config: &Config, secrets: &Secrets) -> Result<(), StartError> {
    let (dir, opened) = recover(config, secrets)?;
    let StoreParts { held, .. } = run(dir, opened, config, secrets, NOBODY_FOLLOWS);
    let written = held.snapshot();
    super::StoreControl::close(&*held).map_err(failed)?;
    written.map(drop).map_err(failed)
}
