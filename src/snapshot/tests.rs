//! Snapshots that are whole, and every way we thought of to spoil one.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::layout::{
    EntryLayout, HEAD_BYTES, MAC_BYTES, PREFIX_BYTES, SectionLayout, TRAILER_BYTES, TRAILER_SEALED_BYTES, TableLayout,
    Trailer, section_bytes,
};
use super::seal::{Keys, Stand};
use super::write::write_with_id;
use super::*;
use crate::disk::tests::{Fault, FaultDisk};
use crate::disk::{Disk, DiskFile, Lock};

const KEY: [u8; 32] = *b"a key that only the tests know..";
const ID: [u8; 16] = *b"sixteen byte id.";
/// Format 1 as it was first written. Never changed; a new format gets a new file beside it.
/// A small snapshot in every format there was, the oldest first.
const GOLDEN: [&[u8]; 2] = [
    include_bytes!("../../tests/vectors/snapshot/format-1.tks"),
    include_bytes!("../../tests/vectors/snapshot/format-2.tks"),
];

fn header() -> Header {
    Header {
        epoch: Epoch(0x0123_4567_89ab_cdef),
        sequence: Sequence(42),
        chain: *b"the chain hash of entry 42......",
        pepper: 0xfeed_face_cafe_beef,
        created: Timestamp::from_raw(1_800_000_000),
        highest_now: Timestamp::from_raw(1_800_000_007),
        tokens: 5,
        grants: 3,
    }
}

fn sections() -> Vec<Section> {
    let section = |table, index, words: &[u32]| Section { table, index, words: words.to_vec() };
    vec![
        section(1, 0, &[0, 1, u32::MAX, 0x0102_0304, 0xdead_beef]),
        section(1, 1, &[]),
        section(2, 0, &[7]),
        section(9, 4_000_000_000, &(0..40).collect::<Vec<_>>()),
    ]
}

fn put_all(sections: Vec<Section>) -> impl FnOnce(&mut Put<'_>) -> Result<(), SnapshotError> {
    move |put| sections.into_iter().try_for_each(put)
}

/// The bytes of a snapshot.
fn made(key: &[u8; 32], id: [u8; 16], header: &Header, sections: Vec<Section>) -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let written = write_with_id(&dir, "made", key, id, header, put_all(sections)).unwrap();
    let bytes = dir.read("made", u64::MAX).unwrap().unwrap();
    assert_eq!(bytes.len() as u64, written.bytes);
    bytes
}

fn small() -> Vec<u8> {
    made(&KEY, ID, &header(), sections())
}

/// A disk of one file in memory, to try many damaged files quickly. Only reading works.
#[derive(Debug)]
struct OneFile(Arc<Vec<u8>>);

impl DiskFile for OneFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let from = usize::try_from(at).unwrap().min(self.0.len());
        let count = buffer.len().min(self.0.len() - from);
        buffer[..count].copy_from_slice(&self.0[from..from + count]);
        Ok(count)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        unreachable!("nobody writes here")
    }
    fn sync(&self) -> io::Result<()> {
        unreachable!("nobody writes here")
    }
}

impl Disk for OneFile {
    fn open(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OneFile(Arc::clone(&self.0))))
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("only opened")
    }
    fn dir_mode(&self, _: &Path) -> io::Result<u32> {
        unreachable!("only opened")
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        unreachable!("only opened")
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        unreachable!("only opened")
    }
    fn names(&self, _: &Path) -> io::Result<Vec<String>> {
        unreachable!("only opened")
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("only opened")
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        unreachable!("only opened")
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("only opened")
    }
}

fn read_named(bytes: Vec<u8>, name: &str, key: &[u8; 32]) -> Result<Vec<Section>, SnapshotError> {
    let snapshot = open_on(&OneFile(Arc::new(bytes)), Path::new(name), key)?;
    let mut found = Vec::new();
    snapshot.for_each(&mut |table, index, words| {
        found.push(Section { table, index, words: words.iter().map(|word| word.to_native()).collect() });
        Ok(())
    })?;
    let mut ahead = 0;
    snapshot.for_each_ahead(2, &mut |_, _, _| {
        ahead += 1;
        Ok(())
    })?;
    assert_eq!(ahead, found.len());
    Ok(found)
}

fn read(bytes: Vec<u8>, key: &[u8; 32]) -> Result<Vec<Section>, SnapshotError> {
    read_named(bytes, "test.tks", key)
}

/// The error of opening and reading these bytes; it is a failure of the test if they are accepted.
#[track_caller]
fn refused(bytes: Vec<u8>, what: &str) -> SnapshotError {
    match read(bytes, &KEY) {
        Ok(_) => panic!("accepted: {what}"),
        Err(error) => error,
    }
}

/// A small generator of numbers, xorshift64*, for tests that say their seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[test]
fn what_was_written_is_what_is_read() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let many = (0..300).map(|n| Section { table: n % 7, index: n, words: (0..n * 3).collect() }).collect();
    let full = vec![Section { table: 1, index: 1, words: vec![0xa5a5_a5a5; SECTION_WORDS_MAX] }];
    for (case, sections) in [("some", sections()), ("none", Vec::new()), ("many", many), ("full", full)] {
        let name = file_name(header().revision());
        let written = write(&dir, &name, &KEY, &header(), put_all(sections.clone())).unwrap();
        assert_eq!(dir.list().unwrap(), [name.as_str()], "{case}");

        let path = dir.file_path(&name).unwrap();
        let snapshot = open(&path, &KEY).unwrap();
        assert_eq!(*snapshot.header(), header(), "{case}");
        assert_eq!(snapshot.bytes(), written.bytes, "{case}");
        assert_eq!(snapshot.sections().len() as u64, written.sections, "{case}");
        assert_eq!(read_named(fs::read(&path).unwrap(), &name, &KEY).unwrap(), sections, "{case}");

        // In any order too, with one buffer, large sections before small ones.
        let mut buffer = Buffer::new();
        for (position, section) in sections.iter().enumerate().rev() {
            let words = snapshot.section(position, &mut buffer).unwrap();
            assert!(words.iter().map(|word| word.to_native()).eq(section.words.iter().copied()), "{case} {position}");
            let info = snapshot.sections()[position];
            assert_eq!((info.table, info.index), (section.table, section.index), "{case} {position}");
        }
        assert!(snapshot.section(sections.len(), &mut buffer).is_err(), "{case}");

        let report = verify(&path, &KEY).unwrap();
        let words: usize = sections.iter().map(|section| section.words.len()).sum();
        assert_eq!((report.sections, report.words), (written.sections, words as u64), "{case}");
        assert!(report.to_string().contains(&format!("all {} bytes", written.bytes)), "{case}: {report}");
    }
}

#[test]
fn reading_ahead_gives_the_same_sections_in_the_same_order_with_any_number_of_threads() {
    let sections: Vec<_> = (0..41).map(|n| Section { table: n, index: 0, words: vec![n; n as usize % 9] }).collect();
    let file = OneFile(Arc::new(made(&KEY, ID, &header(), sections.clone())));
    let snapshot = open_on(&file, Path::new("x"), &KEY).unwrap();
    for threads in [0, 1, 2, 3, 8, 100] {
        let mut found = Vec::new();
        let visited = snapshot.for_each_ahead(threads, &mut |table, index, words| {
            found.push(Section { table, index, words: words.iter().map(|word| word.to_native()).collect() });
            Ok(())
        });
        visited.unwrap();
        assert_eq!(found, sections, "{threads} threads");
    }
}

#[test]
fn what_the_reader_refuses_ends_the_reading_and_names_the_section() {
    let file = OneFile(Arc::new(small()));
    let snapshot = open_on(&file, Path::new("x"), &KEY).unwrap();
    for ahead in [None, Some(1), Some(2), Some(8)] {
        let mut seen = 0;
        let mut visit = |table: u32, _: u32, _: &[Word]| {
            seen += 1;
            if table == 2 { Err("a grant without a subject".to_owned()) } else { Ok(()) }
        };
        let result = match ahead {
            None => snapshot.for_each(&mut visit),
            Some(threads) => snapshot.for_each_ahead(threads, &mut visit),
        };
        let text = result.unwrap_err().to_string();
        assert!(text.contains("a grant without a subject") && text.contains("section 2 (table 2"), "{text}");
        assert_eq!(seen, 3, "{ahead:?}");
    }
}

#[test]
fn a_damaged_section_is_found_when_read_ahead_too() {
    let mut bytes = small();
    let at = HEAD_BYTES + section_bytes(5) + section_bytes(0);
    bytes[at] ^= 1;
    let snapshot = open_on(&OneFile(Arc::new(bytes)), Path::new("x"), &KEY).unwrap();
    for threads in 1..=4 {
        let mut seen = 0;
        let mut visit = |_: u32, _: u32, _: &[Word]| {
            seen += 1;
            Ok(())
        };
        let text = snapshot.for_each_ahead(threads, &mut visit).unwrap_err().to_string();
        assert!(text.contains("MAC") && text.contains("section 2"), "{text}");
        assert_eq!(seen, 2, "only what was authentic was handed out");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let whole = small();
    assert!(read(whole.clone(), &KEY).is_ok());
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused(bytes, &format!("bit {bit}"));
    }
}

/// The same over 64 KiB: 524,288 files.
#[test]
#[ignore = "half a minute; run before a release: cargo test --lib -- --ignored every_flipped_bit_of_64_kib"]
fn every_flipped_bit_of_64_kib_is_found() {
    const BYTES: usize = 64 * 1024;
    let fixed = HEAD_BYTES + 4 * section_bytes(0) + 4 * 56 + 8 + TRAILER_BYTES;
    let words = ((BYTES - fixed) / 4) as u32;
    let section = |n: u32| Section { table: n, index: n, words: (0..words / 4 + u32::from(n < words % 4)).collect() };
    let whole = made(&KEY, ID, &header(), (0..4).map(section).collect());
    assert_eq!(whole.len(), BYTES);
    for bit in 0..BYTES * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verified = open_on(&OneFile(Arc::new(bytes)), Path::new("x"), &KEY).and_then(|found| found.verify());
        assert!(verified.is_err(), "bit {bit}");
    }
    println!("{} bits flipped, accepted: 0", BYTES * 8);
}

#[test]
fn every_truncation_is_found() {
    let whole = small();
    for length in 0..whole.len() {
        refused(whole[..length].to_vec(), &format!("cut to {length}"));
        refused(whole[whole.len() - length..].to_vec(), &format!("only the last {length}"));
    }
}

#[test]
fn an_extended_file_is_found() {
    let whole = small();
    let trailer = &whole[whole.len() - TRAILER_BYTES..];
    for (what, more) in [("a zero", &[0][..]), ("a trailer", trailer), ("itself", &whole), ("words", &[7; 4096])] {
        for (place, at) in [("before", 0), ("after the head", HEAD_BYTES), ("after", whole.len())] {
            let bytes = [&whole[..at], more, &whole[at..]].concat();
            refused(bytes, &format!("{what} {place}"));
        }
        // With a trailer that tells the new length, which only the seal can refuse.
        let mut bytes = [&whole[..whole.len() - TRAILER_BYTES], more].concat();
        let mut told = trailer_of(&whole);
        told.file_bytes += more.len() as u64;
        told.table_offset += more.len() as u64;
        bytes.extend_from_slice(&told.to_bytes());
        bytes.extend_from_slice(&whole[whole.len() - MAC_BYTES..]);
        refused(bytes, what);
    }
}

fn trailer_of(bytes: &[u8]) -> Trailer {
    let from = bytes.len() - TRAILER_BYTES;
    Trailer::from_bytes(bytes[from..from + TRAILER_SEALED_BYTES].try_into().unwrap())
}

/// Two sections of the same size, so that they can be exchanged byte for byte.
fn twins(words: [u32; 2]) -> Vec<Section> {
    let section = |index: u32| Section { table: 1, index, words: vec![words[index as usize]; 16] };
    vec![section(0), section(1)]
}

/// Exchanges two stretches of `length` bytes.
fn swapped(bytes: &[u8], one: usize, other: usize, length: usize) -> Vec<u8> {
    let mut swapped = bytes.to_vec();
    swapped[one..one + length].copy_from_slice(&bytes[other..other + length]);
    swapped[other..other + length].copy_from_slice(&bytes[one..one + length]);
    swapped
}

#[test]
fn swapped_sections_are_found() {
    let whole = made(&KEY, ID, &header(), twins([5, 6]));
    let size = section_bytes(16);
    let table = trailer_of(&whole).table_offset as usize;
    let bodies = swapped(&whole, HEAD_BYTES, HEAD_BYTES + size, size);
    refused(bodies.clone(), "bodies");
    refused(swapped(&whole, table, table + 56, 56), "lines of the table");
    refused(swapped(&bodies, table, table + 56, 56), "bodies and lines of the table");
    refused(swapped(&bodies, table + 24, table + 80, MAC_BYTES), "bodies and their MACs");
}

#[test]
fn pieces_of_another_snapshot_under_the_same_key_are_found() {
    let ours = made(&KEY, ID, &header(), twins([5, 6]));
    let size = section_bytes(16);
    let older = Header { sequence: Sequence(41), ..header() };
    let others = [
        ("another id", made(&KEY, *b"another id......", &header(), twins([5, 6]))),
        ("another id and content", made(&KEY, *b"another id......", &header(), twins([7, 8]))),
        ("the same id by mistake", made(&KEY, ID, &older, twins([7, 8]))),
    ];
    for (what, other) in &others {
        let table = trailer_of(&ours).table_offset as usize;
        let end = ours.len();
        let parts = [
            ("prefix", 0, PREFIX_BYTES),
            ("header", 0, HEAD_BYTES),
            ("first section", HEAD_BYTES, HEAD_BYTES + size),
            ("last section", table - size, table),
            ("a line of the table", table, table + 56),
            ("a MAC", table + 24, table + 56),
            ("table", table, end - TRAILER_BYTES),
            ("trailer", end - TRAILER_BYTES, end),
            ("table and trailer", table, end),
            ("seal", end - MAC_BYTES, end),
            ("all sections", HEAD_BYTES, table),
        ];
        for (part, from, to) in parts {
            let bytes = [&ours[..from], &other[from..to], &ours[to..]].concat();
            // Some parts do not depend on the snapshot: the splice is then the file itself.
            if bytes != ours && bytes != *other {
                refused(bytes, &format!("{part} of {what}"));
            }
        }
    }
}

/// The bytes of a snapshot that somebody with the key made by mistake: `change` is applied before everything is sealed.
fn forged(change: impl FnOnce(&mut Vec<SectionLayout>, &mut Vec<EntryLayout>, &mut Trailer)) -> Vec<u8> {
    let whole = made(&KEY, ID, &header(), Vec::new());
    let mut bytes = whole[..HEAD_BYTES].to_vec();
    let keys = Keys::derive(&KEY, &ID);
    let (mut layouts, mut entries) = (Vec::new(), Vec::new());
    let mut offset = HEAD_BYTES as u64;
    for (position, section) in sections().into_iter().enumerate() {
        let Section { table, index, words } = section;
        let size = section_bytes(words.len());
        let words_count = words.len() as u32;
        layouts.push(SectionLayout { position: position as u32, table, index, words });
        entries.push(EntryLayout { offset, bytes: size as u32, words: words_count, table, index, mac: [0; 32] });
        offset += size as u64;
    }
    let table_bytes = super::layout::table_bytes(entries.len()) as u64;
    let file_bytes = offset + table_bytes + TRAILER_BYTES as u64;
    let mut trailer = Trailer { table_offset: offset, table_bytes, sections: entries.len() as u64, file_bytes };
    change(&mut layouts, &mut entries, &mut trailer);
    for (position, layout) in layouts.iter().enumerate() {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(layout).unwrap();
        if let Some(entry) = entries.get_mut(position) {
            let EntryLayout { offset, words, table, index, .. } = *entry;
            entry.mac = keys.section(Stand { position: position as u32, table, index, words, offset }, &archive);
        }
        bytes.extend_from_slice(&archive);
    }
    let table = rkyv::to_bytes::<rkyv::rancor::Error>(&TableLayout { entries }).unwrap();
    bytes.extend_from_slice(&table);
    let sealed = trailer.to_bytes();
    bytes.extend_from_slice(&sealed);
    bytes.extend_from_slice(&keys.seal(&whole[..HEAD_BYTES], &table, &sealed));
    bytes
}

#[test]
fn a_valid_seal_over_wrong_content_is_refused() {
    assert_eq!(forged(|_, _, _| {}), small(), "the forger writes as the writer does");
    type Change = fn(&mut Vec<SectionLayout>, &mut Vec<EntryLayout>, &mut Trailer);
    let follow = "sections do not follow each other";
    let other = "it is another section";
    let table = "the table of sections is not where it ends the file";
    let changes: [(&str, &str, Change); 14] = [
        ("a section of another table", other, |layouts, _, _| layouts[0].table = 2),
        ("a section of another index", other, |layouts, _, _| layouts[0].index = 9),
        ("a section of another position", other, |layouts, _, _| layouts[2].position = 3),
        ("a word less", "cut off or extended", |layouts, _, _| layouts[0].words.truncate(4)),
        ("fewer words than the table says", follow, |_, entries, _| entries[0].words += 1),
        ("more bytes than the words need", follow, |_, entries, _| entries[0].bytes += 4),
        ("sections that overlap", follow, |_, entries, _| entries[1].offset -= 4),
        ("a gap between sections", follow, |_, entries, _| entries[3].offset += 4),
        ("more words than allowed", follow, |_, entries, _| entries[3].words = u32::MAX),
        ("a section that the table leaves out", "do not fill the file", |_, entries, trailer| {
            entries.pop();
            (trailer.sections, trailer.table_bytes) = (3, super::layout::table_bytes(3) as u64);
            trailer.file_bytes -= 56;
        }),
        ("another length", "cut off or extended", |_, _, trailer| trailer.file_bytes += 4),
        ("another count", table, |_, _, trailer| trailer.sections -= 1),
        ("a count beyond all bounds", table, |_, _, trailer| trailer.sections = u64::MAX),
        ("a table beyond all bounds", table, |_, _, trailer| trailer.table_offset = u64::MAX - 7),
    ];
    for (what, why, change) in changes {
        let text = refused(forged(change), what).to_string();
        assert!(text.contains(why), "{what}: {text}");
    }
}

#[test]
fn a_table_that_would_overlap_the_header_is_refused_before_it_is_read() {
    let mut bytes = small()[..HEAD_BYTES].to_vec();
    // 100 + (56 + 8) + 64 bytes: the table would begin at byte 100, in the header's last bytes.
    bytes.resize(100 + 64, 0);
    let trailer = Trailer { table_offset: 100, table_bytes: 64, sections: 1, file_bytes: 100 + 64 + 64 };
    bytes.extend(trailer.to_bytes());
    bytes.extend([0; MAC_BYTES]);
    let text = refused(bytes, "overlap").to_string();
    assert!(text.contains("overlaps the header"), "{text}");
}

#[test]
fn what_is_no_snapshot_is_told_so() {
    for (what, at) in [("the first byte", 0), ("the last of the magic", 7)] {
        let mut bytes = small();
        bytes[at] ^= 0x80;
        let text = refused(bytes, what).to_string();
        assert!(text.contains("does not begin as a snapshot does"), "{text}");
    }
}

#[test]
fn a_valid_section_mac_over_a_broken_archive_is_refused() {
    // The relative pointer and the length of the vector, with the MACs made right again by somebody with the key.
    let whole = small();
    let keys = Keys::derive(&KEY, &ID);
    let size = section_bytes(5);
    for (what, at) in [("pointer", size - 8), ("length", size - 4)] {
        for value in [0_i32, 4, -4, -24, i32::MIN, i32::MAX, -1] {
            let mut bytes = whole.clone();
            let section = &mut bytes[HEAD_BYTES..HEAD_BYTES + size];
            if section[at..at + 4] == value.to_le_bytes() {
                continue;
            }
            section[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let stand = Stand { position: 0, table: 1, index: 0, words: 5, offset: HEAD_BYTES as u64 };
            let mac = keys.section(stand, section);
            let table = trailer_of(&whole).table_offset as usize;
            bytes[table + 24..table + 56].copy_from_slice(&mac);
            let end = bytes.len();
            let sealed = bytes[end - TRAILER_BYTES..end - MAC_BYTES].try_into().unwrap();
            let seal = keys.seal(&bytes[..HEAD_BYTES], &bytes[table..end - TRAILER_BYTES], &sealed);
            bytes[end - MAC_BYTES..].copy_from_slice(&seal);
            refused(bytes, &format!("{what} {value}"));
        }
    }
}

#[test]
fn another_key_is_refused_and_the_text_says_what_cannot_be_known() {
    for bit in [0, 100, 255] {
        let mut key = KEY;
        key[bit / 8] ^= 1 << (bit % 8);
        let error = read(small(), &key).unwrap_err();
        assert!(matches!(error, SnapshotError::WrongKey { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("another key") && text.contains("cannot be told apart"), "{text}");
    }
}

#[test]
fn an_unknown_version_is_refused_by_name_before_anything_else() {
    for (at, what) in [(8, "format"), (12, "archive layout")] {
        for found in [0, 3, 0xffff_ffff_u32] {
            let mut bytes = small();
            bytes[at..at + 4].copy_from_slice(&found.to_le_bytes());
            // Whatever follows in another format is none of our business, even if it is short.
            for bytes in [bytes.clone(), bytes[..PREFIX_BYTES].to_vec()] {
                let error = refused(bytes, what);
                let text = error.to_string();
                assert!(
                    matches!(error, SnapshotError::Format { what: told, found: f, .. } if told == what && f == found)
                );
                assert!(text.contains(&format!("{what} {found:#x}")) && text.contains("this program reads"), "{text}");
            }
        }
    }
}

#[test]
fn random_files_are_refused_without_a_panic() {
    let ours = small();
    for seed in 1..=2000_u64 {
        let mut random = Random(seed);
        let mut bytes: Vec<u8> = (0..random.below(600)).map(|_| random.next() as u8).collect();
        match seed % 4 {
            // Nothing of ours.
            0 => {}
            // Our head, then garbage.
            1 => bytes.splice(..0, ours[..HEAD_BYTES].iter().copied()).for_each(drop),
            // Garbage in the middle of ours, of the same length.
            2 => {
                let from = random.below(ours.len());
                let mut whole = ours.clone();
                whole.iter_mut().skip(from).zip(&bytes).for_each(|(place, byte)| *place = *byte);
                bytes = whole;
            }
            // Our head, garbage, and a trailer that tells the right length and plausible numbers.
            _ => {
                bytes.splice(..0, ours[..HEAD_BYTES].iter().copied());
                let sections = random.below(5) as u64;
                let table_bytes = sections * 56 + 8;
                let table_offset = (bytes.len() as u64).saturating_sub(table_bytes);
                let file_bytes = (bytes.len() + TRAILER_BYTES) as u64;
                bytes.extend(Trailer { table_offset, table_bytes, sections, file_bytes }.to_bytes());
                bytes.extend([random.next() as u8; MAC_BYTES]);
            }
        }
        if bytes != ours {
            refused(bytes, &format!("seed {seed}"));
        }
    }
}

#[test]
fn a_snapshot_under_the_name_of_another_revision_is_refused() {
    let other = Revision { epoch: header().epoch, sequence: Sequence(43) };
    let named = |revision| read_named(small(), &format!("/data/{}", file_name(revision)), &KEY);
    assert!(named(header().revision()).is_ok());
    let text = named(other).unwrap_err().to_string();
    assert!(text.contains("its name tells another"), "{text}");
}

#[test]
fn a_writer_that_gives_up_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let given_up = write(&dir, "x.tks", &KEY, &header(), |put| {
        sections().into_iter().try_for_each(put)?;
        assert_eq!(dir.list().unwrap().len(), 1, "the temporary file");
        Err(SnapshotError::GivenUp("the server is stopping".into()))
    });
    assert!(given_up.unwrap_err().to_string().contains("the server is stopping"));
    assert!(dir.list().unwrap().is_empty());
}

#[test]
fn a_section_that_is_too_large_is_refused_before_it_is_written() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let large = vec![Section { table: 1, index: 0, words: vec![0; SECTION_WORDS_MAX + 1] }];
    let error = write(&dir, "x.tks", &KEY, &header(), put_all(large)).unwrap_err();
    assert!(matches!(error, SnapshotError::Limit { .. }), "{error}");
    assert!(dir.list().unwrap().is_empty());
}

#[test]
fn whichever_call_fails_the_name_holds_a_whole_snapshot_or_none_and_success_means_whole() {
    let name = file_name(header().revision());
    for fault in [Fault::Once, Fault::Killed, Fault::Torn] {
        let mut calls = 0;
        loop {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("data");
            let disk = FaultDisk::new(calls, fault);
            let faulty: Arc<dyn Disk> = Arc::clone(&disk) as _;
            let result = DataDir::open_on(faulty, &path)
                .map_err(SnapshotError::from)
                .and_then(|dir| write(&dir, &name, &KEY, &header(), put_all(sections())));

            let case = format!("{fault:?} at call {calls}");
            // The next start: whatever stands under a final name is whole, and nothing temporary is left.
            let dir = DataDir::open(&path).unwrap();
            let names = dir.list().unwrap();
            if result.is_ok() || !names.is_empty() {
                assert_eq!(names, [name.as_str()], "{case}");
                verify(&dir.file_path(&name).unwrap(), &KEY).unwrap_or_else(|error| panic!("{case}: {error}"));
            }
            if !disk.has_struck() {
                assert!(result.is_ok(), "{case}: {result:?}");
                break;
            }
            assert!(result.is_err() || fault == Fault::Once, "{case}: a killed writer does not succeed");
            calls += 1;
        }
        assert!(calls > 30, "only {calls} calls were failed");
    }
}

#[test]
fn a_snapshot_is_synced_then_read_back_then_named_then_its_directory_is_synced() {
    let root = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new(u32::MAX, Fault::Once);
    let dir = DataDir::open_on(Arc::clone(&disk) as _, root.path()).unwrap();
    disk.take_calls();
    write(&dir, "x.tks", &KEY, &header(), put_all(sections())).unwrap();
    let mut calls = disk.take_calls();
    calls.dedup();
    let read_back = ["open", "bytes", "read_at"];
    let expected = [&["create", "write_at", "sync"][..], &read_back, &["rename", "sync_dir"], &read_back];
    assert_eq!(calls, expected.concat());
}

#[test]
fn inspecting_needs_no_key_and_says_that_it_proves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tks");
    let mut bytes = small();
    // Everything behind the header may be spoilt.
    bytes[HEAD_BYTES..].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let found = inspect(&path).unwrap();
    assert_eq!(found, Inspection { format: FORMAT, bytes: bytes.len() as u64, id: ID, header: header() });
    let text = found.to_string();
    assert!(text.starts_with("NOT VERIFIED") && text.contains("0123456789abcdef-42"), "{text}");
}

#[test]
fn an_absent_file_is_an_error_of_the_file_system() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("absent.tks");
    for error in [open(&path, &KEY).err(), verify(&path, &KEY).err(), inspect(&path).err()] {
        let text = error.unwrap().to_string();
        assert!(text.starts_with("cannot open ") && text.contains("absent.tks"), "{text}");
    }
}

#[test]
fn names_tell_revisions_and_sort_like_them() {
    let of = |epoch, sequence| Revision { epoch: Epoch(epoch), sequence: Sequence(sequence) };
    let ascending = [of(0, 0), of(0, 9), of(0, 10), of(0, u64::MAX), of(1, 0), of(0x10, 3), of(u64::MAX, u64::MAX)];
    let names = ascending.map(file_name);
    assert!(names.is_sorted());
    for (name, revision) in names.iter().zip(ascending) {
        assert_eq!(parse_file_name(name), Some(revision), "{name}");
    }
    assert_eq!(names[1], "snapshot-0000000000000000-00000000000000000009.tks");
    let strangers = [
        "snapshot-0000000000000000-00000000000000000009.tks.damaged-1",
        "snapshot-0000000000000000-00000000000000000009.tks.tmp-0",
        "snapshot-0000000000000000-00000000000000000009",
        "snapshot-0000000000000000-9.tks",
        "snapshot-000000000000000A-00000000000000000009.tks",
        "snapshot-+000000000000000-00000000000000000009.tks",
        "snapshot-0000000000000000-+0000000000000000009.tks",
        "snapshot-0000000000000000-99999999999999999999.tks",
        "snapshot-.tks",
        "",
    ];
    for name in strangers {
        assert_eq!(parse_file_name(name), None, "{name}");
    }

    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    for name in names.iter().map(String::as_str).chain(strangers.into_iter().filter(|name| !name.is_empty())) {
        fs::write(root.path().join(name), b"").unwrap();
    }
    let listed: Vec<_> = list(&dir).unwrap().into_iter().map(|(revision, _)| revision).collect();
    assert!(listed.iter().rev().eq(&ascending), "{listed:?}");
}

#[test]
fn every_format_is_read_as_it_always_was_and_the_newest_is_written() {
    for golden in GOLDEN {
        assert_eq!(read(golden.to_vec(), &KEY).unwrap(), sections());
        let snapshot = open_on(&OneFile(Arc::new(golden.to_vec())), Path::new("x"), &KEY).unwrap();
        assert_eq!(*snapshot.header(), header());
    }
    let [.., newest] = GOLDEN;
    assert_eq!(small(), newest, "the bytes of format {FORMAT} have changed: that needs a new format number");
}

#[test]
fn a_file_cannot_be_passed_off_as_one_of_another_format() {
    for (golden, other) in [(0, 2), (1, 1)] {
        let mut bytes = GOLDEN[golden].to_vec();
        bytes[8] = other;
        refused(bytes, &format!("format {other}"));
    }
}

#[test]
#[ignore = "writes the golden vector of the current format; run only when a new format is made"]
fn write_the_golden_vector() {
    let path = format!("{}/tests/vectors/snapshot/format-{FORMAT}.tks", env!("CARGO_MANIFEST_DIR"));
    fs::write(path, small()).unwrap();
}

/// What verification costs at a restart with 10 million tokens: 400 MB in full sections.
#[test]
#[ignore = "writes 400 MB; a measurement: cargo test --lib -- --ignored --nocapture how_long_400_mb"]
fn how_long_400_mb_take_to_write_and_to_verify() {
    const SECTIONS: u32 = 200;
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let name = file_name(header().revision());
    let started = std::time::Instant::now();
    let written = write(&dir, &name, &KEY, &header(), |put| {
        (0..SECTIONS).try_for_each(|index| put(Section { table: 1, index, words: vec![index; SECTION_WORDS_MAX] }))
    });
    let written = written.unwrap();
    println!("{} bytes: written, synced and verified in {:?}", written.bytes, started.elapsed());
    let path = dir.file_path(&name).unwrap();
    let mut times: HashMap<usize, Vec<u128>> = HashMap::new();
    for _ in 0..5 {
        for threads in [0, 1, 2, 4] {
            let started = std::time::Instant::now();
            let snapshot = open(&path, &KEY).unwrap();
            let mut sum = 0_u64;
            let mut visit = |_: u32, _: u32, words: &[Word]| {
                // Touch every cache line once, as a filler would at least.
                sum += words.iter().step_by(16).map(|word| u64::from(word.to_native())).sum::<u64>();
                Ok(())
            };
            if threads == 0 { snapshot.for_each(&mut visit) } else { snapshot.for_each_ahead(threads, &mut visit) }
                .unwrap();
            assert!(sum > 0);
            times.entry(threads).or_default().push(started.elapsed().as_millis());
        }
    }
    for threads in [0, 1, 2, 4] {
        let times = times.get_mut(&threads).unwrap();
        times.sort_unstable();
        println!("{threads} threads ahead: ms, five runs, sorted: {times:?}");
    }
}
