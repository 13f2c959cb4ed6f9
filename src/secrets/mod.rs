//! The secrets of a data directory: the pepper, the MAC keys, the keys of the QUIC endpoint.
//!
//! Made once, with the system's randomness, and never overwritten: whoever loses this file loses the journal and the
//! snapshots with it, because nothing in them can be verified or found again. So a data directory that already has a
//! journal or a snapshot and no secrets is refused, not given new ones.
//!
//! ```text
//!   0  magic          8  "TKSECRET"
//!   8  version        4  little-endian, 1
//!  12  algorithm      1  of the pepper: 1 = SipHash-2-4-128
//!  13  zero           3
//!  16  pepper        16
//!  32  journal key   32  MAC of each entry, and of the chain
//!  64  snapshot key  32  MAC of each chunk
//!  96  reset key     32  QUIC stateless resets: the same after a restart, so that peers learn of it at once
//! 128  token key     32  QUIC address validation tokens
//! 160  checksum      32  SHA-256 of everything before it, against accidents
//! 192
//! ```
//!
//! The file has mode 0600; one that others can read is refused. Nothing here prints a secret; memory is wiped.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

use crate::domain::Pepper;

const MAGIC: &[u8; 8] = b"TKSECRET";
/// The version of the file that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// The pepper's algorithm: SipHash-2-4 with 128 bits of output.
const SIPHASH_2_4_128: u8 = 1;
const BYTES: usize = 192;
const CHECKSUM_AT: usize = 160;

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
    #[error("the secrets file {path} has version {found}; this program reads version {VERSION}", path = path.display())]
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

/// The secrets, in memory. `Debug` shows nothing; wiped when dropped.
#[derive(Clone)]
pub struct Secrets {
    /// What token digests are hashed under.
    pub pepper: Pepper,
    /// MAC key of the journal.
    pub journal: [u8; 32],
    /// MAC key of snapshots.
    pub snapshot: [u8; 32],
    /// Key of QUIC's stateless resets.
    pub quic_reset: [u8; 32],
    /// Key of QUIC's address validation tokens.
    pub quic_token: [u8; 32],
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        // The pepper wipes itself.
        for key in [&mut self.journal, &mut self.snapshot, &mut self.quic_reset, &mut self.quic_token] {
            key.zeroize();
        }
    }
}

/// The bytes of the file; wiped when dropped.
struct Image([u8; BYTES]);

impl Drop for Image {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secrets {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It is missing, readable by others, damaged, or of another version.
    pub fn open(path: &Path) -> Result<Self, SecretsError> {
        let io = |what| move |source| SecretsError::Io { path: path.to_owned(), what, source };
        let damaged = |what: String| SecretsError::Damaged { path: path.to_owned(), what };
        let mut file = File::open(path).map_err(io("opened"))?;
        let meta = file.metadata().map_err(io("looked at"))?;
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretsError::Mode { path: path.to_owned(), mode });
        }
        if meta.len() != BYTES as u64 {
            return Err(damaged(format!("it has {} bytes instead of {BYTES}", meta.len())));
        }
        let mut image = Image([0; BYTES]);
        file.read_exact(&mut image.0).map_err(io("read"))?;
        if image.part::<8>(0) != *MAGIC {
            return Err(damaged("it does not begin with TKSECRET".to_owned()));
        }
        let version = u32::from_le_bytes(image.part(8));
        if version != VERSION {
            return Err(SecretsError::Version { path: path.to_owned(), found: version });
        }
        if image.part::<32>(CHECKSUM_AT) != image.checksum() {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        let [algorithm] = image.part(12);
        if algorithm != SIPHASH_2_4_128 {
            return Err(damaged(format!("it names the unknown pepper algorithm {algorithm}")));
        }
        Ok(image.secrets())
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
        let mut image = Image([0; BYTES]);
        image.put(0, MAGIC);
        image.put(8, &VERSION.to_le_bytes());
        image.put(12, &[SIPHASH_2_4_128]);
        let mut unique = [0; 8];
        let random = SystemRandom::new();
        random.fill(&mut image.0[16..CHECKSUM_AT]).map_err(|_| SecretsError::Random)?;
        random.fill(&mut unique).map_err(|_| SecretsError::Random)?;
        let checksum = image.checksum();
        image.put(CHECKSUM_AT, &checksum);

        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let temporary = directory.join(format!(".secrets.{:016x}", u64::from_le_bytes(unique)));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io("created"))?;
        let written = file.write_all(&image.0).and_then(|()| file.sync_all());
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
        Ok(image.secrets())
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

impl Image {
    /// The `N` bytes at `at`. Offsets are the constants of the drawing, inside the array.
    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.0[at..at + N]);
        part
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn checksum(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0[..CHECKSUM_AT]);
        let mut checksum = [0; 32];
        checksum.copy_from_slice(digest.as_ref());
        checksum
    }

    fn secrets(&self) -> Secrets {
        let mut pepper: [u8; 16] = self.part(16);
        let secrets = Secrets {
            pepper: Pepper::from_bytes(&pepper),
            journal: self.part(32),
            snapshot: self.part(64),
            quic_reset: self.part(96),
            quic_token: self.part(128),
        };
        pepper.zeroize();
        secrets
    }
}
