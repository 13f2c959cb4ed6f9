//! The few things we ask of a file system.
//!
//! [`DataDir`] is the directory a server keeps its state in: private to one user, held by one process, its files
//! written whole or not at all. Below it stands the trait [`Disk`], a dozen calls, so that a test can put a disk in
//! its place that fails, forgets or tears; [`FileDisk`] is the real one.
//!
//! # Durability
//! A file that was published ([`PendingFile::publish`], [`DataDir::write`]) has been synced under a temporary name
//! before it was renamed, and the directory has been synced after: what stands under a final name is whole, and stays
//! after a power cut. An error may mean "it is there all the same", never "half of it is there".
//!
//! It does not retry a failed sync (the kernel may already have marked the lost pages clean), tells how much space is
//! free but keeps none, knows nothing of what the files mean, and never deletes a damaged file: it is set aside for people to look at.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
pub(crate) mod tests;

/// Why the file system did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was to be done, as a verb: `create`, `sync the directory`.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process holds the data directory.
    #[error(
        "the data directory {} is in use by another process{}: stop that process, or name another directory",
        path.display(), holder.map(|pid| format!(" (process id {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The process that said it holds it, as far as its lock file can be read.
        holder: Option<u32>,
    },
    /// Other users may write the data directory, so nothing in it could be believed.
    #[error(
        "the data directory {} may be written by other users (mode {mode:04o}): \
         `chmod 700` it if it is meant for this server alone, or name another directory", path.display()
    )]
    Exposed {
        /// The data directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is larger than its reader allows.
    #[error("{} has {bytes} bytes, {bytes_max} at most are allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most that was allowed.
        bytes_max: u64,
    },
    /// A file name that is not one plain name inside the directory.
    #[error("{name:?} is not a plain file name")]
    Name {
        /// The name.
        name: String,
    },
}

/// Bytes that a file in this directory may still take, as far as its file system tells: another process may take them
/// first, and some file systems do not know.
pub fn space_left(directory: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(directory).ok()?;
    told.f_bavail.checked_mul(told.f_frsize)
}

impl DiskError {
    /// An [`DiskError::Io`] of this action on this path, for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A file system. Every call the data directory and the snapshots make goes through here.
#[expect(clippy::missing_errors_doc, reason = "every call fails as its system call does; what matters beyond is said")]
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes one directory, mode 0700; its parent exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The permission bits of a directory; an error of kind `NotADirectory` if it is something else.
    fn dir_mode(&self, path: &Path) -> io::Result<u32>;
    /// Takes the lock that this file stands for, and writes this process's id into the file. The lock is given back
    /// when the value is dropped. An error of kind `WouldBlock` if somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Makes a new file, mode 0600, for writing and reading. An error of kind `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a regular file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The names in a directory, unordered; names that are not UTF-8 are none of ours and left out.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Gives a file another name in its directory; a file of that name is replaced in the same instant.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names made, changed and deleted in this directory survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file of a [`Disk`]. Reads may be made by several threads at once.
#[expect(clippy::missing_errors_doc, reason = "every call fails as its system call does; what matters beyond is said")]
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads at most `buffer.len()` bytes from offset `at`; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes some of `bytes` at offset `at`, and says how many.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Makes what was written, and the length, survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

impl dyn DiskFile + '_ {
    /// Fills `buffer` from offset `at`.
    ///
    /// # Errors
    /// Of kind `UnexpectedEof` if the file ends before; else what reading said.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, at) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    at += count as u64;
                    buffer = buffer.split_at_mut(count.min(buffer.len())).1;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A lock that is held as long as this value lives.
pub trait Lock: fmt::Debug + Send + Sync {}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDisk;

impl Disk for FileDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn dir_mode(&self, path: &Path) -> io::Result<u32> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            Ok(metadata.permissions().mode() & 0o7777)
        } else {
            Err(ErrorKind::NotADirectory.into())
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // For people and for the error message of the second process; nothing depends on it, so it is not synced.
        file.set_len(0)?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
        Ok(Box::new(FileLock(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Looked at first, because opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Box::new(File::open(path)?))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The file whose lock is held; closing it gives the lock back.
#[derive(Debug)]
struct FileLock(#[expect(dead_code, reason = "held for its lock, which ends when the file is closed")] File);

impl Lock for FileLock {}

impl DiskFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        // Not `sync_data`: it costs one write of the inode more per file, and leaves no doubt about the length.
        self.sync_all()
    }
}

/// The name of the lock file.
const LOCK_NAME: &str = "lock";
/// What a temporary name ends in, before its number.
const TEMPORARY_MARK: &str = ".tmp-";
/// What the name of a file that was set aside ends in, before its number.
const DAMAGED_MARK: &str = ".damaged-";
/// How many temporary names are tried before giving up; each is taken only if an earlier removal failed.
const TEMPORARY_TRIES_MAX: u32 = 64;

/// A directory of ours: private, locked against a second process for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Numbers the temporary names, so that two threads never write the same file.
    next_temporary: AtomicU64,
    _lock: Box<dyn Lock>,
}

impl DataDir {
    /// Opens the directory, making it (mode 0700) if there is none, takes its lock, and deletes temporary files that
    /// an interrupted process has left.
    ///
    /// # Errors
    /// [`DiskError::InUse`] if another process has it, [`DiskError::Exposed`] if other users may write it, or what the
    /// file system said.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DiskError> {
        Self::open_on(Arc::new(FileDisk), path)
    }

    /// The same on a disk of the caller's choice.
    ///
    /// # Errors
    /// As [`DataDir::open`].
    pub fn open_on(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Result<Self, DiskError> {
        let path = path.into();
        let mode = match disk.dir_mode(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create_dir_synced(disk.as_ref(), &path)?;
                disk.dir_mode(&path)
            }
            other => other,
        };
        let mode = mode.map_err(DiskError::io("use as the data directory", &path))?;
        // Files are 0600, so others who may look learn names and sizes only. Others who may write could swap files.
        if mode & 0o022 != 0 {
            return Err(DiskError::Exposed { path, mode });
        }
        let lock_path = path.join(LOCK_NAME);
        let lock = match disk.lock(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(DiskError::InUse { holder: holder(disk.as_ref(), &lock_path), path });
            }
            Err(source) => return Err(DiskError::Io { action: "lock", path: lock_path, source }),
        };
        let dir = Self { path, disk, next_temporary: AtomicU64::new(0), _lock: lock };
        for name in dir.list()? {
            if is_numbered(&name, TEMPORARY_MARK) {
                let path = dir.path.join(&name);
                dir.disk.remove(&path).map_err(DiskError::io("delete the unfinished file", &path))?;
            }
        }
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk it is on.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The path of a file in it.
    ///
    /// # Errors
    /// [`DiskError::Name`] unless `name` is one plain name.
    pub fn file_path(&self, name: &str) -> Result<PathBuf, DiskError> {
        let plain = !matches!(name, "" | "." | ".." | LOCK_NAME) && !name.contains(['/', '\0']);
        if plain { Ok(self.path.join(name)) } else { Err(DiskError::Name { name: name.to_owned() }) }
    }

    /// The names of the files in it, sorted; the lock file is not among them.
    ///
    /// # Errors
    /// The directory could not be read.
    pub fn list(&self) -> Result<Vec<String>, DiskError> {
        let mut names = self.disk.names(&self.path).map_err(DiskError::io("list", &self.path))?;
        names.retain(|name| name != LOCK_NAME);
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a whole file of at most `bytes_max` bytes; `None` if there is none of that name.
    ///
    /// # Errors
    /// It is larger, or could not be read.
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.file_path(name)?;
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(DiskError::io("open", &path))?,
        };
        let bytes = file.bytes().map_err(DiskError::io("measure", &path))?;
        let size = usize::try_from(bytes).ok().filter(|_| bytes <= bytes_max);
        let Some(size) = size else { return Err(DiskError::TooLarge { path, bytes, bytes_max }) };
        let mut content = vec![0; size];
        file.read_exact_at(&mut content, 0).map_err(DiskError::io("read", &path))?;
        Ok(Some(content))
    }

    /// Writes a whole small file: afterwards the name holds all of `content` or what it held before.
    ///
    /// # Errors
    /// As [`PendingFile::publish`].
    ///
    /// # Durability
    /// Survives a power cut once this has returned without error.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), DiskError> {
        let mut file = self.create(name)?;
        file.append(content)?;
        file.publish()
    }

    /// Begins a file that is written piece by piece, under a temporary name until it is published.
    ///
    /// # Errors
    /// The file could not be made.
    pub fn create(&self, name: &str) -> Result<PendingFile<'_>, DiskError> {
        let target = self.file_path(name)?;
        let mut tries = 0;
        loop {
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let path = self.path.join(format!("{name}{TEMPORARY_MARK}{number}"));
            match self.disk.create(&path) {
                Ok(file) => {
                    return Ok(PendingFile {
                        dir: self,
                        file,
                        path,
                        target,
                        bytes: 0,
                        synced: false,
                        published: false,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TEMPORARY_TRIES_MAX => tries += 1,
                Err(source) => return Err(DiskError::Io { action: "create", path, source }),
            }
        }
    }

    /// Opens a file that its owner writes in place (the journal), making it with mode 0600 if there is none. It is
    /// the plain file of the operating system: whoever writes in place brings a seam of their own for tests.
    ///
    /// # Errors
    /// The file could not be opened, or the directory not synced.
    ///
    /// # Durability
    /// The name survives a power cut; what is written later is the owner's affair.
    pub fn open_in_place(&self, name: &str) -> Result<File, DiskError> {
        let path = self.file_path(name)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(DiskError::io("open", &path))?;
        self.sync()?;
        Ok(file)
    }

    /// Deletes a file, for good.
    ///
    /// # Errors
    /// It could not be deleted, or it may come back after a power cut.
    pub fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.file_path(name)?;
        self.disk.remove(&path).map_err(DiskError::io("delete", &path))?;
        self.sync()
    }

    /// Sets a damaged file aside as `NAME.damaged-N`, N being the first number that is free, and says the new name.
    /// Nothing ever deletes it but people.
    ///
    /// # Errors
    /// It could not be renamed, or its old name may come back after a power cut.
    pub fn quarantine(&self, name: &str) -> Result<String, DiskError> {
        let path = self.file_path(name)?;
        let names = self.list()?;
        let mut number = 1_u64;
        let aside = loop {
            let aside = format!("{name}{DAMAGED_MARK}{number}");
            if names.binary_search(&aside).is_err() {
                break aside;
            }
            number += 1;
        };
        self.disk.rename(&path, &self.path.join(&aside)).map_err(DiskError::io("set aside", &path))?;
        self.sync()?;
        Ok(aside)
    }

    /// Makes names made, changed and deleted in the directory survive a power cut.
    ///
    /// # Errors
    /// The sync failed; do not try again, find out at the next start.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.disk.sync_dir(&self.path).map_err(DiskError::io("sync the directory", &self.path))
    }
}

/// A file under a temporary name. Dropped before it is published, it is deleted.
#[derive(Debug)]
pub struct PendingFile<'d> {
    dir: &'d DataDir,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    target: PathBuf,
    bytes: u64,
    /// Nothing has been written since the last sync.
    synced: bool,
    published: bool,
}

impl PendingFile<'_> {
    /// Where it is now: its temporary path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends all of `content`. Nothing is buffered here, so give large pieces.
    ///
    /// # Errors
    /// The disk failed or is full; give the file up.
    pub fn append(&mut self, content: &[u8]) -> Result<(), DiskError> {
        self.write_all(content).map_err(DiskError::io("write", &self.path))
    }

    /// Makes what was written survive a power cut, still under the temporary name. Does nothing if nothing was written
    /// since the last time.
    ///
    /// # Errors
    /// The sync failed; give the file up, a second sync would say nothing true.
    pub fn sync(&mut self) -> Result<(), DiskError> {
        if !self.synced {
            self.file.sync().map_err(DiskError::io("sync", &self.path))?;
            self.synced = true;
        }
        Ok(())
    }

    /// Syncs the file, gives it its final name in place of whatever had it, and syncs the directory.
    ///
    /// # Errors
    /// Before the rename: the final name is untouched. In the directory's sync: the final name holds the old file or
    /// the whole new one.
    ///
    /// # Durability
    /// Survives a power cut once this has returned without error.
    pub fn publish(mut self) -> Result<(), DiskError> {
        self.sync()?;
        self.dir.disk.rename(&self.path, &self.target).map_err(DiskError::io("rename", &self.path))?;
        self.published = true;
        self.dir.sync()
    }
}

impl Write for PendingFile<'_> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        self.synced = false;
        let count = self.file.write_at(content, self.bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PendingFile<'_> {
    fn drop(&mut self) {
        if !self.published {
            // If this fails too, the next start sweeps it away.
            let _ = self.dir.disk.remove(&self.path);
        }
    }
}

/// Makes a directory and the parents it lacks, each durable in its own parent.
fn create_dir_synced(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if matches!(disk.dir_mode(parent), Err(error) if error.kind() == ErrorKind::NotFound) && parent != path {
        create_dir_synced(disk, parent)?;
    }
    match disk.create_dir(path) {
        // Somebody else was faster, perhaps a second process of ours; the lock decides.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(DiskError::io("create the directory", path)),
    }?;
    disk.sync_dir(parent).map_err(DiskError::io("sync the directory", parent))
}

/// Which process says it holds this lock.
fn holder(disk: &dyn Disk, lock_path: &Path) -> Option<u32> {
    let mut content = [0; 16];
    let count = disk.open(lock_path).ok()?.read_at(&mut content, 0).ok()?;
    std::str::from_utf8(content.get(..count)?).ok()?.trim().parse().ok()
}

/// Whether the name is `SOMETHING` + `mark` + digits.
fn is_numbered(name: &str, mark: &str) -> bool {
    name.rsplit_once(mark).is_some_and(|(stem, number)| {
        !stem.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
