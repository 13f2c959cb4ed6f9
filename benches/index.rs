//! What a look into the index costs, beside a sharded-lock map and beside plain reads of the same memory.
//!
//! `cargo bench --bench index` measures with a million tokens; `TOKENSCOPE_BENCH_TOKENS=10000000` with ten. With `--test`
//! everything runs once, small, and no number means anything. Each row is the median of interleaved rounds, so that a
//! machine whose speed drifts slows all rows alike; only ratios are worth quoting. See `benches/README.md`.

use std::hint::black_box;
use std::time::Instant;

use dashmap::DashMap;
use tokenscope::domain::{
    Access, Audience, CallerId, Change, ClientId, Entry, Expiry, GrantId, NewGrant, NewToken, Pair, Pepper, Place,
    Reach, ScopeMask, ScopePosition, Sequence, SubjectId, Timestamp, TokenDigest, TokenKey, TokenTimes,
};
use tokenscope::index::{Index, Writer};
use tokenscope::service::{PlaceAsked, ScopeAsked, Scratch, Service};
use tokenscope::testing::{Listed, almighty, pepper, service_over};

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);
/// Tokens of one grant.
const PER_GRANT: u64 = 3;
/// Questions at hand at once, as a session has them.
const BATCH: usize = 64;

fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn digest(number: u64) -> TokenDigest {
    let mut bytes = [0; 32];
    for (chunk, salt) in bytes.chunks_exact_mut(8).zip(0..) {
        chunk.copy_from_slice(&mixed(number << 2 | salt).to_le_bytes());
    }
    TokenDigest::from_bytes(bytes)
}

struct Filling {
    writer: Writer,
    sequence: u64,
}

impl Filling {
    fn change(&mut self, change: Change) {
        self.sequence += 1;
        let by = CallerId::parse("bench").expect("an id");
        self.writer.apply(&Entry { sequence: Sequence(self.sequence), at: NOW, by, change });
    }
}

fn filled(tokens: u64, pepper: &Pepper) -> (Index, Writer) {
    let (index, writer) = tokenscope::index::new();
    let mut filling = Filling { writer, sequence: 0 };
    let client = ClientId::parse("app").expect("an id");
    let place = Place::parse("1579").expect("a place");
    filling.change(Change::RegisterClient(client.clone()));
    filling.change(Change::AddScope("tasks:read".into()));
    let mut scopes = ScopeMask::EMPTY;
    scopes.insert(ScopePosition::new(0));
    let audience = vec![Audience::parse("https://api.example").expect("an id")];
    for number in 0..tokens {
        let grant = (number / PER_GRANT) as u32 + 1;
        if number % PER_GRANT == 0 {
            let subject = SubjectId::parse(&format!("u{grant}")).expect("an id");
            filling.change(Change::AddMember(subject.clone(), place.clone()));
            filling.change(Change::MakeGrant(NewGrant {
                id: GrantId::new(grant).expect("a number"),
                subject,
                client: client.clone(),
                access: Access::new([Pair { reach: Reach::At(place.clone()), scopes }]).expect("not empty"),
                expiry: Expiry::Never,
                audience: audience.clone(),
            }));
        }
        filling.change(Change::RegisterToken(NewToken {
            key: pepper.key(&digest(number)),
            grant: GrantId::new(grant).expect("a number"),
            times: TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::At(NOW.plus(3_600)) },
            audience: None,
            confirmation: None,
            narrowed: None,
        }));
    }
    (index, filling.writer)
}

/// One thing that is measured: its name, and a round of it over these question numbers.
type Row<'r> = (&'static str, Box<dyn FnMut(&[u64]) -> u64 + 'r>);

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let asked = std::env::var("TOKENSCOPE_BENCH_TOKENS").ok().and_then(|tokens| tokens.parse().ok());
    let tokens: u64 = if test { 3_000 } else { asked.unwrap_or(1_000_000) };
    let (rounds, per_round) = if test { (1, 1_000) } else { (9, 400_000) };

    let pepper = pepper();
    let (index, writer) = filled(tokens, &pepper);
    let listed = Listed::default();
    let (service, _control) = service_without_list(index.clone(), writer, &listed);
    let map: DashMap<TokenKey, (u32, u32)> = (0..tokens).map(|n| (pepper.key(&digest(n)), (n as u32, 7))).collect();
    let lines: Vec<[u64; 8]> = (0..tokens).map(|n| [n; 8]).collect();
    let caller = almighty();

    let key = |number: u64| pepper.key(&digest(number));
    let mut rows: Vec<Row<'_>> = vec![
        ("make the key of a digest", Box::new(|asked| asked.iter().map(|n| u64::from(key(*n).words()[0])).sum())),
        ("read a random cache line", Box::new(|asked| asked.iter().map(|n| lines[(*n % tokens) as usize][0]).sum())),
        (
            "dashmap, key and get",
            Box::new(|asked| asked.iter().filter_map(|n| map.get(&key(*n)).map(|found| u64::from(found.0))).sum()),
        ),
        (
            "index, key and find, one by one",
            Box::new(|asked| {
                let found = |n: &u64| index.pin().token(key(*n)).map(|token| u64::from(token.grant));
                asked.iter().filter_map(found).sum()
            }),
        ),
        (
            "index, key and find, batches of 64",
            Box::new(|asked| {
                in_batches(asked, &service, |pin, key| pin.token(key).map_or(0, |token| u64::from(token.grant)))
            }),
        ),
        (
            "index, unknown tokens, batches of 64",
            Box::new(|asked| {
                let unknown: Vec<u64> = asked.iter().map(|n| n | 1 << 60).collect();
                in_batches(&unknown, &service, |pin, key| u64::from(pin.token(key).is_some()))
            }),
        ),
        (
            "whole check by numbers, batches of 64",
            Box::new(|asked| {
                let (scope, place) = (ScopeAsked::Position(ScopePosition::new(0)), PlaceAsked::Number(0));
                in_batches(asked, &service, |pin, key| {
                    u64::from(service.check(pin, &caller, key, scope, place, NOW).is_ok())
                })
            }),
        ),
        (
            "whole introspection, batches of 64",
            Box::new(|asked| {
                let mut scratch = Scratch::default();
                in_batches(asked, &service, |pin, key| {
                    u64::from(service.introspect(pin, &caller, key, None, NOW, &mut scratch).is_ok())
                })
            }),
        ),
    ];

    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for round in 0..rounds {
        let asked: Vec<u64> = (0..per_round).map(|n| mixed(round << 32 | n) % tokens).collect();
        for ((_, run), times) in rows.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            black_box(run(&asked));
            times.push(begun.elapsed().as_nanos() as f64 / per_round as f64);
        }
    }
    println!("{tokens} tokens, {} bytes each in the index; nanoseconds per question", index.pin().bytes() / tokens);
    println!("{:42} {:>8} {:>8} {:>8}", "", "median", "min", "max");
    for ((name, _), times) in rows.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!("{name:42} {:>8.1} {:>8.1} {:>8.1}", times[times.len() / 2], times[0], times[times.len() - 1]);
    }
}

/// The service over a filled index; its list is empty, so nothing can be changed through it.
fn service_without_list(index: Index, writer: Writer, listed: &Listed) -> (Service, tokenscope::store::Control) {
    listed.pretend(writer.applied());
    service_over(index, writer, listed)
}

fn in_batches(
    asked: &[u64],
    service: &Service,
    mut answer: impl FnMut(&tokenscope::index::Pin<'_>, TokenKey) -> u64,
) -> u64 {
    let mut sum = 0;
    let mut keys = Vec::with_capacity(BATCH);
    for batch in asked.chunks(BATCH) {
        let pin = service.pin();
        keys.clear();
        keys.extend(batch.iter().map(|number| service.key(&digest(*number))));
        service.prefetch(&pin, &keys);
        sum += keys.iter().map(|key| answer(&pin, *key)).sum::<u64>();
    }
    sum
}
