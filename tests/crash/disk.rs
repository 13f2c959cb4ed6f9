//! A file system in memory that writes down everything it is asked, for [`platter`](super::platter) to say what of it
//! a power cut would leave.
//!
//! It serves both seams: [`Disk`] for the data directory, snapshots and the high-water mark, and redb's
//! [`StorageBackend`] for the journal. A call is logged in the moment it is done, so the log is the order the disk saw.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use tokenscope::disk::{Disk, DiskFile, Lock};

use super::image::Image;
use super::ledger::Mark;

/// A file, whatever its name is at the moment.
pub type FileId = usize;

/// One thing that was done, or one thing that was known, in order.
#[derive(Clone, Debug)]
pub enum Act {
    CreateDir(PathBuf),
    Create(PathBuf, FileId),
    Rename(PathBuf, PathBuf, FileId),
    Remove(PathBuf),
    SyncDir(PathBuf),
    Write(FileId, u64, Arc<[u8]>),
    SetLen(FileId, u64),
    Sync(FileId),
    /// No call to the disk: the ledger's note of what was asked for and acknowledged by here.
    Mark(Mark),
}

/// After so many syncs a new journal stands.
const SYNCS_OF_A_NEW_JOURNAL: u32 = 6;

/// What this disk does wrong, to show that the checks find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    None,
    /// Says the journal is synced, and does nothing, once it has been made.
    JournalSyncIgnored,
    /// The same every fifth time.
    JournalSyncSometimesIgnored,
    /// Says files of the data directory (snapshots, the mark) are synced, and does nothing.
    FileSyncIgnored,
    /// The same of secrets files alone.
    SecretsSyncIgnored,
    /// Says the directory is synced, and does nothing.
    DirectorySyncIgnored,
}

/// The files and names of a disk.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub files: BTreeMap<FileId, Image>,
    pub names: BTreeMap<PathBuf, FileId>,
    pub dirs: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    log: Vec<Act>,
    next_file: FileId,
    flaw: Flaw,
    journal_syncs: u32,
    /// Files that were made as secrets files.
    secrets: BTreeSet<FileId>,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug)]
pub struct CrashDisk(Arc<Mutex<State>>);

impl CrashDisk {
    /// A disk that holds this, all of it durable.
    pub fn holding(tree: Tree, flaw: Flaw) -> Self {
        let next_file = tree.files.keys().next_back().map_or(0, |last| last + 1);
        Self(Arc::new(Mutex::new(State {
            tree,
            log: Vec::new(),
            next_file,
            flaw,
            journal_syncs: 0,
            secrets: BTreeSet::new(),
        })))
    }

    /// Notes what is known now.
    pub fn mark(&self, mark: Mark) {
        self.state().log.push(Act::Mark(mark));
    }

    /// Everything so far, in order.
    pub fn log(&self) -> Vec<Act> {
        self.state().log.clone()
    }

    /// A file as storage for redb.
    pub fn storage(&self, path: &Path) -> io::Result<Storage> {
        let file = self.state().find(path)?;
        Ok(Storage(CrashFile { disk: self.clone(), file }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a test beside us leaves the state as whole as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<FileId> {
        self.tree.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn create(&mut self, path: &Path) -> FileId {
        let file = self.next_file;
        self.next_file += 1;
        self.tree.files.insert(file, Image::default());
        self.tree.names.insert(path.to_owned(), file);
        self.log.push(Act::Create(path.to_owned(), file));
        file
    }

    fn image(&mut self, file: FileId) -> &mut Image {
        self.tree.files.entry(file).or_default()
    }
}

impl Disk for CrashDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.tree.dirs.insert(path.to_owned()) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.log.push(Act::CreateDir(path.to_owned()));
        Ok(())
    }

    fn dir_mode(&self, path: &Path) -> io::Result<u32> {
        let there = path == Path::new("/") || self.state().tree.dirs.contains(path);
        if there { Ok(0o700) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        // One process has this disk. What stands in a lock file means nothing.
        let mut state = self.state();
        if state.find(path).is_err() {
            state.create(path);
        }
        Ok(Box::new(Held))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        if state.find(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = state.create(path);
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("secrets")) {
            state.secrets.insert(file);
        }
        Ok(Box::new(CrashFile { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.state().find(path)?;
        Ok(Box::new(CrashFile { disk: self.clone(), file }))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let here = state.tree.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.find(from)?;
        state.tree.names.remove(from);
        state.tree.names.insert(to.to_owned(), file);
        state.log.push(Act::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        state.tree.names.remove(path);
        state.log.push(Act::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.flaw != Flaw::DirectorySyncIgnored {
            state.log.push(Act::SyncDir(path.to_owned()));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Held;

impl Lock for Held {}

/// An open file.
#[derive(Clone, Debug)]
pub struct CrashFile {
    disk: CrashDisk,
    file: FileId,
}

impl CrashFile {
    fn put(&self, bytes: &[u8], at: u64) {
        let mut state = self.disk.state();
        state.image(self.file).write(at, bytes);
        state.log.push(Act::Write(self.file, at, bytes.into()));
    }
}

impl DiskFile for CrashFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().image(self.file).len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        Ok(self.disk.state().image(self.file).read(at, buffer))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.put(bytes, at);
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let is_secrets = state.secrets.contains(&self.file);
        let ignored = if is_secrets { Flaw::SecretsSyncIgnored } else { Flaw::FileSyncIgnored };
        if state.flaw != ignored {
            state.log.push(Act::Sync(self.file));
        }
        Ok(())
    }
}

/// An open file, as redb wants it.
#[derive(Debug)]
pub struct Storage(CrashFile);

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.0.read_at(out, offset)?;
        if read == out.len() { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.disk.state();
        state.image(self.0.file).set_len(len);
        state.log.push(Act::SetLen(self.0.file, len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.disk.state();
        state.journal_syncs += 1;
        let ignored = match state.flaw {
            Flaw::JournalSyncIgnored => state.journal_syncs > SYNCS_OF_A_NEW_JOURNAL,
            Flaw::JournalSyncSometimesIgnored => state.journal_syncs.is_multiple_of(5),
            _ => false,
        };
        if !ignored {
            state.log.push(Act::Sync(self.0.file));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.put(data, offset);
        Ok(())
    }
}
