//! What a question costs without a socket, and what a look into the index costs beside maps of many writers.
//!
//! `cargo bench --bench index` measures with a million tokens; `TOKENSCOPE_BENCH_TOKENS=10000000` with ten. With `--test`
//! everything runs once, small, and no number means anything. Short rounds of all rows are interleaved, so that
//! a machine whose speed drifts slows all rows alike; only ratios are worth quoting. See `benches/README.md`.

use std::cell::LazyCell;
use std::hint::black_box;

use dashmap::DashMap;
use tokenscope::domain::{Pepper, Timestamp, TokenDigest, TokenKey};
use tokenscope::index::Index;
use tokenscope::service::caller::Caller;
use tokenscope::service::{AHEAD, Coming, Decision, Introspection, PlaceAsked, ScopeAsked, Scratch, Service};
use tokenscope::testing::filled::{Question, filled};
use tokenscope::testing::{Listed, almighty, pepper, service_over};
use tokenscope::wire::message::Outcome;
use tokenscope::wire::{Request, Split, decode, encode};

// What benches have in common.
mod turns;

use turns::{is_test, processor_time};

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);
const SEED: u64 = 1;

fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// What one round asks: tokens that are known and tokens that are not, as keys' digests and as the bytes of messages.
struct Round {
    known: Vec<Question>,
    known_bytes: Vec<u8>,
    unknown_bytes: Vec<u8>,
}

impl Round {
    fn draw(questions: &[Question], round: u64, count: u64) -> Self {
        let known: Vec<Question> =
            (0..count).map(|n| questions[(mixed(round << 24 | n) % questions.len() as u64) as usize]).collect();
        let bytes = |salt: u8| {
            let mut bytes = Vec::new();
            for Question { digest, place, scope, .. } in &known {
                let mut digest = *digest.as_bytes();
                digest[0] ^= salt;
                let (digest, scope, place) = (TokenDigest::from_bytes(digest), *scope, *place);
                let request = Request::CheckNumbers { digest, scope, place };
                let envelope = tokenscope::wire::Envelope { id: 1, least: None, request };
                encode::request(&mut bytes, &envelope).expect("short");
            }
            bytes
        };
        let (known_bytes, unknown_bytes) = (bytes(0), bytes(1));
        Self { known, known_bytes, unknown_bytes }
    }
}

/// How the coming questions are prepared before they are answered.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Ahead,
    Not,
}

/// What answers whole questions, as a session does, with everything it keeps from one batch to the next.
struct Desk<'d> {
    service: &'d Service,
    caller: &'d Caller,
    coming: Vec<Coming>,
    output: Vec<u8>,
}

impl Desk<'_> {
    /// Answers all messages in `input`, `at_once` of them at a time; returns how many tokens were active.
    fn answer(&mut self, input: &[u8], at_once: usize, look: Look) -> u64 {
        let mut active = 0;
        let mut at = 0;
        while at < input.len() {
            let at_sequence = self.service.revision().sequence;
            let pin = self.service.pin();
            self.output.clear();
            let mut left = at_once;
            while left > 0 && at < input.len() {
                let together = left.min(AHEAD);
                self.coming.clear();
                let mut end = at;
                for _ in 0..together {
                    let Ok(Split::Whole(raw, length)) = decode::split(&input[end..]) else { break };
                    let Some(digest) = decode::digest_of(&raw) else { break };
                    let key = self.service.key(&TokenDigest::from_bytes(*digest));
                    let place = match decode::request(&raw).map(|envelope| envelope.request) {
                        Ok(Request::CheckNumbers { place, .. }) => Some(place),
                        _ => None,
                    };
                    self.coming.push(Coming { key, place });
                    end += length;
                }
                if look == Look::Ahead {
                    self.service.look_ahead(&pin, &self.coming);
                }
                for coming in self.coming.drain(..) {
                    let Ok(Split::Whole(raw, length)) = decode::split(&input[at..]) else { break };
                    at += length;
                    let Ok(envelope) = decode::request(&raw) else { break };
                    let Request::CheckNumbers { scope, place, .. } = envelope.request else { break };
                    let (scope, place) = (ScopeAsked::Position(scope), PlaceAsked::Number(place));
                    let decision = self.service.check(&pin, self.caller, coming.key, scope, place, NOW);
                    let outcome = match decision {
                        Ok(Decision::Allowed) => Outcome::Allowed,
                        Ok(Decision::Denied(denial)) => Outcome::Denied(denial),
                        Ok(Decision::Inactive(_)) | Err(_) => Outcome::Inactive,
                    };
                    active += u64::from(outcome != Outcome::Inactive);
                    encode::checked(&mut self.output, envelope.id, at_sequence, outcome);
                }
                left -= together;
            }
            black_box(&self.output);
        }
        active
    }
}

/// One thing that is measured: its name, and a round of it.
type Row<'r> = (String, Box<dyn FnMut(&Round) -> u64 + 'r>);

fn main() {
    let test = is_test();
    let asked = std::env::var("TOKENSCOPE_BENCH_TOKENS").ok().and_then(|tokens| tokens.parse().ok());
    let tokens: u64 = if test { 3_000 } else { asked.unwrap_or(1_000_000) };
    let (rounds, per_round) = if test { (1, 500) } else { (101, 6_000) };

    let pepper = pepper();
    let (index, writer, questions) = filled(SEED, tokens, NOW, &pepper);
    let listed = Listed::default();
    listed.pretend(writer.applied());
    let (service, _control) = service_over(index.clone(), writer, &listed);
    let grants = index.pin().grants();
    println!("{tokens} tokens, {grants} grants, {} bytes a token in the index", index.pin().bytes() / tokens);
    let caller = almighty();
    // Words of the command line choose rows by a part of their name.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut rows = maps(&questions, &index, &pepper);
    rows.extend(looks(&service, &caller));
    rows.extend(wholes(&service, &caller));

    rows.retain(|(name, _)| chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str())));

    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for round in 0..rounds {
        for (row, ((_, run), times)) in rows.iter_mut().zip(&mut times).enumerate() {
            // Each row asks about other tokens than the rows before it, which would leave theirs in the cache.
            let asked = Round::draw(&questions, round << 16 | row as u64, per_round);
            let begun = processor_time();
            black_box(run(&asked));
            times.push((processor_time() - begun) / per_round as f64);
        }
    }
    println!("{:52} {:>8} {:>8} {:>8}  nanoseconds of processor time a question", "", "quarter", "median", "3/4");
    for ((name, _), times) in rows.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let quartile = |quarter: usize| times[times.len() * quarter / 4];
        println!("{name:52} {:>8.1} {:>8.1} {:>8.1}", quartile(1), quartile(2), quartile(3));
    }
}

/// The index beside maps that hold the same keys and eight bytes for each, all asked one by one.
fn maps<'r>(questions: &'r [Question], index: &'r Index, pepper: &'r Pepper) -> Vec<Row<'r>> {
    // Made when they are first asked, so that nobody waits for rows that were not chosen.
    let keys = || questions.iter().zip(0u32..).map(|(question, n)| (pepper.key(&question.digest), (n, 7u32)));
    let dash: LazyCell<DashMap<TokenKey, (u32, u32)>, _> = LazyCell::new(move || keys().collect());
    let papaya: LazyCell<papaya::HashMap<TokenKey, (u32, u32)>, _> = LazyCell::new(move || keys().collect());
    let lines: LazyCell<Vec<[u64; 8]>, _> =
        LazyCell::new(move || (0..questions.len() as u64).map(|n| [n; 8]).collect());
    let each = |mut of: Box<dyn FnMut(TokenKey) -> u64 + 'r>| -> Box<dyn FnMut(&Round) -> u64 + 'r> {
        Box::new(move |round: &Round| round.known.iter().map(|question| of(pepper.key(&question.digest))).sum())
    };
    vec![
        ("make the key of a digest".into(), each(Box::new(|key| u64::from(key.words()[0])))),
        (
            "key, read a random cache line".into(),
            each(Box::new(move |key| lines[key.words()[0] as usize % lines.len()][0])),
        ),
        (
            "key, get from dashmap".into(),
            each(Box::new(move |key| dash.get(&key).map_or(0, |found| u64::from(found.0)))),
        ),
        (
            "key, get from papaya".into(),
            each(Box::new(move |key| papaya.pin().get(&key).map_or(0, |found| u64::from(found.0)))),
        ),
        (
            "key, find in the index".into(),
            each(Box::new(|key| index.pin().token(key).map_or(0, |token| u64::from(token.grant)))),
        ),
    ]
}

/// Whole introspections by the library's call, in batches.
fn looks<'r>(service: &'r Service, caller: &'r Caller) -> Vec<Row<'r>> {
    let introspect = |look: Look| {
        let mut scratch = Scratch::default();
        let mut coming = Vec::with_capacity(AHEAD);
        move |round: &Round| {
            let mut active = 0;
            for batch in round.known.chunks(AHEAD) {
                let pin = service.pin();
                coming.clear();
                coming.extend(batch.iter().map(|question| Coming { key: service.key(&question.digest), place: None }));
                if look == Look::Ahead {
                    service.look_ahead(&pin, &coming);
                }
                for question in &coming {
                    let answer = service.introspect(&pin, caller, question.key, None, NOW, &mut scratch);
                    active += u64::from(matches!(answer, Ok(Introspection::Active(_))));
                }
            }
            active
        }
    };
    vec![
        ("introspection, 64 at once, no look-ahead".into(), Box::new(introspect(Look::Not))),
        ("introspection, 64 at once, look-ahead".into(), Box::new(introspect(Look::Ahead))),
    ]
}

/// Whole checks from the bytes of a message to the bytes of its answer.
fn wholes<'r>(service: &'r Service, caller: &'r Caller) -> Vec<Row<'r>> {
    let mut rows: Vec<Row<'r>> = Vec::new();
    for is_known in [true, false] {
        for at_once in [1, 16, 64, 256] {
            for look in [Look::Not, Look::Ahead] {
                let what = if is_known { "known" } else { "unknown" };
                let how = if look == Look::Ahead { "look-ahead" } else { "no look-ahead" };
                let mut desk = Desk { service, caller, coming: Vec::new(), output: Vec::new() };
                let run = move |round: &Round| {
                    let bytes = if is_known { &round.known_bytes } else { &round.unknown_bytes };
                    desk.answer(bytes, at_once, look)
                };
                rows.push((format!("check, {what} token, {at_once} at once, {how}"), Box::new(run)));
            }
        }
    }
    rows
}
