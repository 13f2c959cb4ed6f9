//! The secrets of a data directory: the pepper, the MAC keys, the keys of the QUIC endpoint.
//!
//! Made once, with the system's randomness: whoever loses this file loses the journal and the
//! snapshots with it, because nothing in them can be verified or found again. So a data directory that already has a
//! journal or a snapshot and no secrets is refused, not given new ones.
//!
//! A rotation ([`KeyFile::rotate`]) gives the journal and the snapshots new keys; the ones before stay as long as
//! something on the disk needs them. The pepper stays for ever: what is kept of a token cannot be computed again without
//! the token. `FORMAT.md` draws both versions of the file. A file is of version 1 until its first rotation, so that
//! an older program can be put back until then.
//!
//! Modules: `ring` (generations of one key), `image` (the bytes), `file` (one whole file in place of another).
//!
//! The file has mode 0600; one that others can read is refused. Nothing here prints a secret; memory is wiped.

mod file;
mod image;
mod ring;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ::ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

use self::image::{IMAGE_BYTES_MAX, Image};
use self::ring::BEGINNING;
use crate::disk::Disk;
use crate::domain::{Pepper, Revision};

pub use self::file::{KeyFile, RotateError, settle};
pub use self::ring::{Key, Ring};

/// The newest version of the file that is read and written; every one before is read too.
pub const VERSION: u32 = 2;
/// The most generations a file holds. One more is refused until a snapshot has made the oldest superfluous.
pub const GENERATIONS_MAX: usize = 8;

/// Why there are no secrets to work with.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The system refused.
    #[error("the secrets file {path} cannot be {what}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner can get at it.
    #[error("the secrets file {path} has mode {mode:04o}; others must not read it: chmod 600 {path}", path = path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not what was written.
    #[error("the secrets file {path} is damaged: {what}; restore it from its copy", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It was written by a newer program, or is none of ours.
    #[error("the secrets file {path} has version {found}; this program reads versions 1 to {VERSION}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// It is already there.
    #[error("the secrets file {path} exists and is not overwritten", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The secrets are gone and what they protected is not.
    #[error(
        "the secrets file {path} is missing, but {found} is there and useless without it; restore the secrets from \
         their copy (or start with an empty data directory)",
        path = path.display(), found = found.display()
    )]
    Missing {
        /// Where the secrets should be.
        path: PathBuf,
        /// What is there without them.
        found: PathBuf,
    },
    /// The system gave no randomness.
    #[error("the system gives no random numbers")]
    Random,
}

/// The keys that are in force from one place of the list to the next.
#[derive(Clone)]
pub(crate) struct Generation {
    number: u32,
    after: Revision,
    chain: [u8; 32],
    journal: [u8; 32],
    snapshot: [u8; 32],
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.journal.zeroize();
        self.snapshot.zeroize();
    }
}

/// The secrets, in memory. `Debug` shows nothing; wiped when dropped.
#[derive(Clone)]
pub struct Secrets {
    /// What token digests are hashed under.
    pub pepper: Pepper,
    /// Key of QUIC's stateless resets.
    pub quic_reset: [u8; 32],
    /// Key of QUIC's address validation tokens.
    pub quic_token: [u8; 32],
    /// Keys of journal and snapshots, oldest first; never empty.
    generations: Vec<Generation>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        // The pepper and the generations wipe themselves.
        self.quic_reset.zeroize();
        self.quic_token.zeroize();
    }
}

impl Secrets {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It is missing, readable by others, damaged, or of another version.
    pub fn open(path: &Path) -> Result<Self, SecretsError> {
        let io = |what| move |source| SecretsError::Io { path: path.to_owned(), what, source };
        let mut file = File::open(path).map_err(io("opened"))?;
        let meta = file.metadata().map_err(io("looked at"))?;
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretsError::Mode { path: path.to_owned(), mode });
        }
        // One byte more than the longest there is shows that a file is longer.
        let length = usize::try_from(meta.len()).unwrap_or(usize::MAX).min(IMAGE_BYTES_MAX + 1);
        let mut image = Image::new(length);
        file.read_exact(image.bytes_mut()).map_err(io("read"))?;
        image.secrets(path)
    }

    /// The same on a disk of the caller's choice, which has no modes to look at.
    ///
    /// # Errors
    /// As [`Secrets::open`].
    pub fn open_on(disk: &dyn Disk, path: &Path) -> Result<Self, SecretsError> {
        let io = |what| move |source| SecretsError::Io { path: path.to_owned(), what, source };
        let file = disk.open(path).map_err(io("opened"))?;
        let length = file.bytes().map_err(io("looked at"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(IMAGE_BYTES_MAX + 1);
        let mut image = Image::new(length);
        file.read_exact_at(image.bytes_mut(), 0).map_err(io("read"))?;
        image.secrets(path)
    }

    /// New ones, from the system's randomness, not written anywhere.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn random() -> Result<Self, SecretsError> {
        let mut pepper: [u8; 16] = random()?;
        let secrets = Self {
            pepper: Pepper::from_bytes(&pepper),
            quic_reset: random()?,
            quic_token: random()?,
            generations: vec![Generation {
                number: 1,
                after: BEGINNING,
                chain: [0; 32],
                journal: random()?,
                snapshot: random()?,
            }],
        };
        pepper.zeroize();
        Ok(secrets)
    }

    /// The MAC keys of the journal.
    pub fn journal(&self) -> Ring {
        self.ring(|generation| generation.journal)
    }

    /// The MAC keys of snapshots and of the high-water mark.
    pub fn snapshot(&self) -> Ring {
        self.ring(|generation| generation.snapshot)
    }

    fn ring(&self, key: impl Fn(&Generation) -> [u8; 32]) -> Ring {
        let of = |one: &Generation| Key { number: one.number, after: one.after, chain: one.chain, bytes: key(one) };
        Ring::new(self.generations.iter().map(of).collect())
    }

    /// Makes new secrets and writes them to `path`, which must not exist. Durable on return.
    ///
    /// # Errors
    /// The file exists, cannot be written, or there is no randomness.
    ///
    /// # Durability
    /// The content is synced before the name appears, the directory after: a crash leaves the whole file or none.
    pub fn create(path: &Path) -> Result<Self, SecretsError> {
        let io = |what| move |source| SecretsError::Io { path: path.to_owned(), what, source };
        let secrets = Self::random()?;
        let image = Image::first(&secrets);
        let unique: [u8; 8] = random()?;
        let directory = directory_of(path);
        let temporary = directory.join(format!(".secrets.{:016x}", u64::from_le_bytes(unique)));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io("created"))?;
        let written = file.write_all(image.bytes()).and_then(|()| file.sync_all());
        // A link, not a rename: a rename would overwrite what another process has just made.
        let linked = written.and_then(|()| fs::hard_link(&temporary, path));
        // Only the second name of the same file goes; if that fails, a stray copy with mode 0600 stays.
        let removed = fs::remove_file(&temporary);
        linked.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => SecretsError::Exists { path: path.to_owned() },
            _ => io("created")(e),
        })?;
        removed.map_err(io("created"))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("made durable"))?;
        Ok(secrets)
    }

    /// Reads the file at `path`, or makes it if the data directory is new. `data_dir` is looked at for a journal or a
    /// snapshot (names that begin so): what they hold needs the secrets they were made with.
    ///
    /// # Errors
    /// As [`Secrets::open`] and [`Secrets::create`]; and [`SecretsError::Missing`].
    pub fn open_or_create(path: &Path, data_dir: &Path) -> Result<Self, SecretsError> {
        match Self::open(path) {
            Err(SecretsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let entries = fs::read_dir(data_dir).map_err(|source| SecretsError::Io {
            path: path.to_owned(),
            what: "created, because its data directory cannot be listed",
            source,
        })?;
        let needs_secrets = |name: &str| name.starts_with("journal") || name.starts_with("snapshot");
        for entry in entries {
            let entry = entry.map_err(|source| SecretsError::Io { path: path.to_owned(), what: "created", source })?;
            // An empty directory for snapshots needs no secrets.
            let empty = || fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none());
            if entry.file_name().to_str().is_none_or(needs_secrets) && !empty() {
                return Err(SecretsError::Missing { path: path.to_owned(), found: entry.path() });
            }
        }
        Self::create(path)
    }
}

/// The directory a file stands in.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn random<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SecretsError::Random)?;
    Ok(bytes)
}
