//! More questions than the server can answer, about tokens nobody knows, from several callers at once; beside them a
//! caller with questions of its own, and one that revokes.
//!
//! The floods do not wait for answers: each fills every window it is given. Nothing is timed: what is asserted are counts.
//! `TOKENSCOPE_OVERLOAD=30` floods for thirty seconds (default 3).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quinn::{Connection, RecvStream, SendStream};
use tokenscope::client::{Client, Decision, Error, NewToken, Revoke, Token, Verdict};
use tokenscope::domain::{Expiry, GrantId, TokenDigest, TokenTimes};
use tokenscope::wire::message::{Answer, Envelope, ErrorCode, Outcome, Request};
use tokenscope::wire::{ALPN, STREAM_REQUESTS, Split, decode, encode};
use tokio::task::JoinSet;

use super::house::{House, PATIENCE, figure, now};
use super::native::{by_hand, options, runtime};
use super::neighbours::Neighbour;
use super::web::{base64, encoded, read};

/// Callers that flood, and what each of them has.
const FLOODERS: usize = 4;
const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;

/// Questions in one write of a flood.
const BATCH: u32 = 256;

/// Questions the good caller asks at once, as any client of the library may.
const GOOD_AT_ONCE: usize = 512;

/// Revocations that are made at least.
const REVOKED: u64 = 10;

/// The pause between two revocations.
const PAUSE: Duration = Duration::from_millis(10);

fn seconds() -> u64 {
    std::env::var("TOKENSCOPE_OVERLOAD").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// What a flood was answered.
#[derive(Default)]
struct Flood {
    sent: AtomicU64,
    inactive: AtomicU64,
    overloaded: AtomicU64,
    /// Anything else; that would be wrong.
    other: AtomicU64,
    /// Answered while the flood was on.
    during: AtomicU64,
}

impl Flood {
    fn answered(&self) -> u64 {
        self.inactive.load(Relaxed) + self.overloaded.load(Relaxed) + self.other.load(Relaxed)
    }
}

async fn pour(mut send: SendStream, flood: Arc<Flood>, over: Arc<AtomicBool>, mut state: u64) {
    send.write_all(&[STREAM_REQUESTS]).await.unwrap();
    let mut bytes = Vec::new();
    while !over.load(Relaxed) {
        bytes.clear();
        for id in 0..BATCH {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digest = TokenDigest::from_bytes(std::array::from_fn(|at| (state >> (at % 8 * 8)) as u8 ^ at as u8));
            let request = Request::CheckNames { digest, scope: "tasks:read", place: "1579" };
            encode::request(&mut bytes, &Envelope { id, least: None, request }).unwrap();
        }
        // In parts, so that it is known what is on its way; the last message of a part is whole.
        send.write_all(&bytes).await.unwrap();
        flood.sent.fetch_add(u64::from(BATCH), Relaxed);
    }
    send.finish().unwrap();
}

async fn count(mut receive: RecvStream, flood: Arc<Flood>, over: Arc<AtomicBool>) {
    let mut input = Vec::new();
    while let Some(chunk) = receive.read_chunk(64 << 10, true).await.unwrap() {
        input.extend_from_slice(&chunk.bytes);
        let mut at = 0;
        while let Ok(Split::Whole(raw, length)) = decode::split(&input[at..]) {
            at += length;
            let counter = match decode::answer(&raw).unwrap() {
                Answer::Hello(_) => continue,
                Answer::Checked { outcome: Outcome::Inactive, .. } => &flood.inactive,
                Answer::Error { code: ErrorCode::Overloaded, .. } => &flood.overloaded,
                other => {
                    eprintln!("a flood was answered {other:?}");
                    &flood.other
                }
            };
            counter.fetch_add(1, Relaxed);
            if !over.load(Relaxed) {
                flood.during.fetch_add(1, Relaxed);
            }
        }
        input.drain(..at);
    }
}

/// Floods until it is over, and then reads to the end of every stream.
fn flood(house: &House, who: &Neighbour, seed: u64, flood: &Arc<Flood>, over: &Arc<AtomicBool>) {
    runtime().block_on(async {
        let mut connections: Vec<(quinn::Endpoint, Connection)> = Vec::new();
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let (endpoint, connection) = by_hand(house, Some(who.paths()), ALPN).await.unwrap();
            for stream in 0..STREAMS {
                let (send, receive) = connection.open_bi().await.unwrap();
                let state = seed << 32 | (number * STREAMS + stream) as u64;
                tasks.spawn(pour(send, flood.clone(), over.clone(), state));
                tasks.spawn(count(receive, flood.clone(), over.clone()));
            }
            connections.push((endpoint, connection));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

/// Times, for printing.
#[derive(Default)]
struct Times(Mutex<Vec<Duration>>);

impl Times {
    fn add(&self, time: Duration) {
        self.0.lock().unwrap().push(time);
    }

    fn text(&self) -> String {
        let mut times = self.0.lock().unwrap();
        times.sort();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        format!("p50 {:.1} ms, p99 {:.1} ms, largest {:.1} ms", ms(at(50)), ms(at(99)), ms(times.last()))
    }
}

/// The caller whose questions are in order.
#[derive(Default)]
struct Good {
    answers: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
    alone: Times,
    batches: Times,
}

async fn ask(house: &House, good: &Good, over: &AtomicBool) {
    let [alone, many] = [options(house, "admin"), options(house, "operator")];
    let (alone, many) = (Client::connect(alone).await.unwrap(), Client::connect(many).await.unwrap());
    let token = house.token("jonas-time").token.clone();
    let one_by_one = async {
        while !over.load(Relaxed) {
            let began = Instant::now();
            match alone.check(&token, "tasks:read", "1579").await {
                Ok(Decision::Allowed) => good.alone.add(began.elapsed()),
                Ok(_) => drop(good.wrong.fetch_add(1, Relaxed)),
                Err(error) => drop((eprintln!("a good question: {error}"), good.failed.fetch_add(1, Relaxed))),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let as_many_as_it_gets = async {
        let questions: Vec<_> = (0..GOOD_AT_ONCE)
            .map(|number| {
                (Token::from(if number % 2 == 0 { token.as_str() } else { "nobody's" }), "tasks:read", "1579")
            })
            .collect();
        while !over.load(Relaxed) {
            let began = Instant::now();
            for (number, decision) in many.check_many(&questions).await.unwrap().into_iter().enumerate() {
                let expected = if number % 2 == 0 { Decision::Allowed } else { Decision::Inactive };
                let counter = match decision {
                    Ok(decision) if decision == expected => &good.answers,
                    Ok(_) => &good.wrong,
                    Err(_) => &good.failed,
                };
                counter.fetch_add(1, Relaxed);
            }
            good.batches.add(began.elapsed());
        }
    };
    tokio::join!(one_by_one, as_many_as_it_gets);
    tokio::join!(alone.close(), many.close());
}

#[derive(Default)]
struct Revoked {
    done: AtomicU64,
    failed: Mutex<Vec<Error>>,
    alive: AtomicU64,
    times: Times,
}

/// Registers a token, revokes it, and looks whether it is inactive then, again and again.
async fn revoke(house: &House, told: &Revoked, over: &AtomicBool) {
    let issuer = Client::connect(options(house, "issuer")).await.unwrap();
    let looks = Client::connect(options(house, "api")).await.unwrap();
    let mut number = 0;
    while !over.load(Relaxed) {
        number += 1;
        let token = format!("to be revoked {number} {:p}", told);
        let times = TokenTimes { issued: now(), not_before: now(), expiry: Expiry::Never };
        let grant = GrantId::new(1).unwrap();
        let new = NewToken { token: Token::from(&token), grant, times, confirmation: None, audience: None };
        issuer.register(&new).await.unwrap();
        let began = Instant::now();
        match issuer.revoke(Revoke::Token(Token::from(&token))).await {
            Ok(_) => {
                told.times.add(began.elapsed());
                told.done.fetch_add(1, Relaxed);
            }
            Err(error) => told.failed.lock().unwrap().push(error),
        }
        if !matches!(looks.introspect(&token).await, Ok(Verdict::Inactive)) {
            told.alive.fetch_add(1, Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
    issuer.close().await;
    looks.close().await;
}

/// Lets the good caller and the revoker go on until `enough`.
fn beside(house: &House, good: &Good, told: &Revoked, over: &AtomicBool, enough: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            runtime().block_on(async { tokio::join!(ask(house, good, over), revoke(house, told, over)) })
        });
        enough();
        over.store(true, Relaxed);
    });
}

#[test]
fn floods_of_unknown_tokens_starve_nobody_and_revocations_get_through() {
    let flooders: Vec<String> = (0..FLOODERS).map(|number| format!("flood-{number}")).collect();
    let rights = "ask = { audiences = \"all\", workspaces = \"all\" }";
    let callers: Vec<(&str, &str)> = flooders.iter().map(|name| (name.as_str(), rights)).collect();
    // On a machine that is busy with other things it may take seconds until a flood comes to write the rest of a message.
    let limits = "\n[limits]\nquic_connections_per_address = 1024\nwaiting_bytes_per_caller = \"512KiB\"\n\
                  quic_partial_message_deadline = \"1m\"\n";
    let (mut house, neighbours) = Neighbour::all(limits, &callers);
    house.start();
    let lasts = Duration::from_secs(seconds());

    let (idle, idle_told) = (Good::default(), Revoked::default());
    beside(&house, &idle, &idle_told, &AtomicBool::new(false), || std::thread::sleep(lasts));

    let floods: Vec<Arc<Flood>> = neighbours.iter().map(|_| Arc::default()).collect();
    let (good, told, over) = (Good::default(), Revoked::default(), Arc::new(AtomicBool::new(false)));
    let began = Instant::now();
    let mut lasted = lasts;
    std::thread::scope(|scope| {
        for (number, (who, counts)) in neighbours.iter().zip(&floods).enumerate() {
            let (house, over) = (&house, &over);
            scope.spawn(move || flood(house, who, number as u64 + 1, counts, over));
        }
        beside(&house, &good, &told, &over, || {
            // The measure is taken while all of them flood.
            while floods.iter().any(|flood| flood.answered() == 0) && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
            let flooded = Instant::now();
            std::thread::sleep(lasts);
            // A machine that is busy with other tests may need longer.
            let is_enough = || {
                let shed = floods.iter().any(|flood| flood.overloaded.load(Relaxed) > 0);
                shed && told.done.load(Relaxed) >= REVOKED
            };
            while !is_enough() && flooded.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
            lasted = flooded.elapsed();
        });
    });
    house.is_well("the floods");

    let sum = |of: fn(&Flood) -> &AtomicU64| floods.iter().map(|flood| of(flood).load(Relaxed)).sum::<u64>();
    let (sent, inactive) = (sum(|flood| &flood.sent), sum(|flood| &flood.inactive));
    let (shed, other) = (sum(|flood| &flood.overloaded), sum(|flood| &flood.other));
    let revoked = told.done.load(Relaxed);
    let failed = told.failed.lock().unwrap();
    let mean = floods.iter().map(|flood| flood.during.load(Relaxed)).sum::<u64>() / FLOODERS as u64;
    let answers = good.answers.load(Relaxed);
    let shares: Vec<f64> =
        floods.iter().map(|flood| flood.during.load(Relaxed)).chain([answers]).map(|it| it as f64).collect();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let jain = shares.iter().sum::<f64>().powi(2) / (shares.len() as f64 * squares);
    figure(&format!(
        "overload, {lasted:.1?}: {FLOODERS} callers with {CONNECTIONS} connections of {STREAMS} streams each sent {sent} \
         questions about unknown tokens: {inactive} answered inactive, {shed} shed as overloaded, {other} anything else\n\
         {:?} answered to each of them while it flooded; to a caller with one connection {answers}, wrong {}, failed {} (Jain's \
         index of the five {jain:.3})\n\
         its questions one by one: {}; in batches of {GOOD_AT_ONCE}: {}\n\
         without the floods: {}; in batches: {}\n\
         revocations: {revoked} of {} succeeded, active after that {}: {}\n\
         without the floods: {} of {}: {}",
        floods.iter().map(|flood| flood.during.load(Relaxed)).collect::<Vec<_>>(),
        good.wrong.load(Relaxed),
        good.failed.load(Relaxed),
        good.alone.text(),
        good.batches.text(),
        idle.alone.text(),
        idle.batches.text(),
        revoked as usize + failed.len(),
        told.alive.load(Relaxed),
        told.times.text(),
        idle_told.done.load(Relaxed),
        idle_told.done.load(Relaxed) as usize + idle_told.failed.lock().unwrap().len(),
        idle_told.times.text(),
    ));
    assert_eq!(other, 0, "a flood was told something else");
    assert_eq!(inactive + shed, sent, "each question has one answer");
    assert!(shed > 0, "nothing was shed: that was no overload");
    assert_eq!((good.wrong.load(Relaxed), good.failed.load(Relaxed)), (0, 0));
    assert!(failed.is_empty(), "{failed:?}");
    assert!(revoked >= REVOKED, "{revoked} revocations");
    assert_eq!(told.alive.load(Relaxed), 0, "revoked, and active");
    // It asks on one stream and waits for its answers, and each flood on 128 without waiting: without turns it got a
    // forty-fourth of what a flood got.
    assert!(answers >= mean / 16, "{answers} answers for the good caller, {mean} for each flood");
}

/// Over HTTPS each caller has a rate, and its revocations have one of their own.
#[test]
fn over_https_who_asks_too_often_is_told_when_to_ask_again_and_revokes_all_the_same() {
    let mut house = House::with("\n[limits]\nhttps_requests_per_second = 20\n");
    house.start();
    let (name, secret) = house.secret("admin");
    let basic = base64(format!("{name}:{secret}").as_bytes());
    let post = |path: &str, token: &str| {
        let body = format!("token={}", encoded(token));
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {basic}\r\ncontent-length: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        )
    };
    let (mut verdicts, mut throttled) = (0, 0);
    let mut stream = std::io::BufReader::new(house.web().open());
    let mut send = |request: &str| {
        std::io::Write::write_all(stream.get_mut(), request.as_bytes()).unwrap();
        read(&mut stream).unwrap()
    };
    for number in 0..2_000 {
        let answer = send(&post("/introspect", &format!("nobody's {number}")));
        match answer.status {
            200 => {
                assert_eq!(answer.text(), "{\"active\":false}");
                verdicts += 1;
            }
            429 => {
                let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=2).contains(&wait), "{answer:?}");
                assert!(!answer.text().contains("active"), "no verdict: {answer:?}");
                throttled += 1;
            }
            other => panic!("{other}: {answer:?}"),
        }
    }
    assert!(throttled > 100, "{throttled} of 2000 were throttled");
    // Another caller's bucket is full, and so is this one's for what takes rights away.
    let token = house.token("maria-time").token.clone();
    assert!(house.introspect(&token).text().contains("\"active\":true"));
    let answer = send(&post("/revoke", &token));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(house.introspect(&token).text(), "{\"active\":false}");
    figure(&format!(
        "over HTTPS, 20 a second allowed: 2000 questions at once, {verdicts} answered, {throttled} told 429 with a \
         Retry-After; a revocation of the same caller and a question of another went through"
    ));
}
