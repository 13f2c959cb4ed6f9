//! The golden vectors under `tests/vectors/journal/`: bytes that may never change their meaning.
//!
//! A file for each kind of change, with one entry for each of its forms, chained from the first entry of the list on;
//! and one for the head. A change of the format makes new files beside these.

use std::fmt::Write;
use std::path::PathBuf;

use super::make::{POLICY_ENTRIES, access, at, audience, client, grant, place, scopes, subject, workspace};
use crate::domain::digest::to_hex;
use crate::domain::{
    Access, Among, CallerId, Change, Confirmation, Entry, Epoch, Expiry, NewGrant, NewToken, PolicyMode, ScopeMask,
    Sequence, Switch, Target, TokenKey, TokenTimes,
};
use crate::journal::ChainHash;
use crate::journal::chain::Keys;
use crate::journal::entry::{self, Kind};
use crate::journal::head::HeadRow;
use crate::journal::row::Position;

/// The journal key of every vector: the bytes 0 to 31.
pub(super) const KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut at = 0;
    while at < 32 {
        key[at] = at as u8;
        at += 1;
    }
    key
};

/// The epoch of every vector.
pub(super) const EPOCH: Epoch = Epoch(0x0011_2233_4455_6677);

fn token(change: impl FnOnce(&mut NewToken)) -> Change {
    let mut token = NewToken {
        key: TokenKey::from_bytes(std::array::from_fn(|at| 0xa0 + at as u8)),
        grant: grant(17),
        times: TokenTimes {
            issued: at(1_700_000_000),
            not_before: at(1_700_000_060),
            expiry: Expiry::At(at(1_700_003_600)),
        },
        audience: None,
        confirmation: None,
        narrowed: None,
    };
    change(&mut token);
    Change::RegisterToken(token)
}

fn new_grant(change: impl FnOnce(&mut NewGrant)) -> Change {
    let mut made = NewGrant {
        id: grant(17),
        subject: subject("user-7"),
        client: client("app-3"),
        access: access(&[("1579", scopes(&[0, 64, 255])), ("1579/4021", scopes(&[1]))]),
        expiry: Expiry::At(at(1_800_000_000)),
        audience: vec![audience("https://api.example")],
    };
    change(&mut made);
    Change::MakeGrant(made)
}

/// The forms of a kind, each with a line that says what it shows.
pub(super) fn forms(kind: Kind) -> Vec<(&'static str, Change)> {
    let many = || access(&[("1579", ScopeMask::WILDCARD), ("1580/1", scopes(&[3, 200])), ("everywhere", scopes(&[7]))]);
    let key = || TokenKey::from_bytes([0xab; 16]);
    match kind {
        Kind::RegisterClient => vec![("an app", Change::RegisterClient(client("app-3")))],
        Kind::SwitchClient => vec![
            ("off", Change::SwitchClient(client("app-3"), Switch::Off)),
            ("on", Change::SwitchClient(client("app-3"), Switch::On)),
        ],
        Kind::SwitchSubject => vec![
            ("off", Change::SwitchSubject(subject("user-7"), Switch::Off)),
            ("on", Change::SwitchSubject(subject("user-7"), Switch::On)),
        ],
        Kind::AddScope => vec![("a name", Change::AddScope("tasks:write".into()))],
        Kind::AliasScope => {
            vec![("the second name first", Change::AliasScope("tasks.write".into(), "tasks:write".into()))]
        }
        Kind::RetireScope => vec![("a name", Change::RetireScope("tasks:write".into()))],
        Kind::AddMember => vec![
            ("a workspace", Change::AddMember(subject("user-7"), place("1579"))),
            ("a project", Change::AddMember(subject("user-7"), place("1579/4021"))),
        ],
        Kind::RemoveMember => vec![
            ("a workspace", Change::RemoveMember(subject("user-7"), place("1579"))),
            ("a project", Change::RemoveMember(subject("user-7"), place("1579/4021"))),
        ],
        Kind::SetPolicyMode => vec![
            ("allow all", Change::SetPolicyMode(workspace("1579"), PolicyMode::AllowAll)),
            ("approval required", Change::SetPolicyMode(workspace("1579"), PolicyMode::ApprovalRequired)),
        ],
        Kind::SwitchPersonal => vec![
            ("off", Change::SwitchPersonal(workspace("1579"), Switch::Off)),
            ("on", Change::SwitchPersonal(workspace("1579"), Switch::On)),
        ],
        Kind::SetPolicyEntry => ["block", "unblock", "approve", "unapprove"]
            .into_iter()
            .zip(POLICY_ENTRIES)
            .map(|(what, line)| (what, Change::SetPolicyEntry(workspace("1579"), client("app-3"), line)))
            .collect(),
        Kind::MakeGrant => vec![
            ("two places; scopes 0, 64 and 255 in one, 1 in the other", new_grant(|_| ())),
            (
                "never ends; everywhere, the wildcard, two audiences",
                new_grant(|made| {
                    made.expiry = Expiry::Never;
                    made.access = many();
                    made.audience.push(audience("urn:two"));
                }),
            ),
        ],
        Kind::NarrowGrant => vec![
            ("wildcard, project, everywhere", Change::NarrowGrant(grant(17), many())),
            ("to nothing", Change::NarrowGrant(grant(17), Access::default())),
        ],
        Kind::ExtendGrant => vec![("one place", Change::ExtendGrant(grant(17), access(&[("1581", scopes(&[5]))])))],
        Kind::RegisterToken => vec![
            ("of one hour, nothing special", token(|_| ())),
            ("never ends", token(|token| token.times.expiry = Expiry::Never)),
            ("an audience of its own", token(|token| token.audience = Some(vec![audience("https://files.example")]))),
            ("an audience of its own, which is empty", token(|token| token.audience = Some(Vec::new()))),
            ("bound to a certificate", token(|token| token.confirmation = Some(Confirmation::Certificate([0xc5; 32])))),
            ("bound to a DPoP key", token(|token| token.confirmation = Some(Confirmation::DpopKey([0xd9; 32])))),
            (
                "bound in a way we do not know",
                token(|token| {
                    token.confirmation = Some(Confirmation::Other(r#"{"x":"é"}"#.into()));
                }),
            ),
            ("narrowed", token(|token| token.narrowed = Some(access(&[("1579", scopes(&[64]))])))),
            (
                "everything at once",
                token(|token| {
                    token.audience = Some(vec![audience("https://files.example")]);
                    token.confirmation = Some(Confirmation::DpopKey([0xd9; 32]));
                    token.narrowed = Some(access(&[("1579", scopes(&[64]))]));
                }),
            ),
        ],
        Kind::Revoke => [
            ("a token", Target::Token(key())),
            ("a grant", Target::Grant(grant(17))),
            ("subject and client", Target::SubjectClient(subject("user-7"), client("app-3"))),
            ("a subject", Target::Subject(subject("user-7"))),
            ("a client", Target::Client(client("app-3"))),
            ("workspace and client", Target::WorkspaceClient(workspace("1579"), client("app-3"))),
            ("issued before, all", Target::IssuedBefore(at(1_700_000_000), Among::All)),
            ("issued before, a subject's", Target::IssuedBefore(at(1_700_000_000), Among::Subject(subject("user-7")))),
            ("issued before, a client's", Target::IssuedBefore(at(1_700_000_000), Among::Client(client("app-3")))),
            ("issued before, a grant's", Target::IssuedBefore(at(1_700_000_000), Among::Grant(grant(17)))),
        ]
        .map(|(what, target)| (what, Change::Revoke(target)))
        .into(),
        Kind::ImportMark => vec![(
            "a thousand lines, 40 grants from the 17th on",
            Change::ImportMark { source: [0x5a; 32], lines: 1_000, first_grant: 17, grants: 40 },
        )],
    }
}

/// Every form of every kind, as one list from sequence 1 on.
pub(super) fn all_forms() -> Vec<Entry> {
    let changes = Kind::ALL.into_iter().flat_map(|kind| forms(kind).into_iter().map(|(_, change)| change));
    changes.zip(1..).map(|(change, sequence)| wrapped(sequence, change)).collect()
}

fn wrapped(sequence: u64, change: Change) -> Entry {
    let by = CallerId::parse("issuer").expect("an id");
    Entry { sequence: Sequence(sequence), at: at(1_700_000_000 + sequence as u32), by, change }
}

fn kind_file(kind: Kind) -> String {
    let links = Keys::new(&KEY).links(EPOCH);
    let mut text = format!("# {}: each entry is chained to the one before, the first to `start`.\n", kind.as_str());
    writeln!(text, "key {}\nepoch {:016x}\nstart {}", to_hex(&KEY), EPOCH.0, to_hex(&links.start.0)).expect("memory");
    let mut chain = links.start;
    for ((what, change), sequence) in forms(kind).into_iter().zip(1..) {
        let entry = wrapped(sequence, change);
        let mut bytes = Vec::new();
        entry::encode(&entry, &mut bytes).expect("fits");
        assert_eq!(entry::decode(&bytes).as_ref(), Ok(&entry), "{what}");
        let before = Position { sequence: Sequence(sequence - 1), chain };
        chain = links.next(before, &bytes).expect("a key");
        writeln!(text, "# {what}; sequence {sequence}, at {}, by {}", entry.at, entry.by).expect("memory");
        writeln!(text, "entry {}\nchain {}", to_hex(&bytes), to_hex(&chain.0)).expect("memory");
    }
    text
}

fn head_file() -> String {
    let keys = Keys::new(&KEY);
    let start = Position { sequence: Sequence(3), chain: ChainHash([0x33; 32]) };
    let end = Position { sequence: Sequence(9), chain: ChainHash([0x99; 32]) };
    let head = HeadRow { epoch: EPOCH, end, start };
    let bytes = head.encode(&keys);
    assert_eq!(HeadRow::decode(&keys, &bytes).expect("sealed"), (head, 1));
    format!(
        "# the head of a list that ends at 9 (chain 99…) and is kept from after 3 (chain 33…) on, MAC included\n\
         key {}\nepoch {:016x}\nhead {}\n",
        to_hex(&KEY),
        EPOCH.0,
        to_hex(&bytes)
    )
}

fn files() -> impl Iterator<Item = (PathBuf, String)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/journal"));
    let kinds = Kind::ALL.into_iter().map(|kind| (kind.as_str(), kind_file(kind)));
    kinds.chain([("head", head_file())]).map(move |(name, text)| (folder.join(format!("{name}.txt")), text))
}

#[test]
fn the_bytes_of_every_form_are_the_ones_in_the_vectors() {
    for (path, text) in files() {
        let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(kept, text, "{}: the format has changed; that needs a new version", path.display());
    }
}

/// For a new version of the format: `cargo test --lib journal -- --ignored write_the_vectors`.
#[test]
#[ignore = "writes into the source tree"]
fn write_the_vectors() {
    for (path, text) in files() {
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
}
