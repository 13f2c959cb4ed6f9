//! Look-ups without a socket: our index beside maps of others and beside plain reads of as much memory.
//!
//! Everything is held by a child of this process, pinned to the servers' core, which ends when it has said what it found:
//! so gigabytes of maps take nothing from what is measured afterwards. Each kind of look-up has its own random keys in
//! every round (with the same ones it would find in the cache what another one fetched), the kinds take turns, and
//! what counts is the processor time of the one thread that looks. Every look-up's grant is compared with what it
//! has to be; one that differs fails the whole.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokenscope::domain::{Timestamp, TokenKey};
use tokenscope::index::{AHEAD, Index};
use tokenscope::samples::random::Random;
use tokenscope::testing::filled::filled;
use tokenscope::testing::pepper;

use super::goals::{Row, found};
use super::median;
use crate::process::{pin_thread, thread_cpu};
use crate::show::{bytes, nanos, short};

/// The hidden word this executable knows the child by.
pub const VERB: &str = "look-ups";

/// Look-ups of one kind in one round.
const LOOKS: usize = 200_000;

/// How long the child may take, at least and for each million tokens.
const WITHIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30));

/// The moment of the sample data: look-ups do not care.
const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);

const ONE: &str = "index, one by one";
const AHEAD_ROW: &str = "index, 32 at once";
const DASHMAP: &str = "dashmap";
const DASHMAP_BARE: &str = "dashmap, key taken as hash";
const PAPAYA: &str = "papaya";
const PAPAYA_BARE: &str = "papaya, key taken as hash";
const RAW: &str = "plain reads of 64-byte lines";

/// What was found: nanoseconds of processor time for each look-up, round by round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Looked {
    /// Tokens in each of them.
    pub tokens: u64,
    /// Bytes of the whole index; as many are read by the plain reads.
    pub index_bytes: u64,
    /// By kind.
    pub nanos: BTreeMap<String, Vec<f64>>,
}

/// What a look-up is for: a key, and the grant that has to be found under it.
type Asked = (TokenKey, u32);

/// Looks in a child of its own.
///
/// # Errors
/// The child fails, takes too long, or finds something wrong.
pub fn measure(tokens: u64, rounds: usize, core: Option<usize>) -> Result<Looked, String> {
    eprintln!("look-ups beside maps of others, {} tokens", short(tokens as f64));
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(VERB).arg("--tokens").arg(tokens.to_string()).arg("--rounds").arg(rounds.to_string());
    if let Some(core) = core {
        command.arg("--core").arg(core.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start the look-ups: {error}"))?;
    let within = WITHIN.0 + WITHIN.1 * u32::try_from(tokens / 1_000_000).unwrap_or(u32::MAX);
    let began = Instant::now();
    // What it says fits into the pipe: a few hundred numbers.
    while matches!(child.try_wait(), Ok(None)) {
        if began.elapsed() > within {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("the look-ups were not done after {} s", within.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().map_err(|error| format!("the look-ups: {error}"))?;
    if !output.status.success() {
        return Err(format!("the look-ups failed ({})", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the look-ups said nothing sensible: {error}"))
}

/// The child: fills, looks, prints JSON.
///
/// # Errors
/// A look-up found something else than it had to, or there is nowhere to print to.
pub fn child(tokens: u64, rounds: u16, core: Option<usize>) -> Result<u8, String> {
    core.map_or(Ok(()), pin_thread)?;
    let looked = look(tokens, usize::from(rounds))?;
    let text = serde_json::to_string(&looked).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())?;
    Ok(0)
}

/// A kind of look-up: its name, and a round of it, which says how many grants were not what they had to be.
type Kind<'k> = (&'static str, Box<dyn FnMut(&[Asked]) -> u64 + 'k>);

fn look(tokens: u64, rounds: usize) -> Result<Looked, String> {
    let began = Instant::now();
    let said = |what: &str| eprintln!("{:>6.1} s  {what}", began.elapsed().as_secs_f64());
    let pepper = pepper();
    let (index, _writer, questions) = filled(1, tokens, NOW, &pepper);
    let all: Vec<Asked> = questions.iter().map(|it| (pepper.key(&it.digest), it.grant)).collect();
    drop(questions);
    let index_bytes = index.pin().bytes();
    said("index filled");
    let entries = || all.iter().zip(0_u32..).map(|((key, grant), number)| (*key, (*grant, number)));
    let dash: DashMap<TokenKey, (u32, u32)> = entries().collect();
    let dash_bare: DashMap<TokenKey, (u32, u32), AsItIs> = entries().collect();
    said("dashmap filled");
    let papaya: papaya::HashMap<TokenKey, (u32, u32)> = entries().collect();
    let papaya_bare: papaya::HashMap<TokenKey, (u32, u32), AsItIs> = entries().collect();
    said("papaya filled");
    let lines = index_bytes.div_ceil(64).max(1);
    let arena: Vec<[u64; 8]> = (0..lines).map(|number| [number; 8]).collect();
    let mut kinds: Vec<Kind<'_>> = vec![
        (ONE, Box::new(|asked| each(asked, |key| index.pin().token(key).map_or(0, |token| token.grant)))),
        (AHEAD_ROW, Box::new(|asked| ahead(&index, asked))),
        (DASHMAP, Box::new(|asked| each(asked, |key| dash.get(&key).map_or(0, |it| it.0)))),
        (DASHMAP_BARE, Box::new(|asked| each(asked, |key| dash_bare.get(&key).map_or(0, |it| it.0)))),
        (PAPAYA, Box::new(|asked| in_papaya(&papaya, asked))),
        (PAPAYA_BARE, Box::new(|asked| in_papaya(&papaya_bare, asked))),
        (RAW, Box::new(|asked| raw(&arena, asked))),
    ];
    let mut looked = Looked { tokens, index_bytes, nanos: BTreeMap::new() };
    let mut random = Random::new(1);
    for _ in 0..rounds {
        for (name, look) in &mut kinds {
            let asked: Vec<Asked> =
                (0..LOOKS).filter_map(|_| all.get(random.below(all.len() as u64) as usize).copied()).collect();
            let begun = thread_cpu();
            let wrong = look(&asked);
            let took = thread_cpu() - begun;
            if wrong > 0 {
                return Err(format!("{name}: {wrong} of {LOOKS} look-ups found something else than they had to"));
            }
            looked.nanos.entry((*name).to_owned()).or_default().push(took.as_nanos() as f64 / asked.len() as f64);
        }
    }
    said("looked");
    Ok(looked)
}

fn each(asked: &[Asked], grant_of: impl Fn(TokenKey) -> u32) -> u64 {
    asked.iter().map(|(key, grant)| u64::from(grant_of(*key) != *grant)).sum()
}

/// 32 tokens are asked of memory before the first of them is looked up.
fn ahead(index: &Index, asked: &[Asked]) -> u64 {
    let mut wrong = 0;
    let mut keys = Vec::with_capacity(AHEAD);
    for together in asked.chunks(AHEAD) {
        let pin = index.pin();
        keys.clear();
        keys.extend(together.iter().map(|(key, _)| *key));
        pin.look_for(&keys);
        wrong += each(together, |key| pin.token(key).map_or(0, |token| token.grant));
    }
    wrong
}

/// Pinned once for 32, as ours is.
fn in_papaya<S: BuildHasher>(map: &papaya::HashMap<TokenKey, (u32, u32), S>, asked: &[Asked]) -> u64 {
    let mut wrong = 0;
    for together in asked.chunks(AHEAD) {
        let map = map.pin();
        wrong += each(together, |key| map.get(&key).map_or(0, |it| it.0));
    }
    wrong
}

/// One read each from a line that the key chooses, none waiting for another.
fn raw(arena: &[[u64; 8]], asked: &[Asked]) -> u64 {
    let lines = arena.len() as u64;
    let mut wrong = 0;
    for (key, _) in asked {
        let [a, b, ..] = key.words();
        let line = (u64::from(a) << 32 | u64::from(b)) % lines;
        // A line holds its own number.
        wrong += u64::from(arena.get(line as usize).is_none_or(|it| black_box(it)[0] != line));
    }
    wrong
}

/// Takes the first eight bytes of a key as its hash: keys are hashes already.
#[derive(Clone, Default)]
struct First(u64);

type AsItIs = BuildHasherDefault<First>;

impl Hasher for First {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length that Rust writes before an array's bytes says nothing here.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Rows P8 and P9.
pub fn rows(looked: &Result<Looked, String>) -> Vec<Row> {
    let row = |goal: &str, against: &str, what: &str, (ours, theirs): (&str, &str), goals: (f64, f64)| {
        let found = looked.as_ref().map_err(Clone::clone).and_then(|looked| ratio(looked, ours, theirs));
        Row::new((goal, against, what), Some(goals), found)
    };
    let tokens = looked.as_ref().map_or(0, |it| it.tokens);
    let of = |what: &str| format!("look-ups per CPU-second, {} tokens, {what}", short(tokens as f64));
    let p8 = (2.5, 5.0);
    let memory = looked.as_ref().map_or(0, |it| it.index_bytes);
    let reads = format!("ours 32 at once; a random 64-byte line of {} each", bytes(memory as f64));
    vec![
        row("P8", "DashMap, as it comes", &of("one by one"), (ONE, DASHMAP), p8),
        row("P8", "DashMap, as it comes", &of("ours 32 at once"), (AHEAD_ROW, DASHMAP), p8),
        row("P8", "papaya, as it comes", &of("one by one"), (ONE, PAPAYA), p8),
        row("P8", "papaya, as it comes", &of("ours 32 at once"), (AHEAD_ROW, PAPAYA), p8),
        row("P8", "DashMap that does not hash", &of("ours 32 at once"), (AHEAD_ROW, DASHMAP_BARE), p8),
        row("P8", "papaya that does not hash", &of("ours 32 at once"), (AHEAD_ROW, PAPAYA_BARE), p8),
        row("P9", "plain reads of as much memory", &of(&reads), (AHEAD_ROW, RAW), (0.6, 0.8)),
    ]
}

/// Look-ups of ours for each of theirs in the same time, round by round.
fn ratio(looked: &Looked, ours: &str, theirs: &str) -> Result<super::goals::Found, String> {
    let of = |name: &str| looked.nanos.get(name).ok_or_else(|| format!("{name} was not measured"));
    let (ours, theirs) = (of(ours)?, of(theirs)?);
    let detail = format!("{} : {} each", nanos(median(ours)), nanos(median(theirs)));
    found(ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours), detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_finds_every_token_and_a_wrong_grant_is_found_out() {
        let looked = look(500, 2).unwrap();
        assert_eq!(looked.nanos.len(), 7);
        assert!(looked.nanos.values().all(|rounds| rounds.len() == 2));
        let rows = rows(&Ok(looked));
        assert!(rows.iter().all(|row| row.found.is_ok()), "{rows:?}");
        assert_eq!(each(&[(TokenKey::from_bytes([1; 16]), 7)], |_| 8), 1);
    }

    #[test]
    fn a_key_is_its_own_hash() {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&77_u64.to_le_bytes());
        assert_eq!(AsItIs::default().hash_one(TokenKey::from_bytes(key)), 77);
    }
}
