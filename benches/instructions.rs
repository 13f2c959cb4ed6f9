//! How many instructions the hot functions take: a figure that a busy machine does not move, so that a regression shows.
//!
//! `cargo bench --bench instructions` runs this very program under valgrind's callgrind, once with nothing to do and once for
//! each function with many calls, and compares the difference for each call with `benches/instructions.txt`. More than
//! three in a hundred above fails, if the compiler is the one that the file names; with another one it only warns, since
//! then nobody knows whose the difference is. Without valgrind it says SKIPPED. After a change that is meant, or with
//! another compiler, `cargo bench --bench instructions -- --write` writes the counts anew. Instructions are not time: a look-up
//! that misses the cache takes as many as one that does not. The near-cache is not among them: it reads the boot-time clock through
//! the kernel's shared page, and valgrind does not let the library that does so find it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use tokenscope::domain::{
    CallerId, Change, Entry, Expiry, GrantId, NewToken, ScopeMask, ScopePosition, Sequence, Timestamp, TokenDigest,
    TokenKey, TokenTimes,
};
use tokenscope::index::Index;
use tokenscope::journal::entry;
use tokenscope::service::caller::Caller;
use tokenscope::service::{AHEAD, Coming, Decision, PlaceAsked, ScopeAsked, Service};
use tokenscope::testing::filled::{Question, filled};
use tokenscope::testing::{Listed, almighty, pepper, service_over};
use tokenscope::wire::message::{ActiveFacts, Outcome};
use tokenscope::wire::{Envelope, Request, Split, decode, encode};

// What benches have in common.
mod turns;

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);

/// Few enough to be filled quickly where every instruction takes fifty times as long.
const TOKENS: u64 = 2_000;

/// Instructions that the calls of one function should take at least: filling is not the same to the instruction from one process
/// to the next, since maps are hashed with random keys, and must be small beside what is counted.
const AT_LEAST: usize = 40_000_000;

/// A count this many times the one that is written down is a regression.
const TOLERATED: f64 = 1.03;

/// What marks the process that works, under valgrind.
const WORK: &str = "--work";

/// What the functions are called with.
struct Bench {
    index: Index,
    service: Service,
    caller: Caller,
    /// Whose check is allowed.
    allowed: Vec<Question>,
    /// Whose check is denied, of tokens that are active.
    denied: Vec<Question>,
    /// Of tokens that nobody knows.
    unknown: Vec<Question>,
    /// The allowed ones as messages, one behind the other, as in a stream's buffer.
    stream: Vec<u8>,
    /// The same one by one.
    asked: Vec<Vec<u8>>,
    /// Answers as messages.
    checked: Vec<u8>,
    active: Vec<u8>,
    entry: Entry,
    entry_bytes: Vec<u8>,
}

/// A function: its name, about how many instructions a call takes, and some calls of it.
struct Work {
    name: &'static str,
    about: usize,
    run: fn(&Bench, usize),
}

impl Work {
    fn calls(&self) -> usize {
        AT_LEAST / self.about
    }
}

const fn work(name: &'static str, about: usize, run: fn(&Bench, usize)) -> Work {
    Work { name, about, run }
}

const WORKS: [Work; 16] = [
    work("write a check", 120, |bench, calls| {
        let mut out = Vec::with_capacity(1 << 12);
        over(&bench.allowed, calls, |question| {
            out.clear();
            write_check(question, &mut out);
            black_box(&out);
        });
    }),
    work("read a check", 170, |bench, calls| {
        over(&bench.asked, calls, |bytes| {
            black_box(decode::request(&whole(black_box(bytes))).expect("a request"));
        });
    }),
    work("write the answer to a check", 20, |_, calls| {
        let mut out = Vec::with_capacity(1 << 12);
        for _ in 0..calls {
            out.clear();
            encode::checked(&mut out, 1, black_box(Sequence(7)), Outcome::Allowed);
            black_box(&out);
        }
    }),
    work("read the answer to a check", 220, |bench, calls| {
        for _ in 0..calls {
            black_box(decode::answer(&whole(black_box(&bench.checked))).expect("an answer"));
        }
    }),
    work("write an active answer", 400, |_, calls| {
        let mut out = Vec::with_capacity(1 << 12);
        for _ in 0..calls {
            out.clear();
            write_active(&mut out);
            black_box(&out);
        }
    }),
    work("read an active answer", 400, |bench, calls| {
        for _ in 0..calls {
            black_box(decode::answer(&whole(black_box(&bench.active))).expect("an answer"));
        }
    }),
    work("make the key of a digest", 300, |bench, calls| {
        over(&bench.allowed, calls, |question| {
            black_box(bench.service.key(black_box(&question.digest)));
        });
    }),
    work("look up a token that is there", 200, |bench, calls| look_up(bench, &bench.allowed, calls, true)),
    work("look up a token that is not there", 200, |bench, calls| look_up(bench, &bench.unknown, calls, false)),
    work("check, alone, allowed, key included", 1_500, |bench, calls| {
        check(bench, &bench.allowed, calls, |it| matches!(it, Decision::Allowed));
    }),
    work("check, alone, denied, key included", 1_500, |bench, calls| {
        check(bench, &bench.denied, calls, |it| matches!(it, Decision::Denied(_)));
    }),
    work("check, alone, unknown token, key included", 1_000, |bench, calls| {
        check(bench, &bench.unknown, calls, |it| matches!(it, Decision::Inactive(_)));
    }),
    work("check, 32 looked ahead for, key included", 2_000, |bench, calls| {
        let mut coming = Vec::with_capacity(AHEAD);
        together(&bench.allowed, calls, |together| {
            let pin = bench.service.pin();
            coming.clear();
            let ask =
                |question: &Question| Coming { key: bench.service.key(&question.digest), place: Some(question.place) };
            coming.extend(together.iter().map(ask));
            bench.service.look_ahead(&pin, &coming);
            for (question, coming) in together.iter().zip(&coming) {
                let (scope, place) = (ScopeAsked::Position(question.scope), PlaceAsked::Number(question.place));
                let _ = black_box(bench.service.check(&pin, &bench.caller, coming.key, scope, place, NOW));
            }
        });
    }),
    work("whole question of 32: read, looked ahead, checked, answered", 2_500, |bench, calls| {
        let (mut at, mut out) = (0, Vec::with_capacity(1 << 14));
        let mut coming = Vec::with_capacity(AHEAD);
        let mut left = calls;
        while left > 0 {
            let count = left.min(AHEAD);
            at = if at >= bench.stream.len() { 0 } else { at };
            let done = answer(bench, &bench.stream[at..], count, (&mut coming, &mut out));
            (at, left) = (at + done.0, left - done.1);
        }
    }),
    work("write an entry of the journal", 100, |bench, calls| {
        let mut out = Vec::with_capacity(1 << 12);
        for _ in 0..calls {
            out.clear();
            entry::encode(black_box(&bench.entry), &mut out).expect("it fits");
            black_box(&out);
        }
    }),
    work("read an entry of the journal", 150, |bench, calls| {
        for _ in 0..calls {
            black_box(entry::decode(black_box(&bench.entry_bytes)).expect("an entry"));
        }
    }),
];

/// So many calls, about one thing after the other.
fn over<T>(all: &[T], calls: usize, call: impl FnMut(&T)) {
    all.iter().cycle().take(calls).for_each(call);
}

/// So many calls, up to 32 of them together.
fn together(all: &[Question], calls: usize, mut call: impl FnMut(&[Question])) {
    let mut left = calls;
    for together in all.chunks_exact(AHEAD).cycle() {
        if left == 0 {
            return;
        }
        let together = &together[..left.min(AHEAD)];
        left -= together.len();
        call(together);
    }
}

fn whole(bytes: &[u8]) -> decode::Raw<'_> {
    let Ok(Split::Whole(raw, _)) = decode::split(bytes) else { panic!("a message") };
    raw
}

fn write_check(question: &Question, out: &mut Vec<u8>) {
    let Question { digest, scope, place, .. } = *question;
    let request = Request::CheckNumbers { digest, scope, place };
    encode::request(out, &Envelope { id: 1, least: None, request }).expect("it fits");
}

fn write_active(out: &mut Vec<u8>) {
    let mut scopes = ScopeMask::default();
    [1, 5, 9].into_iter().for_each(|position| scopes.insert(ScopePosition::new(position)));
    let facts = ActiveFacts {
        sequence: Sequence(1 << 40),
        handle: TokenKey::from_bytes([9; 16]).handle(),
        grant: GrantId::new(77).expect("a number"),
        times: TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::At(NOW.plus(3_600)) },
        everywhere: scopes,
        subject: "user-1234567",
        client: "app-0042",
        binding: None,
    };
    let places = [("1201234567890123", scopes), ("1201234567890124", scopes)];
    encode::active(out, 1, black_box(&facts), std::iter::once("https://api.example"), places.into_iter())
        .expect("it fits");
}

fn look_up(bench: &Bench, questions: &[Question], calls: usize, is_there: bool) {
    let keys: Vec<TokenKey> = questions.iter().map(|it| bench.service.key(&it.digest)).collect();
    let mut found = 0;
    over(&keys, calls, |key| found += usize::from(bench.index.pin().token(*black_box(key)).is_some()));
    assert_eq!(found, if is_there { calls } else { 0 });
}

fn decided(bench: &Bench, question: &Question) -> Option<Decision> {
    let pin = bench.service.pin();
    let key = bench.service.key(&question.digest);
    let (scope, place) = (ScopeAsked::Position(question.scope), PlaceAsked::Number(question.place));
    bench.service.check(&pin, &bench.caller, key, scope, place, NOW).ok()
}

fn check(bench: &Bench, questions: &[Question], calls: usize, right: fn(&Decision) -> bool) {
    let mut count = 0;
    over(questions, calls, |question| count += usize::from(decided(bench, question).as_ref().is_some_and(right)));
    assert_eq!(count, calls, "another decision than is meant to be counted");
}

/// Answers up to `count` messages, as a session does; how many bytes and messages they were.
fn answer(
    bench: &Bench,
    input: &[u8],
    count: usize,
    (coming, out): (&mut Vec<Coming>, &mut Vec<u8>),
) -> (usize, usize) {
    let pin = bench.service.pin();
    coming.clear();
    out.clear();
    let mut end = 0;
    while coming.len() < count
        && let Ok(Split::Whole(raw, length)) = decode::split(&input[end..])
        && let Some(digest) = decode::digest_of(&raw)
        && let Ok(Envelope { request: Request::CheckNumbers { place, .. }, .. }) = decode::request(&raw)
    {
        coming.push(Coming { key: bench.service.key(&TokenDigest::from_bytes(*digest)), place: Some(place) });
        end += length;
    }
    bench.service.look_ahead(&pin, coming);
    let mut at = 0;
    for coming in coming.iter() {
        let Ok(Split::Whole(raw, length)) = decode::split(&input[at..]) else { break };
        at += length;
        let Ok(Envelope { id, request: Request::CheckNumbers { scope, place, .. }, .. }) = decode::request(&raw) else {
            break;
        };
        let (scope, place) = (ScopeAsked::Position(scope), PlaceAsked::Number(place));
        let outcome = match bench.service.check(&pin, &bench.caller, coming.key, scope, place, NOW) {
            Ok(Decision::Allowed) => Outcome::Allowed,
            Ok(Decision::Denied(denial)) => Outcome::Denied(denial),
            Ok(Decision::Inactive(_)) | Err(_) => Outcome::Inactive,
        };
        encode::checked(out, id, Sequence(7), outcome);
    }
    black_box(&out);
    (end, coming.len())
}

fn bench() -> Bench {
    let pepper = pepper();
    let (index, writer, questions) = filled(1, TOKENS, NOW, &pepper);
    let listed = Listed::default();
    listed.pretend(writer.applied());
    let (service, control) = service_over(index.clone(), writer, &listed);
    // The writer is not needed; it goes to sleep, and its thread would only make counts differ.
    drop(control);
    let salted = |question: &Question| {
        let mut bytes = *question.digest.as_bytes();
        bytes[0] ^= 1;
        Question { digest: TokenDigest::from_bytes(bytes), ..*question }
    };
    let times = TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::At(NOW.plus(3_600)) };
    let change = Change::RegisterToken(NewToken {
        key: TokenKey::from_bytes([5; 16]),
        grant: GrantId::new(7).expect("a number"),
        times,
        audience: None,
        confirmation: None,
        narrowed: None,
    });
    let entry = Entry { sequence: Sequence(8), at: NOW, by: CallerId::parse("issuer").expect("an id"), change };
    let mut bench = Bench {
        index,
        service,
        caller: almighty(),
        allowed: Vec::new(),
        denied: Vec::new(),
        unknown: questions.iter().map(salted).collect(),
        stream: Vec::new(),
        asked: Vec::new(),
        checked: Vec::new(),
        active: Vec::new(),
        entry,
        entry_bytes: Vec::new(),
    };
    for question in &questions {
        if decided(&bench, question) == Some(Decision::Allowed) {
            bench.allowed.push(*question);
        }
        // A scope that the grant has not.
        let other = |position| Question { scope: ScopePosition::new(position), ..*question };
        let denied = (0..64).map(other).find(|it| matches!(decided(&bench, it), Some(Decision::Denied(_))));
        bench.denied.extend(denied);
    }
    assert!(bench.allowed.len() >= AHEAD && bench.denied.len() >= AHEAD);
    for question in &bench.allowed {
        let from = bench.stream.len();
        write_check(question, &mut bench.stream);
        bench.asked.push(bench.stream[from..].to_vec());
    }
    encode::checked(&mut bench.checked, 1, Sequence(7), Outcome::Allowed);
    write_active(&mut bench.active);
    entry::encode(&bench.entry, &mut bench.entry_bytes).expect("it fits");
    bench
}

/// The process that works: everything is made, and one function is called so many times.
fn be_at_work(name: &str, calls: usize) {
    let bench = bench();
    if let Some(work) = WORKS.iter().find(|work| work.name == name) {
        (work.run)(&bench, calls);
    }
}

/// Instructions of a whole process that works so much. `None`: there is no valgrind.
fn instructions(name: &str, calls: usize) -> Option<f64> {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = command.args([WORK, name, &calls.to_string()]).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :"))?.1;
    collected.trim().parse().ok()
}

fn counts_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// The compiler that is found; it is the one that built this, unless somebody changed it since.
fn compiler() -> String {
    let said = Command::new("rustc").arg("--version").output().ok();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown compiler".to_owned())
}

/// What is written down: the compiler, and a count and a name on each line.
fn written() -> (String, BTreeMap<String, f64>) {
    let text = std::fs::read_to_string(counts_file()).unwrap_or_default();
    let by = text.lines().find_map(|line| line.strip_prefix(BY)).unwrap_or_default().to_owned();
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    (by, text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mark, name, calls] = arguments.as_slice()
        && mark == WORK
    {
        be_at_work(name, calls.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if turns::is_test() {
        let bench = bench();
        WORKS.iter().for_each(|work| (work.run)(&bench, 100));
        return ExitCode::SUCCESS;
    }
    let Some(nothing) = instructions("nothing", 0) else {
        println!("SKIPPED: valgrind is not installed, or its callgrind does not work here");
        return ExitCode::SUCCESS;
    };
    let (by, known) = written();
    let compiler = compiler();
    let (mut text, mut worse) = (format!("{HEAD}{BY}{compiler}\n"), 0);
    println!("{:62} {:>10} {:>10}  instructions a call", "", "found", "written");
    for work in &WORKS {
        let Some(all) = instructions(work.name, work.calls()) else { continue };
        let each = (all - nothing) / work.calls() as f64;
        text.push_str(&format!("{each:.1} {}\n", work.name));
        let (was, more) = match known.get(work.name) {
            // Half an instruction is what filling leaves of doubt.
            Some(was) => (format!("{was:.1}"), each > was * TOLERATED + 0.5),
            None => ("–".to_owned(), false),
        };
        worse += u32::from(more);
        println!("{:62} {each:>10.1} {was:>10}{}", work.name, if more { "  MORE" } else { "" });
    }
    if arguments.iter().any(|argument| argument == "--write") {
        std::fs::write(counts_file(), text).expect("the file can be written");
        return ExitCode::SUCCESS;
    }
    match (worse, by == compiler) {
        (0, _) => ExitCode::SUCCESS,
        (worse, true) => {
            println!("{worse} take more than {TOLERATED} times what is written down; if that is meant: -- --write");
            ExitCode::FAILURE
        }
        (worse, false) => {
            println!("WARNING: {worse} take more, but this is {compiler:?} and the counts are by {by:?}: -- --write");
            ExitCode::SUCCESS
        }
    }
}

const HEAD: &str = "# Instructions of a call, as callgrind counts them on x86-64; written by `cargo bench --bench instructions -- --write`.\n";

/// Before the compiler's name.
const BY: &str = "# Compiled by ";
