//! Tests with a disk that fails or loses power, at every call there is; and the measurement behind the choices made.

use std::path::Path;
use std::time::Instant;

use super::disk::Disk;
use super::file::{plain, read};
use super::make::{Random, tokens};
use super::vectors::{EPOCH, KEY};
use crate::domain::{Entry, Sequence};
use crate::journal::{Journal, JournalError, Options, PageCheck, RedbJournal};

/// What a run on a failing disk got done.
#[derive(Default)]
struct Done {
    /// Entries of batches that were acknowledged.
    acknowledged: Vec<Entry>,
    /// The batch that failed, if one did.
    in_doubt: Vec<Entry>,
    /// Through where entries may be gone.
    discarded: Sequence,
    /// Whether the journal came to be at all.
    made: bool,
}

/// Makes a journal, commits, discards, commits; stops at the first error, after which everything must be refused.
fn run(disk: &Disk) -> Done {
    let mut done = Done::default();
    let mut random = Random::seeded(8);
    let Ok(mut journal) = RedbJournal::create_on(disk.clone(), &KEY, EPOCH, Options::default()) else {
        return done;
    };
    done.made = true;
    for round in 0..6 {
        let batch = random.batch(journal.head().last, [1, 30, 2][round % 3]);
        match journal.commit(&batch) {
            Ok(head) => {
                assert_eq!(head.last, batch[batch.len() - 1].sequence);
                done.acknowledged.extend(batch);
            }
            Err(JournalError::Poisoned(_)) => {
                refuses_everything(&mut journal);
                done.in_doubt = batch;
                return done;
            }
            Err(other) => panic!("a commit failed with {other}"),
        }
        if round == 3 {
            let through = Sequence(31);
            done.discarded = through;
            match journal.discard_through(through) {
                Ok(()) => {}
                Err(JournalError::Poisoned(_)) => {
                    refuses_everything(&mut journal);
                    return done;
                }
                // It failed while reading; redb then refuses whatever comes.
                Err(JournalError::Storage(_) | JournalError::Damaged { .. }) => {}
                Err(other) => panic!("discarding failed with {other}"),
            }
        }
    }
    let _ = Box::new(journal).close();
    done
}

fn refuses_everything(journal: &mut RedbJournal) {
    let head = journal.head();
    for _ in 0..2 {
        assert!(matches!(journal.commit(&tokens(head.last, 1)), Err(JournalError::Poisoned(_))));
        assert!(matches!(journal.commit(&[]), Err(JournalError::Poisoned(_))));
        assert!(matches!(journal.discard_through(head.last), Err(JournalError::Poisoned(_))));
        assert!(matches!(journal.read_after(head.discarded, None, &mut |_, _| Ok(())), Err(JournalError::Poisoned(_))));
    }
    assert_eq!(journal.head(), head);
}

/// Opens what is left and compares it with what was done: everything acknowledged, and of what is in doubt all or
/// nothing. Then writes, closes, and opens once more.
fn check(left: Vec<u8>, done: &Done, what: &str) {
    let disk = Disk::holding(left);
    let mut journal = match RedbJournal::open_on(disk.clone(), &KEY, Options::default()) {
        Ok(journal) => journal,
        Err(error) if !done.made => return drop(error),
        Err(error) => panic!("{what}: {error}"),
    };
    let head = journal.head();
    assert!(head.discarded <= done.discarded, "{what}");
    let kept = plain(read(&journal, head.discarded).unwrap_or_else(|error| panic!("{what}: {error}")));
    let gone = head.discarded.0 as usize;
    let all: Vec<Entry> = done.acknowledged.iter().chain(&done.in_doubt).cloned().collect();
    assert!(kept == done.acknowledged[gone.min(done.acknowledged.len())..] || kept == all[gone..], "{what}");
    let more = tokens(head.last, 3);
    journal.commit(&more).unwrap_or_else(|error| panic!("{what}: {error}"));
    Box::new(journal).close().unwrap_or_else(|error| panic!("{what}: {error}"));
    let again = RedbJournal::open_on(disk, &KEY, Options::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let kept: Vec<Entry> = kept.into_iter().chain(more).collect();
    assert_eq!(plain(read(&again, head.discarded).expect("sound")), kept, "{what}");
}

#[test]
fn whichever_call_fails_nothing_acknowledged_is_lost_and_nothing_more_is_accepted() {
    let mut random = Random::seeded(9);
    let mut calls = 0;
    loop {
        let disk = Disk::default();
        disk.fail_after(calls);
        let done = run(&disk);
        check(disk.seen(), &done, &format!("call {calls} failed"));
        for cut in 0..3 {
            let left = disk.after_power_cut(&mut random);
            // Before the first sync there may be nothing at all; `create` gives the file no name then.
            if done.made || !left.is_empty() {
                check(left, &done, &format!("power cut {cut} at call {calls}"));
            }
        }
        if !disk.has_failed() {
            break;
        }
        calls += 1;
    }
    println!("{calls} calls");
    assert!(calls > 50, "{calls} calls are too few to be all");
}

#[test]
fn a_journal_begun_on_storage_that_is_not_empty_is_refused() {
    let disk = Disk::holding(vec![1]);
    let refused = RedbJournal::create_on(disk, &KEY, EPOCH, Options::default()).map(drop);
    assert!(matches!(refused, Err(JournalError::Storage(_))));
    let refused = RedbJournal::open_on(Disk::default(), &KEY, Options::default()).map(drop);
    assert!(matches!(refused, Err(JournalError::Storage(_))));
}

#[test]
fn a_disk_that_fails_while_reading_gives_an_error_and_no_entry_twice() {
    let disk = Disk::default();
    let options = Options { cache_bytes: 0, page_check: PageCheck::AfterUncleanStop };
    let mut journal = RedbJournal::create_on(disk.clone(), &KEY, EPOCH, options).expect("made");
    for _ in 0..20 {
        journal.commit(&tokens(journal.head().last, 1_000)).expect("committed");
    }
    Box::new(journal).close().expect("closed");
    let left = disk.seen();
    for calls in 0..60 {
        let disk = Disk::holding(left.clone());
        disk.fail_after(calls);
        let Ok(journal) = RedbJournal::open_on(disk.clone(), &KEY, options) else { continue };
        let mut next = Sequence(1);
        let read = journal.read_after(Sequence::ZERO, None, &mut |entry, _| {
            assert_eq!(entry.sequence, next);
            next = next.next();
            Ok(())
        });
        assert_eq!(read.is_err(), disk.has_failed(), "call {calls}: {read:?}");
    }
}

/// Copies a file and syncs the copy, so that what opens it does not pay for that.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).and_then(|_| std::fs::File::open(to)?.sync_all()).expect("copied");
}

/// Prints what the choices in `redb.rs` rest on: commits, and opening after an unclean stop with and without
/// quick-repair. Without optimisation the last figures say little: redb then walks the file at every opening, for checks
/// of its own. `cargo test --release --lib journal -- --ignored --nocapture measure`.
#[test]
#[ignore = "measures; run it alone, and with --release"]
fn measure_commits_and_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let mut journal = RedbJournal::create(&path, &KEY, EPOCH, Options::default()).expect("made");
    for (size, rounds) in [(1, 500), (1_000, 50), (10_000, 100)] {
        let mut passed = std::time::Duration::ZERO;
        for _ in 0..rounds {
            let batch = tokens(journal.head().last, size);
            let begun = Instant::now();
            journal.commit(&batch).expect("committed");
            passed += begun.elapsed();
        }
        let rate = (size * rounds) as f64 / passed.as_secs_f64();
        println!("batches of {size:>6}: {:>9.3?} a commit, {rate:>10.0} entries/s", passed / rounds as u32);
    }
    let batch = tokens(journal.head().last, 10_000);
    let mut rows = crate::journal::row::Rows::default();
    let links = crate::journal::chain::Keys::new(&KEY).links(EPOCH);
    let end = crate::journal::row::Position { sequence: journal.head().last, chain: journal.head().chain };
    let begun = Instant::now();
    rows.build(&links, end, &batch).expect("fits");
    println!("encoding and chaining alone: {:>10.0} entries/s", 10_000.0 / begun.elapsed().as_secs_f64());
    println!("{} MiB, {} entries", journal.bytes() >> 20, journal.head().last);
    let begun = Instant::now();
    journal.read_after(Sequence::ZERO, None, &mut |_, _| Ok(())).expect("sound");
    println!("read and checked: {:>10.0} entries/s", journal.head().last.0 as f64 / begun.elapsed().as_secs_f64());
    // A copy of a file that is in use is a file after an unclean stop.
    let unclean = folder.path().join("unclean");
    copy(&path, &unclean);
    let quick = folder.path().join("quick");
    {
        let database = ::redb::Database::open(&unclean).expect("opened");
        let mut writing = database.begin_write().expect("writing");
        writing.set_quick_repair(true);
        writing.commit().expect("committed");
        copy(&unclean, &quick);
    }
    Box::new(journal).close().expect("closed");
    copy(&path, &unclean);
    let clean = folder.path().join("clean");
    copy(&path, &clean);
    {
        let journal = RedbJournal::open(&unclean, &KEY, Options::default()).expect("opened");
        copy(&unclean, &folder.path().join("stopped"));
        drop(journal);
    }
    let stopped = folder.path().join("stopped");
    for (what, file, page_check) in [
        ("after an unclean stop", &stopped, PageCheck::AfterUncleanStop),
        ("after an unclean stop, quick-repair", &quick, PageCheck::AfterUncleanStop),
        ("closed properly, all pages checked", &clean, PageCheck::Always),
        ("closed properly", &clean, PageCheck::AfterUncleanStop),
    ] {
        let begun = Instant::now();
        let options = Options { page_check, ..Options::default() };
        let journal = RedbJournal::open(file, &KEY, options).expect("opened");
        println!("opening {what}: {:.3?}", begun.elapsed());
        drop(journal);
    }
}
