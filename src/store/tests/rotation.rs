//! New keys under a running writer: what starts afterwards, whichever call failed; when old ones go; and what a key that
//! was replaced still opens.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::disk::tests::{Fault, FaultDisk};
use crate::disk::{Disk, FileDisk};
use crate::domain::Revision;
use crate::secrets::{KeyFile, Secrets, SecretsError};
use crate::snapshot::{self, SnapshotError};
use crate::store::{Rotated, start_with};

fn secrets_path(data: &Path) -> std::path::PathBuf {
    data.join("secrets")
}

fn keys_of(secrets: &Secrets) -> Keys {
    Keys { journal: secrets.journal(), snapshot: secrets.snapshot(), pepper: 3 }
}

/// As [`super::open`], with a file of keys in the directory, replaced on `disk`.
fn open_on(data: &Path, disk: Arc<dyn Disk>) -> Result<Running, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let dir = Arc::new(DataDir::open(data).map_err(|error| said(&error))?);
    let path = secrets_path(data);
    let secrets = match Secrets::open(&path) {
        Err(SecretsError::Io { .. }) => Secrets::create(&path),
        other => other,
    };
    let secrets = secrets.map_err(|error| said(&error))?;
    let keys = keys_of(&secrets);
    let file = dir.file_path(JOURNAL_NAME).map_err(|error| said(&error))?;
    let journal = match file.exists() {
        true => RedbJournal::open(&file, &keys.journal, Options::default()),
        false => RedbJournal::create(&file, &keys.journal, EPOCH, Options::default()),
    };
    let opened = crate::store::open(&dir, Box::new(journal.map_err(|error| said(&error))?), &keys);
    let opened = opened.map_err(|error| said(&error))?;
    let (index, recovered, clock_floor) = (opened.index.clone(), opened.recovered.clone(), opened.clock_floor);
    let feed = feed_over(&*opened.journal);
    let file = KeyFile::new(disk, path, secrets);
    let (committer, control) = start_with(opened.writer, opened.journal, feed, Limits::default(), Some(file));
    let checkpoints = Checkpoints::new(dir.clone(), keys, index.clone(), &control, 2);
    Ok(Running { dir, index, committer, control, checkpoints, recovered, clock_floor })
}

fn open(data: &Path) -> Running {
    open_on(data, Arc::new(FileDisk)).expect("opened")
}

fn numbers(data: &Path) -> Vec<u32> {
    let secrets = Secrets::open(&secrets_path(data)).expect("sound");
    secrets.journal().keys().iter().map(|key| key.number).collect()
}

/// Writes a snapshot; the generation that seals it.
fn checkpoint(store: &Running) -> u32 {
    store.checkpoints.write(NOW).expect("written").generation
}

/// Waits until the writer has done whatever it was told before.
fn settled(store: &Running, kept: u32) {
    for _ in 0..6_000 {
        if store.committer.key_generations().1 == kept {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{:?} generations are kept instead of {kept}", store.committer.key_generations());
}

#[test]
fn keys_are_rotated_between_changes_and_a_start_after_a_kill_has_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = open(&data);
    store.change(grant()).expect("made");
    for number in 0..6 {
        store.change(token(number)).expect("made");
        let before = store.control.position();
        let rotated = store.committer.rotate_keys_blocking().expect("rotated");
        let expected = Rotated { generation: u32::from(number) + 2, kept: usize::from(number) + 2, after: before.last };
        assert_eq!(rotated, expected);
        assert_eq!(store.control.position(), before, "a rotation is no change");
        if number % 2 == 1 {
            store.change(revoke(number)).expect("made");
        }
    }
    assert_eq!(store.control.stats().key_rotations.load(Relaxed), 6);
    // No snapshot, no proper end: the journal alone, over seven generations, as a kill would leave it.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).expect("made");
    std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("private");
    for name in [JOURNAL_NAME, "secrets"] {
        std::fs::copy(data.join(name), copy.join(name)).expect("copied");
    }
    store.end();
    let store = open(&copy);
    assert_eq!(store.tokens(), (vec![0, 2, 4], vec![1, 3, 5]));
    assert_eq!(numbers(&copy), [1, 2, 3, 4, 5, 6, 7]);
    store.committer.rotate_keys_blocking().expect("the eighth");
    match store.committer.rotate_keys_blocking() {
        Err(CommitError::Conflict(why)) => assert!(why.contains("8 generations") && why.contains("snapshot"), "{why}"),
        other => panic!("{other:?}"),
    }
    store.change(token(9)).expect("a rotation that was refused is in nobody's way");
    store.end();
}

#[test]
fn a_generation_goes_when_neither_the_journal_nor_a_snapshot_needs_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = open(&data);
    store.change(grant()).expect("made");
    assert_eq!(checkpoint(&store), 1);
    store.committer.rotate_keys_blocking().expect("rotated");
    // The same place again, under the new key: the file is written anew.
    assert_eq!(checkpoint(&store), 2);
    assert_eq!(store.snapshots().len(), 1);
    store.change(token(0)).expect("made");
    store.committer.rotate_keys_blocking().expect("rotated");
    store.change(token(1)).expect("made");
    assert_eq!(checkpoint(&store), 3);
    // The second newest is of 2, and the journal begins after it.
    settled(&store, 2);
    assert_eq!(numbers(&data), [2, 3]);
    store.change(token(2)).expect("made");
    assert_eq!(checkpoint(&store), 3);
    settled(&store, 1);
    assert_eq!(numbers(&data), [3]);
    store.change(token(3)).expect("made");
    store.end();
    for _ in 0..2 {
        let store = open(&data);
        assert_eq!(store.tokens().0, [0, 1, 2, 3]);
        assert_eq!(store.recovered.set_aside, Vec::<String>::new());
        assert_eq!(store.committer.key_generations(), (3, 1));
        store.end();
    }
}

#[test]
fn a_store_without_a_file_of_keys_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = super::open(&folder.path().join("data")).expect("a new store");
    assert!(matches!(store.committer.rotate_keys_blocking(), Err(CommitError::Conflict(_))));
    assert_eq!(store.committer.key_generations(), (0, 0));
    store.end();
}

/// Every call of the file's replacement fails in turn, under a writer. Either nothing has changed and all goes on, or
/// nothing goes on; and a start has everything.
#[test]
fn whichever_call_of_a_rotation_fails_a_start_has_everything_and_can_rotate() {
    let (mut refused, mut stopped) = (0, 0);
    for fault in [Fault::Once, Fault::Killed, Fault::Torn] {
        for calls in 0.. {
            let folder = tempfile::tempdir().expect("a folder");
            let data = folder.path().join("data");
            let disk = FaultDisk::new(calls, fault);
            let store = open_on(&data, disk.clone()).expect("opened");
            for change in [grant(), token(1), token(2), revoke(2)] {
                store.change(change).expect("made");
            }
            let rotated = store.committer.rotate_keys_blocking();
            let later = store.change(token(3));
            match &rotated {
                Ok(_) => assert!(later.is_ok(), "{fault:?} {calls}: {later:?}"),
                Err(CommitError::Unavailable(_)) => {
                    refused += 1;
                    assert!(later.is_ok(), "{fault:?} {calls}: nothing has changed, all goes on: {later:?}");
                }
                Err(CommitError::Unknown(_)) => {
                    stopped += 1;
                    assert!(matches!(later, Err(CommitError::Unavailable(_))), "{fault:?} {calls}: {later:?}");
                    assert!(store.control.stats().poisoned.load(Relaxed), "{fault:?} {calls}");
                }
                other => panic!("{fault:?} {calls}: {other:?}"),
            }
            drop(store);
            let store = open(&data);
            let expected = if later.is_ok() { vec![1, 3] } else { vec![1] };
            assert_eq!(store.tokens(), (expected, vec![2]), "{fault:?} {calls}");
            store.committer.rotate_keys_blocking().unwrap_or_else(|error| panic!("{fault:?} {calls}: {error}"));
            store.change(token(4)).expect("made");
            store.end();
            open(&data).end();
            if !disk.has_struck() {
                break;
            }
        }
    }
    assert!(refused >= 9 && stopped >= 4, "{refused} were refused, {stopped} stopped");
}

/// A snapshot sealed with a key that had been replaced before its place: somebody has the old key.
#[test]
fn what_an_old_key_sealed_for_a_later_place_is_not_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = open(&data);
    store.change(grant()).expect("made");
    store.change(token(1)).expect("made");
    store.committer.rotate_keys_blocking().expect("rotated");
    store.change(revoke(1)).expect("made");
    let newest = store.checkpoints.write(NOW).expect("written");
    assert_eq!(newest.generation, 2);
    store.end();
    // The very content, sealed with the old key, at the place after the rotation.
    let secrets = Secrets::open(&secrets_path(&data)).expect("sound");
    let old = secrets.snapshot().keys()[0].bytes;
    let path = data.join(&newest.name);
    let mut bytes = std::fs::read(&path).expect("read");
    snapshot::reseal(&mut bytes, &old);
    std::fs::write(&path, bytes).expect("written");
    assert!(snapshot::verify(&path, &old).is_ok(), "under the old key alone it is sound");
    match snapshot::verify(&path, secrets.snapshot()) {
        Err(SnapshotError::Damaged { what, .. }) => assert!(what.contains("generation 1"), "{what}"),
        other => panic!("{other:?}"),
    }
    let store = open(&data);
    assert_eq!(store.tokens(), (vec![], vec![1]), "the journal says everything");
    assert_eq!(store.recovered.set_aside.len(), 1, "{:?}", store.recovered.set_aside);
    store.end();
}

/// The high-water mark may be gone, or as old as the journal that was put back: the keys know where they began.
#[test]
fn a_journal_from_before_a_rotation_is_refused_beside_the_newer_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = open(&data);
    store.change(grant()).expect("made");
    store.change(token(1)).expect("made");
    store.end();
    let backup = std::fs::read(data.join(JOURNAL_NAME)).expect("read");
    let store = open(&data);
    store.change(revoke(1)).expect("made");
    store.committer.rotate_keys_blocking().expect("rotated");
    store.end();
    std::fs::write(data.join(JOURNAL_NAME), backup).expect("put back");
    let refused = open_on(&data, Arc::new(FileDisk)).err().expect("refused");
    let known = Revision { epoch: EPOCH, sequence: Sequence(3) };
    assert!(refused.contains("the secrets file") && refused.contains(&known.to_string()), "{refused}");
}
