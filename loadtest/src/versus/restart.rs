//! Ours and Redis, ended and started again with the same tokens: how long until the first right answer, how long until
//! everything was looked through, and what each takes in memory then.
//!
//! Ours is served by `serve` at addresses that stay, so that it can be asked from its first moment on: over HTTPS, since a TCP
//! port that nobody listens at says so at once, and again and again until an answer is the right one. Whether everything
//! is verified is what its own `/readyz` says. Redis has one moment for both: it answers when it has loaded everything.
//! Nothing was ever changed in either but what filling did, and nothing is asked before memory is looked at but the one
//! question; so the bytes are those of the tokens and of the process.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::goals::{Found, Row, Unit, found};
use super::peers::{Peers, Who};
use super::{extremes, median};
use crate::driver::Codec;
use crate::driver::http1::Http1;
use crate::driver::redis::{self, value_of};
use crate::driver::tcp::Tcp;
use crate::population::Token;
use crate::process::resident_of;
use crate::question::{Ask, Expect, Judgement, Question, Verdict, judge, mark};
use crate::run::{now, population};
use crate::server::{Kept, Start};
use crate::show::{bytes, nanos, short};

/// How long Redis may take to know its keys again.
const WITHIN: Duration = Duration::from_secs(600);

/// Tokens of ours must outlive all rounds.
const LASTS: Duration = Duration::from_secs(3_600);

/// Between two tries to be answered. It is the coarsest part of what is timed.
const AGAIN: Duration = Duration::from_micros(500);

/// Tokens of the server that shows what a process takes with hardly any.
const HARDLY_ANY: u64 = 1_000;

/// What was found, round by round.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    /// Tokens in the data.
    pub tokens: u64,
    /// Keys in Redis: the tokens that are active.
    pub keys: u64,
    /// From starting our process to its first right answer, in nanoseconds.
    pub first: Vec<f64>,
    /// From starting it to "ready": everything is verified.
    pub verified: Vec<f64>,
    /// From starting Redis to its first right answer, which comes when everything is loaded.
    pub redis: Vec<f64>,
    /// Our resident bytes then.
    pub bytes: Vec<f64>,
    /// Resident bytes of a server with [`HARDLY_ANY`] tokens.
    pub hardly_any: Option<f64>,
    /// Redis' resident bytes then.
    pub redis_bytes: Vec<f64>,
}

/// Restarts both, in turn, and leaves both ended. `start` says where our data is; it is filled if it is not there.
///
/// # Errors
/// One of them does not come back, or does not know what it knew.
pub fn measure(start: &Start, peers: &mut Peers, rounds: usize) -> Result<Restarts, String> {
    eprintln!("ended and started again, {} tokens", short(start.tokens as f64));
    let mut found = Restarts { tokens: start.tokens, hardly_any: Some(hardly_any(start)?), ..Restarts::default() };
    let kept = Kept::fill(start, tokenscope::dev::setup::LIMITS)?;
    let all = population(&kept.target, LASTS, now()?);
    let token = *all.hits.first().ok_or("no token to ask about")?;
    found.tokens = all.total;
    let http = Http1::of_ours(&kept.target, &all)?;
    if peers.has(Who::Redis) {
        peers.redis_filled(&all, start.core)?;
        found.keys = peers.redis_keys();
    }
    // The first start reads the journal of the whole import too; from the second snapshot on it is short, as it is in service.
    drop(kept.serve()?);
    for round in 1..=rounds {
        eprintln!("restart {round} of {rounds}");
        let one = restart_ours(&kept, &http, &token)?;
        found.first.push(one.first);
        found.verified.push(one.verified);
        found.bytes.extend(one.bytes);
        if peers.has(Who::Redis) {
            found.redis.push(restart_redis(peers, start.core, &token.digest)?);
            found.redis_bytes.extend(peers.pid(Who::Redis).and_then(resident_of).map(|it| it as f64));
        }
    }
    Ok(found)
}

/// What the process takes when it has nearly nothing.
fn hardly_any(like: &Start) -> Result<f64, String> {
    let directory = like.directory.with_file_name("ours-hardly-any");
    let kept = Kept::fill(&Start { directory, tokens: HARDLY_ANY, ..like.clone() }, tokenscope::dev::setup::LIMITS)?;
    let server = kept.serve()?;
    resident_of(server.pid()).map(|it| it as f64).ok_or_else(|| "memory was not seen".to_owned())
}

/// One restart of ours.
struct One {
    first: f64,
    verified: f64,
    bytes: Option<f64>,
}

fn restart_ours(kept: &Kept, http: &Http1, token: &Token) -> Result<One, String> {
    let within = kept.within();
    let began = Instant::now();
    let mut spawned = kept.spawn()?;
    let (verified, first) = std::thread::scope(|scope| {
        // Both are asked for all the time: which of them is there first is the server's to decide.
        let verified = scope.spawn(|| {
            spawned.wait_for(within, &kept.log(), || kept.is_ready())?;
            Ok::<_, String>(began.elapsed().as_nanos() as f64)
        });
        let first = crate::runtime().and_then(|runtime| runtime.block_on(first_answer(http, token, began, within)));
        let verified = verified.join().unwrap_or_else(|_| Err("the one who waits for ready panicked".to_owned()));
        (verified, first)
    });
    let (verified, first) = (verified?, first?);
    Ok(One { first, verified, bytes: resident_of(spawned.pid()).map(|it| it as f64) })
}

/// Asks until the answer is right; how long that took since `began`, in nanoseconds.
async fn first_answer(http: &Http1, token: &Token, began: Instant, within: Duration) -> Result<f64, String> {
    let expect =
        Expect { verdict: Verdict::Active, expiry: token.expiry, owner: token.owner, mark: mark(&token.digest) };
    let question = Question { digest: token.digest, origin: token.origin(), ask: Ask::Introspect, expect };
    let mut last = "nobody listened".to_owned();
    while began.elapsed() < within {
        match ask_once(http, question).await {
            Ok(Judgement::Right) => return Ok(began.elapsed().as_nanos() as f64),
            Ok(Judgement::Wrong) => return Err("our server forgot a token over its restart".to_owned()),
            // It says that it is not ready yet.
            Ok(Judgement::NoVerdict(why)) => last = why.to_string(),
            Err(why) => last = why,
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(format!("our server does not answer after {} s: {last}", within.as_secs()))
}

async fn ask_once(http: &Http1, question: Question) -> Result<Judgement, String> {
    let (mut reader, mut writer) = http.tcp.connect().await?;
    let failed = |error: std::io::Error| error.to_string();
    let mut codec = http.codec();
    let mut request = Vec::new();
    codec.ask(&[(0, question)], &mut request);
    writer.write_all(&request).await.map_err(failed)?;
    writer.flush().await.map_err(failed)?;
    let (mut input, mut answers) = (Vec::new(), Vec::new());
    loop {
        if reader.read_buf(&mut input).await.map_err(failed)? == 0 {
            return Err("the server ended the connection".to_owned());
        }
        codec.take(&input, &mut answers)?;
        if let Some((_, said)) = answers.first() {
            return Ok(judge(&question.expect, *said));
        }
    }
}

fn restart_redis(peers: &mut Peers, core: Option<usize>, digest: &[u8; 32]) -> Result<f64, String> {
    let runtime = crate::runtime()?;
    let tcp = peers.at(Who::Redis).ok_or("Redis is gone")?;
    runtime.block_on(async {
        let (mut reader, mut writer) = tcp.connect().await?;
        writer.write_all(b"SHUTDOWN SAVE\r\n").await.map_err(|error| error.to_string())?;
        // It closes the connection when everything is on disk.
        let mut said = Vec::new();
        let _ = tokio::time::timeout(WITHIN, reader.read_to_end(&mut said)).await;
        if said.is_empty() { Ok(()) } else { Err(format!("Redis: {}", String::from_utf8_lossy(&said))) }
    })?;
    peers.redis_ends();
    let began = Instant::now();
    peers.redis_again(core)?;
    let tcp = peers.at(Who::Redis).ok_or("Redis is gone")?;
    runtime.block_on(until_known(&tcp, digest, began))
}

/// Asks until the value is there; how long that took since `began`, in nanoseconds.
async fn until_known(tcp: &Tcp, digest: &[u8; 32], began: Instant) -> Result<f64, String> {
    let (mut reader, mut writer) = tcp.connect().await?;
    let failed = |error: std::io::Error| format!("Redis: {error}");
    let mut question = Vec::new();
    redis::get(digest, &mut question);
    let value = value_of(digest);
    let mut answer = vec![0; 1024];
    while began.elapsed() < WITHIN {
        writer.write_all(&question).await.map_err(failed)?;
        let read = reader.read(&mut answer).await.map_err(failed)?;
        let text = answer.get(..read).unwrap_or_default();
        if text.windows(value.len()).any(|part| part == value) {
            return Ok(began.elapsed().as_nanos() as f64);
        }
        if !text.starts_with(b"-LOADING") {
            return Err(format!("Redis forgot a key over its restart: {:?}", String::from_utf8_lossy(text)));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(format!("Redis is still loading after {} s", WITHIN.as_secs()))
}

/// Rows P10 and P11. `redis` says how to install what is missing.
pub fn rows(restarts: &Result<Restarts, String>, redis: Option<&String>) -> Vec<Row> {
    let tokens = restarts.as_ref().map_or(0, |it| it.tokens);
    let against = "redis, restarted from RDB";
    let of = |what: &str| format!("{what}, {} tokens", short(tokens as f64));
    let ratio = |pick: fn(&Restarts) -> &[f64]| {
        let restarts = restarts.as_ref().map_err(Clone::clone)?;
        if let Some(how) = redis {
            return Err(format!("redis is missing; {how}; ours took {}", nanos(median(pick(restarts)))));
        }
        let (ours, theirs) = (pick(restarts), &restarts.redis);
        let detail = format!("{} : {}", nanos(median(ours)), nanos(median(theirs)));
        found(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs), detail)
    };
    let first = of("start to the first right answer");
    let verified = of("start to everything verified (theirs: loaded)");
    let memory = of("resident bytes a token after a restart, process and all, before any change");
    vec![
        Row::new(("P10", against, &first), Some((1.0 / 200.0, 1.0 / 1_000.0)), ratio(|it| &it.first)),
        Row::new(("P10", against, &verified), Some((1.0 / 10.0, 1.0 / 30.0)), ratio(|it| &it.verified)),
        Row {
            unit: Unit::Bytes,
            ..Row::new(
                ("P11", "redis, the same tokens", &memory),
                Some((48.0, 36.0)),
                restarts.as_ref().map_err(Clone::clone).and_then(memory_of),
            )
        },
    ]
}

fn memory_of(restarts: &Restarts) -> Result<Found, String> {
    if restarts.bytes.is_empty() {
        return Err("memory was not seen".to_owned());
    }
    let each = |all: f64| all / restarts.tokens.max(1) as f64;
    let middle = median(&restarts.bytes);
    let mut detail = format!("{} in all", bytes(middle));
    if let Some(fixed) = restarts.hardly_any {
        let (fixed_bytes, rest) = (bytes(fixed), each((middle - fixed).max(0.0)));
        let few = short(HARDLY_ANY as f64);
        detail += &format!(", of which {fixed_bytes} are there with {few} tokens too: {rest:.1} B a token without it");
    }
    if let Some(theirs) = restarts.redis_bytes.first() {
        detail += &format!("; redis {:.0} B a key, {} keys", theirs / restarts.keys.max(1) as f64, restarts.keys);
    }
    let (low, high) = extremes(&restarts.bytes);
    Ok(Found { median: each(middle), low: each(low), high: each(high), detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_by_the_tokens_and_the_fixed_part_is_named() {
        let restarts = Restarts {
            tokens: 1_000_000,
            keys: 900_000,
            first: vec![1e9],
            verified: vec![2e9, 3e9],
            redis: vec![4e9, 6e9],
            bytes: vec![50e6, 60e6, 70e6],
            hardly_any: Some(20e6),
            redis_bytes: vec![90e6],
        };
        let rows = rows(&Ok(restarts), None);
        let figures: Vec<f64> = rows.iter().map(|row| row.found.as_ref().unwrap().median).collect();
        assert_eq!(figures, [0.25, 0.5, 60.0]);
        let memory = rows[2].found.as_ref().unwrap();
        assert_eq!((memory.low, memory.high), (50.0, 70.0));
        assert!(memory.detail.contains("40.0 B a token without it"), "{}", memory.detail);
        assert!(memory.detail.contains("redis 100 B a key"), "{}", memory.detail);
    }

    #[test]
    fn without_redis_the_rows_say_how_to_install_it_and_memory_is_there_all_the_same() {
        let restarts = Restarts { tokens: 10, first: vec![1e9], bytes: vec![1e3], ..Restarts::default() };
        let rows = rows(&Ok(restarts), Some(&"apt install redis-server".to_owned()));
        let why = rows[0].found.as_ref().unwrap_err();
        assert!(why.contains("apt install redis-server") && why.contains("1.00 s"), "{why}");
        assert_eq!(rows[2].found.as_ref().unwrap().median, 100.0);
    }
}
