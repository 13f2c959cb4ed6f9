//! Every message there and back, the bytes as `tests/vectors/wire/` has them, and bytes that are no messages.

use super::decode::{self, Items, Names, digest_of, split};
use super::encode;
use super::facts::{Facts, FactsHead, Pairs, write as encode_facts};
use super::follow::{
    ANNOUNCED_TAGS_MAX, Announced, Follower, Resume, Tags, Touched, read_announced, read_follower, write_announced,
    write_follower, write_touched,
};
use super::message::{
    ActiveFacts, ActiveToken, Answer, Binding, Envelope, ErrorCode, Hello, Item, Leave, Method, Outcome, Registration,
    Request, Revocation, Wait, kind, times_from_raw,
};
use super::{API_MESSAGE_BYTES_MAX, Broken, CloseCode, ERROR_TEXT_BYTES_MAX, MESSAGE_BYTES_MAX, Malformed, Raw, Split};
use crate::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
use crate::domain::digest::to_hex;
use crate::domain::{
    Denial, Epoch, GrantId, PolicyMode, Revision, ScopeMask, ScopePosition, Sequence, Switch, TokenDigest, TokenHandle,
    TokenKey,
};

fn digest() -> TokenDigest {
    TokenDigest::from_bytes(std::array::from_fn(|i| i as u8))
}

fn handle() -> TokenHandle {
    TokenKey::from_bytes(std::array::from_fn(|i| 0xa0 + i as u8)).handle()
}

fn grant() -> GrantId {
    GrantId::new(17).unwrap()
}

fn revision() -> Revision {
    Revision { epoch: Epoch(0x0000_0068_3a1b_2c3d), sequence: Sequence(41) }
}

/// Every request, by the name its vector has.
fn requests(each: &mut dyn FnMut(&str, Envelope<'_>)) {
    let plain = |request| Envelope { id: 7, least: None, request };
    let demanding = |request| Envelope { id: 7, least: Some(revision()), request };
    let digest = digest();
    let scope = ScopePosition::new(5);
    each("introspect", plain(Request::Introspect { digest, place: None }));
    each("introspect_at_place", plain(Request::Introspect { digest, place: Some("1579/4021") }));
    each("introspect_at_least", demanding(Request::Introspect { digest, place: Some("1579") }));
    each("check_numbers", plain(Request::CheckNumbers { digest, scope, place: 258 }));
    each("check_numbers_at_least", demanding(Request::CheckNumbers { digest, scope, place: 258 }));
    each("check_names", plain(Request::CheckNames { digest, scope: "tasks:write", place: "1579/4021" }));
    each("check_names_at_least", demanding(Request::CheckNames { digest, scope: "tasks:write", place: "1579" }));
    each("resolve_scope", plain(Request::ResolveScope("tasks:write")));
    each("resolve_place", demanding(Request::ResolvePlace("1579/4021")));
    each("catalogue", plain(Request::Catalogue { from: 200 }));
    each("facts", plain(Request::Facts { digest, place: "1579/4021" }));
    each("facts_at_least", demanding(Request::Facts { digest, place: "1579" }));
    let mut listed = Vec::new();
    let registration = Registration {
        digest,
        grant: grant(),
        times: times_from_raw(1_700_000_000, 1_700_000_000, 1_700_003_600),
        binding: None,
        audience: None,
    };
    each("register", plain(Request::Register(registration)));
    let audience = encode::audiences(&mut listed, ["https://api.example", "files"]).unwrap();
    for (name, binding, expiry) in [
        ("register_certificate", Binding::Certificate([0xcc; 32]), 1_700_003_600),
        ("register_dpop", Binding::DpopKey([0xdd; 32]), 1_700_003_600),
        ("register_other_binding_never_expiring", Binding::Other(r#"{"x":1}"#), u32::MAX),
    ] {
        let times = times_from_raw(1_700_000_000, 1_700_000_060, expiry);
        let bound = Registration { binding: Some(binding), audience: Some(audience), times, ..registration };
        each(name, plain(Request::Register(bound)));
    }
    each("revoke_digest", plain(Request::Revoke(Revocation::Digest(digest), Wait::Applied)));
    each("revoke_handle", plain(Request::Revoke(Revocation::Handle(handle()), Wait::Applied)));
    each("revoke_grant", plain(Request::Revoke(Revocation::Grant(grant()), Wait::Applied)));
    each("revoke_digest_durable", plain(Request::Revoke(Revocation::Digest(digest), Wait::Durable)));
    each("revoke_digest_fenced", plain(Request::Revoke(Revocation::Digest(digest), Wait::Fenced)));
    each("revoke_handle_fenced", plain(Request::Revoke(Revocation::Handle(handle()), Wait::Fenced)));
    each("revoke_grant_fenced", plain(Request::Revoke(Revocation::Grant(grant()), Wait::Fenced)));
    each("api_get", plain(Request::Api { method: Method::Get, path: "/v1/scopes?limit=10", body: b"" }));
    each("api_post", plain(Request::Api { method: Method::Post, path: "/v1/grants", body: br#"{"subject":"u1"}"# }));
}

fn mask(positions: &[u8], wildcard: bool) -> ScopeMask {
    let mut mask = ScopeMask::from_words([0; 4], wildcard);
    positions.iter().for_each(|position| mask.insert(ScopePosition::new(*position)));
    mask
}

fn facts(binding: Option<Binding<'_>>) -> ActiveFacts<'_> {
    ActiveFacts {
        sequence: Sequence(41),
        handle: handle(),
        grant: grant(),
        times: times_from_raw(1_700_000_000, 1_700_000_000, 1_700_003_600),
        everywhere: mask(&[0, 5], false),
        subject: "u1",
        client: "calendar-sync",
        binding,
    }
}

fn project() -> MemberFacts {
    MemberFacts { live: true, added: Sequence(30), removed: Sequence(29) }
}

fn facts_head(project: Option<MemberFacts>) -> FactsHead {
    let flagged = project.is_some();
    FactsHead {
        sequence: Sequence(41),
        incarnation: 0x1122_3344_5566_7788,
        tags: [0xa1, 0xa2, 0xa3, 0xa4, 0xa5],
        not_before: crate::domain::Timestamp::from_raw(1_700_000_000),
        expiry: crate::domain::Expiry::from_raw(if flagged { u32::MAX } else { 1_700_003_600 }),
        place: PlaceFacts {
            workspace: MemberFacts { live: !flagged, added: Sequence(12), removed: Sequence(11) },
            project,
            policy: PolicyFacts {
                mode: if flagged { PolicyMode::ApprovalRequired } else { PolicyMode::AllowAll },
                personal: if flagged { Switch::Off } else { Switch::On },
                blocked: flagged,
                approved: flagged,
                void_before: Sequence(9),
            },
            client: if flagged { ClientKind::Personal } else { ClientKind::App },
        },
    }
}

fn pairs() -> [PairFacts; 3] {
    [
        PairFacts { covers: Covers::Project, since: Sequence(13), scopes: mask(&[5], false) },
        PairFacts { covers: Covers::Workspace, since: Sequence(14), scopes: mask(&[0, 255], true) },
        PairFacts { covers: Covers::Everywhere, since: Sequence(15), scopes: mask(&[], true) },
    ]
}

/// Everything that is said on a feed's stream by a follower, by the name its vector has.
fn followers(each: &mut dyn FnMut(&str, Follower)) {
    let resume = Resume { revision: revision(), incarnation: 0x1122_3344_5566_7788 };
    each("follow", Follower::Follow { id: 7, lease_ms: 2_000, resume: None });
    each("follow_resuming", Follower::Follow { id: 7, lease_ms: 0, resume: Some(resume) });
    each("renew", Follower::Renew { id: 7, acknowledged: Sequence(41) });
    each("acknowledge", Follower::Acknowledge { sequence: Sequence(42) });
}

/// Everything a follower is told, by the name its vector has.
fn announced(each: &mut dyn FnMut(&str, Announced<'_>)) {
    let (incarnation, lease_ms, server_time_ms) = (0x1122_3344_5566_7788, 2_000, 1_700_000_000_123);
    let (previous, sequence) = (Sequence(41), Sequence(44));
    for (name, resumed) in [("following_resumed", true), ("following_anew", false)] {
        let said = Announced::Following { id: 7, resumed, incarnation, sequence: previous, lease_ms, server_time_ms };
        each(name, said);
    }
    let tags = [0xa1_u64, 0xa4, 0xa1].map(u64::to_le_bytes).concat();
    let tags = Touched::Tags(Tags::written(&tags));
    each("announcement", Announced::Touched { previous, sequence, touched: tags });
    let nothing = Touched::Tags(Tags::default());
    each("announcement_of_nothing", Announced::Touched { previous, sequence, touched: nothing });
    each("announcement_of_everything", Announced::Touched { previous, sequence, touched: Touched::Everything });
    each("lease", Announced::Lease { id: 7, previous, sequence, lease_ms, server_time_ms });
    each("start_over", Announced::StartOver { sequence });
}

/// Every answer, by the name its vector has.
fn answers(each: &mut dyn FnMut(&str, Answer<'_>)) {
    let sequence = Sequence(41);
    each(
        "hello",
        Answer::Hello(Hello {
            minor: 0,
            epoch: revision().epoch,
            sequence,
            in_flight_max: 1024,
            changes_in_flight_max: 64,
            message_bytes_max: 16_384,
            api_message_bytes_max: 65_535,
            server: "tokenscope/0.1.0",
        }),
    );
    each("checked_allowed", Answer::Checked { sequence, outcome: Outcome::Allowed });
    each("checked_denied", Answer::Checked { sequence, outcome: Outcome::Denied(Denial::AppBlocked) });
    each("checked_inactive", Answer::Checked { sequence, outcome: Outcome::Inactive });
    each("inactive", Answer::Inactive { sequence });
    let mut lists = Vec::new();
    lists.extend_from_slice(b"\x01\x05files");
    lists.extend_from_slice(b"\x02\x04\x001579\x01\x21\x00\x00\x00\x00\x00\x00\x00");
    lists.extend_from_slice(b"\x02\x09\x001579/4021\x80");
    let items = Items::written(&lists);
    each("active_alone", Answer::Active(ActiveToken { facts: facts(None), more: false, items: Items::default() }));
    each("active", Answer::Active(ActiveToken { facts: facts(None), more: false, items }));
    for (name, binding) in [
        ("active_certificate", Binding::Certificate([0xcc; 32])),
        ("active_dpop", Binding::DpopKey([0xdd; 32])),
        ("active_other_binding", Binding::Other(r#"{"x":1}"#)),
    ] {
        let wide = ActiveFacts { everywhere: mask(&[0, 64, 130, 255], true), ..facts(Some(binding)) };
        each(name, Answer::Active(ActiveToken { facts: wide, more: true, items }));
    }
    each("more", Answer::More { more: false, items });
    each("more_and_more", Answer::More { more: true, items });
    each("resolved", Answer::Resolved { sequence, number: Some(258) });
    each("resolved_unknown", Answer::Resolved { sequence, number: None });
    let names = Names::written(b"\x0atasks:read\x8btasks:write");
    each("names", Answer::Names { sequence, first: 0, total: 54, names });
    each("facts_of_a_workspace", Answer::Facts(Facts { head: facts_head(None), pairs: Pairs::default() }));
    let mut written = Vec::new();
    encode_facts(&mut written, 7, &facts_head(Some(project())), pairs()).unwrap();
    match decode::answer(&whole(&written)).unwrap() {
        facts @ Answer::Facts(_) => each("facts_of_a_project", facts),
        other => panic!("{other:?}"),
    }
    each("done", Answer::Done { sequence, handle: None, grant: None });
    each("done_registered", Answer::Done { sequence, handle: Some(handle()), grant: Some(grant()) });
    each("api_answer", Answer::Api { sequence, status: 200, more: false, body: br#"{"rows":[]}"# });
    each("api_answer_part", Answer::Api { sequence, status: 200, more: true, body: br#"{"ro"# });
    for code in ErrorCode::ALL {
        let text = "what happened, for people";
        each(&format!("error_{}", code.as_str()), Answer::Error { sequence, code, text });
    }
    for why in Leave::ALL {
        each(&format!("going_away_{}", why as u8), Answer::GoingAway { why, closes_in_ms: 5_000 });
    }
}

fn written_request(envelope: &Envelope<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::request(&mut bytes, envelope).unwrap();
    bytes
}

fn written_answer(answer: &Answer<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::answer(&mut bytes, 7, answer).unwrap();
    bytes
}

fn whole(bytes: &[u8]) -> Raw<'_> {
    match split(bytes).unwrap() {
        Split::Whole(raw, length) if length == bytes.len() => raw,
        other => panic!("{other:?}"),
    }
}

/// Every message of both directions, as bytes.
fn all() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    requests(&mut |name, envelope| all.push((format!("request_{name}"), written_request(&envelope))));
    answers(&mut |name, answer| all.push((format!("answer_{name}"), written_answer(&answer))));
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    };
    followers(&mut |name, said| {
        all.push((format!("follower_{name}"), written(&|bytes| write_follower(bytes, &said))));
    });
    announced(&mut |name, said| {
        all.push((format!("feed_{name}"), written(&|bytes| write_announced(bytes, &said))));
    });
    all
}

/// A small generator of our own, so that a failure can be repeated from its seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Reads `bytes` as both sides would. What can be read must be written back as the same bytes: one value, one spelling.
fn read_any(bytes: &[u8], story: &str) {
    let Ok(Split::Whole(raw, length)) = split(bytes) else { return };
    let message = &bytes[..length];
    let digest = digest_of(&raw);
    if let Ok(envelope) = decode::request(&raw) {
        assert_eq!(written_request(&envelope), message, "{story}");
        let asked = match envelope.request {
            Request::Introspect { digest, .. }
            | Request::CheckNumbers { digest, .. }
            | Request::CheckNames { digest, .. }
            | Request::Facts { digest, .. } => Some(digest),
            _ => None,
        };
        assert_eq!(digest.map(|bytes| TokenDigest::from_bytes(*bytes)), asked, "{story}: the digest read ahead");
    }
    if let Ok(answer) = decode::answer(&raw) {
        let mut again = Vec::new();
        encode::answer(&mut again, raw.id, &answer).unwrap();
        assert_eq!(again, message, "{story}");
    }
    if let Ok(said) = read_follower(&raw) {
        let mut again = Vec::new();
        write_follower(&mut again, &said);
        assert_eq!(again, message, "{story}");
    }
    if let Ok(said) = read_announced(&raw) {
        let mut again = Vec::new();
        write_announced(&mut again, &said);
        assert_eq!(again, message, "{story}");
    }
}

#[test]
fn every_request_is_read_as_it_was_written() {
    requests(&mut |name, envelope| {
        let bytes = written_request(&envelope);
        assert_eq!(decode::request(&whole(&bytes)), Ok(envelope), "{name}");
    });
}

#[test]
fn every_answer_is_read_as_it_was_written() {
    answers(&mut |name, answer| {
        let bytes = written_answer(&answer);
        assert_eq!(whole(&bytes).id, 7, "{name}");
        assert_eq!(decode::answer(&whole(&bytes)), Ok(answer), "{name}");
    });
}

#[test]
fn the_bytes_are_those_of_the_vectors() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wire");
    let mut files = ["requests.txt", "answers.txt", "feed.txt"].map(|file| {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let vectors: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, hex)| (name.to_owned(), hex.replace(' ', "")))
            .collect();
        vectors
    });
    let mut wrong = String::new();
    for (name, bytes) in all() {
        let (file, short) = match name.split_once('_').unwrap() {
            ("request", short) => (&mut files[0], short),
            ("answer", short) => (&mut files[1], short),
            (_, short) => (&mut files[2], short),
        };
        let at = file.iter().position(|(known, _)| known == short);
        let vector = at.map(|at| file.remove(at).1);
        if vector.as_deref() != Some(&to_hex(&bytes)) {
            wrong += &format!("{name}\n  is      {}\n  vector  {vector:?}\n", to_hex(&bytes));
        }
    }
    assert!(wrong.is_empty(), "messages that are not as their vectors say:\n{wrong}");
    assert!(files.iter().all(Vec::is_empty), "vectors of messages that do not exist: {files:?}");
}

#[test]
fn the_hot_messages_have_the_sizes_that_are_promised() {
    let sizes: Vec<(String, usize)> = all().into_iter().map(|(name, bytes)| (name, bytes.len())).collect();
    for (name, bytes) in [
        ("request_check_numbers", 44),
        ("request_check_numbers_at_least", 60),
        ("request_introspect", 40),
        ("answer_checked_allowed", 16),
        ("answer_inactive", 16),
    ] {
        assert!(sizes.contains(&(name.to_owned(), bytes)), "{name} is not {bytes} bytes long: {sizes:?}");
    }
}

#[test]
fn a_message_cut_short_waits_for_the_rest() {
    for (name, bytes) in all() {
        for end in 0..bytes.len() {
            assert_eq!(split(&bytes[..end]), Ok(Split::Partial), "{name} cut to {end} bytes");
        }
    }
}

#[test]
fn a_body_cut_short_or_made_longer_never_panics_and_is_never_misread() {
    for (name, bytes) in all() {
        for length in super::HEADER_BYTES..bytes.len() + 3 {
            let mut changed = bytes.clone();
            changed.resize(length, 0);
            changed[..2].copy_from_slice(&(length as u16).to_le_bytes());
            read_any(&changed, &format!("{name} with {length} of {} bytes", bytes.len()));
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_another_message() {
    for (name, bytes) in all() {
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            read_any(&changed, &format!("{name} with bit {bit} flipped"));
        }
    }
}

#[test]
fn garbage_never_panics() {
    for seed in 0..20_000_u64 {
        let mut random = Random(seed);
        let mut bytes: Vec<u8> = (0..random.next() % 200).map(|_| random.next() as u8).collect();
        // Half of them with a header that leads further in.
        if seed % 2 == 0 && bytes.len() >= super::HEADER_BYTES {
            let length = bytes.len() as u16;
            bytes[..2].copy_from_slice(&length.to_le_bytes());
            bytes[2] = [
                1, 2, 3, 4, 5, 6, 0x81, 0x82, 0x83, 0x86, 0x10, 0x11, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1e, 0x20, 0x21,
                0x22, 0x40, 0x41, 0x42, 0x50, 0x51, 0x52, 0x53,
            ][(random.next() % 28) as usize];
            bytes[3] %= 8;
        }
        read_any(&bytes, &format!("seed {seed}"));
    }
}

#[test]
fn messages_mutated_at_random_never_panic() {
    let all = all();
    for seed in 0..20_000_u64 {
        let mut random = Random(seed);
        let (name, bytes) = &all[(random.next() % all.len() as u64) as usize];
        let mut changed = bytes.clone();
        for _ in 0..1 + random.next() % 4 {
            let at = 2 + (random.next() as usize) % (changed.len() - 2);
            changed[at] = random.next() as u8;
        }
        read_any(&changed, &format!("{name}, seed {seed}"));
    }
}

#[test]
fn lengths_that_cannot_be_right_are_told_before_the_bytes_arrive() {
    let broken = |bytes: &[u8]| split(bytes).unwrap_err();
    assert_eq!(broken(&[7, 0]), Broken::TooShort(7));
    assert_eq!(broken(&[0, 0, 1]), Broken::TooShort(0));
    let most = MESSAGE_BYTES_MAX;
    assert_eq!(broken(&[0x01, 0x40, kind::INTROSPECT]), Broken::TooLarge { kind: 1, length: most + 1, most });
    assert_eq!(split(&[0x00, 0x40, kind::INTROSPECT]), Ok(Split::Partial));
    assert_eq!(split(&[0xff, 0xff, kind::API]), Ok(Split::Partial));
    assert_eq!(broken(&[0xff, 0xff, kind::API_ANSWER]), Broken::TooLarge { kind: 0x19, length: 65_535, most });
}

#[test]
fn messages_follow_each_other_in_one_buffer() {
    let mut bytes = Vec::new();
    requests(&mut |_, envelope| encode::request(&mut bytes, &envelope).unwrap());
    let mut rest = bytes.as_slice();
    requests(&mut |name, envelope| match split(rest) {
        Ok(Split::Whole(raw, length)) => {
            assert_eq!(decode::request(&raw), Ok(envelope), "{name}");
            rest = &rest[length..];
        }
        other => panic!("{name}: {other:?}"),
    });
    assert!(rest.is_empty());
}

#[test]
fn requests_that_do_not_fit_are_refused_and_leave_nothing_behind() {
    let (long_place, long_scope, long_path) = ("p".repeat(258), "s".repeat(97), "/".repeat(66_000));
    let long_body = vec![b' '; API_MESSAGE_BYTES_MAX - 8 - 2 - 1 + 1];
    let digest = digest();
    for request in [
        Request::Introspect { digest, place: Some(&long_place) },
        Request::Introspect { digest, place: Some("") },
        Request::CheckNames { digest, scope: &long_scope, place: "1" },
        Request::CheckNames { digest, scope: "", place: "1" },
        Request::CheckNames { digest, scope: "a", place: "" },
        Request::ResolveScope(""),
        Request::ResolvePlace(&long_place),
        Request::Api { method: Method::Get, path: &long_path, body: b"" },
        Request::Api { method: Method::Get, path: "/", body: &long_body },
    ] {
        let mut bytes = b"before".to_vec();
        assert!(encode::request(&mut bytes, &Envelope { id: 1, least: None, request }).is_err());
        assert_eq!(bytes, b"before");
    }
    let mut bytes = Vec::new();
    let request = Request::Api { method: Method::Put, path: "/", body: &long_body[1..] };
    encode::request(&mut bytes, &Envelope { id: 1, least: None, request }).unwrap();
    assert_eq!(bytes.len(), API_MESSAGE_BYTES_MAX);
    assert!(decode::request(&whole(&bytes)).is_ok());
}

#[test]
fn what_is_said_on_a_feed_is_read_as_it_was_written() {
    let mut bytes = Vec::new();
    followers(&mut |name, said| {
        bytes.clear();
        write_follower(&mut bytes, &said);
        assert_eq!(read_follower(&whole(&bytes)), Ok(said), "{name}");
    });
    announced(&mut |name, said| {
        bytes.clear();
        write_announced(&mut bytes, &said);
        assert_eq!(read_announced(&whole(&bytes)), Ok(said), "{name}");
    });
}

#[test]
fn kinds_of_requests_and_answers_are_unknown_on_a_feed() {
    for known in (0..=u8::MAX).filter(|known| !matches!(known, 0x40..=0x42 | 0x50..=0x53)) {
        let raw = Raw { kind: known, detail: 0, id: 0, body: &[0; 64] };
        assert_eq!(read_follower(&raw), Err(Malformed::Kind(known)));
        assert_eq!(read_announced(&raw), Err(Malformed::Kind(known)));
    }
}

#[test]
fn more_tags_than_fit_one_announcement_are_everything() {
    for (count, fits) in [(ANNOUNCED_TAGS_MAX, true), (ANNOUNCED_TAGS_MAX + 1, false), (100_000, false)] {
        let mut bytes = Vec::new();
        write_touched(&mut bytes, Sequence(1), Sequence(9), Some(0..count as u64));
        match read_announced(&whole(&bytes)) {
            Ok(Announced::Touched { touched: Touched::Tags(tags), .. }) if fits => {
                assert!(tags.eq(0..count as u64), "{count} tags");
            }
            Ok(Announced::Touched { touched: Touched::Everything, .. }) if !fits => {}
            other => panic!("{count} tags: {other:?}"),
        }
    }
}

#[test]
fn announcements_lead_forward_and_leases_not_back() {
    let mut bytes = Vec::new();
    for (previous, sequence) in [(9, 9), (9, 8)] {
        bytes.clear();
        write_touched(&mut bytes, Sequence(previous), Sequence(sequence), Some([1]));
        assert!(read_announced(&whole(&bytes)).is_err(), "{previous} to {sequence}");
    }
    let lease = |previous| Announced::Lease {
        id: 1,
        previous: Sequence(previous),
        sequence: Sequence(8),
        lease_ms: 1,
        server_time_ms: 1,
    };
    for (previous, is_sound) in [(7, true), (8, true), (9, false)] {
        bytes.clear();
        write_announced(&mut bytes, &lease(previous));
        assert_eq!(read_announced(&whole(&bytes)).is_ok(), is_sound, "{previous}");
    }
}

#[test]
fn facts_leave_out_pairs_that_give_nothing_and_have_a_bound() {
    let nothing = PairFacts { covers: Covers::Everywhere, since: Sequence(1), scopes: mask(&[], false) };
    let mut bytes = Vec::new();
    encode_facts(&mut bytes, 7, &facts_head(None), [nothing, pairs()[1], nothing]).unwrap();
    match decode::answer(&whole(&bytes)) {
        Ok(Answer::Facts(facts)) => assert!(facts.pairs.eq([pairs()[1]])),
        other => panic!("{other:?}"),
    }
    let wide = PairFacts { scopes: mask(&[0, 64, 128, 255], true), ..pairs()[1] };
    bytes.clear();
    encode_facts(&mut bytes, 7, &facts_head(Some(project())), vec![wide; 255]).unwrap();
    assert!(bytes.len() <= MESSAGE_BYTES_MAX && decode::answer(&whole(&bytes)).is_ok());
    bytes.clear();
    assert!(encode_facts(&mut bytes, 7, &facts_head(None), vec![wide; 256]).is_err());
    assert!(bytes.is_empty());
    // A pair that names a project cannot cover a workspace.
    encode_facts(&mut bytes, 7, &facts_head(None), [pairs()[0]]).unwrap();
    assert!(decode::answer(&whole(&bytes)).is_err());
}

#[test]
fn audience_lists_have_bounds() {
    let mut bytes = Vec::new();
    assert!(encode::audiences(&mut bytes, []).is_err());
    assert!(encode::audiences(&mut bytes, vec!["a"; 65]).is_err());
    assert!(encode::audiences(&mut bytes, ["a".repeat(256).as_str()]).is_err());
    let list = encode::audiences(&mut bytes, vec!["a"; 64]).unwrap();
    assert_eq!(list.iter().count(), 64);
}

#[test]
fn an_active_answer_that_does_not_fit_goes_on_in_further_messages() {
    let audience: Vec<String> = (0..300).map(|i| format!("https://server-{i}.example")).collect();
    let places: Vec<(String, ScopeMask)> =
        (0..3_000_u32).map(|i| (format!("workspace-{i}/project"), mask(&[(i % 256) as u8, 7], i % 5 == 0))).collect();
    let mut bytes = b"before".to_vec();
    let written = encode::active(
        &mut bytes,
        9,
        &facts(None),
        audience.iter().map(String::as_str),
        places.iter().map(|(place, scopes)| (place.as_str(), *scopes)),
    );
    assert_eq!(written, Ok(()));
    let mut rest = &bytes[6..];
    let (mut heard, mut told, mut messages) = (Vec::new(), Vec::new(), 0);
    let mut goes_on = true;
    while goes_on {
        let Ok(Split::Whole(raw, length)) = split(rest) else { panic!("message {messages} is broken") };
        assert!(length <= MESSAGE_BYTES_MAX && raw.id == 9);
        let items = match decode::answer(&raw).unwrap() {
            Answer::Active(token) if messages == 0 => {
                assert_eq!(token.facts, facts(None));
                goes_on = token.more;
                token.items
            }
            Answer::More { more, items } if messages > 0 => {
                goes_on = more;
                items
            }
            other => panic!("message {messages} is {other:?}"),
        };
        for item in items {
            match item {
                Item::Audience(name) => heard.push(name.to_owned()),
                Item::Place(place, scopes) => told.push((place.to_owned(), scopes)),
            }
        }
        rest = &rest[length..];
        messages += 1;
    }
    assert!(rest.is_empty() && messages > 3);
    assert_eq!((heard, told), (audience, places));
}

#[test]
fn an_active_answer_without_lists_is_one_message() {
    let mut bytes = Vec::new();
    encode::active(&mut bytes, 7, &facts(None), std::iter::empty(), std::iter::empty()).unwrap();
    let alone = Answer::Active(ActiveToken { facts: facts(None), more: false, items: Items::default() });
    assert_eq!(bytes, written_answer(&alone));
}

#[test]
fn the_short_ways_of_writing_give_the_same_bytes() {
    let sequence = Sequence(41);
    let mut bytes = Vec::new();
    for outcome in [Outcome::Allowed, Outcome::Inactive, Outcome::Denied(Denial::NotAMember)] {
        bytes.clear();
        encode::checked(&mut bytes, 7, sequence, outcome);
        assert_eq!(bytes, written_answer(&Answer::Checked { sequence, outcome }));
    }
    bytes.clear();
    encode::inactive(&mut bytes, 7, sequence);
    assert_eq!(bytes, written_answer(&Answer::Inactive { sequence }));
}

#[test]
fn a_long_error_text_is_cut_at_a_character() {
    let text = "ä".repeat(ERROR_TEXT_BYTES_MAX);
    let mut bytes = Vec::new();
    encode::error(&mut bytes, 7, Sequence(1), ErrorCode::Invalid, &format!("x{text}"));
    match decode::answer(&whole(&bytes)) {
        Ok(Answer::Error { text, .. }) => assert_eq!(text.len(), ERROR_TEXT_BYTES_MAX - 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_catalogue_of_the_longest_names_takes_two_pages() {
    let names: Vec<String> = (0..256).map(|i| format!("{i:096}")).collect();
    let mut first = 0_usize;
    let mut pages = 0;
    while first < names.len() {
        let mut bytes = Vec::new();
        let rows = names.iter().skip(first).map(|name| (name.as_str(), false));
        encode::names(&mut bytes, 7, Sequence(1), first as u8, 256, rows).unwrap();
        match decode::answer(&whole(&bytes)) {
            Ok(Answer::Names { names: page, total: 256, first: said, .. }) => {
                assert_eq!(usize::from(said), first);
                for (name, retired) in page {
                    assert_eq!((name, retired), (names[first].as_str(), false));
                    first += 1;
                }
            }
            other => panic!("{other:?}"),
        }
        pages += 1;
    }
    assert_eq!(pages, 2);
}

#[test]
fn a_message_gets_another_id_and_a_demand_without_being_read() {
    requests(&mut |name, envelope| {
        if envelope.least.is_some() {
            return;
        }
        let bytes = written_request(&envelope);
        let mut out = b"before".to_vec();
        assert_eq!(encode::readdress(&mut out, &bytes, 99, Some(&revision())), bytes.len(), "{name}");
        let is_question = bytes[2] <= kind::QUESTION_LAST;
        let least = is_question.then(revision);
        assert_eq!(decode::request(&whole(&out[6..])), Ok(Envelope { id: 99, least, ..envelope }), "{name}");
    });
    assert_eq!(encode::readdress(&mut Vec::new(), b"\x08\x00", 1, None), 0);
}

#[test]
fn kinds_of_the_other_direction_and_of_the_feed_are_unknown() {
    for known in (0..=u8::MAX).filter(|kind| !matches!(kind & 0x7f, 1..=6) && !matches!(kind, 0x20..=0x22)) {
        let raw = Raw { kind: known, detail: 0, id: 1, body: &[0; 64] };
        assert_eq!(decode::request(&raw), Err(Malformed::Kind(known)));
    }
    for known in [kind::INTROSPECT, kind::API, kind::FOLLOW, kind::ANNOUNCEMENT, kind::FEED_LAST, 0x91] {
        let raw = Raw { kind: known, detail: 0, id: 1, body: &[0; 64] };
        assert_eq!(decode::answer(&raw), Err(Malformed::Kind(known)));
    }
}

#[test]
fn a_change_cannot_demand_a_revision() {
    let raw = Raw { kind: kind::REVOKE | kind::AT_LEAST, detail: 0, id: 1, body: &[0; 48] };
    assert_eq!(decode::request(&raw), Err(Malformed::Kind(0xa1)));
}

#[test]
fn closed_lists_are_numbered_as_they_say() {
    for code in CloseCode::ALL {
        assert_eq!(CloseCode::from_code(code as u64), Some(code));
    }
    assert_eq!(CloseCode::from_code(0x100), None);
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_code(code as u8), Some(code));
    }
    for wait in Wait::ALL {
        assert_eq!(Wait::parse(wait.as_str()), Some(wait));
    }
    for method in Method::ALL {
        assert_eq!(Method::parse(method.as_str()), Some(method));
    }
}
