//! The one writer: takes what waits, makes it durable, makes it visible, says so.
//!
//! It has the index's [`Writer`](IndexWriter) and the [`Journal`] by ownership, on a thread of its own; so "only the
//! writer changes the truth" is a fact of the types. Changes wait in two bounded queues: what takes rights away goes
//! before what gives them. A batch is whatever waits when the writer comes back from the last one: no timer, and no wait
//! for company.
//!
//! Each batch goes through **journal, index, feed, receipts**, in this order and in one function. What is announced is
//! durable and visible, so a follower that forgets and asks anew gets the new answer; and what has a receipt was
//! announced, so a fence that begins with the receipt waits for everybody who may not have heard of it.
//!
//! Before the disk is full it takes less: below the reserve only what takes rights away, below a quarter of it nothing.
//! So a full disk is found before a commit runs into it, questions go on, and with space again everything does.
//!
//! Which way it falls: if the journal fails, everything in flight is answered "unknown", everything later is refused,
//! and it stays so until a restart has read what is really on disk. Questions go on being answered from the last state
//! that was durable; readiness falls.

// What checkpoints want of the writer.
mod forget;
// New keys.
mod rotation;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::receipt::{Bell, Receipt, Reply, Tray};
use crate::domain::{
    CallerId, Change, Entry, GrantId, NewGrant, PolicyEntry, Sequence, Switch, Target, Timestamp, TokenKey,
};
use crate::feed::Feed;
use crate::index::{Admitted, Reject, Writer as IndexWriter};
use crate::journal::{Head, Journal, JournalError, entry};
use crate::secrets::{KeyFile, Ring};
use crate::tally::{BatchSizes, Latency};

pub(super) use forget::{Discard, Position};
use rotation::Asked;
pub use rotation::Rotated;

/// Limits of the writer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes that may wait in each of the two queues; more are refused as busy.
    pub waiting_max: usize,
    /// Changes in one batch: bounds how long the first of them waits for the last.
    pub batch_max: usize,
    /// Bytes of the journal's disk that are kept for changes that take rights away; below a quarter of them, no change
    /// is made at all.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { waiting_max: 65_536, batch_max: 4_096, reserve_bytes: 64 << 20 }
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// It cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// It names something that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// The queue is full.
    #[error("too many changes are waiting")]
    Busy,
    /// The writer has stopped; nothing was written.
    #[error("changes are refused: {0}")]
    Unavailable(String),
    /// The journal failed meanwhile; whether the change is durable is known after a restart.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

impl From<Reject> for CommitError {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::Invalid(what) => Self::Invalid(what),
            Reject::NotFound(what) => Self::NotFound(what),
            Reject::Conflict(what) | Reject::Full(what) => Self::Conflict(what),
        }
    }
}

/// A change that is durable and visible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Its place in the list (the last one, if it said nothing new).
    pub sequence: Sequence,
    /// The grant it made.
    pub grant: Option<GrantId>,
}

struct Waiting {
    by: CallerId,
    at: Timestamp,
    change: Change,
    reply: Reply,
}

#[derive(Default)]
struct Queues {
    /// What takes rights away.
    urgent: VecDeque<Waiting>,
    normal: VecDeque<Waiting>,
    /// What a verified snapshot has made superfluous.
    discard: Option<Discard>,
    /// Somebody wants new keys.
    rotate: Option<Asked>,
    /// Why no more changes are taken.
    closed: Option<String>,
    stop: bool,
    /// The writer waits to be woken. Nobody calls it while it is awake: it looks again before it sleeps.
    asleep: bool,
}

impl Queues {
    fn of(&mut self, change: &Change) -> &mut VecDeque<Waiting> {
        if takes_away(change) { &mut self.urgent } else { &mut self.normal }
    }
}

/// The kinds of changes that are told apart in numbers.
pub const KINDS: [&str; 7] = ["client", "scope", "member", "policy", "grant", "token", "revocation"];

/// The place of a change's kind in [`KINDS`].
fn kind(change: &Change) -> usize {
    match change {
        Change::RegisterClient(_) | Change::SwitchClient(..) | Change::SwitchSubject(..) => 0,
        Change::AddScope(_) | Change::AliasScope(..) | Change::RetireScope(_) => 1,
        Change::AddMember(..) | Change::RemoveMember(..) => 2,
        Change::SetPolicyMode(..) | Change::SwitchPersonal(..) | Change::SetPolicyEntry(..) => 3,
        Change::MakeGrant(_) | Change::NarrowGrant(..) | Change::ExtendGrant(..) | Change::ImportMark { .. } => 4,
        Change::RegisterToken(_) => 5,
        Change::Revoke(_) => 6,
    }
}

/// The writer in numbers, for whoever scrapes.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Changes made, by kind in the order of [`KINDS`].
    pub changes: [AtomicU64; KINDS.len()],
    /// How long commits took.
    pub commits: Latency,
    /// How many changes were made durable together.
    pub batches: BatchSizes,
    /// Entries the journal holds.
    pub journal_entries: AtomicU64,
    /// Bytes of the journal on disk.
    pub journal_bytes: AtomicU64,
    /// Tokens swept out of memory after their end.
    pub swept: AtomicU64,
    /// Whether the journal has failed.
    pub poisoned: AtomicBool,
    /// The generation of MAC keys in force; zero if the store keeps no file of them.
    pub key_generation: AtomicU32,
    /// How many generations are kept.
    pub key_generations: AtomicU32,
    /// Rotations made.
    pub key_rotations: AtomicU64,
    /// What of the changes the disk still has room for, as [`Room`]'s number.
    room: AtomicU8,
}

/// What of the changes the journal's disk has room for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Room {
    /// All.
    Enough = 0,
    /// Those that take rights away: the reserve is begun.
    Reserve = 1,
    /// None: a commit could run into the end of the disk, and then nothing but a restart would help.
    Nothing = 2,
}

impl Room {
    fn of(left: Option<u64>, reserve: u64) -> Self {
        match left {
            Some(left) if left < reserve / 4 => Self::Nothing,
            Some(left) if left < reserve => Self::Reserve,
            _ => Self::Enough,
        }
    }
}

impl WriterStats {
    /// What the disk had room for when the last changes came.
    pub fn room(&self) -> Room {
        match self.room.load(Relaxed) {
            0 => Room::Enough,
            1 => Room::Reserve,
            _ => Room::Nothing,
        }
    }
}

struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
    limits: Limits,
    /// The last batch that is durable and visible, with its MAC: where a snapshot may say it stands.
    position: Mutex<Head>,
    stats: WriterStats,
    feed: Feed,
    /// The keys of snapshots, if the writer has the file they stand in.
    keys: Mutex<Option<Ring>>,
}

impl Shared {
    /// Nothing is written any more, until a restart.
    fn poison(&self, why: &str) {
        self.stats.poisoned.store(true, Relaxed);
        self.queues().closed = Some(why.to_owned());
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // A panic while this lock is held leaves the queues whole: every use is a few pushes and pops.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn position(&self) -> Head {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to change anything. Cheap to clone.
#[derive(Clone)]
pub struct Committer(Arc<Shared>);

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl Committer {
    /// Hands a change to the writer. It is in the queue on return; the receipt tells what became of it.
    pub fn commit(&self, by: CallerId, change: Change, at: Timestamp) -> Receipt {
        let (reply, receipt) = Reply::to_one();
        match self.enqueue(Waiting { by, at, change, reply }) {
            Ok(()) => receipt,
            Err(why) => Receipt::refused(why),
        }
    }

    /// Hands a change to the writer, for somebody who has many in flight: what became of it is laid in the tray, with
    /// the tag.
    ///
    /// # Errors
    /// It was refused at once, and nothing is laid in the tray.
    pub fn commit_to_tray(
        &self,
        by: CallerId,
        change: Change,
        at: Timestamp,
        tray: &Arc<Tray>,
        tag: u32,
    ) -> Result<(), CommitError> {
        self.enqueue(Waiting { by, at, change, reply: Reply::to_tray(Arc::clone(tray), tag) })
    }

    fn enqueue(&self, waiting: Waiting) -> Result<(), CommitError> {
        let mut queues = self.0.queues();
        if let Some(why) = &queues.closed {
            let why = why.clone();
            waiting.reply.cancel();
            return Err(CommitError::Unavailable(why));
        }
        let queue = queues.of(&waiting.change);
        if queue.len() >= self.0.limits.waiting_max {
            waiting.reply.cancel();
            return Err(CommitError::Busy);
        }
        queue.push_back(waiting);
        let asleep = std::mem::take(&mut queues.asleep);
        drop(queues);
        if asleep {
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Where changes are read aloud.
    pub fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// Whether changes are taken.
    pub fn is_open(&self) -> bool {
        self.0.queues().closed.is_none()
    }
}

/// The roof's hold on the writer: its numbers, its end.
pub struct Control {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), JournalError>>>,
}

impl Control {
    /// The writer in numbers.
    pub fn stats(&self) -> &WriterStats {
        &self.shared.stats
    }

    /// Changes that wait.
    pub fn waiting(&self) -> usize {
        let queues = self.shared.queues();
        queues.urgent.len() + queues.normal.len()
    }

    /// Why no changes are taken, if so.
    pub fn closed(&self) -> Option<String> {
        self.shared.queues().closed.clone()
    }

    /// The last batch that is durable and visible.
    pub fn position(&self) -> Head {
        self.shared.position()
    }

    /// Another hold on the same position, for the checkpoints.
    pub(super) fn for_checkpoints(&self) -> Position {
        Position(Arc::clone(&self.shared))
    }

    /// Takes no more changes, makes the waiting ones durable, closes the journal.
    ///
    /// # Errors
    /// The journal failed meanwhile or while closing.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), JournalError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        {
            let mut queues = self.shared.queues();
            queues.stop = true;
            queues.closed.get_or_insert_with(|| "the service is shutting down".into());
        }
        self.shared.wake.notify_all();
        thread.join().unwrap_or_else(|_| Err(JournalError::Poisoned("the writer panicked".into())))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Whoever wants to see the error calls `close`.
        let _ = self.stop();
    }
}

/// Whether a change takes rights away: those go first, and find room when others do not.
fn takes_away(change: &Change) -> bool {
    match change {
        Change::Revoke(_) | Change::RemoveMember(..) | Change::NarrowGrant(..) | Change::RetireScope(_) => true,
        Change::SwitchClient(_, switch) | Change::SwitchSubject(_, switch) | Change::SwitchPersonal(_, switch) => {
            *switch == Switch::Off
        }
        Change::SetPolicyEntry(_, _, entry) => matches!(entry, PolicyEntry::Block | PolicyEntry::Unapprove),
        Change::SetPolicyMode(_, mode) => *mode == crate::domain::PolicyMode::ApprovalRequired,
        _ => false,
    }
}

/// Starts the writer's thread over an index and a journal that agree.
///
/// # Panics
/// If the journal's head is not where the index and the feed stand: recovery has brought them together before.
pub fn start(index: IndexWriter, journal: Box<dyn Journal>, feed: Feed, limits: Limits) -> (Committer, Control) {
    start_with(index, journal, feed, limits, None)
}

/// The same, with the file of the journal's and the snapshots' keys, which can then be rotated.
///
/// # Panics
/// As [`start`].
pub fn start_with(
    index: IndexWriter,
    journal: Box<dyn Journal>,
    feed: Feed,
    limits: Limits,
    keys: Option<KeyFile>,
) -> (Committer, Control) {
    let head = journal.head();
    assert_eq!(head.last, index.applied(), "index and journal stand at the same place when the writer starts");
    assert_eq!(head.last, feed.head(), "the feed begins where index and journal stand");
    let shared = Arc::new(Shared {
        queues: Mutex::default(),
        wake: Condvar::new(),
        limits,
        position: Mutex::new(head),
        stats: WriterStats::default(),
        feed,
        keys: Mutex::default(),
    });
    keys.iter().for_each(|keys| shared.take_keys(keys));
    shared.stats.journal_bytes.store(journal.bytes(), Relaxed);
    shared.stats.journal_entries.store(head.last.0 - head.discarded.0, Relaxed);
    let (batch, pending) = (Vec::new(), Pending::default());
    let worker = Worker { shared: Arc::clone(&shared), index, journal, keys, batch, pending };
    let thread = std::thread::Builder::new().name("writer".into()).spawn(move || worker.run());
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => panic!("the writer's thread cannot be started: {error}"),
    };
    (Committer(Arc::clone(&shared)), Control { shared, thread: Some(thread) })
}

/// What the batch at hand already holds, as far as it bears on the next change.
#[derive(Default)]
struct Pending {
    keys: HashSet<TokenKey>,
    grants: u32,
    scopes: bool,
}

struct Worker {
    shared: Arc<Shared>,
    index: IndexWriter,
    journal: Box<dyn Journal>,
    keys: Option<KeyFile>,
    batch: Vec<(Entry, Reply, Option<GrantId>)>,
    pending: Pending,
}

/// What the writer was asked beside changes.
struct Beside {
    discard: Option<Discard>,
    rotate: Option<Asked>,
    stop: bool,
}

/// How long the writer sleeps when nothing waits, before it looks for tokens to sweep.
const IDLE: Duration = Duration::from_millis(100);
/// Segments swept in one idle step: the whole table in about 13 seconds.
const SWEEP_SEGMENTS: usize = 8;

impl Worker {
    fn run(mut self) -> Result<(), JournalError> {
        let mut taken = Vec::new();
        let mut now = Timestamp::ZERO;
        // Questions are answered meanwhile; changes wait.
        if let Err(error) = self.journal.make_ready() {
            self.shared.poison(&error.to_string());
        }
        loop {
            let Beside { discard, rotate, stop } = self.take(&mut taken);
            let idle = taken.is_empty() && discard.is_none() && rotate.is_none();
            if !idle {
                let left = self.journal.space_left();
                self.shared.stats.room.store(Room::of(left, self.shared.limits.reserve_bytes) as u8, Relaxed);
            }
            for waiting in taken.drain(..) {
                now = now.max(waiting.at);
                self.admit(waiting);
            }
            self.flush();
            if let Some(asked) = rotate {
                self.rotate(asked);
            }
            if let Some(discard) = discard {
                self.discard(discard);
            }
            if stop && idle {
                return self.journal.close();
            }
            if idle && now > Timestamp::ZERO {
                let swept = self.index.sweep(SWEEP_SEGMENTS, now);
                self.shared.stats.swept.fetch_add(swept as u64, Relaxed);
            }
        }
    }

    /// Takes what waits, up to a batch; sleeps if nothing does.
    fn take(&self, taken: &mut Vec<Waiting>) -> Beside {
        let mut queues = self.shared.queues();
        let nothing = queues.urgent.is_empty() && queues.normal.is_empty();
        if nothing && queues.discard.is_none() && queues.rotate.is_none() && !queues.stop {
            queues.asleep = true;
            queues = match self.shared.wake.wait_timeout(queues, IDLE) {
                Ok((queues, _)) => queues,
                Err(poisoned) => poisoned.into_inner().0,
            };
            queues.asleep = false;
        }
        let max = self.shared.limits.batch_max;
        let urgent = queues.urgent.len().min(max);
        taken.extend(queues.urgent.drain(..urgent));
        let normal = queues.normal.len().min(max - urgent);
        taken.extend(queues.normal.drain(..normal));
        Beside { discard: queues.discard.take(), rotate: queues.rotate.take(), stop: queues.stop }
    }

    fn poisoned(&self) -> bool {
        self.shared.stats.poisoned.load(Relaxed)
    }

    /// Puts a change into the batch at hand, or answers why not.
    fn admit(&mut self, waiting: Waiting) {
        if self.poisoned() {
            let why = self.shared.queues().closed.clone().unwrap_or_default();
            waiting.reply.send(Err(CommitError::Unavailable(why)));
            return;
        }
        let room = self.shared.stats.room();
        if room == Room::Nothing || (room == Room::Reserve && !takes_away(&waiting.change)) {
            let what = if room == Room::Nothing { "no change" } else { "no change that gives rights" };
            let why = format!("the disk of the data directory is full, and {what} is made until it has space again");
            waiting.reply.send(Err(CommitError::Unavailable(why)));
            return;
        }
        if let Err(too_long) = entry::fits(&waiting.change) {
            waiting.reply.send(Err(CommitError::Invalid(too_long.to_string())));
            return;
        }
        if self.must_flush_before(&waiting.change) {
            self.flush();
        }
        let mut admitted = self.index.admit(&waiting.change, waiting.at);
        if admitted.is_err() && !self.batch.is_empty() {
            // What it needs may be in the batch at hand: make that visible, and look again.
            self.flush();
            admitted = self.index.admit(&waiting.change, waiting.at);
        }
        match admitted {
            Err(reject) => {
                waiting.reply.send(Err(reject.into()));
            }
            Ok(Admitted::Already) => {
                // Said before, and durable since; but perhaps only in the batch at hand.
                self.flush();
                waiting.reply.send(Ok(Committed { sequence: self.index.applied(), grant: None }));
            }
            Ok(Admitted::New) => self.push(waiting),
        }
    }

    /// Whether the change could contradict one in the batch, which `admit` cannot see yet.
    fn must_flush_before(&self, change: &Change) -> bool {
        match change {
            Change::RegisterToken(token) => self.pending.keys.contains(&token.key),
            Change::Revoke(Target::Token(key)) => self.pending.keys.contains(key),
            Change::AddScope(_) | Change::AliasScope(..) | Change::RetireScope(_) => self.pending.scopes,
            _ => false,
        }
    }

    fn push(&mut self, waiting: Waiting) {
        let Waiting { by, at, mut change, reply } = waiting;
        let mut grant = None;
        match &mut change {
            Change::MakeGrant(NewGrant { id, .. }) => {
                let next = self.index.next_grant().and_then(|next| GrantId::new(next.number() + self.pending.grants));
                let Some(next) = next else {
                    reply.send(Err(CommitError::Conflict("no more grants fit".into())));
                    return;
                };
                *id = next;
                grant = Some(next);
                self.pending.grants += 1;
            }
            Change::RegisterToken(token) => {
                self.pending.keys.insert(token.key);
            }
            Change::Revoke(Target::Token(key)) => {
                self.pending.keys.insert(*key);
            }
            Change::AddScope(_) | Change::AliasScope(..) | Change::RetireScope(_) => self.pending.scopes = true,
            _ => {}
        }
        let sequence = Sequence(self.index.applied().0 + self.batch.len() as u64 + 1);
        self.batch.push((Entry { sequence, at, by, change }, reply, grant));
    }

    /// Journal, then index, then feed, then receipts.
    #[expect(clippy::disallowed_methods, reason = "measures, and decides nothing by it")]
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.pending = Pending::default();
        let (entries, replies): (Vec<Entry>, Vec<_>) =
            self.batch.drain(..).map(|(entry, reply, grant)| (entry, (reply, grant))).unzip();
        let begun = Instant::now();
        let committed = self.journal.commit(&entries);
        let stats = &self.shared.stats;
        let head = match committed {
            Ok(head) => head,
            Err(error) => {
                let why = error.to_string();
                self.shared.poison(&why);
                let mut bell = Bell::default();
                for (reply, _) in replies {
                    reply.lay(Err(CommitError::Unknown(why.clone())), &mut bell);
                }
                return;
            }
        };
        stats.commits.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), 1);
        stats.batches.record(entries.len() as u64);
        stats.journal_bytes.store(self.journal.bytes(), Relaxed);
        stats.journal_entries.store(head.last.0 - head.discarded.0, Relaxed);
        for entry in &entries {
            stats.changes[kind(&entry.change)].fetch_add(1, Relaxed);
            self.index.apply(entry);
        }
        // Between index and receipts, see the head of this file.
        self.shared.feed.publish(&entries);
        *self.shared.position.lock().unwrap_or_else(PoisonError::into_inner) = head;
        let mut bell = Bell::default();
        for (entry, (reply, grant)) in entries.iter().zip(replies) {
            reply.lay(Ok(Committed { sequence: entry.sequence, grant }), &mut bell);
        }
    }
}
