//! What a question costs without a socket, and what a look into the index costs beside maps of many writers.
//!
//! `cargo bench --bench index` measures with a million tokens and then with ten; `TOKENSCOPE_BENCH_TOKENS=1M,100M` with as many
//! as it says. A hundred million take some 16 GiB, without the maps, which are left out above twenty. With `--test`
//! everything runs once, small, and no number means anything. Short rounds of all rows are interleaved, so that
//! a machine whose speed drifts slows all rows alike; only ratios are worth quoting. See `benches/README.md`.

use std::cell::LazyCell;
use std::hint::black_box;
use std::rc::Rc;

use dashmap::DashMap;
use tokenscope::domain::mint::TokenPrefix;
use tokenscope::domain::{Audience, Epoch, Pepper, Timestamp, TokenDigest, TokenKey};
use tokenscope::index::{self, Index};
use tokenscope::service::caller::Caller;
use tokenscope::service::{AHEAD, Coming, Decision, Introspection, Options, PlaceAsked, ScopeAsked, Scratch, Service};
use tokenscope::store;
use tokenscope::testing::filled::{Question, filled};
use tokenscope::testing::{Listed, almighty, feed_over, pepper};
use tokenscope::wire::message::Outcome;
use tokenscope::wire::{Request, Split, decode, encode};

// What benches have in common.
mod turns;
// A writer that works meanwhile.
mod writing;

use turns::{is_test, processor_time};
use writing::Writing;

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);
const SEED: u64 = 1;

/// Tokens that are measured with, unless others are asked for.
const SIZES: [u64; 2] = [1_000_000, 10_000_000];

/// Above this many tokens there is no memory for the maps of others on an ordinary machine.
const MAPS_MAX: u64 = 20_000_000;

fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// What one round asks: tokens that are known and tokens that are not, as keys' digests and as the bytes of messages.
struct Round {
    known: Vec<Question>,
    unknown: Vec<TokenDigest>,
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
                let (digest, scope, place) = (salted(*digest, salt), *scope, *place);
                let request = Request::CheckNumbers { digest, scope, place };
                let envelope = tokenscope::wire::Envelope { id: 1, least: None, request };
                encode::request(&mut bytes, &envelope).expect("short");
            }
            bytes
        };
        let (known_bytes, unknown_bytes) = (bytes(0), bytes(1));
        let unknown = known.iter().map(|it| salted(it.digest, 1)).collect();
        Self { known, unknown, known_bytes, unknown_bytes }
    }

    fn digests(&self, is_known: bool) -> impl Iterator<Item = TokenDigest> {
        let (known, unknown): (&[Question], &[TokenDigest]) =
            if is_known { (&self.known, &[]) } else { (&[], &self.unknown) };
        known.iter().map(|it| it.digest).chain(unknown.iter().copied())
    }
}

/// Another digest, unless `salt` is nothing: one that nobody knows.
fn salted(digest: TokenDigest, salt: u8) -> TokenDigest {
    let mut bytes = *digest.as_bytes();
    bytes[0] ^= salt;
    TokenDigest::from_bytes(bytes)
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

/// One thing that is measured: its name, and a round of it, which says how long it took if not all of it is to be counted.
type Row<'r> = (String, Run<'r>);

/// A round of a row.
type Run<'r> = Box<dyn FnMut(&Round) -> Option<f64> + 'r>;

fn main() {
    if is_test() {
        return measure(3_000, 1, 500);
    }
    let sizes: Vec<u64> = match std::env::var("TOKENSCOPE_BENCH_TOKENS") {
        Ok(text) => text.split(',').map(|it| tokens(it).unwrap_or_else(|| panic!("{it:?}: write 1M,10M"))).collect(),
        Err(_) => SIZES.to_vec(),
    };
    sizes.into_iter().for_each(|tokens| measure(tokens, 101, 6_000));
}

/// `1000000`, `1M`, `100k`.
fn tokens(text: &str) -> Option<u64> {
    let (digits, factor) = match text.trim().char_indices().last()? {
        (at, 'M') => (&text.trim()[..at], 1_000_000),
        (at, 'k') => (&text.trim()[..at], 1_000),
        _ => (text.trim(), 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|tokens| (1..=1_000_000_000).contains(tokens))
}

fn measure(tokens: u64, rounds: u64, per_round: u64) {
    let pepper = pepper();
    let (index, writer, questions) = filled(SEED, tokens, NOW, &pepper);
    let listed = Listed::default();
    listed.pretend(writer.applied());
    let (service, _control, writing) = served(&index, writer, &listed);
    let grants = index.pin().grants();
    println!("{tokens} tokens, {grants} grants, {} bytes a token in the index", index.pin().bytes() / tokens);
    let caller = almighty();
    // Words of the command line choose rows by a part of their name.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut rows = Vec::new();
    if tokens <= MAPS_MAX {
        rows.extend(maps(&questions, &pepper));
    } else {
        println!("more than {MAPS_MAX} tokens: dashmap and papaya are left out, for the memory they take");
    }
    rows.extend(finds(&index, &pepper));
    rows.extend(looks(&service, &caller));
    rows.extend(wholes(&service, &caller));
    rows.extend(beside_a_writer(&index, &pepper, &service, &caller, &writing));
    rows.retain(|(name, _)| chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str())));

    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for round in 0..rounds {
        for (row, ((_, run), times)) in rows.iter_mut().zip(&mut times).enumerate() {
            // Each row asks about other tokens than the rows before it, which would leave theirs in the cache.
            let asked = Round::draw(&questions, round << 16 | row as u64, per_round);
            // A round that waits for its writer says itself how long it took.
            let begun = processor_time();
            let took = run(&asked).unwrap_or_else(|| processor_time() - begun);
            times.push(took / per_round as f64);
        }
    }
    println!("{:60} {:>8} {:>8} {:>8}  nanoseconds of processor time a question", "", "quarter", "median", "3/4");
    for ((name, _), times) in rows.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let quartile = |quarter: usize| times[times.len() * quarter / 4];
        println!("{name:60} {:>8.1} {:>8.1} {:>8.1}", quartile(1), quartile(2), quartile(3));
    }
    println!("{} changes were made meanwhile\n", writing.made());
}

/// A service over the index, and a writer that works when it is asked to.
fn served(index: &Index, writer: index::Writer, listed: &Listed) -> (Service, store::Control, Writing) {
    let (committer, control) =
        store::start(writer, Box::new(listed.clone()), feed_over(listed), store::Limits::default());
    let options = Options {
        default_audience: vec![Audience::parse("https://api.example").expect("an audience")],
        prefix: TokenPrefix::parse("tks").expect("a prefix"),
    };
    let writing = Writing::start(committer.clone(), pepper(), index.pin().grants(), NOW);
    (Service::new(index.clone(), committer, Epoch(1), pepper(), options), control, writing)
}

/// A row that looks up one token after the other, known ones or others.
fn each<'r>(is_known: bool, pepper: &'r Pepper, mut of: impl FnMut(TokenKey) -> u64 + 'r) -> Run<'r> {
    Box::new(move |round: &Round| {
        let found: u64 = round.digests(is_known).map(|digest| of(pepper.key(&digest))).sum();
        black_box(found);
        None
    })
}

/// Maps of others that hold the same keys and eight bytes for each.
fn maps<'r>(questions: &'r [Question], pepper: &'r Pepper) -> Vec<Row<'r>> {
    // Made when they are first asked, so that nobody waits for rows that were not chosen.
    let keys = move || questions.iter().zip(0u32..).map(|(question, n)| (pepper.key(&question.digest), (n, 7u32)));
    type Dash = DashMap<TokenKey, (u32, u32)>;
    type Papaya = papaya::HashMap<TokenKey, (u32, u32)>;
    let dash: Rc<LazyCell<Dash, _>> = Rc::new(LazyCell::new(move || keys().collect()));
    let papaya: Rc<LazyCell<Papaya, _>> = Rc::new(LazyCell::new(move || keys().collect()));
    let mut rows: Vec<Row<'r>> = Vec::new();
    for (is_known, which) in [(true, ""), (false, ", unknown")] {
        let dash = dash.clone();
        let get = move |key| dash.get(&key).map_or(0, |found| u64::from(found.0));
        rows.push((format!("key, get from dashmap{which}"), each(is_known, pepper, get)));
        let papaya = papaya.clone();
        let get = move |key| papaya.pin().get(&key).map_or(0, |found| u64::from(found.0));
        rows.push((format!("key, get from papaya{which}"), each(is_known, pepper, get)));
    }
    rows
}

/// The key alone, plain reads of as much memory as the index takes, and the index: one by one and 32 at once.
fn finds<'r>(index: &'r Index, pepper: &'r Pepper) -> Vec<Row<'r>> {
    let lines: LazyCell<Vec<[u64; 8]>, _> =
        LazyCell::new(move || (0..index.pin().bytes().div_ceil(64)).map(|n| [n; 8]).collect());
    let line = move |key: TokenKey| lines[key.words()[0] as usize % lines.len()][0];
    let mut rows: Vec<Row<'r>> = vec![
        ("make the key of a digest".into(), each(true, pepper, |key| u64::from(key.words()[0]))),
        ("key, read a random cache line".into(), each(true, pepper, line)),
    ];
    for (is_known, which) in [(true, ""), (false, ", unknown")] {
        rows.push((format!("key, find in the index{which}"), each(is_known, pepper, found_by(index))));
        rows.push((format!("key, find in the index, 32 at once{which}"), together(is_known, index, pepper)));
    }
    rows
}

fn found_by(index: &Index) -> impl FnMut(TokenKey) -> u64 {
    |key| index.pin().token(key).map_or(0, |token| u64::from(token.grant))
}

/// 32 tokens are asked of memory before the first of them is looked up.
fn together<'r>(is_known: bool, index: &'r Index, pepper: &'r Pepper) -> Run<'r> {
    let mut keys = Vec::with_capacity(index::AHEAD);
    Box::new(move |round: &Round| {
        let mut digests = round.digests(is_known);
        loop {
            keys.clear();
            keys.extend(digests.by_ref().take(index::AHEAD).map(|digest| pepper.key(&digest)));
            if keys.is_empty() {
                return None;
            }
            let pin = index.pin();
            pin.look_for(&keys);
            let found: u64 = keys.iter().map(|key| pin.token(*key).map_or(0, |it| u64::from(it.grant))).sum();
            black_box(found);
        }
    })
}

/// The same look-ups and checks while changes are made.
fn beside_a_writer<'r>(
    index: &'r Index,
    pepper: &'r Pepper,
    service: &'r Service,
    caller: &'r Caller,
    writing: &'r Writing,
) -> Vec<Row<'r>> {
    let mut rows: Vec<Row<'r>> = Vec::new();
    for (is_known, which) in [(true, ""), (false, ", unknown")] {
        rows.push((format!("key, find in the index{which}"), each(is_known, pepper, found_by(index))));
        rows.push((format!("key, find in the index, 32 at once{which}"), together(is_known, index, pepper)));
    }
    for is_known in [true, false] {
        rows.push(whole(service, caller, (is_known, 64, Look::Ahead)));
    }
    let beside = |(name, mut run): Row<'r>| -> Row<'r> {
        let run = move |round: &Round| {
            Some(writing.during(|| {
                let begun = processor_time();
                run(round);
                processor_time() - begun
            }))
        };
        (format!("{name}; 50,000 changes/s"), Box::new(run))
    };
    rows.into_iter().map(beside).collect()
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
            black_box(active);
            None
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
                rows.push(whole(service, caller, (is_known, at_once, look)));
            }
        }
    }
    rows
}

fn whole<'r>(service: &'r Service, caller: &'r Caller, (is_known, at_once, look): (bool, usize, Look)) -> Row<'r> {
    let what = if is_known { "known" } else { "unknown" };
    let how = if look == Look::Ahead { "look-ahead" } else { "no look-ahead" };
    let mut desk = Desk { service, caller, coming: Vec::new(), output: Vec::new() };
    let run = move |round: &Round| {
        let bytes = if is_known { &round.known_bytes } else { &round.unknown_bytes };
        let active = desk.answer(bytes, at_once, look);
        // A bench of misses that hits, or the other way round, would say nothing.
        assert!(is_known == (active > 0), "{active} of the tokens are active");
        None
    };
    (format!("check, {what} token, {at_once} at once, {how}"), Box::new(run))
}
