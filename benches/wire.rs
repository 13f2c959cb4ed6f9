//! What writing and reading a message of the native protocol costs, beside a copy of the same bytes.
//!
//! `cargo bench --bench wire`. A thousand messages lie one behind the other, as they do in the buffer of a stream; each is
//! written or read on its own. They fit into the second-level cache, so what is seen is the code and not memory. See
//! `benches/README.md`.

use std::hint::black_box;

use tokenscope::domain::{
    Expiry, GrantId, ScopeMask, ScopePosition, Sequence, Timestamp, TokenDigest, TokenKey, TokenTimes,
};
use tokenscope::wire::message::{ActiveFacts, Outcome};
use tokenscope::wire::{Envelope, Request, Split, decode, encode};

// Rows that take turns.
mod turns;

use turns::{Row, each, print, ratio, take};

/// Messages in one round.
const MESSAGES: usize = 1_000;

/// A kind of message: its name, how one is written, how one is read (something of it, as a number).
struct Kind {
    name: &'static str,
    write: fn(u32, &mut Vec<u8>),
    read: fn(&decode::Raw<'_>) -> u64,
}

fn digest(number: u32) -> TokenDigest {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    TokenDigest::from_bytes(bytes)
}

fn envelope(id: u32, request: Request<'_>) -> Envelope<'_> {
    Envelope { id, least: None, request }
}

fn write_request(id: u32, request: Request<'_>, out: &mut Vec<u8>) {
    encode::request(out, &envelope(id, request)).expect("it fits");
}

/// Something of a request that was read whole.
fn read_request(raw: &decode::Raw<'_>) -> u64 {
    let envelope = decode::request(raw).expect("a request");
    let digest = match envelope.request {
        Request::CheckNumbers { digest, .. } | Request::CheckNames { digest, .. } => digest,
        Request::Introspect { digest, .. } => digest,
        _ => panic!("another request"),
    };
    u64::from(digest.as_bytes()[0]) + u64::from(envelope.id)
}

/// Something of an answer that was read whole, its lists included.
fn read_answer(raw: &decode::Raw<'_>) -> u64 {
    use tokenscope::wire::message::{Answer, Item};
    match decode::answer(raw).expect("an answer") {
        Answer::Checked { sequence, .. } | Answer::Inactive { sequence } => sequence.0 + u64::from(raw.id),
        Answer::Active(token) => {
            let items = token.items.map(|item| match item {
                Item::Audience(name) => name.len() as u64,
                Item::Place(name, _) => name.len() as u64,
            });
            token.facts.sequence.0 + items.sum::<u64>()
        }
        _ => panic!("another answer"),
    }
}

fn write_active(id: u32, out: &mut Vec<u8>) {
    let mut scopes = ScopeMask::default();
    for position in [1, 5, 9] {
        scopes.insert(ScopePosition::new(position));
    }
    let facts = ActiveFacts {
        sequence: Sequence(1 << 40),
        handle: TokenKey::from_bytes([9; 16]).handle(),
        grant: GrantId::new(77).expect("a number"),
        times: TokenTimes {
            issued: Timestamp::from_raw(1_800_000_000),
            not_before: Timestamp::from_raw(1_800_000_000),
            expiry: Expiry::At(Timestamp::from_raw(1_800_003_600)),
        },
        everywhere: scopes,
        subject: "user-1234567",
        client: "app-0042",
        binding: None,
    };
    let places = [("1201234567890123", scopes), ("1201234567890124", scopes)];
    encode::active(out, id, &facts, std::iter::once("https://api.example"), places.into_iter()).expect("it fits");
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "check, by numbers",
        write: |id, out| {
            let request = Request::CheckNumbers { digest: digest(id), scope: ScopePosition::new(3), place: id };
            write_request(id, request, out);
        },
        read: read_request,
    },
    Kind {
        name: "check, by names",
        write: |id, out| {
            let request = Request::CheckNames { digest: digest(id), scope: "tasks:write", place: "1201234567890123" };
            write_request(id, request, out);
        },
        read: read_request,
    },
    Kind {
        name: "introspection",
        write: |id, out| write_request(id, Request::Introspect { digest: digest(id), place: None }, out),
        read: read_request,
    },
    Kind {
        name: "answer to a check",
        write: |id, out| encode::checked(out, id, Sequence(u64::from(id)), Outcome::Allowed),
        read: read_answer,
    },
    Kind { name: "active answer, 1 audience, 2 places", write: write_active, read: read_answer },
];

fn main() {
    let (rounds, messages) = if turns::is_test() { (1, 100) } else { (301, MESSAGES) };
    let all: Vec<(&Kind, Vec<u8>)> = KINDS
        .iter()
        .map(|kind| {
            let mut bytes = Vec::new();
            (0..messages as u32).for_each(|id| (kind.write)(id, &mut bytes));
            // Verified once, so that what is measured is the reading of whole, sound messages.
            assert_eq!(read_all(&bytes, kind.read).1, messages, "{}", kind.name);
            (kind, bytes)
        })
        .collect();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (kind, bytes) in &all {
        let name = kind.name;
        let length = bytes.len() / messages;
        let mut out = Vec::with_capacity(bytes.len());
        rows.push((
            format!("write: {name}"),
            Box::new(move || {
                each(messages, || {
                    out.clear();
                    (0..messages as u32).for_each(|id| (kind.write)(id, &mut out));
                    black_box(&out);
                })
            }),
        ));
        rows.push((
            format!("read: {name}"),
            Box::new(move || {
                each(messages, || {
                    black_box(read_all(black_box(bytes), kind.read));
                })
            }),
        ));
        let mut copy = Vec::with_capacity(bytes.len());
        rows.push((
            format!("copy: {name}"),
            Box::new(move || {
                each(messages, || {
                    copy.clear();
                    // One by one, as messages are; a copy of all at once would be several times as fast.
                    black_box(bytes).chunks(length).for_each(|message| copy.extend_from_slice(black_box(message)));
                    black_box(&copy);
                })
            }),
        ));
    }
    let taken = take(turns::chosen(rows), rounds);
    let bytes_of =
        |name: &str| all.iter().find(|(kind, _)| name.ends_with(kind.name)).map(|(_, it)| it.len() / messages);
    print(&taken, "ns of processor time a message", |row| format!("{} B", bytes_of(&row.name).unwrap_or(0)));
    println!();
    for Kind { name, .. } in &KINDS {
        let copied = |how: &str| ratio(&taken, &format!("{how}: {name}"), &format!("copy: {name}"));
        if let (Some(write), Some(read)) = (copied("write"), copied("read")) {
            println!("{name:44} writing {write:.1} and reading {read:.1} times a copy");
        }
    }
}

/// Reads every message; something of all of them, and how many there were.
fn read_all(bytes: &[u8], read: fn(&decode::Raw<'_>) -> u64) -> (u64, usize) {
    let (mut sum, mut count, mut at) = (0_u64, 0, 0);
    while let Ok(Split::Whole(raw, length)) = decode::split(&bytes[at..]) {
        sum = sum.wrapping_add(read(&raw));
        at += length;
        count += 1;
    }
    (sum, count)
}
