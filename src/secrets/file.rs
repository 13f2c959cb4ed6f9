//! One whole secrets file in place of another: how a generation of keys comes and goes.
//!
//! ```text
//! write beside it ─ sync ─│─ rename over it ─ sync the directory ─► the new one is in force
//!      fails: the old one stands, go on   │  fails: either may come back, nothing more may be sealed
//! ```
//!
//! Promises: the name holds the whole old file or the whole new one, after any failure and any power cut. On return
//! without an error it is the new one, for good. Which of the two it is after a failed rename or a failed sync of the
//! directory, only a start finds out: whoever seals things with these keys has to stop ([`RotateError::Unclear`]).

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image::Image;
use super::{GENERATIONS_MAX, Generation, Ring, Secrets, SecretsError, directory_of, random};
use crate::disk::Disk;
use crate::domain::Revision;

/// What a new file is called until it is whole. A data directory that is opened sweeps such names away.
const TEMPORARY_END: &str = ".tmp-0";

/// Why there is no new generation.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Too many are kept already. Nothing was changed.
    #[error(
        "{GENERATIONS_MAX} generations of keys are kept, and each is still needed by a snapshot or by the journal; wait \
         for the next snapshots (or make one), and rotate then"
    )]
    Full,
    /// Nothing was changed: the old file stands.
    #[error("the keys were not rotated: {0}")]
    NotWritten(SecretsError),
    /// The old file or the new one: only a start finds out.
    #[error("whether the keys were rotated is not known before a restart: {0}")]
    Unclear(SecretsError),
}

/// The secrets together with the file they stand in. The one writer of the list has it.
#[derive(Debug)]
pub struct KeyFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    secrets: Secrets,
}

/// Makes the file's name survive a power cut before anything is built on what it says: the process that put it there may
/// have died before it had.
///
/// # Errors
/// The directory cannot be synced.
pub fn settle(disk: &dyn Disk, path: &Path) -> Result<(), SecretsError> {
    disk.sync_dir(directory_of(path)).map_err(io(path, "made durable"))
}

impl KeyFile {
    /// What `path` on this disk holds.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf, secrets: Secrets) -> Self {
        Self { disk, path, secrets }
    }

    /// The secrets in force.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// How many generations are kept.
    pub fn kept(&self) -> usize {
        self.secrets.generations.len()
    }

    /// Makes a generation that is in force after this place of the list, where the chain has this value. Durable on
    /// return. Blocks for two syncs.
    ///
    /// # Errors
    /// See [`RotateError`]; after `Unclear` nothing may be sealed any more, with any key.
    pub fn rotate(&mut self, after: Revision, chain: [u8; 32]) -> Result<(), RotateError> {
        if self.kept() >= GENERATIONS_MAX {
            return Err(RotateError::Full);
        }
        let newest = &self.secrets.generations[self.kept() - 1];
        let refused = |what: &str| {
            let what = io::Error::other(format!("{what}, after generation {} at {}", newest.number, newest.after));
            RotateError::NotWritten(io_error(&self.path, "replaced", what))
        };
        if after < newest.after {
            return Err(refused(&format!("there can be no generation at {after}")));
        }
        let number = newest.number.checked_add(1).ok_or_else(|| refused("there are no more numbers"))?;
        let key = || random().map_err(RotateError::NotWritten);
        let next = Generation { number, after, chain, journal: key()?, snapshot: key()? };
        let mut secrets = self.secrets.clone();
        secrets.generations.push(next);
        self.replace(secrets)
    }

    /// Forgets the generations before the one with this number: nothing on the disk needs them. Says whether there were
    /// any. What a failure leaves is as good as what was before, since more keys than needed harm nothing.
    ///
    /// # Errors
    /// The file was not replaced, or perhaps was.
    pub fn drop_before(&mut self, number: u32) -> Result<bool, RotateError> {
        let mut secrets = self.secrets.clone();
        // Never all of them, whatever the number.
        let newest = secrets.generations[self.kept() - 1].number;
        secrets.generations.retain(|one| one.number >= number.min(newest));
        if secrets.generations.len() == self.kept() {
            return Ok(false);
        }
        self.replace(secrets)?;
        Ok(true)
    }

    /// The MAC keys of the journal.
    pub fn journal(&self) -> Ring {
        self.secrets.journal()
    }

    /// The MAC keys of snapshots.
    pub fn snapshot(&self) -> Ring {
        self.secrets.snapshot()
    }

    fn replace(&mut self, secrets: Secrets) -> Result<(), RotateError> {
        let image = Image::second(&secrets);
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(TEMPORARY_END);
        let beside = PathBuf::from(beside);
        if let Err(error) = self.write_beside(&beside, image.bytes()) {
            // What is left there is swept away by the next attempt, or the next start.
            let _ = self.disk.remove(&beside);
            return Err(RotateError::NotWritten(io_error(&self.path, "written anew", error)));
        }
        let unclear = |error| RotateError::Unclear(io_error(&self.path, "replaced", error));
        self.disk.rename(&beside, &self.path).map_err(unclear)?;
        self.disk.sync_dir(directory_of(&self.path)).map_err(unclear)?;
        self.secrets = secrets;
        Ok(())
    }

    /// A whole, synced file under the other name.
    fn write_beside(&self, beside: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.disk.remove(beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create(beside)?;
        let (mut rest, mut at) = (bytes, 0);
        while !rest.is_empty() {
            match file.write_at(rest, at) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    at += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        file.sync()
    }
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> SecretsError {
    SecretsError::Io { path: path.to_owned(), what, source }
}

fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::Io { path, what, source }
}
