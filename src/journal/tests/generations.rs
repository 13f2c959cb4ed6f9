//! A journal over several generations of keys, and what somebody can do who has an old key: nothing.

use super::file::{close, fill, folder, plain, read};
use super::make::{Random, tokens};
use super::vectors::EPOCH;
use crate::domain::{Entry, Epoch, Revision, Sequence};
use crate::journal::{ChainHash, Head, Journal, JournalError, Options, RedbJournal};
use crate::secrets::{Key, Ring};

/// A ring of generations that begin at these places: number, sequence, chain value there.
fn ring(places: &[(u32, u64, ChainHash)]) -> Ring {
    let key = |&(number, sequence, chain): &(u32, u64, ChainHash)| {
        let epoch = if number == 1 { Epoch(0) } else { EPOCH };
        let after = Revision { epoch, sequence: Sequence(sequence) };
        Key { number, after, chain: chain.0, bytes: [number as u8; 32] }
    };
    Ring::new(places.iter().map(key).collect())
}

const FIRST: (u32, u64, ChainHash) = (1, 0, ChainHash([0; 32]));

fn next(number: u32, head: Head) -> (u32, u64, ChainHash) {
    (number, head.last.0, head.chain)
}

fn open(path: &std::path::Path, ring: &Ring) -> Result<RedbJournal, JournalError> {
    RedbJournal::open(path, ring, Options::default())
}

fn create(path: &std::path::Path) -> RedbJournal {
    RedbJournal::create(path, ring(&[FIRST]), EPOCH, Options::default()).expect("made")
}

#[track_caller]
fn is_refused(what: &str, outcome: Result<(), JournalError>, said: &str) {
    match outcome {
        Err(JournalError::Damaged { what: why, .. }) => assert!(why.contains(said), "{what}: {why}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_list_that_spans_generations_is_read_back_whole_and_each_part_needs_its_own_key() {
    let (folder, mut random) = (folder(), Random::seeded(31));
    let mut journal = create(&folder.journal);
    let (mut all, mut places) = (Vec::new(), vec![FIRST]);
    for number in 2..=5 {
        // Once nothing comes between two rotations.
        let batches = if number == 4 { 0 } else { 3 };
        all.extend(fill(&mut journal, &mut random, batches));
        let before = journal.head();
        places.push(next(number, before));
        journal.rekey(&ring(&places)).expect("rotated");
        assert_eq!(journal.head(), before, "no entry is made by a rotation");
        if number == 3 {
            close(journal);
            journal = open(&folder.journal, &ring(&places)).expect("opened");
        }
    }
    all.extend(fill(&mut journal, &mut random, 3));
    assert_eq!(plain(read(&journal, Sequence::ZERO).expect("sound")), all);
    close(journal);
    let journal = open(&folder.journal, &ring(&places)).expect("opened");
    assert_eq!(plain(read(&journal, Sequence::ZERO).expect("sound")), all);
    assert_eq!(plain(read(&journal, Sequence(places[2].1)).expect("sound")), all[places[2].1 as usize..]);
    close(journal);

    // Another key in the place of any one that sealed something is found out, by opening or by reading.
    // (The third sealed nothing: the fourth begins where it does.)
    assert_eq!(places[2].1, places[3].1);
    for wrong in [0, 1, 3, 4] {
        let mut keys: Vec<Key> = ring(&places).keys().to_vec();
        keys[wrong].bytes = [99; 32];
        let outcome = open(&folder.journal, &Ring::new(keys)).and_then(|journal| read(&journal, Sequence::ZERO));
        assert!(matches!(outcome, Err(JournalError::Damaged { .. })), "generation {} is another", wrong + 1);
    }

    // Without the oldest keys what they sealed is no more believed, until it is discarded.
    let young = ring(&places[1..]);
    let outcome = open(&folder.journal, &young).and_then(|journal| read(&journal, Sequence::ZERO).map(drop));
    is_refused("the first key is gone", outcome, "older than the oldest keys");
    let mut journal = open(&folder.journal, &ring(&places)).expect("opened");
    journal.discard_through(Sequence(places[1].1)).expect("discarded");
    assert_eq!(journal.head().discarded, Sequence(places[1].1), "a rotation stands between two rows");
    journal.rekey(&young).expect("dropped");
    close(journal);
    let journal = open(&folder.journal, &young).expect("opened");
    assert_eq!(plain(read(&journal, Sequence(places[1].1)).expect("sound")), all[places[1].1 as usize..]);
}

/// The process died when the new keys were durable and the head was not sealed with them yet.
#[test]
fn a_head_of_the_keys_before_is_believed_where_the_new_ones_begin_and_sealed_anew_by_the_opening() {
    for entries in [0, 4] {
        let folder = folder();
        let mut journal = create(&folder.journal);
        journal.commit(&tokens(Sequence::ZERO, entries)).expect("committed");
        let head = journal.head();
        close(journal);
        let both = ring(&[FIRST, next(2, head)]);
        let mut journal = open(&folder.journal, &both).expect("opened");
        assert_eq!(journal.head(), head);
        // Nothing needs the first key any more once its entries are gone, not even the head.
        journal.discard_through(head.last).expect("discarded");
        close(journal);
        let mut journal = open(&folder.journal, &ring(&[next(2, head)])).expect("the head is of the new keys");
        journal.commit(&tokens(head.last, 3)).expect("committed");
        assert_eq!(read(&journal, head.last).expect("sound").len(), 3);
    }
}

/// Somebody has the first key and can write the file; the keys have been rotated since.
#[test]
fn whoever_has_a_key_that_was_replaced_can_make_nothing_that_is_believed() {
    let tale = |count: usize, other: bool| -> Vec<Entry> {
        let mut entries = tokens(Sequence::ZERO, count);
        if other {
            entries[1].at = entries[1].at.plus(1);
        }
        entries
    };
    let honest = folder();
    let mut journal = create(&honest.journal);
    journal.commit(&tale(6, false)).expect("committed");
    let head = journal.head();
    close(journal);
    let both = ring(&[FIRST, next(2, head)]);
    let forged = |entries: &[Entry]| {
        let folder = folder();
        let mut journal = create(&folder.journal);
        journal.commit(entries).expect("committed");
        close(journal);
        folder
    };
    // What goes on with the old key.
    let longer = forged(&tale(9, false));
    is_refused("longer", open(&longer.journal, &both).map(drop), "had been replaced before");
    // Another history, up to the very place of the rotation.
    let other = forged(&tale(6, true));
    is_refused("another history", open(&other.journal, &both).map(drop), "another than the one at which");
    // The same history is the same.
    let same = forged(&tale(6, false));
    let mut journal = open(&same.journal, &both).expect("the list as it was");
    journal.commit(&tokens(Sequence(6), 1)).expect("committed");
    // Less of it: readable, since it was written once, but nothing goes on from there. (A start refuses it.)
    let shorter = forged(&tale(4, false));
    let mut journal = open(&shorter.journal, &both).expect("an old list");
    assert!(matches!(journal.commit(&tokens(Sequence(4), 1)), Err(JournalError::Poisoned(_))));
}
