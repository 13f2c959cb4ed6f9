//! Tests of the format without any file: entries, rows, the head. `tests/` has those of the file and of its faults.

mod disk;
mod faults;
mod file;
mod generations;
mod make;
mod vectors;

use self::make::{Random, access, audience, client, grant, scopes, token_entry, tokens};
use self::vectors::{EPOCH, KEY, all_forms, forms};
use super::chain::{Keys, Links};
use super::entry::{self, ENTRY_BYTES_MAX, Kind};
use super::head::HeadRow;
use super::row::{Position, ROW_BYTES_MAX, Rows, Walk};
use super::{ChainHash, JournalError};
use crate::domain::{
    Access, Change, Confirmation, Entry, Epoch, Expiry, NewGrant, Pair, Place, Reach, ScopeMask, Sequence, Timestamp,
};

fn bytes_of(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry::encode(entry, &mut bytes).expect("fits");
    bytes
}

fn with(change: Change) -> Entry {
    Entry { change, ..token_entry(1) }
}

fn links() -> Links {
    Keys::new(&KEY).links(EPOCH)
}

fn start() -> Position {
    Position { sequence: Sequence::ZERO, chain: links().start }
}

/// The rows of a batch that begins the list, each as its own bytes, and where the list then ends.
fn rows_of(batch: &[Entry]) -> (Vec<Vec<u8>>, Position) {
    let mut rows = Rows::default();
    let end = rows.build(&links(), start(), batch).expect("fits");
    (rows.iter().map(|(_, row)| row.to_vec()).collect(), end)
}

/// Reads one row that begins the list to its end.
fn read(links: &Links, row: &[u8]) -> Result<(Vec<Entry>, Position), JournalError> {
    let mut walk = Walk::new(links, start(), row);
    let mut entries = Vec::new();
    while let Some((entry, _)) = walk.next()? {
        entries.push(entry);
    }
    Ok((entries, walk.position()))
}

#[test]
fn random_entries_of_every_kind_come_back_exactly() {
    let mut random = Random::seeded(1);
    let mut seen = [0; Kind::ALL.len()];
    for sequence in 0..4_000 {
        let entry = random.entry(sequence);
        seen[Kind::of(&entry.change) as usize - 1] += 1;
        assert_eq!(entry::decode(&bytes_of(&entry)).as_ref(), Ok(&entry));
        assert_eq!(entry::fits(&entry.change), Ok(()));
    }
    assert!(seen.iter().all(|count| *count > 100), "the generator leaves kinds out: {seen:?}");
}

#[test]
fn kinds_and_their_numbers_belong_together() {
    for (kind, number) in Kind::ALL.into_iter().zip(1..) {
        assert_eq!((kind as u8, Kind::from_number(number)), (number, Some(kind)));
        assert!(forms(kind).iter().all(|(_, change)| Kind::of(change) == kind));
    }
    assert_eq!((Kind::from_number(0), Kind::from_number(18), Kind::from_number(255)), (None, None, None));
}

#[test]
fn the_largest_of_everything_comes_back_exactly() {
    let id = "i".repeat(128);
    let longest = |number: usize| format!("{number:04}{}/{}", "w".repeat(124), "p".repeat(128));
    let all = ScopeMask::from_words([u64::MAX; 4], true);
    let pairs = (0..1_000)
        .map(|number| Pair { reach: Reach::At(Place::parse(&longest(number)).expect("a place")), scopes: all });
    let made = NewGrant {
        id: grant((1 << 31) - 1),
        subject: make::subject(&id),
        client: client(&id),
        access: Access::new(pairs).expect("an access list"),
        // The last moment there is, which is not the same as never.
        expiry: Expiry::At(Timestamp::MAX),
        audience: vec![audience(&id); 1_000],
    };
    let mut entry = with(Change::MakeGrant(made));
    entry.sequence = Sequence(u64::MAX);
    entry.at = Timestamp::MAX;
    assert_eq!(entry::decode(&bytes_of(&entry)), Ok(entry));
}

#[test]
fn what_is_longer_than_its_field_is_refused_and_nothing_is_written() {
    let made = |count: usize, id: &str| {
        Change::MakeGrant(NewGrant {
            id: grant(1),
            subject: make::subject("s"),
            client: client("c"),
            access: access(&[("everywhere", scopes(&[1]))]),
            expiry: Expiry::Never,
            audience: vec![audience(id); count],
        })
    };
    let bound = |bytes: usize| {
        let mut token = token_entry(1);
        if let Change::RegisterToken(token) = &mut token.change {
            token.confirmation = Some(Confirmation::Other("c".repeat(bytes).into()));
        }
        token.change
    };
    let table = [
        ("a scope name", Change::AddScope("s".repeat(97).into())),
        ("a scope name", Change::AliasScope("s".into(), "s".repeat(300).into())),
        ("a confirmation", bound(1_025)),
        ("a list of audiences", made(65_536, "a")),
        ("an entry", made(9_000, &"a".repeat(128))),
    ];
    for (what, change) in table {
        assert!(entry::fits(&change).is_err(), "{what}");
        let mut bytes = vec![7];
        let error = entry::encode(&with(change), &mut bytes).expect_err(what);
        assert_eq!((error.what, bytes), (what, vec![7]));
    }
    assert_eq!(entry::fits(&bound(1_024)), Ok(()));
    assert_eq!(entry::fits(&made(8_000, &"a".repeat(128))), Ok(()));
}

#[test]
fn no_cut_and_no_addition_is_an_entry() {
    for entry in all_forms() {
        let mut bytes = bytes_of(&entry);
        for end in 0..bytes.len() {
            assert!(entry::decode(&bytes[..end]).is_err(), "{entry:?} cut to {end}");
            // The length set right, so that the fields themselves have to find the end missing.
            if let Some(length) = end.checked_sub(4) {
                let mut cut = bytes[..end].to_vec();
                cut[..4].copy_from_slice(&(length as u32).to_le_bytes());
                assert!(entry::decode(&cut).is_err(), "{entry:?} cut to {end}, its length too");
            }
        }
        bytes.push(0);
        assert!(entry::decode(&bytes).is_err(), "{entry:?} with a byte more");
        let length = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        assert!(entry::decode(&bytes).is_err(), "{entry:?} with a byte more, its length too");
    }
}

#[test]
fn whatever_bytes_decode_they_are_the_one_form_of_what_they_mean() {
    let mut random = Random::seeded(2);
    let forms: Vec<Vec<u8>> = all_forms().iter().map(bytes_of).collect();
    let mut understood = 0;
    for _ in 0..60_000 {
        let mut bytes = forms[random.below(forms.len())].clone();
        for _ in 0..1 + random.below(3) {
            let at = 4 + random.below(bytes.len() - 4);
            bytes[at] = random.next() as u8;
        }
        if let Ok(entry) = entry::decode(&bytes) {
            understood += 1;
            assert_eq!(bytes_of(&entry), bytes);
        }
    }
    assert!(understood > 1_000, "only {understood} of the altered entries were understood");
}

#[test]
fn a_second_form_of_the_same_thing_is_refused() {
    // A mask with an empty word, pairs out of order, a pair twice, a pair without scopes.
    let narrow = with(Change::NarrowGrant(grant(1), access(&[("1", scopes(&[0])), ("2", scopes(&[0]))])));
    let bytes = bytes_of(&narrow);
    let at = bytes.len() - 24;
    let (one, two) = (bytes[at..at + 12].to_vec(), bytes[at + 12..].to_vec());
    let lists: [(&str, Vec<u8>); 4] = [
        ("out of order", [two.clone(), one.clone()].concat()),
        ("one place twice", [one.clone(), one.clone()].concat()),
        ("a pair without scopes", [&one[..], &[1, 0, b'2', 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat()),
        ("an empty word", [&one[..], &[1, 0, b'2', 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat()),
    ];
    for (what, list) in lists {
        let altered = [&bytes[..at], &list[..]].concat();
        assert!(entry::decode(&altered).is_err(), "{what}");
    }
    assert_eq!(entry::decode(&[&bytes[..at], &one, &two].concat()), Ok(narrow));
}

#[test]
fn a_count_promises_no_memory() {
    let mut bytes = bytes_of(&with(Change::NarrowGrant(grant(1), Access::default())));
    let count = bytes.len() - 2;
    bytes[count..].copy_from_slice(&[0xff, 0xff]);
    assert!(entry::decode(&bytes).is_err());
    let mut huge = vec![0; ENTRY_BYTES_MAX + 1];
    let length = (huge.len() as u32 - 4).to_le_bytes();
    huge[..4].copy_from_slice(&length);
    assert!(entry::decode(&huge).is_err());
}

#[test]
fn a_batch_becomes_rows_of_limited_size_and_comes_back() {
    let mut random = Random::seeded(3);
    for (what, batch) in [("small", tokens(Sequence::ZERO, 3_000)), ("mixed", random.batch(Sequence::ZERO, 3_000))] {
        let mut rows = Rows::default();
        let end = rows.build(&links(), start(), &batch).expect("fits");
        assert!(rows.iter().count() > 2, "{what}");
        let mut at = start();
        let mut back = Vec::new();
        let links = links();
        for (first, row) in rows.iter() {
            assert!(row.len() <= ROW_BYTES_MAX, "{what}");
            assert_eq!(first, at.sequence.next());
            let mut walk = Walk::new(&links, at, row);
            while let Some((entry, _)) = walk.next().expect("sound") {
                back.push(entry);
            }
            at = walk.position();
        }
        assert_eq!((at, &back), (end, &batch), "{what}");
    }
}

#[test]
fn no_single_bit_of_a_batch_can_be_flipped() {
    let batch: Vec<Entry> = Kind::ALL
        .into_iter()
        .zip(1..)
        .map(|(kind, sequence)| Entry { change: forms(kind).swap_remove(0).1, ..token_entry(sequence) })
        .collect();
    let (rows, end) = rows_of(&batch);
    let [row] = &rows[..] else { panic!("one row") };
    let links = links();
    assert_eq!(read(&links, row).expect("sound"), (batch, end));
    for bit in 0..row.len() * 8 {
        let mut altered = row.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read(&links, &altered), Err(JournalError::Damaged { .. })), "bit {bit}");
    }
}

#[test]
fn no_cut_of_a_batch_is_the_batch() {
    let (rows, end) = rows_of(&all_forms());
    for cut in 0..rows[0].len() {
        match read(&links(), &rows[0][..cut]) {
            Err(JournalError::Damaged { .. }) => {}
            // A cut between two entries leaves a shorter list, whose end is not the one in the head.
            Ok((_, at)) => assert!(at.sequence < end.sequence && !at.chain.is(&end.chain), "cut at {cut}"),
            Err(other) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn entries_moved_dropped_repeated_or_from_elsewhere_are_refused() {
    let batch = tokens(Sequence::ZERO, 4);
    let (rows, _) = rows_of(&batch);
    let size = rows[0].len() / 4;
    let entries: Vec<&[u8]> = rows[0].chunks(size).collect();
    let [one, two, three, four] = entries[..] else { panic!("four entries") };
    let mut elsewhere = Rows::default();
    let other = Keys::new(&KEY).links(Epoch(EPOCH.0 + 1));
    let begin = Position { chain: other.start, ..start() };
    elsewhere.build(&other, begin, &batch).expect("fits");
    let elsewhere: Vec<u8> = elsewhere.iter().flat_map(|(_, row)| row.to_vec()).collect();
    // Even a list that begins with the same chain value is of its own epoch.
    let mut same_start = Rows::default();
    same_start.build(&other, start(), &batch).expect("fits");
    let same_start: Vec<u8> = same_start.iter().flat_map(|(_, row)| row.to_vec()).collect();
    let table = [
        ("swapped", [one, three, two, four].concat(), 2),
        ("dropped", [one, two, four].concat(), 3),
        ("repeated", [one, two, two, three, four].concat(), 3),
        ("the first one gone", [two, three, four].concat(), 1),
        ("another epoch", elsewhere, 1),
        ("another epoch, begun at the same chain value", same_start, 1),
        ("the end of another list", [one, &[0; 90]].concat(), 2),
    ];
    for (what, row, first_wrong) in table {
        match read(&links(), &row) {
            Err(JournalError::Damaged { at, .. }) => assert_eq!(at, Sequence(first_wrong), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    let other_key = Keys::new(&[9; 32]).links(EPOCH);
    assert!(matches!(read(&other_key, &rows[0]), Err(JournalError::Damaged { at: Sequence(1), .. })));
}

#[test]
fn an_entry_in_the_wrong_place_is_refused_even_from_somebody_who_has_the_key() {
    let entry = bytes_of(&token_entry(5));
    let row = [&entry[..], &links().next(start(), &entry).expect("a key").0].concat();
    assert!(matches!(read(&links(), &row), Err(JournalError::Damaged { at: Sequence(1), .. })));
}

#[test]
#[should_panic(expected = "goes on with 3")]
fn a_gap_in_the_sequences_is_the_writers_error() {
    rows_of(&[token_entry(1), token_entry(2), token_entry(4)]);
}

#[test]
fn a_head_with_any_bit_flipped_or_cut_is_refused() {
    let keys = Keys::new(&KEY);
    let position = |sequence| Position { sequence: Sequence(sequence), chain: ChainHash([sequence as u8; 32]) };
    let head = HeadRow { epoch: EPOCH, end: position(9), start: position(3) };
    let bytes = head.encode(&keys);
    assert_eq!(HeadRow::decode(&keys, &bytes).expect("sealed"), (head, 1));
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes;
        altered[bit / 8] ^= 1 << (bit % 8);
        match HeadRow::decode(&keys, &altered) {
            Err(JournalError::Format { .. }) => assert!(bit < 32),
            Err(JournalError::Damaged { .. }) => assert!(bit >= 32),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    assert!((0..bytes.len()).all(|cut| HeadRow::decode(&keys, &bytes[..cut]).is_err()));
    assert!(HeadRow::decode(&Keys::new(&[9; 32]), &bytes).is_err());
}
