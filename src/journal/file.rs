//! The journal's file: made whole or not at all, found or refused, its length counted.
//!
//! Promises: a file that has just been made has the mode 0600, is complete, and its name survives a power cut (redb
//! does not sync the directory; this does). A missing or empty file is an error, never an empty journal.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redb::{BackendError, StorageBackend};

use crate::disk::Disk;

/// A file that is being made, under a name of its own until it is complete.
pub(super) struct Making<'d> {
    disk: &'d dyn Disk,
    file: PathBuf,
    beside: PathBuf,
}

impl<'d> Making<'d> {
    /// Begins the file `path`, empty. What an earlier attempt left behind is thrown away: it never had the name.
    ///
    /// # Errors
    /// There already is such a file, or the directory cannot be written.
    pub(super) fn begin(disk: &'d dyn Disk, path: &Path) -> io::Result<Self> {
        match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let what = format!("{} exists already; a journal is never overwritten", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match disk.remove(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        drop(disk.create(&beside)?);
        Ok(Self { disk, file: path.to_owned(), beside })
    }

    /// The file under the name it has meanwhile.
    pub(super) fn beside(&self) -> &Path {
        &self.beside
    }

    /// Gives the complete and synced file its name, and makes that survive a power cut.
    ///
    /// # Errors
    /// The directory cannot be written or synced.
    pub(super) fn finish(self) -> io::Result<()> {
        self.disk.rename(&self.beside, &self.file)?;
        let directory = match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Survives: the file's name. Without this a power cut could take the whole journal away.
        self.disk.sync_dir(directory)
    }
}

/// Finds the file of a journal.
///
/// # Errors
/// It is missing or cannot be opened.
pub(super) fn find(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| {
        let what = format!(
            "{}: {error}; if it is lost, restore it: an empty journal would forget revocations",
            path.display()
        );
        io::Error::new(error.kind(), what)
    })
}

/// How long the storage is, in bytes, as last seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Length(Arc<AtomicU64>);

impl Length {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Storage whose length can be asked for while redb has it. Passes everything on, the locks too: with the defaults of
/// the trait a file would not be locked.
#[derive(Debug)]
pub(super) struct Counted<B> {
    inner: B,
    length: Length,
}

impl<B: StorageBackend> Counted<B> {
    /// Wraps `inner`.
    ///
    /// # Errors
    /// Its length cannot be told.
    pub(super) fn new(inner: B) -> io::Result<(Self, Length)> {
        let length = Length::default();
        length.0.store(inner.len()?, Ordering::Relaxed);
        Ok((Self { inner, length: length.clone() }, length))
    }
}

impl<B: StorageBackend> StorageBackend for Counted<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)?;
        self.length.0.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
