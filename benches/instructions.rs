//! How many instructions the hot functions take: a figure that a busy machine does not move, so that a regression shows.
//!
//! `cargo bench --bench instructions` runs this very program under valgrind's callgrind, once with nothing to do and once for
//! each function with some thousands of calls, and compares the difference for each call with `benches/instructions.txt`. More than
//! a tenth above fails. Without valgrind it says SKIPPED. After a change that is meant, or with another compiler,
//! `cargo bench --bench instructions -- --write` writes the counts anew. Instructions are not time: a look-up that misses
//! the cache takes as many as one that does not.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use tokenscope::domain::{Sequence, Timestamp};
use tokenscope::service::caller::Caller;
use tokenscope::service::{AHEAD, Coming, PlaceAsked, ScopeAsked, Service};
use tokenscope::testing::filled::{Question, filled};
use tokenscope::testing::{Listed, almighty, pepper, service_over};
use tokenscope::wire::message::Outcome;
use tokenscope::wire::{Envelope, Request, Split, decode, encode};

// What benches have in common.
mod turns;

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);

/// Few enough to be filled quickly where every instruction takes fifty times as long.
const TOKENS: u64 = 2_000;

/// Calls of one function.
const CALLS: usize = 20_000;

/// A count this many times the one that is written down is a regression.
const TOLERATED: f64 = 1.1;

/// What marks the process that works, under valgrind.
const WORK: &str = "--work";

/// What the functions are called with.
struct Bench {
    service: Service,
    caller: Caller,
    questions: Vec<Question>,
    /// Questions as messages.
    asked: Vec<Vec<u8>>,
    /// An answer as a message.
    answer: Vec<u8>,
}

/// A function: its name, and some calls of it.
type Work = (&'static str, fn(&Bench, usize));

const WORKS: [Work; 7] = [
    ("write a check", |bench, calls| {
        let mut out = Vec::with_capacity(1 << 12);
        over(bench, calls, |question, _| {
            out.clear();
            let Question { digest, scope, place, .. } = *question;
            let request = Request::CheckNumbers { digest, scope, place };
            encode::request(&mut out, &Envelope { id: 1, least: None, request }).expect("it fits");
            black_box(&out);
        });
    }),
    ("read a check", |bench, calls| {
        over(bench, calls, |_, bytes| {
            let Ok(Split::Whole(raw, _)) = decode::split(black_box(bytes)) else { panic!("a message") };
            black_box(decode::request(&raw).expect("a request"));
        });
    }),
    ("write the answer to a check", |bench, calls| {
        let mut out = Vec::with_capacity(1 << 12);
        over(bench, calls, |_, _| {
            out.clear();
            encode::checked(&mut out, 1, black_box(Sequence(7)), Outcome::Allowed);
            black_box(&out);
        });
    }),
    ("read the answer to a check", |bench, calls| {
        over(bench, calls, |_, _| {
            let Ok(Split::Whole(raw, _)) = decode::split(black_box(&bench.answer)) else { panic!("a message") };
            black_box(decode::answer(&raw).expect("an answer"));
        });
    }),
    ("make the key of a digest", |bench, calls| {
        over(bench, calls, |question, _| {
            black_box(bench.service.key(black_box(&question.digest)));
        });
    }),
    ("check, alone, key included", |bench, calls| {
        over(bench, calls, |question, _| {
            let pin = bench.service.pin();
            let key = bench.service.key(&question.digest);
            let (scope, place) = (ScopeAsked::Position(question.scope), PlaceAsked::Number(question.place));
            let _ = black_box(bench.service.check(&pin, &bench.caller, key, scope, place, NOW));
        });
    }),
    ("check, 32 looked ahead for, key included", |bench, calls| {
        let mut coming = Vec::with_capacity(AHEAD);
        let mut left = calls;
        for together in bench.questions.chunks_exact(AHEAD).cycle() {
            if left == 0 {
                return;
            }
            let together = &together[..left.min(AHEAD)];
            left -= together.len();
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
        }
    }),
];

/// So many calls, about one token after the other.
fn over(bench: &Bench, calls: usize, mut call: impl FnMut(&Question, &[u8])) {
    let all = bench.questions.iter().zip(&bench.asked).cycle();
    all.take(calls).for_each(|(question, bytes)| call(question, bytes));
}

/// The process that works: everything is made, and one function is called so many times.
fn work(name: &str, calls: usize) {
    let pepper = pepper();
    let (index, writer, questions) = filled(1, TOKENS, NOW, &pepper);
    let listed = Listed::default();
    listed.pretend(writer.applied());
    let (service, _control) = service_over(index, writer, &listed);
    let message = |question: &Question| {
        let mut bytes = Vec::new();
        let Question { digest, scope, place, .. } = *question;
        let request = Request::CheckNumbers { digest, scope, place };
        encode::request(&mut bytes, &Envelope { id: 1, least: None, request }).expect("it fits");
        bytes
    };
    let asked = questions.iter().map(message).collect();
    let mut answer = Vec::new();
    encode::checked(&mut answer, 1, Sequence(7), Outcome::Allowed);
    let bench = Bench { service, caller: almighty(), questions, asked, answer };
    if let Some((_, run)) = WORKS.iter().find(|(known, _)| *known == name) {
        run(&bench, calls);
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

/// What is written down: a count and a name on each line.
fn written() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(counts_file()).unwrap_or_default();
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mark, name, calls] = arguments.as_slice()
        && mark == WORK
    {
        work(name, calls.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if turns::is_test() {
        WORKS.iter().for_each(|(name, _)| work(name, 100));
        return ExitCode::SUCCESS;
    }
    let Some(nothing) = instructions("nothing", 0) else {
        println!("SKIPPED: valgrind is not installed, or its callgrind does not work here");
        return ExitCode::SUCCESS;
    };
    let known = written();
    let (mut text, mut worse) = (String::from(HEAD), false);
    println!("{:44} {:>10} {:>10}  instructions a call", "", "found", "written");
    for (name, _) in &WORKS {
        let Some(all) = instructions(name, CALLS) else { continue };
        let each = (all - nothing) / CALLS as f64;
        text.push_str(&format!("{each:.0} {name}\n"));
        let (before, more) = match known.get(*name) {
            Some(before) => (format!("{before:.0}"), each > before * TOLERATED),
            None => ("–".to_owned(), false),
        };
        worse |= more;
        println!("{name:44} {each:>10.1} {before:>10}{}", if more { "  MORE" } else { "" });
    }
    if arguments.iter().any(|argument| argument == "--write") {
        std::fs::write(counts_file(), text).expect("the file can be written");
        return ExitCode::SUCCESS;
    }
    if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

const HEAD: &str = "# Instructions of a call, as callgrind counts them on x86-64; written by `cargo bench --bench instructions -- --write`.\n";
