//! Tests of the journal as a file: made, opened, read, discarded, refused.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ::redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::make::{Random, token_entry, tokens};
use super::vectors::{EPOCH, KEY, all_forms};
use crate::domain::{Change, Entry, Epoch, Sequence, Timestamp};
use crate::journal::entry::Kind;
use crate::journal::{ChainHash, Head, Journal, JournalError, Options, PageCheck, RedbJournal};

const ROWS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("entries");
const HEADS: TableDefinition<'static, u8, &'static [u8]> = TableDefinition::new("head");

pub(super) struct Folder {
    _folder: tempfile::TempDir,
    pub(super) journal: PathBuf,
}

pub(super) fn folder() -> Folder {
    let folder = tempfile::tempdir().expect("a folder");
    Folder { journal: folder.path().join("journal.redb"), _folder: folder }
}

fn create(path: &Path) -> RedbJournal {
    RedbJournal::create(path, &KEY, EPOCH, Options::default()).expect("made")
}

fn open(path: &Path) -> Result<RedbJournal, JournalError> {
    RedbJournal::open(path, &KEY, Options::default())
}

pub(super) fn close(journal: RedbJournal) {
    Box::new(journal).close().expect("closed");
}

/// Reads on from `after`; the entries with their chain values.
pub(super) fn read(journal: &RedbJournal, after: Sequence) -> Result<Vec<(Entry, ChainHash)>, JournalError> {
    let mut entries = Vec::new();
    let head = journal.read_after(after, None, &mut |entry, chain| {
        entries.push((entry.clone(), chain));
        Ok(())
    })?;
    assert_eq!(head, journal.head());
    Ok(entries)
}

/// The changes of a list, without chain values.
pub(super) fn plain(entries: Vec<(Entry, ChainHash)>) -> Vec<Entry> {
    entries.into_iter().map(|(entry, _)| entry).collect()
}

/// Commits random batches of different sizes; returns every entry.
pub(super) fn fill(journal: &mut RedbJournal, random: &mut Random, batches: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    for _ in 0..batches {
        let count = [1, 1, 3, 40, 700][random.below(5)];
        let batch = random.batch(journal.head().last, count);
        let head = journal.commit(&batch).expect("committed");
        assert_eq!((head, head.last), (journal.head(), batch[count - 1].sequence));
        all.extend(batch);
    }
    all
}

#[test]
fn what_was_committed_is_read_back_after_reopening() {
    let folder = folder();
    let mut random = Random::seeded(4);
    let mut journal = create(&folder.journal);
    assert_eq!(read(&journal, Sequence::ZERO).expect("empty"), []);
    let mut all = all_forms();
    journal.commit(&all).expect("committed");
    all.extend(fill(&mut journal, &mut random, 12));
    let head = journal.head();
    assert_eq!(plain(read(&journal, Sequence::ZERO).expect("sound")), all);
    close(journal);

    let mut journal = open(&folder.journal).expect("opened");
    assert_eq!(journal.head(), head);
    all.extend(fill(&mut journal, &mut random, 3));
    drop(journal);
    let options = Options { cache_bytes: 1 << 20, page_check: PageCheck::AfterUncleanStop };
    let journal = RedbJournal::open(&folder.journal, &KEY, options).expect("opened");
    assert_eq!(plain(read(&journal, Sequence::ZERO).expect("sound")), all);
    assert_eq!(journal.bytes(), fs::metadata(&folder.journal).expect("there").len());
    assert_eq!(journal.head().epoch, EPOCH);
}

#[test]
fn reading_begins_after_any_entry_and_checks_the_chain_value_that_is_known_of_it() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    let start = journal.head().chain;
    fill(&mut journal, &mut Random::seeded(5), 9);
    let all = read(&journal, Sequence::ZERO).expect("sound");
    let count = all.len();
    for after in (0..=count).filter(|after| *after < 4 || after % 97 == 0 || after + 3 > count) {
        let sequence = Sequence(after as u64);
        assert_eq!(read(&journal, sequence).expect("sound"), all[after..], "after {after}");
        let known = if after == 0 { start } else { all[after - 1].1 };
        let mut seen = 0;
        let mut visit = |_: &Entry, _| {
            seen += 1;
            Ok(())
        };
        assert!(journal.read_after(sequence, Some(known), &mut visit).is_ok(), "after {after}");
        let mut other = known;
        other.0[31] ^= 1;
        let refused = journal.read_after(sequence, Some(other), &mut |_, _| panic!("visited"));
        assert!(matches!(refused, Err(JournalError::Damaged { at, .. }) if at == sequence), "after {after}");
        assert_eq!(seen, count - after);
    }
    let beyond = Sequence(count as u64 + 1);
    assert!(matches!(read(&journal, beyond), Err(JournalError::Damaged { at, .. }) if at == beyond));
}

#[test]
fn reading_stops_with_the_error_of_whoever_reads() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    journal.commit(&tokens(Sequence::ZERO, 10)).expect("committed");
    let mut seen = 0;
    let stopped = journal.read_after(Sequence(2), None, &mut |entry, _| {
        seen += 1;
        if entry.sequence == Sequence(5) { Err(JournalError::Storage("enough".into())) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(JournalError::Storage(what)) if what == "enough"));
    assert_eq!(seen, 3);
}

#[test]
fn an_empty_batch_changes_nothing() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    let head = journal.head();
    assert_eq!(journal.commit(&[]).expect("nothing to do"), head);
}

#[test]
fn a_change_that_does_not_fit_fails_its_batch_and_nothing_else() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    let head = journal.commit(&tokens(Sequence::ZERO, 2)).expect("committed");
    let long = Entry { change: Change::AddScope("s".repeat(97).into()), ..token_entry(4) };
    assert!(matches!(journal.commit(&[token_entry(3), long]), Err(JournalError::Storage(_))));
    assert_eq!(journal.head(), head);
    journal.commit(&[token_entry(3)]).expect("the sequence is still free");
    assert_eq!(read(&journal, Sequence::ZERO).expect("sound").len(), 3);
}

#[test]
#[should_panic(expected = "the list goes on with 3")]
fn a_batch_that_leaves_a_gap_to_the_head_is_the_writers_error() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    journal.commit(&tokens(Sequence::ZERO, 2)).expect("committed");
    let _ = journal.commit(&[token_entry(4)]);
}

#[test]
fn what_was_discarded_is_gone_and_the_rest_is_read_and_checked_as_before() {
    let folder = folder();
    let mut random = Random::seeded(6);
    let mut journal = create(&folder.journal);
    fill(&mut journal, &mut random, 10);
    let all = read(&journal, Sequence::ZERO).expect("sound");
    let last = journal.head().last;
    for through in [0, 1, 2, last.0 / 3, last.0 / 2] {
        journal.discard_through(Sequence(through)).expect("discarded");
        let Head { discarded, last: end, .. } = journal.head();
        assert!(discarded.0 <= through && end == last);
        let kept = &all[discarded.0 as usize..];
        assert_eq!(read(&journal, discarded).expect("sound"), kept);
        if let Some(before) = discarded.0.checked_sub(1) {
            let refused = read(&journal, Sequence(before));
            assert!(
                matches!(refused, Err(JournalError::Discarded { discarded: d, wanted }) if (d, wanted) == (discarded, discarded))
            );
        }
        drop(journal);
        journal = open(&folder.journal).expect("opened");
        let known = discarded.0.checked_sub(1).map(|before| all[before as usize].1);
        assert_eq!(journal.read_after(discarded, known, &mut |_, _| Ok(())).expect("sound"), journal.head());
    }
    assert!(journal.head().discarded > Sequence::ZERO);

    // More than there is: everything goes, and the list goes on from its end.
    journal.discard_through(Sequence(u64::MAX)).expect("discarded");
    assert_eq!((journal.head().discarded, journal.head().last), (last, last));
    assert_eq!(read(&journal, last).expect("empty"), []);
    drop(journal);
    let mut journal = open(&folder.journal).expect("opened");
    let batch = random.batch(last, 5);
    journal.commit(&batch).expect("committed");
    assert_eq!(plain(read(&journal, last).expect("sound")), batch);
}

#[test]
fn many_rows_are_discarded_in_several_small_transactions() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    for _ in 0..300 {
        journal.commit(&tokens(journal.head().last, 2)).expect("committed");
    }
    // The row that ends at 600 stays: 599 is in its middle.
    journal.discard_through(Sequence(599)).expect("discarded");
    assert_eq!(journal.head().discarded, Sequence(598));
}

#[test]
fn a_journal_that_is_discarded_behind_snapshots_stops_growing() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    let mut sizes = Vec::new();
    for _ in 0..12 {
        let before = journal.head().last;
        journal.commit(&tokens(before, 2_000)).expect("committed");
        journal.discard_through(before).expect("discarded");
        sizes.push(journal.bytes());
    }
    assert_eq!(sizes[5], sizes[11], "freed pages are not used again: {sizes:?}");
}

#[test]
fn a_journal_can_begin_where_a_snapshot_ends() {
    let folder = folder();
    let (last, chain) = (Sequence(1_000), ChainHash([7; 32]));
    let made = RedbJournal::create_at(&folder.journal, &KEY, EPOCH, last, chain, Options::default());
    let mut journal = made.expect("made");
    let head = Head { epoch: EPOCH, last, chain, discarded: last };
    assert_eq!(journal.head(), head);
    journal.commit(&tokens(last, 3)).expect("committed");
    drop(journal);
    let journal = open(&folder.journal).expect("opened");
    assert!(journal.read_after(last, Some(chain), &mut |_, _| Ok(())).is_ok());
    assert!(journal.read_after(last, Some(ChainHash([8; 32])), &mut |_, _| Ok(())).is_err());
    assert!(matches!(read(&journal, Sequence(999)), Err(JournalError::Discarded { .. })));
}

#[test]
fn everything_in_a_journal_is_counted() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    assert_eq!(journal.verify(&mut |_| ()).expect("sound").first, None);
    journal.commit(&all_forms()).expect("committed");
    let forms = journal.head().last;
    journal.commit(&tokens(forms, 2_000)).expect("committed");
    let mut told = 0;
    let survey = journal.verify(&mut |_| told += 1).expect("sound");
    assert_eq!((survey.head, survey.entries, told), (journal.head(), journal.head().last.0, survey.entries));
    assert_eq!((survey.first, survey.format), (Some(Sequence(1)), 1));
    assert_eq!(survey.earliest, Some(Timestamp::from_raw(1_700_000_000)));
    assert_eq!(survey.latest, Some(Timestamp::from_raw(1_700_000_000 + forms.0 as u32)));
    assert_eq!(survey.kinds().map(|(_, count)| count).sum::<u64>(), survey.entries);
    assert_eq!(survey.kinds().find(|(kind, _)| *kind == Kind::RegisterToken), Some((Kind::RegisterToken, 2_009)));
    assert!(survey.rows >= 3 && survey.entry_bytes > 2_000 * 80 && survey.file_bytes > survey.entry_bytes);
}

#[test]
fn the_file_is_for_its_owner_alone_and_never_made_over_another() {
    let folder = folder();
    // What a crash while making one left behind.
    fs::write(folder.journal.with_file_name("journal.redb.new"), b"half a file").expect("written");
    drop(create(&folder.journal));
    let mode = fs::metadata(&folder.journal).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(fs::read_dir(folder.journal.parent().expect("a folder")).expect("read").count(), 1);
    let again = RedbJournal::create(&folder.journal, &KEY, EPOCH, Options::default());
    assert!(matches!(again.map(drop), Err(JournalError::Storage(what)) if what.contains("never overwritten")));
    assert!(open(&folder.journal).is_ok());
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_left_as_it_is() {
    let folder = folder();
    assert!(matches!(open(&folder.journal).map(drop), Err(JournalError::Storage(what)) if what.contains("restore")));
    assert!(!folder.journal.exists());
    fs::write(&folder.journal, b"").expect("written");
    assert!(matches!(open(&folder.journal).map(drop), Err(JournalError::Storage(what)) if what.contains("empty")));
    assert_eq!(fs::metadata(&folder.journal).expect("there").len(), 0);
    for text in [&b"x"[..], &[0; 4_096], &[0x55; 100_000]] {
        fs::write(&folder.journal, text).expect("written");
        let refused = open(&folder.journal).map(drop);
        assert!(matches!(refused, Err(JournalError::Format { found: 0, known: 1 })), "{refused:?}");
        assert_eq!(fs::read(&folder.journal).expect("read"), text);
    }
    // redb's file, but somebody else's.
    fs::remove_file(&folder.journal).expect("removed");
    drop(Database::create(&folder.journal).expect("made"));
    assert!(matches!(open(&folder.journal).map(drop), Err(JournalError::Format { found: 0, known: 1 })));
}

#[test]
fn a_second_holder_is_refused_until_the_first_lets_go() {
    let folder = folder();
    let journal = create(&folder.journal);
    assert!(matches!(open(&folder.journal).map(drop), Err(JournalError::InUse)));
    close(journal);
    assert!(open(&folder.journal).is_ok());
}

#[test]
fn another_key_or_a_later_format_is_refused() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    journal.commit(&tokens(Sequence::ZERO, 3)).expect("committed");
    drop(journal);
    let refused = RedbJournal::open(&folder.journal, &[9; 32], Options::default()).map(drop);
    assert!(matches!(refused, Err(JournalError::Damaged { what, .. }) if what.contains("journal key")));
    edit(&folder.journal, |_, head| head[0] = 2);
    assert!(matches!(open(&folder.journal).map(drop), Err(JournalError::Format { found: 2, known: 1 })));
}

/// Changes rows and head through redb, as somebody would who can write the file and has not the key.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<(u64, Vec<u8>)>, &mut Vec<u8>)) {
    let database = Database::open(path).expect("opened");
    let reading = database.begin_read().expect("reading");
    let rows = reading.open_table(ROWS).expect("a table");
    let rows = rows.iter().expect("rows").map(|row| row.map(|(key, row)| (key.value(), row.value().to_vec())));
    let mut rows: Vec<_> = rows.collect::<Result<_, _>>().expect("rows");
    let mut head =
        reading.open_table(HEADS).expect("a table").get(0).expect("a head").expect("a head").value().to_vec();
    change(&mut rows, &mut head);
    let writing = database.begin_write().expect("writing");
    {
        let mut table = writing.open_table(ROWS).expect("a table");
        table.retain(|_, _| false).expect("emptied");
        for (key, row) in &rows {
            table.insert(key, row.as_slice()).expect("inserted");
        }
        writing.open_table(HEADS).expect("a table").insert(0, head.as_slice()).expect("inserted");
    }
    writing.commit().expect("committed");
}

#[test]
fn an_edited_journal_is_refused_at_the_entry_that_was_edited() {
    /// What an edit is, and the first sequence that cannot be believed.
    type Case = (&'static str, u64, fn(&mut Vec<(u64, Vec<u8>)>, &mut Vec<u8>));
    // Five rows of two entries each.
    let table: [Case; 12] = [
        ("the last row is gone", 10, |rows, _| drop(rows.pop())),
        ("all rows are gone", 1, |rows, _| rows.clear()),
        ("the first row is gone", 1, |rows, _| drop(rows.remove(0))),
        ("a row in the middle is gone", 5, |rows, _| drop(rows.remove(2))),
        ("a row calls itself another", 5, |rows, _| rows[2].0 = 6),
        ("two rows have changed places", 3, |rows, _| {
            let row = rows[1].1.clone();
            rows[1].1 = std::mem::replace(&mut rows[2].1, row);
        }),
        ("a bit of an entry", 6, |rows, _| {
            let middle = rows[2].1.len() / 2 + 20;
            rows[2].1[middle] ^= 1;
        }),
        ("half a row is gone", 6, |rows, _| {
            let half = rows[2].1.len() / 2;
            rows[2].1.truncate(half);
        }),
        ("the last entry is gone", 10, |rows, _| {
            let half = rows[4].1.len() / 2;
            rows[4].1.truncate(half);
        }),
        ("a row is empty", 5, |rows, _| rows[2].1.clear()),
        ("a row more", 10, |rows, _| rows.push((11, rows[0].1.clone()))),
        // The chain value it needs stands in the file; without the key the head cannot be sealed.
        ("the head says that two rows were discarded", 0, |rows, head| {
            let chain = rows[1].1[rows[1].1.len() - 32..].to_vec();
            rows.drain(..2);
            head[52..60].copy_from_slice(&4_u64.to_le_bytes());
            head[60..92].copy_from_slice(&chain);
        }),
    ];
    for (what, first_wrong, change) in table {
        let folder = folder();
        let mut journal = create(&folder.journal);
        for _ in 0..5 {
            journal.commit(&tokens(journal.head().last, 2)).expect("committed");
        }
        drop(journal);
        edit(&folder.journal, change);
        match open(&folder.journal).and_then(|journal| read(&journal, Sequence::ZERO)) {
            Err(JournalError::Damaged { at, .. }) => assert_eq!(at, Sequence(first_wrong), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_journal_of_another_epoch_does_not_pass_for_this_one() {
    let (this, other) = (folder(), folder());
    let mut journal = create(&this.journal);
    journal.commit(&tokens(Sequence::ZERO, 2)).expect("committed");
    drop(journal);
    let made = RedbJournal::create(&other.journal, &KEY, Epoch(EPOCH.0 + 1), Options::default());
    let mut journal = made.expect("made");
    let start = journal.head().chain;
    journal.commit(&tokens(Sequence::ZERO, 2)).expect("committed");
    drop(journal);
    let mut foreign = Vec::new();
    edit(&other.journal, |rows, _| foreign.clone_from(rows));
    edit(&this.journal, |rows, _| *rows = foreign);
    assert!(matches!(open(&this.journal).map(drop), Err(JournalError::Damaged { .. })));
    // And a reader that knows the first chain value of one epoch does not take the other.
    let journal = open(&other.journal).expect("opened");
    assert!(journal.read_after(Sequence::ZERO, Some(start), &mut |_, _| Ok(())).is_ok());
    let mine = create(&this.journal.with_file_name("third")).head().chain;
    assert!(journal.read_after(Sequence::ZERO, Some(mine), &mut |_, _| Ok(())).is_err());
}

/// Commits to a journal that may be altered where nobody has looked yet, and opens it again: whether the commit was made.
/// Refused or made, nothing that was acknowledged may be missing from a journal that opens.
fn goes_on(mut journal: RedbJournal, path: &Path, acknowledged: usize, what: &str) -> bool {
    let batch = tokens(journal.head().last, 3);
    let committed = journal.commit(&batch);
    match &committed {
        Ok(head) => assert_eq!(head.last, batch[2].sequence, "{what}"),
        Err(JournalError::Poisoned(_)) => {
            assert!(journal.commit(&batch).is_err(), "{what}: poisoned once and not twice")
        }
        Err(error) => panic!("{what}: {error}"),
    }
    drop(journal);
    let least = if committed.is_ok() { acknowledged + 3 } else { acknowledged };
    if let Ok(entries) = open(path).and_then(|journal| read(&journal, Sequence::ZERO)) {
        assert!(entries.len() >= least, "{what}: {} entries of {least}", entries.len());
    }
    committed.is_ok()
}

/// In an optimised build one of these flips once made redb panic where the journal was dropped: it writes its record of
/// free pages then, and the flip was in that record. Only calls had been sheltered, not the end of the database.
#[test]
fn bits_flipped_in_the_file_give_an_error_or_change_nothing() {
    let folder = folder();
    let mut journal = create(&folder.journal);
    let mut random = Random::seeded(7);
    for _ in 0..6 {
        journal.commit(&random.batch(journal.head().last, 12)).expect("committed");
    }
    let all = read(&journal, Sequence::ZERO).expect("sound");
    close(journal);
    let sound = fs::read(&folder.journal).expect("read");
    // Bytes that are not zero are in use more often than others, so flip half of the bits there.
    let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    let (mut refused, mut late) = (0, 0);
    for round in 0..400 {
        let at = if round % 2 == 0 { used[random.below(used.len())] } else { random.below(sound.len()) };
        fs::write(&folder.journal, &sound).expect("written");
        let mut file = fs::File::options().read(true).write(true).open(&folder.journal).expect("opened");
        let mut byte = [0];
        file.seek(SeekFrom::Start(at as u64)).and_then(|_| file.read_exact(&mut byte)).expect("read");
        byte[0] ^= 1 << random.below(8);
        file.seek(SeekFrom::Start(at as u64)).and_then(|_| file.write_all(&byte)).expect("written");
        drop(file);
        let page_check = [PageCheck::AfterUncleanStop, PageCheck::Always, PageCheck::BeforeCommits][round % 3];
        let options = Options { page_check, ..Options::default() };
        let opened = RedbJournal::open(&folder.journal, &KEY, options);
        let noticed = opened.and_then(|journal| {
            assert_eq!(read(&journal, Sequence::ZERO)?, all, "byte {at}");
            Ok(journal)
        });
        match noticed {
            Ok(journal) if page_check == PageCheck::BeforeCommits => {
                late += usize::from(!goes_on(journal, &folder.journal, all.len(), &format!("byte {at}")));
            }
            Ok(_) => {}
            Err(JournalError::InUse) => panic!("byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(late > 5, "only {late} flips were noticed before the first commit and not at opening");
    assert!(refused > 50, "only {refused} of 400 flips were noticed; the others were in unused bytes?");
}
