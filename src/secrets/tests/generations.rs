//! Version 2 of the file: every byte of it, damage, and one file in place of another with every call failing in turn.

use super::*;
use crate::disk::tests::{Fault, FaultDisk};
use crate::disk::{DataDir, FileDisk};
use crate::domain::{Epoch, Sequence};
use crate::secrets::image::Image;
use std::sync::Arc;

fn at(sequence: u64) -> Revision {
    Revision { epoch: Epoch(0x0102_0304_0506_0708), sequence: Sequence(sequence) }
}

/// Three generations of known bytes.
fn known() -> Secrets {
    let one = |number: u32, after: Revision, chain: u8| Generation {
        number,
        after,
        chain: [chain; 32],
        journal: [0x10 + number as u8; 32],
        snapshot: [0x20 + number as u8; 32],
    };
    Secrets {
        pepper: Pepper::from_bytes(b"sixteen bytes of"),
        quic_reset: [0x0a; 32],
        quic_token: [0x0b; 32],
        generations: vec![one(3, at(7), 0x73), one(4, at(7), 0x74), one(5, at(1_000), 0x75)],
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/secrets/version-2")
}

fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("written");
    set_mode(path, 0o600);
}

/// A file with one generation, on the real disk.
fn fresh(dir: &Path) -> PathBuf {
    let path = dir.join("secrets");
    Secrets::create(&path).expect("made");
    path
}

fn key_file(path: &Path) -> KeyFile {
    KeyFile::new(Arc::new(FileDisk), path.to_owned(), Secrets::open(path).expect("read"))
}

fn numbers(secrets: &Secrets) -> Vec<u32> {
    secrets.journal().keys().iter().map(|key| key.number).collect()
}

/// Which bytes stand where, as `FORMAT.md` draws them.
#[test]
fn the_bytes_of_version_2_are_the_drawn_ones_and_those_of_the_vector() {
    let image = Image::second(&known());
    let bytes = image.bytes();
    let mut drawn = Vec::new();
    drawn.extend_from_slice(b"TKSECRET");
    drawn.extend_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
    drawn.extend_from_slice(b"sixteen bytes of");
    drawn.extend_from_slice(&[[0x0a; 32], [0x0b; 32]].concat());
    drawn.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
    for (number, sequence) in [(3_u8, 7_u64), (4, 7), (5, 1_000)] {
        drawn.extend_from_slice(&[number, 0, 0, 0, 0, 0, 0, 0]);
        drawn.extend_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        drawn.extend_from_slice(&sequence.to_le_bytes());
        for filled in [0x70 + number, 0x10 + number, 0x20 + number] {
            drawn.extend_from_slice(&[filled; 32]);
        }
    }
    let checksum = ::ring::digest::digest(&::ring::digest::SHA256, &drawn);
    drawn.extend_from_slice(checksum.as_ref());
    assert_eq!(bytes, drawn);
    assert_eq!(bytes, fs::read(golden()).expect("the vector is there"));
    let read = image.secrets(Path::new("secrets")).expect("sound");
    assert_eq!(Image::second(&read).bytes(), bytes, "what was written comes back equal");
    assert_eq!(read.snapshot().newest().bytes, [0x25; 32]);
}

#[test]
fn a_flipped_bit_anywhere_in_a_file_of_version_2_is_refused() {
    let dir = directory();
    let path = dir.path().join("secrets");
    let sound = fs::read(golden()).expect("the vector is there");
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        put(&path, &bytes);
        Secrets::open(&path).expect_err("a flipped bit is refused");
    }
    for length in 0..sound.len() {
        put(&path, &sound[..length]);
        Secrets::open(&path).expect_err("a short file is refused");
    }
    put(&path, &[&sound[..], &[0]].concat());
    Secrets::open(&path).expect_err("a long file is refused");
    put(&path, &sound);
    assert_eq!(numbers(&Secrets::open(&path).expect("sound")), [3, 4, 5]);
    assert_eq!(numbers(&Secrets::open_on(&FileDisk, &path).expect("sound")), [3, 4, 5]);
}

/// Damage that fits its checksum: somebody's mistake, not an accident.
#[test]
fn generations_out_of_order_and_counts_that_lie_are_refused() {
    let dir = directory();
    let path = dir.path().join("secrets");
    let sound = fs::read(golden()).expect("the vector is there");
    let cases: [(&str, usize, &[u8], &str); 6] = [
        ("no generations", 96, &[0, 0, 0, 0], "0 generations"),
        ("more than there may be", 96, &[9, 0, 0, 0], "9 generations"),
        ("one more than there are", 96, &[4, 0, 0, 0], "bytes instead of"),
        ("a number that is left out", 104, &[2, 0, 0, 0], "out of order"),
        ("a place that goes back", 104 + 16, &[8, 0, 0, 0], "out of order"),
        ("another way to keep tokens", 12, &[2], "pepper algorithm 2"),
    ];
    for (what, offset, with, said) in cases {
        let mut bytes = sound.clone();
        bytes[offset..offset + with.len()].copy_from_slice(with);
        let (sealed, checksum) = bytes.split_at_mut(sound.len() - 32);
        checksum.copy_from_slice(::ring::digest::digest(&::ring::digest::SHA256, sealed).as_ref());
        put(&path, &bytes);
        let refused = Secrets::open(&path).expect_err(what).to_string();
        assert!(refused.contains(said), "{what}: {refused}");
    }
    let mut bytes = sound;
    bytes[8] = 3;
    put(&path, &bytes);
    let refused = Secrets::open(&path).expect_err("a later version").to_string();
    assert!(refused.contains("has version 3; this program reads versions 1 to 2"), "{refused}");
}

#[test]
fn a_rotation_adds_a_generation_and_the_rest_stays_what_it_was() {
    let dir = directory();
    let path = fresh(dir.path());
    let first = Secrets::open(&path).expect("read");
    let mut keys = key_file(&path);
    assert!(!keys.drop_before(9).expect("nothing to drop"), "the only generation stays");
    assert_eq!(fs::read(&path).expect("read").len(), 192, "of version 1 until the first rotation");
    keys.rotate(at(5), [5; 32]).expect("rotated");
    keys.rotate(at(5), [5; 32]).expect("rotated at the same place");
    keys.rotate(at(9), [9; 32]).expect("rotated");
    let read = Secrets::open(&path).expect("read");
    assert_eq!(Image::second(&read).bytes(), Image::second(keys.secrets()).bytes());
    assert_eq!(numbers(&read), [1, 2, 3, 4]);
    assert_eq!(read.pepper.fingerprint(), first.pepper.fingerprint());
    assert_eq!((read.quic_reset, read.quic_token), (first.quic_reset, first.quic_token));
    assert_eq!(read.journal().keys()[0].bytes, first.journal().newest().bytes);
    let places: Vec<u64> = read.journal().keys().iter().map(|key| key.after.sequence.0).collect();
    assert_eq!(places, [0, 5, 5, 9]);
    let mut all: Vec<[u8; 32]> =
        [read.journal(), read.snapshot()].iter().flat_map(|ring| ring.keys().iter().map(|key| key.bytes)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8, "no two keys are alike");
    keys.rotate(at(8), [8; 32]).expect_err("the list does not go back");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
    assert!(keys.drop_before(3).expect("dropped"));
    assert_eq!(numbers(&Secrets::open(&path).expect("read")), [3, 4]);
    assert_eq!(format!("{keys:?}").matches("Secrets(…)").count(), 1, "nothing is shown");
}

#[test]
fn one_generation_too_many_is_refused_with_what_to_do() {
    let dir = directory();
    let path = fresh(dir.path());
    let mut keys = key_file(&path);
    for place in 1..GENERATIONS_MAX as u64 {
        keys.rotate(at(place), [0; 32]).expect("rotated");
    }
    let before = fs::read(&path).expect("read");
    let refused = keys.rotate(at(99), [0; 32]).expect_err("one too many");
    assert!(matches!(refused, RotateError::Full) && refused.to_string().contains("snapshot"), "{refused}");
    assert_eq!(fs::read(&path).expect("read"), before);
    keys.drop_before(2).expect("dropped");
    keys.rotate(at(99), [0; 32]).expect("there is room again");
}

#[test]
fn which_generation_may_have_sealed_what_follows_from_its_place() {
    let ring = known().journal();
    let table = [
        // number, place, may it
        (3, 6, true),
        (3, 7, true),
        (3, 8, false),
        (4, 7, true),
        (4, 1_000, true),
        (4, 1_001, false),
        // The newest may seal what is older than itself.
        (5, 3, true),
        (5, 5_000, true),
        (6, 1, false),
        (0, 1, false),
    ];
    for (number, place, may) in table {
        assert_eq!(ring.may_seal(number, at(place)), may, "generation {number} at {place}");
    }
    let later = Revision { epoch: Epoch(u64::MAX), sequence: Sequence(0) };
    assert!(!ring.may_seal(4, later) && ring.may_seal(5, later), "another epoch is another list");
    let needed = [
        // discarded through, oldest that something else needs, what stays; at 7 two begin, and 3 never sealed an entry after
        (6, 99, 3),
        (7, 99, 4),
        (999, 99, 4),
        (1_000, 99, 5),
        (1_000, 4, 4),
        (1_000, 3, 3),
        (1_000, 0, 3),
    ];
    for (discarded, oldest, stays) in needed {
        assert_eq!(ring.oldest_needed(at(discarded), oldest), stays, "discarded {discarded}, needed {oldest}");
    }
}

/// The old file or the new one after every failure, and the error says truly whether it can be the new one.
#[test]
fn whichever_call_fails_the_old_file_or_the_new_one_is_there_and_the_error_says_which() {
    for fault in [Fault::Once, Fault::Killed, Fault::Torn] {
        for calls in 0.. {
            let dir = directory();
            let path = fresh(dir.path());
            let old = fs::read(&path).expect("read");
            let disk = FaultDisk::new(calls, fault);
            let mut keys = KeyFile::new(disk.clone(), path.clone(), Secrets::open(&path).expect("read"));
            let rotated = keys.rotate(at(5), [5; 32]);
            let found = Secrets::open(&path).unwrap_or_else(|error| panic!("{fault:?} {calls}: {error}"));
            let is_old = fs::read(&path).expect("read") == old;
            match &rotated {
                Ok(()) => assert_eq!(numbers(&found), [1, 2], "{fault:?} {calls}"),
                Err(RotateError::NotWritten(_)) => assert!(is_old, "{fault:?} {calls}"),
                Err(RotateError::Unclear(_)) => assert!(is_old || numbers(&found) == [1, 2], "{fault:?} {calls}"),
                Err(RotateError::Full) => panic!("{fault:?} {calls}: there was room"),
            }
            if rotated.is_err() {
                assert_eq!(numbers(keys.secrets()), [1], "{fault:?} {calls}: in memory it is as before");
            }
            // What an attempt left behind is in nobody's way.
            key_file(&path).rotate(at(6), [6; 32]).unwrap_or_else(|error| panic!("{fault:?} {calls}: {error}"));
            set_mode(dir.path(), 0o700);
            drop(DataDir::open(dir.path()).expect("opened"));
            let mut names: Vec<_> = fs::read_dir(dir.path()).expect("list").map(|e| e.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["lock", "secrets"], "{fault:?} {calls}");
            if !disk.has_struck() {
                assert!(calls >= 6, "only {calls} calls were made");
                break;
            }
        }
    }
}
