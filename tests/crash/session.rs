//! A store on a simulated disk, run as the daemon runs it: the real journal on redb, the real snapshots, the real writer
//! on its own thread. Only the moments are arranged, so that the same seed makes the same calls in the same order.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokenscope::disk::DataDir;
use tokenscope::domain::{CallerId, Change, Entry, Epoch, Sequence, Target, Timestamp, TokenKey};
use tokenscope::index::Index;
use tokenscope::journal::{ChainHash, Head, Journal, JournalError, Options, RedbJournal};
use tokenscope::secrets::{self, KeyFile, Ring, Secrets};
use tokenscope::snapshot;
use tokenscope::store::{self, Checkpoints, CommitError, Committer, Control, JOURNAL_NAME, Keys, Limits, Opened};

use super::disk::CrashDisk;
use super::ledger::{Mark, NOW, is_alive};

const DATA: &str = "/data";
const EPOCH: Epoch = Epoch(77);
/// How long a test waits for the writer before it gives up: it never comes to that.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done wrong above the disk, to show that the checks find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misdeed {
    None,
    /// Says that a batch is durable before it was committed.
    AcknowledgesFirst,
    /// Forgets the journal when nothing has been said of a snapshot.
    ForgetsTooEarly,
    /// Leaves revocations out when the journal is read back into the index.
    SkipsRevocations,
    /// Leaves the last entry of each batch to be told, but not to be written.
    DropsAnEntry,
}

/// The secrets of a new store: those of a golden directory, so that the same seed makes the same bytes until keys are
/// rotated.
const FIRST_SECRETS: &[u8] = include_bytes!("../vectors/data-1/secrets");
const SECRETS_NAME: &str = "secrets";

fn keys(secrets: &Secrets) -> Keys {
    Keys { journal: secrets.journal(), snapshot: secrets.snapshot(), pepper: 3 }
}

/// The secrets on the disk, or new ones if nothing that needs some is there; by the rules of the daemon.
fn secrets(disk: &CrashDisk, dir: &DataDir, names: &[String]) -> Result<KeyFile, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let path = dir.file_path(SECRETS_NAME).map_err(|error| said(&error))?;
    if !names.iter().any(|name| name == SECRETS_NAME) {
        let needs = |name: &&String| *name == JOURNAL_NAME || store::belongs_to_a_store(name);
        if let Some(left) = names.iter().find(needs) {
            return Err(format!("there is {left} but no secrets"));
        }
        dir.write(SECRETS_NAME, FIRST_SECRETS).map_err(|error| said(&error))?;
    }
    secrets::settle(disk, &path).map_err(|error| said(&error))?;
    let found = Secrets::open_on(disk, &path).map_err(|error| said(&error))?;
    Ok(KeyFile::new(Arc::new(disk.clone()), path, found))
}

/// Opens what is on the disk, or makes a store if there is none, by the rules of the daemon. Notes that it did.
///
/// # Errors
/// Why it refused to.
pub fn open(disk: &CrashDisk, misdeed: Misdeed) -> Result<(Arc<DataDir>, Opened, Arc<Watch>), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let dir = DataDir::open_on(Arc::new(disk.clone()), DATA).map_err(|error| said(&error))?;
    let path = dir.file_path(JOURNAL_NAME).map_err(|error| said(&error))?;
    let names = dir.list().map_err(|error| said(&error))?;
    let file = secrets(disk, &dir, &names)?;
    let keys = keys(file.secrets());
    let options = Options { cache_bytes: 1 << 20, ..Options::default() };
    let storage = |path: &Path| disk.storage(path).map_err(|error| JournalError::Storage(error.to_string()));
    let journal = if names.iter().any(|name| name == JOURNAL_NAME) {
        storage(&path).and_then(|storage| RedbJournal::open_on(storage, &keys.journal, options))
    } else if let Some(left) = names.iter().find(|name| store::belongs_to_a_store(name)) {
        return Err(format!("there is {left} but no journal"));
    } else {
        RedbJournal::create_in(disk, &path, storage, &keys.journal, EPOCH, options)
    };
    let journal = journal.map_err(|error| said(&error))?;
    let watch = Arc::new(Watch { keys: Mutex::new(Some(file)), ..Watch::default() });
    let watched = Watched {
        journal: Box::new(journal),
        disk: disk.clone(),
        watch: watch.clone(),
        misdeed,
        recovered: Cell::new(false),
    };
    let opened = store::open(&dir, Box::new(watched), &keys).map_err(|error| said(&error))?;
    disk.mark(Mark::Opened);
    Ok((Arc::new(dir), opened, watch))
}

/// What is known of a journal from outside, and the gate its writer passes before each batch.
#[derive(Debug, Default)]
pub struct Watch {
    seen: Mutex<Seen>,
    changed: Condvar,
    /// The file of keys, until a session takes it.
    keys: Mutex<Option<KeyFile>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was handed to the journal.
    handed: Vec<Entry>,
    committed: Sequence,
    discards: u32,
    gate_closed: bool,
    at_gate: bool,
}

impl Watch {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }

    fn wait_until(&self, done: impl Fn(&Seen) -> bool) {
        let waited = self.changed.wait_timeout_while(self.seen(), PATIENCE, |seen| !done(seen));
        let (_seen, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the writer does not come");
    }
}

/// The journal with somebody looking over its shoulder.
struct Watched {
    journal: Box<dyn Journal>,
    disk: CrashDisk,
    watch: Arc<Watch>,
    misdeed: Misdeed,
    /// Recovery has read the journal; whoever reads it now is the examiner.
    recovered: Cell<bool>,
}

impl Journal for Watched {
    fn head(&self) -> Head {
        self.journal.head()
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        let Some(end) = batch.last().map(|entry| entry.sequence) else { return self.journal.commit(batch) };
        self.watch.change(|seen| seen.handed.extend_from_slice(batch));
        self.disk.mark(Mark::Asked(end));
        if self.misdeed == Misdeed::AcknowledgesFirst {
            self.disk.mark(Mark::Acknowledged(end));
        }
        let head = match self.misdeed {
            Misdeed::DropsAnEntry if batch.len() > 1 => {
                let mut other = batch.to_vec();
                if let Some(last) = other.last_mut() {
                    last.change = Change::AddMember(super::ledger::subject("nobody"), super::script::place(0));
                }
                self.journal.commit(&other)?
            }
            _ => self.journal.commit(batch)?,
        };
        self.disk.mark(Mark::Acknowledged(end));
        if self.misdeed == Misdeed::ForgetsTooEarly {
            self.journal.discard_through(end)?;
        }
        self.watch.change(|seen| seen.committed = end);
        Ok(head)
    }

    fn read_after(
        &self,
        after: Sequence,
        chain: Option<ChainHash>,
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        if self.misdeed != Misdeed::SkipsRevocations || self.recovered.replace(true) {
            return self.journal.read_after(after, chain, visit);
        }
        self.journal.read_after(after, chain, &mut |entry, chain| {
            let mut entry = entry.clone();
            if matches!(entry.change, Change::Revoke(_)) {
                entry.change = Change::Revoke(Target::Token(TokenKey::from_bytes([0; 16])));
            }
            visit(&entry, chain)
        })
    }

    fn discard_through(&mut self, through: Sequence) -> Result<(), JournalError> {
        let discarded = self.journal.discard_through(through);
        self.watch.change(|seen| seen.discards += 1);
        discarded
    }

    fn rekey(&mut self, ring: &Ring) -> Result<(), JournalError> {
        self.journal.rekey(ring)
    }

    fn bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// The writer asks before every batch: here it can be made to wait until several changes have come.
    fn space_left(&self) -> Option<u64> {
        self.watch.change(|seen| seen.at_gate = true);
        self.watch.wait_until(|seen| !seen.gate_closed);
        self.watch.change(|seen| seen.at_gate = false);
        self.journal.space_left()
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        self.journal.close()
    }
}

/// A store whose writer runs.
pub struct Session {
    disk: CrashDisk,
    dir: Arc<DataDir>,
    index: Index,
    committer: Committer,
    control: Control,
    checkpoints: Checkpoints,
    watch: Arc<Watch>,
    now: Timestamp,
    living: Vec<TokenKey>,
    /// The keys were rotated since the last snapshot.
    rotated: bool,
}

impl Session {
    /// Starts the writer over what was opened. `living` are the tokens that may be alive.
    pub fn start(
        disk: &CrashDisk,
        dir: Arc<DataDir>,
        opened: Opened,
        watch: Arc<Watch>,
        living: Vec<TokenKey>,
    ) -> Self {
        let now = NOW.max(opened.clock_floor);
        let index = opened.index.clone();
        let feed = tokenscope::testing::feed_over(&*opened.journal);
        let file = watch.keys.lock().unwrap_or_else(PoisonError::into_inner).take().expect("one session each opening");
        let keys = keys(file.secrets());
        let limits = Limits::default();
        let (committer, control) = store::start_with(opened.writer, opened.journal, feed, limits, Some(file));
        let checkpoints = Checkpoints::new(dir.clone(), keys, index.clone(), &control, 2);
        let rotated = false;
        Self { disk: disk.clone(), dir, index, committer, control, checkpoints, watch, now, living, rotated }
    }

    /// Hands changes in, so that all but the first come as one batch, and waits for all. Some may be refused.
    pub fn change(&mut self, changes: &[Change]) {
        let by = CallerId::parse("crash").expect("an id");
        self.now = self.now.plus(1);
        let mut receipts = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            if let Change::RegisterToken(token) = change {
                self.living.push(token.key);
            }
            if number == 0 && changes.len() > 1 {
                self.watch.change(|seen| seen.gate_closed = true);
            }
            receipts.push(self.committer.commit(by.clone(), change.clone(), self.now));
            if number == 0 && changes.len() > 1 {
                self.watch.wait_until(|seen| seen.at_gate);
            }
        }
        self.watch.change(|seen| seen.gate_closed = false);
        for receipt in receipts {
            if let Ok(committed) = receipt.wait() {
                let durable = self.watch.seen().committed.max(Sequence(0));
                let before = self.watch.seen().handed.first().map(|entry| entry.sequence);
                let known = before.is_none_or(|first| committed.sequence < first);
                assert!(known || committed.sequence <= durable, "a receipt came before its change was durable");
            }
        }
        let (index, disk) = (&self.index, &self.disk);
        self.living.retain(|key| {
            let dead = index.pin().token(*key).is_some() && !is_alive(index, *key);
            if dead {
                disk.mark(Mark::Dead(*key));
            }
            !dead
        });
    }

    /// Writes a snapshot, and waits until the journal was shortened behind the one before.
    pub fn checkpoint(&mut self) {
        let nothing_new = self.checkpoints.last().is_some() && self.checkpoints.changes_since_last() == 0;
        if nothing_new && !std::mem::take(&mut self.rotated) {
            return;
        }
        self.rotated = false;
        let before = self.watch.seen().discards;
        self.checkpoints.write(self.now).expect("a sound disk");
        if snapshot::list(&self.dir).expect("listed").len() > 1 {
            self.watch.wait_until(|seen| seen.discards > before);
        }
    }

    /// Has the keys rotated; refused when there are as many generations as there may be.
    pub fn rotate(&mut self) {
        match self.committer.rotate_keys_blocking() {
            Ok(_) => self.rotated = true,
            Err(CommitError::Conflict(_)) => {}
            Err(error) => panic!("on a sound disk: {error}"),
        }
    }

    /// What was handed to the journal since the session began.
    pub fn handed(&self) -> Vec<Entry> {
        self.watch.seen().handed.clone()
    }

    /// Closes the store properly, and says which tokens may be alive.
    pub fn close(self) -> Vec<TokenKey> {
        self.control.close().expect("closed well");
        self.living
    }
}
