//! Tests of the store: recovery and its ladder, checkpoints, the writer when the journal fails.

mod order;
mod rotation;
mod space;
mod tray;

use std::sync::Arc;

use super::{Checkpoints, CommitError, Control, JOURNAL_NAME, Keys, Limits, OpenError, Recovered, start};
use crate::disk::DataDir;
use crate::domain::{
    Access, Audience, CallerId, Change, ClientId, Entry, Epoch, Expiry, GrantId, NewGrant, NewToken, Pair, Reach,
    ScopeMask, Sequence, SubjectId, Target, Timestamp, TokenKey, TokenTimes,
};
use crate::index::{self, Index};
use crate::journal::{ChainHash, Head, Journal, JournalError, Options, RedbJournal};
use crate::secrets::Ring;
use crate::store::Committer;
use crate::testing::feed_over;

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);
const EPOCH: Epoch = Epoch(77);

fn keys() -> Keys {
    Keys { journal: Ring::one([1; 32]), snapshot: Ring::one([2; 32]), pepper: 3 }
}

fn by() -> CallerId {
    CallerId::parse("test").expect("an id")
}

fn key(number: u8) -> TokenKey {
    TokenKey::from_bytes([number; 16])
}

fn token(number: u8) -> Change {
    Change::RegisterToken(NewToken {
        key: key(number),
        grant: GrantId::new(1).expect("a number"),
        times: TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::At(NOW.plus(3_600)) },
        audience: None,
        confirmation: None,
        narrowed: None,
    })
}

fn grant() -> Change {
    Change::MakeGrant(NewGrant {
        id: GrantId::new(1).expect("a number"),
        subject: SubjectId::parse("maria").expect("an id"),
        client: ClientId::personal(),
        access: Access::new([Pair { reach: Reach::Everywhere, scopes: ScopeMask::WILDCARD }]).expect("not empty"),
        expiry: Expiry::Never,
        audience: vec![Audience::parse("api").expect("an id")],
    })
}

fn revoke(number: u8) -> Change {
    Change::Revoke(Target::Token(key(number)))
}

/// A store in a temporary directory, as the daemon runs it.
struct Running {
    dir: Arc<DataDir>,
    index: Index,
    committer: Committer,
    control: Control,
    checkpoints: Checkpoints,
    recovered: Recovered,
    clock_floor: Timestamp,
}

fn open(path: &std::path::Path) -> Result<Running, OpenError> {
    let dir = Arc::new(DataDir::open(path)?);
    let file = dir.file_path(JOURNAL_NAME)?;
    let keys = keys();
    let journal = match file.exists() {
        true => RedbJournal::open(&file, &keys.journal, Options::default())?,
        false => RedbJournal::create(&file, &keys.journal, EPOCH, Options::default())?,
    };
    let opened = super::open(&dir, Box::new(journal), &keys)?;
    let (index, recovered, clock_floor) = (opened.index.clone(), opened.recovered.clone(), opened.clock_floor);
    let feed = feed_over(&*opened.journal);
    let (committer, control) = start(opened.writer, opened.journal, feed, Limits::default());
    let checkpoints = Checkpoints::new(dir.clone(), keys, index.clone(), &control, 2);
    Ok(Running { dir, index, committer, control, checkpoints, recovered, clock_floor })
}

impl Running {
    fn change(&self, change: Change) -> Result<Sequence, CommitError> {
        self.committer.commit(by(), change, NOW).wait().map(|committed| committed.sequence)
    }

    /// `(registered and alive, revoked)` among tokens 0 to 19.
    fn tokens(&self) -> (Vec<u8>, Vec<u8>) {
        let pin = self.index.pin();
        let known = |revoked: bool| {
            (0..20).filter(|n| pin.token(key(*n)).is_some_and(|token| token.revoked == revoked)).collect()
        };
        (known(false), known(true))
    }

    fn snapshots(&self) -> Vec<String> {
        crate::snapshot::list(&self.dir).expect("listed").into_iter().map(|(_, name)| name).collect()
    }

    fn end(self) {
        self.control.close().expect("closed well");
    }
}

/// A directory with three snapshots' worth of history (of which two are kept) and a journal that goes on: tokens 0 to 9
/// registered, 3 and 7 revoked.
fn lived_in() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("data")).expect("a new store");
    store.change(grant()).expect("made");
    for number in 0..10 {
        store.change(token(number)).expect("made");
        if number % 3 == 2 {
            store.checkpoints.write(NOW).expect("written");
        }
        if number == 3 || number == 7 {
            store.change(revoke(number)).expect("made");
        }
    }
    assert_eq!(store.snapshots().len(), 2, "the oldest snapshot is gone");
    store.end();
    folder
}

fn flip(path: &std::path::Path, offset_from_end: u64) {
    let mut bytes = std::fs::read(path).expect("read");
    let at = bytes.len() - offset_from_end as usize;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[track_caller]
fn has_everything(store: &Running) {
    assert_eq!(store.tokens(), (vec![0, 1, 2, 4, 5, 6, 8, 9], vec![3, 7]));
}

#[test]
fn a_start_takes_the_newest_snapshot_and_the_rest_of_the_journal() {
    let folder = lived_in();
    for round in 0..3 {
        let store = open(&folder.path().join("data")).expect("opened");
        has_everything(&store);
        assert_eq!(store.recovered.snapshot.map(|revision| revision.sequence), Some(Sequence(12)), "start {round}");
        assert_eq!(store.recovered.replayed, 1, "the rest of the journal");
        store.end();
    }
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_one_before_is_used() {
    // Near the end is the table and the seal, in the middle a section: found in two ways.
    for offset in [3, 400] {
        let folder = lived_in();
        let data = folder.path().join("data");
        let (newest, before) = {
            let store = open(&data).expect("opened");
            let names = store.snapshots();
            store.end();
            (names[0].clone(), names[1].clone())
        };
        flip(&data.join(&newest), offset);
        let store = open(&data).expect("opened all the same");
        has_everything(&store);
        assert_eq!(store.snapshots(), std::slice::from_ref(&before));
        assert!(data.join(format!("{newest}.damaged-1")).exists(), "kept for whoever wants to know");
        assert_eq!(store.recovered.set_aside.iter().filter(|line| line.contains("is now")).count(), 1);
        // And the next snapshot heals it.
        store.change(token(15)).expect("made");
        store.checkpoints.write(NOW).expect("written");
        store.end();
        let store = open(&data).expect("opened");
        assert_eq!(store.tokens().0.last(), Some(&15));
        store.end();
    }
}

#[test]
fn without_a_sound_snapshot_a_shortened_journal_is_refused_and_a_whole_one_is_enough() {
    let folder = lived_in();
    let data = folder.path().join("data");
    for entry in std::fs::read_dir(&data).expect("listed").flatten() {
        if entry.file_name().to_string_lossy().starts_with("snapshot-") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    match open(&data) {
        Err(OpenError::NothingSound { discarded, .. }) => assert!(discarded > Sequence::ZERO),
        other => panic!("{:?}", other.err()),
    }

    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = open(&data).expect("a new store");
    for change in [grant(), token(1), revoke(1)] {
        store.change(change).expect("made");
    }
    let name = store.checkpoints.write(NOW).expect("written").name;
    store.end();
    std::fs::remove_file(data.join(name)).expect("removed");
    let store = open(&data).expect("the journal has everything");
    assert_eq!(store.tokens(), (vec![], vec![1]));
    assert_eq!(store.recovered.replayed, 3);
    store.end();
}

/// Restoring a backup must not un-revoke: the high-water mark outside the journal knows of a later change.
#[test]
fn an_older_copy_of_the_journal_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = open(&data).expect("a new store");
    store.change(grant()).expect("made");
    store.change(token(1)).expect("made");
    store.end();
    let backup = std::fs::read(data.join(JOURNAL_NAME)).expect("read");
    let store = open(&data).expect("opened");
    store.change(revoke(1)).expect("made");
    store.checkpoints.write(NOW).expect("written");
    store.end();
    std::fs::write(data.join(JOURNAL_NAME), backup).expect("put back");
    match open(&data) {
        Err(OpenError::RolledBack { journal, known, .. }) => {
            assert_eq!((journal.sequence, known.sequence), (Sequence(2), Sequence(3)));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_high_water_mark_that_was_altered_is_refused() {
    let folder = lived_in();
    let data = folder.path().join("data");
    flip(&data.join("high-water"), 40);
    assert!(matches!(open(&data), Err(OpenError::Mark(_))));
}

#[test]
fn a_second_start_on_the_same_directory_is_refused() {
    let folder = lived_in();
    let data = folder.path().join("data");
    let store = open(&data).expect("opened");
    match open(&data) {
        Err(OpenError::Disk(error)) => assert!(error.to_string().contains("in use"), "{error}"),
        other => panic!("{:?}", other.err()),
    }
    store.end();
}

#[test]
fn a_snapshot_of_the_same_place_is_not_written_twice() {
    let folder = lived_in();
    let store = open(&folder.path().join("data")).expect("opened");
    let first = store.checkpoints.write(NOW).expect("written");
    let second = store.checkpoints.write(NOW).expect("nothing to do");
    assert_eq!((first.name, store.snapshots().len()), (second.name, 2));
    assert_eq!(store.checkpoints.changes_since_last(), 0);
    store.end();
}

/// A journal that fails at its third commit.
struct Failing {
    commits: u32,
    last: Sequence,
}

impl Journal for Failing {
    fn head(&self) -> Head {
        Head { epoch: EPOCH, last: self.last, chain: ChainHash::default(), discarded: Sequence::ZERO }
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        self.commits += 1;
        if self.commits >= 3 {
            return Err(JournalError::Poisoned("no space left on device".into()));
        }
        self.last = Sequence(self.last.0 + batch.len() as u64);
        Ok(self.head())
    }

    fn read_after(
        &self,
        _: Sequence,
        _: Option<ChainHash>,
        _: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        Ok(self.head())
    }

    fn discard_through(&mut self, _: Sequence) -> Result<(), JournalError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        Ok(())
    }
}

#[test]
fn what_is_announced_is_visible_and_what_has_a_receipt_was_announced() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(dir.path()).expect("opened");
    let (feed, index) = (running.committer.feed().clone(), running.index.clone());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A follower that asks about whatever was announced gets an answer that knows it.
        scope.spawn(|| {
            for _ in 0..10_000_000 {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let announced = feed.head();
                let visible = index.pin().applied();
                assert!(visible >= announced, "{announced} was announced and {visible} is visible");
            }
        });
        running.change(grant()).expect("made");
        for number in 1..20 {
            let sequence = running.change(token(number)).expect("made");
            assert!(feed.head() >= sequence, "{sequence} has a receipt and was not announced");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn after_a_failed_commit_nothing_is_acknowledged_and_nothing_of_it_is_visible() {
    let (index, writer) = index::new();
    let journal = Failing { commits: 0, last: Sequence::ZERO };
    let feed = feed_over(&journal);
    let (committer, control) = start(writer, Box::new(journal), feed.clone(), Limits::default());
    let commit = |change| committer.commit(by(), change, NOW).wait();
    commit(grant()).expect("made");
    commit(token(1)).expect("made");
    assert!(matches!(commit(token(2)), Err(CommitError::Unknown(_))), "may be on disk, may not");
    for change in [token(3), revoke(1)] {
        assert!(matches!(commit(change), Err(CommitError::Unavailable(why)) if why.contains("no space")));
    }
    let pin = index.pin();
    assert!(pin.token(key(1)).is_some_and(|token| !token.revoked), "questions go on from what was durable");
    assert!(pin.token(key(2)).is_none() && pin.token(key(3)).is_none());
    assert!(!committer.is_open() && control.closed().is_some());
    assert_eq!(feed.head(), Sequence(2), "what may not be durable is announced to nobody");
}

#[test]
fn changes_that_lean_on_one_another_may_come_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("data")).expect("a new store");
    // None of these is waited for before the next is handed in.
    let receipts: Vec<_> = [grant(), token(1), token(1), token(2), revoke(2), token(2)]
        .into_iter()
        .map(|change| store.committer.commit(by(), change, NOW))
        .collect();
    let told: Vec<Result<_, _>> = receipts.into_iter().map(super::Receipt::wait).collect();
    assert!(told[..2].iter().all(Result::is_ok), "{told:?}");
    assert!(told[2].is_ok(), "the very same token again is no error: {told:?}");
    assert_eq!(store.tokens(), (vec![1], vec![2]), "revoked before or after it came, it is revoked");
    let committed: Vec<_> = told.into_iter().flatten().filter_map(|committed| committed.grant).collect();
    assert_eq!(committed, [GrantId::new(1).expect("a number")]);
    store.end();
}

/// A server that had nothing to do was killed, and the wall clock was set back: tokens that had expired since the last
/// change were active again, because the time was written down with changes and snapshots alone. And a clean stop wrote
/// nothing down, if the list stood where the last snapshot of the run had been taken.
#[test]
fn how_late_it_was_is_known_after_a_kill_although_nothing_had_changed() {
    let folder = tempfile::tempdir().expect("a directory");
    let later = |seconds| NOW.plus(seconds);
    let running = open(folder.path()).expect("opened");
    running.change(grant()).expect("made");
    running.checkpoints.write(later(10)).expect("written");
    running.end();
    let running = open(folder.path()).expect("opened");
    assert_eq!(running.clock_floor, later(10));
    running.checkpoints.note(later(20)).expect("written");
    // Killed: nothing is closed.
    running.end();
    let running = open(folder.path()).expect("opened");
    assert_eq!(running.clock_floor, later(20), "noted");
    running.checkpoints.write(later(30)).expect("written");
    // The same place once more: no snapshot, but it is later.
    running.checkpoints.write(later(40)).expect("written");
    running.end();
    let running = open(folder.path()).expect("opened");
    assert_eq!(running.clock_floor, later(40), "a snapshot that was not needed");
    // A snapshot began before the time was noted, and ends after it: the mark does not go back.
    running.checkpoints.note(later(60)).expect("written");
    running.change(token(1)).expect("made");
    running.checkpoints.write(later(50)).expect("written");
    running.end();
    let running = open(folder.path()).expect("opened");
    assert_eq!(running.clock_floor, later(60), "the mark went back");
    running.end();
}

/// The mark names what was acknowledged as well, so whoever puts back a journal of a minute ago is found out too.
#[test]
fn a_journal_older_than_what_was_noted_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let running = open(folder.path()).expect("opened");
    running.change(grant()).expect("made");
    running.change(token(1)).expect("made");
    running.end();
    let journal = folder.path().join(JOURNAL_NAME);
    let old = std::fs::read(&journal).expect("read");
    let running = open(folder.path()).expect("opened");
    running.change(revoke(1)).expect("made");
    running.checkpoints.note(NOW).expect("written");
    running.end();
    std::fs::write(&journal, old).expect("written");
    let refused = open(folder.path()).err().expect("refused");
    assert!(matches!(refused, OpenError::RolledBack { .. }), "{refused}");
}

/// Two lists of one key and one epoch, as a copy of a whole directory that went on by itself: what the snapshot of one says
/// at its place is not what the journal of the other has there.
#[test]
fn a_snapshot_of_another_list_is_refused_although_the_journal_reaches_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    for (path, change) in [(&one, token(1)), (&other, revoke(1))] {
        let store = open(path).expect("a new store");
        store.change(grant()).expect("made");
        store.change(change).expect("made");
        if path == &one {
            store.checkpoints.write(NOW).expect("written");
        }
        store.end();
    }
    let name = crate::snapshot::list(&DataDir::open(&one).expect("opened")).expect("listed").remove(0).1;
    std::fs::copy(one.join(&name), other.join(&name)).expect("copied");
    // Its place is the end of the journal first, and then lies before it.
    for more in [2, 3] {
        let refused = open(&other).err().expect("refused");
        assert!(refused.to_string().contains("not the same list"), "{refused}");
        let aside = other.join("aside");
        std::fs::rename(other.join(&name), &aside).expect("moved");
        let store = open(&other).expect("without it all is well");
        store.change(token(more)).expect("made");
        store.end();
        std::fs::rename(&aside, other.join(&name)).expect("moved back");
    }
}
