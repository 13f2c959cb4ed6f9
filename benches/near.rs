//! What an answer from the near-cache costs, beside a signature verification and beside a sharded-lock map.
//!
//! `cargo bench --bench near` measures with 10,000 tokens, `TOKENSCOPE_BENCH_TOKENS=100` with a hundred; with `--test` everything runs once, small, and no number means anything. Each row
//! is the median of interleaved rounds in one process; only the ratios are worth quoting. See `benches/README.md`.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use tokenscope::client::Decision;
use tokenscope::client::near::Standalone;
use tokenscope::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
use tokenscope::domain::{Expiry, ScopeMask, ScopePosition, Sequence, Timestamp, TokenDigest};

const SCOPES: [&str; 4] = ["tasks:read", "tasks:write", "projects:read", "projects:write"];
const PLACE: &str = "1579/4021";

/// What a cache in somebody's own code would hold.
struct Entry {
    expiry: Expiry,
    until: Instant,
    place: Box<str>,
    facts: PlaceFacts,
    pairs: Box<[PairFacts]>,
}

fn facts() -> (PlaceFacts, [PairFacts; 2]) {
    let member = MemberFacts { live: true, added: Sequence(1), removed: Sequence::ZERO };
    let place =
        PlaceFacts { workspace: member, project: Some(member), policy: PolicyFacts::NEW, client: ClientKind::App };
    let mut scopes = ScopeMask::EMPTY;
    (0..3).for_each(|position| scopes.insert(ScopePosition::new(position)));
    let pair = |covers| PairFacts { covers, since: Sequence(5), scopes };
    (place, [pair(Covers::Workspace), pair(Covers::Project)])
}

/// A row: what it is, and the median time of one, in nanoseconds.
struct Row {
    name: &'static str,
    rounds: Vec<f64>,
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let wished = std::env::var("TOKENSCOPE_BENCH_TOKENS").ok().and_then(|text| text.parse().ok());
    let (tokens, rounds, signatures) = if is_test { (64, 1, 4) } else { (wished.unwrap_or(10_000), 21, 400) };
    // Strings as the server mints them, in an order that no prefetcher guesses.
    let mut strings: Vec<String> = (0..tokens).map(|i| format!("tks_{:042}", i * 7_919 + 1)).collect();
    strings.sort_by_key(|text| *TokenDigest::of(text.as_bytes()).as_bytes());
    let digests: Vec<TokenDigest> = strings.iter().map(|text| TokenDigest::of(text.as_bytes())).collect();

    let (place, pairs) = facts();
    let near = Standalone::new(8 * tokens, &SCOPES);
    let map: DashMap<[u8; 32], Entry> = DashMap::new();
    let positions: HashMap<&str, ScopePosition> =
        SCOPES.iter().zip(0..).map(|(name, position)| (*name, ScopePosition::new(position))).collect();
    for digest in &digests {
        near.keep((*digest).into(), PLACE, place, &pairs);
        let entry = Entry {
            expiry: Expiry::At(Timestamp::from_raw(4_000_000_000)),
            until: Instant::now() + Duration::from_secs(86_400),
            place: PLACE.into(),
            facts: place,
            pairs: pairs.into(),
        };
        map.insert(*digest.as_bytes(), entry);
    }
    let through_map = |digest: &TokenDigest, scope: &str| {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let entry = map.get(digest.as_bytes())?;
        let in_time = Instant::now() < entry.until && !entry.expiry.has_passed(Timestamp::from_seconds(wall)?);
        let position = *positions.get(scope)?;
        (in_time && *entry.place == *PLACE).then(|| entry.facts.decide(position, entry.pairs.iter().copied()).is_ok())
    };

    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).expect("the key");
    // As long as the signed part of a small JWT.
    let message = [b'x'; 300];
    let signature = key.sign(&random, &message).expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref());

    let verify = || public.verify(black_box(&message), signature.as_ref()).expect("it verifies");
    let mut hashed = |at: usize| {
        black_box(TokenDigest::of(strings[at].as_bytes()));
    };
    let allowed = Some(Decision::Allowed);
    let mut hit = |at: usize| assert_eq!(near.held(black_box(strings[at].as_str()), "tasks:write", PLACE), allowed);
    let mut hit_digest = |at: usize| assert_eq!(near.held(black_box(digests[at]), "tasks:write", PLACE), allowed);
    let mut mapped =
        |at: usize| assert_eq!(through_map(&TokenDigest::of(strings[at].as_bytes()), "tasks:write"), Some(true));
    let mut mapped_digest = |at: usize| assert_eq!(through_map(black_box(&digests[at]), "tasks:write"), Some(true));

    let mut rows: [Row; 6] = [
        "verify an ES256 signature (ring)",
        "SHA-256 of the token alone",
        "near-cache hit, token in",
        "near-cache hit, digest in hand",
        "DashMap hit, token in",
        "DashMap hit, digest in hand",
    ]
    .map(|name| Row { name, rounds: Vec::new() });
    for _ in 0..rounds {
        let times = [
            timed(signatures, &mut |_| verify()),
            timed(tokens, &mut hashed),
            timed(tokens, &mut hit),
            timed(tokens, &mut hit_digest),
            timed(tokens, &mut mapped),
            timed(tokens, &mut mapped_digest),
        ];
        rows.iter_mut().zip(times).for_each(|(row, time)| row.rounds.push(time));
    }
    let medians: Vec<f64> = rows.iter_mut().map(median).collect();
    for (row, median) in rows.iter().zip(&medians) {
        let (least, most) = (row.rounds[0], row.rounds[row.rounds.len() - 1]);
        println!("{:<36} {median:>10.1} ns   ({least:.1} to {most:.1})", row.name);
    }
    println!();
    for (what, a, b) in [
        ("signature verification / near-cache hit, token in", medians[0], medians[2]),
        ("signature verification / near-cache hit, digest in hand", medians[0], medians[3]),
        ("near-cache hit / DashMap hit, token in", medians[2], medians[4]),
        ("near-cache hit / DashMap hit, digest in hand", medians[3], medians[5]),
    ] {
        println!("{what:<60} {:>8.2}", a / b);
    }
    if is_test {
        println!("(--test: these numbers mean nothing)");
    }
}

/// Nanoseconds for one of `count`.
fn timed(count: usize, one: &mut dyn FnMut(usize)) -> f64 {
    let began = Instant::now();
    (0..count).for_each(&mut *one);
    began.elapsed().as_secs_f64() * 1e9 / count as f64
}

fn median(row: &mut Row) -> f64 {
    row.rounds.sort_by(f64::total_cmp);
    row.rounds[row.rounds.len() / 2]
}
