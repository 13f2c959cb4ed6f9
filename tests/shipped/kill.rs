//! `kill -9` while changes pour in: a ledger on the client's side knows what was acknowledged, and every restart has to
//! know it too; so does the restart after it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokenscope::client::{Client, NewToken, Revoke, Token, Verdict};
use tokenscope::domain::{Expiry, GrantId, Timestamp, TokenTimes};

use super::house::{House, figure, now};
use super::native::{options, runtime};

/// Writers at the same time.
const WRITERS: u64 = 4;

/// What the client knows of one change.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Known {
    /// Never asked for.
    Not,
    /// Asked for, and no answer came: either is right.
    Asked,
    /// Acknowledged.
    Done,
}

/// A token, or a grant with its tokens.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The cycle in which it was asked for; nothing is done to it later.
    cycle: u64,
    grant: GrantId,
    made: Known,
    revoked: Known,
}

#[derive(Default)]
struct Ledger {
    tokens: Mutex<HashMap<String, Row>>,
    grants: Mutex<HashMap<GrantId, Known>>,
    acknowledged: AtomicUsize,
    dice: AtomicU64,
}

impl Ledger {
    /// A number below `sides`, by a stated seed.
    fn roll(&self, sides: u64) -> u64 {
        let state = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % sides
    }

    fn counts(&self, done: bool) -> Known {
        self.acknowledged.fetch_add(usize::from(done), Relaxed);
        if done { Known::Done } else { Known::Asked }
    }

    /// Changes that were asked for and never answered.
    fn unanswered(&self) -> usize {
        let tokens = self.tokens.lock().unwrap();
        let asked = tokens.values().flat_map(|row| [row.made, row.revoked]).filter(|known| *known == Known::Asked);
        asked.count() + self.grants.lock().unwrap().values().filter(|known| **known == Known::Asked).count()
    }

    /// What is asked about.
    fn rows(&self, asked: Asked) -> Vec<(String, Row)> {
        let tokens = self.tokens.lock().unwrap();
        let sides = (tokens.len() as u64).div_ceil(SAMPLE).max(1);
        let is_asked = |row: &Row| match asked {
            Asked::All => true,
            Asked::Lately(cycle) => row.cycle + 2 >= cycle || self.roll(sides) == 0,
        };
        tokens.iter().filter(|(_, row)| is_asked(row)).map(|(name, row)| (name.clone(), *row)).collect()
    }

    fn put(&self, name: &str, change: impl FnOnce(&mut Row)) {
        change(self.tokens.lock().unwrap().get_mut(name).unwrap());
    }
}

async fn make_grant(client: &Client) -> Option<GrantId> {
    let body = json!({
        "subject": "maria", "client": "time-tracker", "never_expires": true,
        "access": [{ "place": "1579", "scopes": ["tasks:read"] }],
    });
    let answer = client.api("POST", "/v1/grants", body.to_string().as_bytes()).await.ok()?;
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, 200, "{told}");
    let number = told["grant"].as_str().unwrap().strip_prefix('g').unwrap().parse().unwrap();
    GrantId::new(number)
}

/// Makes changes until the server is gone: grants, tokens, revocations of either.
async fn write(client: Client, ledger: Arc<Ledger>, cycle: u64, writer: u64, at: Timestamp) {
    let Some(mut grant) = make_grant(&client).await else { return };
    ledger.counts(true);
    ledger.grants.lock().unwrap().insert(grant, Known::Not);
    let mut mine: Vec<String> = Vec::new();
    for number in 0.. {
        let name = format!("ledger {cycle} {writer} {grant:?} {number}");
        let times = TokenTimes { issued: at, not_before: at, expiry: Expiry::Never };
        let new = NewToken { token: Token::from(&name), grant, times, confirmation: None, audience: None };
        let row = Row { cycle, grant, made: Known::Asked, revoked: Known::Not };
        ledger.tokens.lock().unwrap().insert(name.clone(), row);
        let done = ledger.counts(client.register(&new).await.is_ok());
        ledger.put(&name, |row| row.made = done);
        if done != Known::Done {
            return;
        }
        mine.push(name);
        if ledger.roll(2) == 0 {
            let name = mine.swap_remove(ledger.roll(mine.len() as u64) as usize);
            ledger.put(&name, |row| row.revoked = Known::Asked);
            let done = ledger.counts(client.revoke(Revoke::Token(Token::from(&name))).await.is_ok());
            ledger.put(&name, |row| row.revoked = done);
            if done != Known::Done {
                return;
            }
        }
        if number % 16 == 15 {
            ledger.grants.lock().unwrap().insert(grant, Known::Asked);
            let done = ledger.counts(client.revoke(Revoke::Grant(grant)).await.is_ok());
            ledger.grants.lock().unwrap().insert(grant, done);
            mine.clear();
            let Some(next) = make_grant(&client).await else { return };
            ledger.counts(true);
            ledger.grants.lock().unwrap().insert(next, Known::Not);
            grant = next;
        }
    }
}

/// What of the ledger is asked about.
#[derive(Clone, Copy)]
enum Asked {
    /// Everything.
    All,
    /// What was done in this cycle and the two before, and [`SAMPLE`] or so of the rest: nothing comes back by itself or
    /// goes away and comes back, so what a sample misses is still there to be seen when all of it is asked about.
    Lately(u64),
}

/// How many old tokens are asked about in each cycle.
const SAMPLE: u64 = 2_000;
/// Cycles after which everything is asked about, and progress is told.
const ALL_EVERY: u64 = 500;
/// Questions on their way at once.
const AT_ONCE: usize = 4_096;

/// Asks about what is in the ledger: how many answers had to be one way, and were.
async fn compare(client: &Client, ledger: &Ledger, asked: Asked, when: &str) -> usize {
    let rows = ledger.rows(asked);
    let mut verdicts = Vec::new();
    for rows in rows.chunks(AT_ONCE) {
        let tokens: Vec<Token> = rows.iter().map(|(name, _)| Token::from(name)).collect();
        verdicts.extend(client.introspect_many(&tokens).await.unwrap());
    }
    let (mut compared, mut lost, mut revived) = (0, Vec::new(), Vec::new());
    for ((name, row), verdict) in rows.iter().zip(verdicts) {
        let active = matches!(verdict.unwrap(), Verdict::Active(_));
        let of_grant = ledger.grants.lock().unwrap()[&row.grant];
        if row.revoked == Known::Done || of_grant == Known::Done {
            compared += 1;
            if active {
                revived.push(name);
            }
        } else if row.made == Known::Done && row.revoked == Known::Not && of_grant == Known::Not {
            compared += 1;
            if !active {
                lost.push(name);
            }
        }
    }
    assert!(lost.is_empty() && revived.is_empty(), "{when}: lost {lost:?}, active again {revived:?}");
    compared
}

/// B18: revocations kept in memory were gone after a restart, and revoked tokens valid again.
#[test]
fn killed_under_changes_nothing_acknowledged_is_lost_and_nothing_revoked_comes_back() {
    let cycles = std::env::var("TOKENSCOPE_KILL_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(5_u64);
    let seed = u64::from(now().raw());
    let began = Instant::now();
    let ledger = Arc::new(Ledger { dice: AtomicU64::new(seed), ..Ledger::default() });
    // Snapshots are due every second, so that some kills hit one.
    let mut house = House::with("\n[snapshot]\ninterval = \"1s\"\n");
    let mut compared = 0;
    for cycle in 0..cycles {
        if cycle > 0 && cycle % ALL_EVERY == 0 {
            figure(&format!(
                "kill -9: {cycle} of {cycles} cycles, seed {seed}: {} changes acknowledged, {compared} answers compared, {:.0} s",
                ledger.acknowledged.load(Relaxed),
                began.elapsed().as_secs_f64(),
            ));
        }
        house.start_anywhere();
        let pid = house.pid();
        compared += runtime().block_on(async {
            let client = Client::connect(options(&house, "admin")).await.unwrap();
            let asked = if cycle % ALL_EVERY == 0 { Asked::All } else { Asked::Lately(cycle) };
            let when = format!("seed {seed}, cycle {cycle}, before its changes");
            let compared = compare(&client, &ledger, asked, &when).await;
            let until = ledger.acknowledged.load(Relaxed) + 20 + ledger.roll(150) as usize;
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| tokio::spawn(write(client.clone(), ledger.clone(), cycle, writer, now())))
                .collect();
            // Without warning, and in the middle: four changes are in flight.
            while ledger.acknowledged.load(Relaxed) < until {
                assert!(!writers.iter().all(tokio::task::JoinHandle::is_finished), "nobody writes any more");
                tokio::task::yield_now().await;
            }
            kill_process(pid, Signal::KILL).unwrap();
            for writer in writers {
                // Whoever waits for an answer now waits in vain; what it asked for stays "asked for".
                writer.abort();
                if let Err(error) = writer.await {
                    assert!(error.is_cancelled(), "{error}");
                }
            }
            compared
        });
        house.kill();
        // At once again: the second restart reads what the first has left, and writes nothing.
        if cycle % 2 == 0 {
            house.start_anywhere();
            house.kill();
        }
    }
    for ending in ["after the last kill", "after a stop in order"] {
        house.start_anywhere();
        compared += runtime().block_on(async {
            let client = Client::connect(options(&house, "admin")).await.unwrap();
            let compared = compare(&client, &ledger, Asked::All, ending).await;
            client.close().await;
            compared
        });
        assert_eq!(house.stop().code, Some(0));
    }
    figure(&format!(
        "kill -9: {cycles} cycles, seed {seed}: {} changes acknowledged, {} without an answer, {compared} answers \
         compared, 0 lost, 0 active again, {:.1} s",
        ledger.acknowledged.load(Relaxed),
        ledger.unanswered(),
        began.elapsed().as_secs_f64(),
    ));
}
