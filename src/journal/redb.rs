//! The journal on redb: this file and the folder beside it are the only ones that run redb's transactions.
//!
//! Promises:
//! * What [`Journal::commit`] returned `Ok` for is synced to disk, all of the batch together with the head that speaks
//!   of it. Durability is `Immediate`, always.
//! * A failed write or sync, or a panic inside redb, poisons the journal: every later commit is refused, nothing is
//!   tried again on the same file, and the next start finds out what is there.
//! * What is read back is what was committed, in its place, entry by entry, up to the head; or an error.
//! * A missing, empty, foreign or altered file is an error, never an empty journal.
//!
//! It does not keep its own high-water mark: an old file put in place of a new one is found by comparing [`Head`] with
//! what the service wrote down elsewhere. It does not keep space in reserve for a full disk, but tells how much is left.
//!
//! **Why the default commit, and not quick-repair.** The default commit is one sync. With quick-repair a commit needs
//! two and writes the record of free pages each time, and gives a fast opening after an unclean stop. Every change waits
//! for a commit, while an unclean stop is rare, and its cost (one walk over the file) is bounded by discarding behind
//! snapshots. Besides, what quick-repair saves is the very walk that [`PageCheck::Always`] asks for, because redb says
//! of itself that a plain opening of an altered file may panic. `FORMAT.md` has the figures; the ignored test
//! `measure_commits_and_reopening` makes them.
//!
//! **Why panics are caught.** For that same reason: redb promises an error for an altered file only where it checks
//! pages. `sheltered` turns a panic of redb into damage (reading) or poison (writing). Our own code runs outside it.

// Reading entries, with every check there is.
mod read;
// Calls into redb, whose panics become errors.
mod shelter;

use std::path::{Path, PathBuf};

use ::redb::backends::FileBackend;
use ::redb::{Builder, Durability, ReadableDatabase, StorageBackend, Table, TableDefinition};

use self::shelter::{Fault, FaultKind, Sheltered, sheltered};
use super::chain::{Keys, Links};
use super::file::{Counted, Length, Making, find};
use super::head::HeadRow;
use super::row::{Position, Rows};
use super::{ChainHash, FORMAT, Head, Journal, JournalError};
use crate::disk::{Disk, FileDisk, space_left};
use crate::domain::{Entry, Epoch, Sequence};
use crate::secrets::Ring;

/// Rows by the sequence of their first entry.
const ENTRIES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("entries");
/// The head, under [`HEAD_KEY`].
const HEADS: TableDefinition<'static, u8, &'static [u8]> = TableDefinition::new("head");
const HEAD_KEY: u8 = 0;
/// Rows deleted in one journal transaction: at most 16 MiB of usual rows, so that no commit waits long behind one.
const DISCARD_ROWS_MAX: usize = 256;

/// How the journal uses memory and time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// What redb may keep of the file in memory, in bytes. Default: 32 MiB (redb's own is 1 GiB).
    pub cache_bytes: usize,
    /// When to check every page on opening. Default: always.
    pub page_check: PageCheck,
}

/// When opening checks every page of the file against redb's checksums and rebuilds its record of free pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageCheck {
    /// At every opening: reads the whole file once. An altered record of free pages could otherwise make a commit
    /// write over entries.
    Always,
    /// Before the first commit, so that whoever only asks need not wait: at opening if the file was not closed
    /// properly, else by [`Journal::make_ready`]. Entries are checked one by one when they are read, whatever redb says.
    BeforeCommits,
    /// Only when the file was not closed properly. The entries are still checked one by one when they are read.
    AfterUncleanStop,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, page_check: PageCheck::Always }
    }
}

/// A [`Journal`] in one file of redb's. Holding one is holding the file's lock.
pub struct RedbJournal {
    database: Sheltered,
    keys: Keys,
    links: Links,
    /// The head as it is on disk.
    head: HeadRow,
    /// The rows of the batch in hand; kept for its memory.
    rows: Rows,
    /// How long the file is.
    length: Length,
    /// Where the file is, if it is one: its disk may fill up.
    directory: Option<PathBuf>,
    /// Every page has still to be checked before anything is written.
    unchecked: bool,
    /// Why nothing is done any more.
    poison: Option<String>,
}

impl RedbJournal {
    /// Makes an empty journal, with the mode 0600, under a key nobody else has.
    ///
    /// # Durability
    /// On return the file is synced, and its directory too. A crash before that leaves no file of this name.
    ///
    /// # Errors
    /// [`JournalError::Storage`]: the file exists already, or cannot be made.
    pub fn create(path: &Path, key: impl Into<Ring>, epoch: Epoch, options: Options) -> Result<Self, JournalError> {
        let ring = key.into();
        let start = Position { sequence: Sequence::ZERO, chain: Keys::new(&ring).links(epoch).start };
        Self::create_from(path, ring, epoch, start, options)
    }

    /// Makes a journal that goes on from `last`, whose MAC is `chain`: what a snapshot knows. Entries up to `last` count
    /// as discarded.
    ///
    /// # Durability
    /// As [`RedbJournal::create`].
    ///
    /// # Errors
    /// As [`RedbJournal::create`].
    pub fn create_at(
        path: &Path,
        key: impl Into<Ring>,
        epoch: Epoch,
        last: Sequence,
        chain: ChainHash,
        options: Options,
    ) -> Result<Self, JournalError> {
        Self::create_from(path, key, epoch, Position { sequence: last, chain }, options)
    }

    /// Makes the journal of a new epoch whose list goes on from what was at `last` in the one before. Entries up to
    /// `last` count as discarded; a snapshot of the new epoch has to stand there, with the chain value of the head.
    ///
    /// # Durability
    /// As [`RedbJournal::create`].
    ///
    /// # Errors
    /// As [`RedbJournal::create`].
    pub fn create_after(
        path: &Path,
        key: impl Into<Ring>,
        epoch: Epoch,
        last: Sequence,
        options: Options,
    ) -> Result<Self, JournalError> {
        let ring = key.into();
        let start = Position { sequence: last, chain: Keys::new(&ring).links(epoch).start };
        Self::create_from(path, ring, epoch, start, options)
    }

    fn create_from(
        path: &Path,
        key: impl Into<Ring>,
        epoch: Epoch,
        start: Position,
        options: Options,
    ) -> Result<Self, JournalError> {
        let open = |beside: &Path| file_backend(find(beside).map_err(storage)?);
        let journal = Self::make(&FileDisk, path, open, |backend| Self::begin(backend, key, epoch, start, options))?;
        Ok(Self { directory: directory_of(path), ..journal })
    }

    /// [`RedbJournal::create`], step by step, on a disk of the caller's choice: for power cuts simulated by tests. `open`
    /// gives a file of that disk as storage.
    ///
    /// # Durability
    /// As [`RedbJournal::create`].
    ///
    /// # Errors
    /// As [`RedbJournal::create`], and what `open` said.
    pub fn create_in<B: StorageBackend>(
        disk: &dyn Disk,
        path: &Path,
        open: impl FnOnce(&Path) -> Result<B, JournalError>,
        key: impl Into<Ring>,
        epoch: Epoch,
        options: Options,
    ) -> Result<Self, JournalError> {
        Self::make(disk, path, open, |backend| Self::create_on(backend, key, epoch, options))
    }

    fn make<B: StorageBackend>(
        disk: &dyn Disk,
        path: &Path,
        open: impl FnOnce(&Path) -> Result<B, JournalError>,
        begin: impl FnOnce(B) -> Result<Self, JournalError>,
    ) -> Result<Self, JournalError> {
        let making = Making::begin(disk, path).map_err(storage)?;
        let journal = begin(open(making.beside())?)?;
        making.finish().map_err(storage)?;
        Ok(journal)
    }

    /// Makes an empty journal on any storage, which must be empty: for faults injected by tests.
    ///
    /// # Errors
    /// [`JournalError::Storage`]: the storage is not empty, or failed.
    pub fn create_on(
        backend: impl StorageBackend,
        key: impl Into<Ring>,
        epoch: Epoch,
        options: Options,
    ) -> Result<Self, JournalError> {
        let ring = key.into();
        let start = Position { sequence: Sequence::ZERO, chain: Keys::new(&ring).links(epoch).start };
        Self::begin(backend, ring, epoch, start, options)
    }

    /// Opens a journal that is there.
    ///
    /// # Errors
    /// [`JournalError::Storage`]: the file is missing, empty or unreadable. [`JournalError::InUse`]: another process
    /// has it. [`JournalError::Format`]: it is no journal, or one of another version. [`JournalError::Damaged`]: it was
    /// altered, or the key is another. None of them changes an entry.
    pub fn open(path: &Path, key: impl Into<Ring>, options: Options) -> Result<Self, JournalError> {
        let journal = Self::open_on(file_backend(find(path).map_err(storage)?)?, key, options)?;
        Ok(Self { directory: directory_of(path), ..journal })
    }

    /// Opens a journal on any storage: for faults injected by tests.
    ///
    /// # Errors
    /// As [`RedbJournal::open`].
    pub fn open_on(backend: impl StorageBackend, key: impl Into<Ring>, options: Options) -> Result<Self, JournalError> {
        let (database, length) = database(backend, options, Content::Kept)?;
        let keys = Keys::new(key);
        let head = sheltered(|| {
            let reading = database.begin_read()?;
            let heads = reading.open_table(HEADS)?;
            Ok(heads.get(HEAD_KEY)?.map(|bytes| bytes.value().to_vec()))
        });
        let (head, generation) = match head {
            Ok(Some(bytes)) => HeadRow::decode(&keys, &bytes)?,
            Ok(None) => return Err(JournalError::Format { found: 0, known: FORMAT }),
            Err(Fault { kind: FaultKind::NotThere, .. }) => {
                return Err(JournalError::Format { found: 0, known: FORMAT });
            }
            Err(fault) => return Err(fault.at(Sequence::ZERO)),
        };
        let links = keys.links(head.epoch);
        let unchecked = options.page_check == PageCheck::BeforeCommits;
        let mut journal = Self { unchecked, ..Self::over(database, keys, links, head, length) };
        journal.check_ends()?;
        // The process died between the new keys and the new head: done now, so that the old keys can go one day.
        if generation != journal.keys.newest() && head.revision() >= journal.keys.newest_after() {
            journal.make_ready()?;
            journal.write(head, |_, _| Ok(()))?;
        }
        Ok(journal)
    }

    fn begin(
        backend: impl StorageBackend,
        key: impl Into<Ring>,
        epoch: Epoch,
        start: Position,
        options: Options,
    ) -> Result<Self, JournalError> {
        let (database, length) = database(backend, options, Content::New)?;
        let keys = Keys::new(key);
        let links = keys.links(epoch);
        let head = HeadRow { epoch, end: start, start };
        let mut journal = Self::over(database, keys, links, head, length);
        match journal.write(head, |_, _| Ok(())) {
            Ok(_) => Ok(journal),
            Err(JournalError::Poisoned(what)) => Err(JournalError::Storage(what)),
            Err(error) => Err(error),
        }
    }

    fn over(database: Sheltered, keys: Keys, links: Links, head: HeadRow, length: Length) -> Self {
        let rows = Rows::default();
        Self { database, keys, links, head, rows, length, directory: None, unchecked: false, poison: None }
    }

    /// One journal transaction: `change` to the rows, and the head with it.
    fn write(
        &mut self,
        head: HeadRow,
        change: impl FnOnce(&Rows, &mut Table<'_, u64, &'static [u8]>) -> Result<(), ::redb::Error>,
    ) -> Result<Head, JournalError> {
        let sealed = head.encode(&self.keys);
        let written = sheltered(|| {
            let mut writing = self.database.begin_write()?;
            writing.set_durability(Durability::Immediate)?;
            {
                let mut entries = writing.open_table(ENTRIES)?;
                change(&self.rows, &mut entries)?;
                let mut heads = writing.open_table(HEADS)?;
                heads.insert(HEAD_KEY, sealed.as_slice())?;
            }
            // Survives from here on: the rows and the head, together.
            Ok(writing.commit()?)
        });
        match written {
            Ok(()) => {
                self.head = head;
                Ok(head.head())
            }
            Err(fault) => Err(self.poisoned(fault.text)),
        }
    }

    fn poisoned(&mut self, what: String) -> JournalError {
        JournalError::Poisoned(self.poison.get_or_insert(what).clone())
    }

    fn sound(&self) -> Result<(), JournalError> {
        self.poison.as_ref().map_or(Ok(()), |what| Err(JournalError::Poisoned(what.clone())))
    }
}

impl Journal for RedbJournal {
    fn head(&self) -> Head {
        self.head.head()
    }

    /// A page that is not what redb wrote poisons the journal, even where redb could mend it: it may have mended it by
    /// going back to an older root. What is on disk is found out by the next opening, which checks first.
    fn make_ready(&mut self) -> Result<(), JournalError> {
        self.sound()?;
        if !self.unchecked {
            return Ok(());
        }
        let Self { database, .. } = self;
        match sheltered(|| Ok(database.check_integrity()?)) {
            Ok(true) => {
                self.unchecked = false;
                Ok(())
            }
            Ok(false) => Err(self.poisoned("pages of the file were altered; start again to find out which".to_owned())),
            Err(fault) => Err(self.poisoned(format!("its pages were checked: {}", fault.text))),
        }
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        self.make_ready()?;
        if batch.is_empty() {
            return Ok(self.head.head());
        }
        if self.head.revision() < self.keys.newest_after() {
            let (end, after) = (self.head.revision(), self.keys.newest_after());
            return Err(self.poisoned(format!("it ends at {end}, and the newest keys begin after {after}")));
        }
        let end = self
            .rows
            .build(&self.links, self.head.end, batch)
            .map_err(|error| JournalError::Storage(format!("nothing of the batch was written: {error}")))?;
        let head = HeadRow { end, ..self.head };
        let committed = self.write(head, |rows, entries| {
            for (first, row) in rows.iter() {
                if entries.insert(first.0, row)?.is_some() {
                    return Err(::redb::Error::Corrupted(format!("there already is a row {first} beyond the head")));
                }
            }
            Ok(())
        });
        self.rows.clear();
        committed
    }

    fn read_after(
        &self,
        after: Sequence,
        chain: Option<ChainHash>,
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        self.read(after, chain, &mut |_| (), visit)
    }

    /// Deletes whole rows, a limited number in one journal transaction. The row `through` stands in stays unless it ends
    /// there, so the head may say less than was asked for. An error poisons the journal if it came while deleting.
    fn discard_through(&mut self, through: Sequence) -> Result<(), JournalError> {
        self.make_ready()?;
        while let Some((rows, start)) = self.discardable(through, DISCARD_ROWS_MAX)? {
            let head = HeadRow { start, ..self.head };
            self.write(head, |_, entries| rows.iter().try_for_each(|row| Ok(entries.remove(row).map(drop)?)))?;
        }
        Ok(())
    }

    fn rekey(&mut self, ring: &Ring) -> Result<(), JournalError> {
        self.make_ready()?;
        let before = self.keys.newest();
        self.keys = Keys::new(ring);
        self.links = self.keys.links(self.head.epoch);
        if self.keys.newest() != before {
            self.write(self.head, |_, _| Ok(()))?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.length.bytes()
    }

    fn space_left(&self) -> Option<u64> {
        self.directory.as_deref().and_then(space_left)
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        let Self { database, poison, .. } = *self;
        let closed = database.close();
        match poison {
            Some(what) => Err(JournalError::Poisoned(what)),
            None => closed.map_err(|fault| JournalError::Storage(fault.text)),
        }
    }
}

/// What the storage holds before redb is let at it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing: redb makes a new file of it.
    New,
    /// A journal. Nothing at all would make redb begin a new one, which must not happen.
    Kept,
}

fn database(
    backend: impl StorageBackend,
    options: Options,
    content: Content,
) -> Result<(Sheltered, Length), JournalError> {
    let (backend, length) = Counted::new(backend).map_err(storage)?;
    match (content, length.bytes()) {
        (Content::Kept, 0) => return Err(storage("the file is empty, which a journal never is; restore it")),
        (Content::New, 1..) => return Err(storage("the storage of a new journal is not empty")),
        _ => {}
    }
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder.set_check_integrity_on_open(options.page_check == PageCheck::Always && content == Content::Kept);
    let database = sheltered(|| Ok(builder.create_with_backend(backend)?));
    let database = database.map_err(|fault| match fault.kind {
        FaultKind::InUse => JournalError::InUse,
        FaultKind::Foreign => JournalError::Format { found: 0, known: FORMAT },
        _ => fault.at(Sequence::ZERO),
    })?;
    Ok((Sheltered::new(database), length))
}

/// The directory of the file `path`.
fn directory_of(path: &Path) -> Option<PathBuf> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

fn file_backend(file: std::fs::File) -> Result<FileBackend, JournalError> {
    FileBackend::new(file).map_err(storage)
}

fn storage(what: impl std::fmt::Display) -> JournalError {
    JournalError::Storage(what.to_string())
}
