//! Everything that has one spelling: ids, places, grants, revisions, digests, handles, keys, times.

use super::super::change::{Epoch, Revision, Sequence};
use super::super::digest::{Pepper, TokenDigest, TokenHandle, TokenKey, parse_hex, to_hex};
use super::super::id::{ClientId, GrantId, ID_BYTES_MAX, IdError, SubjectId, WorkspaceId};
use super::super::place::{PLACE_BYTES_MAX, Place};
use super::super::time::{Expiry, Timestamp};

#[test]
fn ids_are_kept_byte_for_byte_or_refused() {
    let longest = "x".repeat(ID_BYTES_MAX);
    for good in ["a", "1579", "ada@example.com", "https://bot.example/id", "!#~", "A", "a-b_c:d;e=f", &longest] {
        assert_eq!(SubjectId::parse(good).map(|id| id.as_str().to_owned()), Ok(good.to_owned()));
    }
    let too_long = "x".repeat(ID_BYTES_MAX + 1);
    for bad in ["", " ", "a b", " a", "a ", "a\t", "a\n", "a\0", "\"", "a\\b", "\u{7f}", "ü", "ａ", &too_long] {
        assert!(SubjectId::parse(bad).is_err(), "{bad:?} was taken");
        assert!(ClientId::parse(bad).is_err(), "{bad:?} was taken");
        assert!(WorkspaceId::parse(bad).is_err(), "{bad:?} was taken");
    }
    assert!(WorkspaceId::parse("10/1").is_err(), "a workspace is not a place");
    assert_ne!(SubjectId::parse("Ada"), SubjectId::parse("ada"));
}

#[test]
fn a_refused_id_says_what_is_wrong_and_where() {
    assert_eq!(SubjectId::parse(""), Err(IdError::Empty { kind: "the subject" }));
    assert_eq!(ClientId::parse(&"x".repeat(200)), Err(IdError::TooLong { kind: "the client", bytes: 200 }));
    match WorkspaceId::parse("ab/c") {
        Err(IdError::BadByte { kind: "the workspace", byte: b'/', offset: 2, .. }) => {}
        other => panic!("{other:?}"),
    }
    let told = SubjectId::parse("a b").expect_err("a space").to_string();
    assert!(told.contains("0x20") && told.contains("offset 1"), "{told}");
}

#[test]
fn a_grant_has_one_spelling() {
    for (text, number) in [("g1", 1), ("g17", 17), ("g2147483647", GrantId::MAX)] {
        assert_eq!(GrantId::parse(text).map(GrantId::number), Some(number));
        assert_eq!(GrantId::new(number).map(|grant| grant.to_string()), Some(text.to_owned()));
    }
    let bad =
        ["", "g", "1", "g0", "g01", "G1", "g 1", "g1 ", "g+1", "g-1", "g1.0", "g2147483648", "g99999999999999999999"];
    for bad in bad {
        assert_eq!(GrantId::parse(bad), None, "{bad:?}");
    }
    assert_eq!(GrantId::new(0), None);
    assert_eq!(GrantId::new(GrantId::MAX + 1), None);
}

#[test]
fn a_place_is_a_workspace_or_a_project_in_one() {
    let longest = format!("{}/{}", "w".repeat(ID_BYTES_MAX), "p".repeat(ID_BYTES_MAX));
    assert_eq!(longest.len(), PLACE_BYTES_MAX);
    for (text, workspace, project) in [
        ("1579", "1579", None),
        ("1579/4021", "1579", Some("4021")),
        (&longest, &longest[..ID_BYTES_MAX], Some(&longest[ID_BYTES_MAX + 1..])),
    ] {
        let place = Place::parse(text).expect("a place");
        assert_eq!((place.as_str(), place.workspace_str(), place.project_str()), (text, workspace, project));
        assert_eq!(place.is_project(), project.is_some());
    }
    for bad in ["", "/", "10/", "/1", "10//1", "10/1/2", " 10", "10/1 ", "10\\1", "10/ü"] {
        assert!(Place::parse(bad).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn a_workspace_covers_its_projects_and_nothing_else_covers_anything() {
    let place = |text| Place::parse(text).expect("a place");
    for (one, other, covers) in [
        ("10", "10", true),
        ("10", "10/1", true),
        ("10/1", "10/1", true),
        ("10/1", "10", false),
        ("10/1", "10/2", false),
        ("10/1", "10/10", false),
        ("1", "10", false),
        ("10", "1", false),
        ("10", "100/1", false),
        ("10", "20/10", false),
    ] {
        assert_eq!(place(one).covers(&place(other)), covers, "{one} covers {other}");
    }
}

#[test]
fn joining_ids_with_a_slash_cannot_make_two_places_one() {
    // The bug: a key made by joining strings, so that (xy, z) and (x, yz) are one. Here the joint is a byte that
    // neither part can hold.
    let pairs = [("xy", "z"), ("x", "yz"), ("xyz", "z"), ("xy", "zz")];
    let places: Vec<Place> = pairs
        .iter()
        .map(|(workspace, project)| Place::parse(&format!("{workspace}/{project}")).expect("ids"))
        .collect();
    for (number, place) in places.iter().enumerate() {
        assert!(places[number + 1..].iter().all(|other| other != place && !other.covers(place)));
    }
}

#[test]
fn a_revision_has_one_form() {
    let revision = Revision { epoch: Epoch(0x00ab_cdef_0123_4567), sequence: Sequence(42) };
    assert_eq!(revision.to_string(), "00abcdef01234567-42");
    for revision in [revision, Revision::default(), Revision { epoch: Epoch(u64::MAX), sequence: Sequence(u64::MAX) }] {
        assert_eq!(Revision::parse(&revision.to_string()), Some(revision));
    }
    for bad in [
        "",
        "-",
        "42",
        "00abcdef01234567",
        "00abcdef01234567-",
        "00ABCDEF01234567-42",
        "0abcdef01234567-42",
        "000abcdef01234567-42",
        "00abcdef01234567-+42",
        "00abcdef01234567--42",
        "00abcdef01234567- 42",
        "00abcdef01234567-42 ",
        "00abcdef01234567-4 2",
        "00abcdef01234567-0x2a",
        // Writing the fuzz target `names` brought this up: a revision had as many spellings as one could put zeros there.
        "00abcdef01234567-042",
        "00abcdef01234567-00",
        "00abcdef01234567-18446744073709551616",
        "00abcdef0123456g-42",
        "00abcdef0123456ü-42",
    ] {
        assert_eq!(Revision::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn hex_has_one_spelling_and_one_length() {
    assert_eq!(to_hex(&[0x00, 0x0f, 0xa5, 0xff]), "000fa5ff");
    assert_eq!(parse_hex::<4>("000fa5ff"), Some([0x00, 0x0f, 0xa5, 0xff]));
    for bad in ["", "000fa5f", "000fa5ff0", "000FA5FF", "000fa5fg", " 00fa5ff", "000fa5f ", "0x0fa5ff", "üüüü"] {
        assert_eq!(parse_hex::<4>(bad), None, "{bad:?}");
    }
}

#[test]
fn a_digest_is_sha_256_of_every_byte() {
    // FIPS 180-2, appendix B.1.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(TokenDigest::of(b"abc").to_hex(), abc);
    assert_eq!(TokenDigest::parse_hex(abc), Some(TokenDigest::of(b"abc")));
    assert_eq!(TokenDigest::parse_hex(&abc.to_uppercase()), None);
    assert_eq!(TokenDigest::parse_hex(&abc[..62]), None);
    for other in [&b"abc "[..], b" abc", b"ABC", b"abc\n", b"ab", b"", b"abc\0"] {
        assert_ne!(TokenDigest::of(other), TokenDigest::of(b"abc"), "{other:?}");
    }
}

#[test]
fn the_kept_key_is_siphash_2_4_128_of_the_digest() {
    let counting: [u8; 32] = std::array::from_fn(|i| i as u8);
    let digest = TokenDigest::from_bytes(counting);
    // The reference implementation's vectors: key 00..0f, input 00..1f.
    let key: [u8; 16] = std::array::from_fn(|i| i as u8);
    assert_eq!(to_hex(Pepper::from_bytes(&key).key(&digest).as_bytes()), "7c3956ca5eeafc3e363e9d556546eb68");
    // Another key and input, worked out by an independent program.
    let other = Pepper::from_bytes(&[7; 16]).key(&TokenDigest::from_bytes([0xab; 32]));
    assert_eq!(to_hex(other.as_bytes()), "f7563fb746b49f72b264e332f0b9fefb");
}

#[test]
fn peppers_separate_keys_and_have_names_of_their_own() {
    let digest = TokenDigest::of(b"a token");
    let peppers: Vec<Pepper> = (0..128).map(|bit| Pepper::from_bytes(&(1_u128 << bit).to_le_bytes())).collect();
    for (number, one) in peppers.iter().enumerate() {
        assert_eq!(one.key(&digest), one.clone().key(&digest));
        for other in &peppers[number + 1..] {
            assert_ne!(one.key(&digest), other.key(&digest));
            assert_ne!(one.fingerprint(), other.fingerprint());
        }
    }
}

#[test]
fn every_bit_of_a_digest_counts() {
    let pepper = Pepper::from_bytes(&[3; 16]);
    let whole = TokenDigest::of(b"a token");
    for bit in 0..256 {
        let mut bytes = *whole.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(pepper.key(&TokenDigest::from_bytes(bytes)), pepper.key(&whole), "bit {bit}");
    }
}

#[test]
fn keys_handles_and_words_are_the_same_sixteen_bytes() {
    let key = TokenKey::from_bytes(std::array::from_fn(|i| i as u8 + 1));
    assert_eq!(key.words(), [0x0403_0201, 0x0807_0605, 0x0c0b_0a09, 0x100f_0e0d]);
    assert_eq!(TokenKey::from_words(key.words()), key);
    let handle = key.handle().to_string();
    assert_eq!(handle, "t0102030405060708090a0b0c0d0e0f10");
    assert_eq!(TokenHandle::parse(&handle).map(|handle| handle.key()), Some(key));
    for bad in ["", "t", "0102030405060708090a0b0c0d0e0f10", &handle[..32], &handle.to_uppercase()] {
        assert_eq!(TokenHandle::parse(bad), None, "{bad:?}");
    }
    assert_eq!(TokenHandle::parse(&format!("{handle}0")), None);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let digest = TokenDigest::of(b"abc");
    assert_eq!(format!("{digest:?}"), "TokenDigest(ba7816bf…)");
    assert_eq!(format!("{:?}", Pepper::from_bytes(&[0xab; 16])), "Pepper(…)");
    assert_eq!(format!("{:?}", TokenKey::from_bytes([0xcd; 16])), "TokenKey(cdcdcdcd…)");
}

#[test]
fn a_token_is_over_at_exp_itself() {
    let now = Timestamp::from_raw(1_800_000_000);
    for (end, over) in [(now.minus(1), true), (now, true), (now.plus(1), false)] {
        assert_eq!(Expiry::At(end).has_passed(now), over, "exp {end} at {now}");
    }
    assert!(!Expiry::Never.has_passed(Timestamp::MAX));
    assert!(Expiry::At(Timestamp::ZERO).has_passed(Timestamp::ZERO));
}

#[test]
fn times_stop_at_their_ends_and_never_is_not_a_moment() {
    assert_eq!(Timestamp::from_seconds(u64::from(u32::MAX)), None);
    assert_eq!(Timestamp::from_seconds(u64::from(u32::MAX) - 1).map(Timestamp::raw), Some(u32::MAX - 1));
    assert_eq!(Timestamp::from_seconds(1 << 32), None, "a later time is not folded into an earlier one");
    assert_eq!(Timestamp::from_seconds(u64::MAX), None);
    assert_eq!(Timestamp::MAX.plus(1), Timestamp::MAX);
    assert_eq!(Timestamp::ZERO.minus(1), Timestamp::ZERO);
    for expiry in [Expiry::Never, Expiry::At(Timestamp::ZERO), Expiry::At(Timestamp::from_raw(u32::MAX - 1))] {
        assert_eq!(Expiry::from_raw(expiry.raw()), expiry);
    }
}
