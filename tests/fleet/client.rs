//! A client process: an API server with a near-cache, reduced to its questions. The test binary plays it when the rig starts
//! it again with a task in the environment.
//!
//! Two threads ask, in rounds: every token of the board, and in between, once a millisecond, the one that is to be revoked
//! next. A round's accepts are served, which is to say recorded, at its end by one write; nothing is served before.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokenscope::client::{Client, Decision, NearCache, NearOptions, Options};
use tokio::runtime::Runtime;

use super::dice::Dice;
use super::record::{Board, Kind, Record, Wanted, between, moment, token};

/// Where a process finds its task.
pub const TASK: &str = "TOKENSCOPE_FLEET_CLIENT";

/// The test that plays it.
pub const PLAYER: &str = "client::is_played_by_a_process_of_its_own";

pub const SCOPE: &str = "tasks:read";
pub const PLACE: &str = "1579";

/// Threads that ask.
const THREADS: u64 = 2;

/// Between two rounds, in looks at the next token.
const LOOKS: u32 = 8;

/// Between two of these looks.
const PAUSE: Duration = Duration::from_millis(1);

/// Longer than a lease: how long decisions are kept by a client that keeps them.
const KEPT: Duration = Duration::from_secs(1);

/// What is wrong with a client on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Flaw {
    /// It keeps decisions for a second.
    OwnDecisions,
    /// It answers when its lease is over and nobody else does.
    BeyondTheLease,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Of the client's dice.
    pub seed: u64,
    pub server: SocketAddr,
    pub server_name: String,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub board: PathBuf,
    pub flaw: Option<Flaw>,
}

#[test]
#[ignore = "a part of the others: they start it with a task"]
fn is_played_by_a_process_of_its_own() {
    if let Ok(task) = std::env::var(TASK) {
        play(&serde_json::from_str(&task).unwrap());
    }
}

fn options(task: &Task) -> Options {
    let read = |path: &PathBuf| std::fs::read(path).unwrap();
    let servers = vec![(task.server, task.server_name.clone())];
    let mut options = Options::new(servers, read(&task.ca), read(&task.certificate), read(&task.key));
    options.connect_deadline = Duration::from_secs(1);
    options.backoff_max = Duration::from_millis(250);
    if task.flaw == Some(Flaw::BeyondTheLease) {
        // It waits in vain for an answer each time.
        options.deadline = Duration::from_millis(30);
    }
    options
}

fn play(task: &Task) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let rig = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let near = NearOptions {
        allow_stale: (task.flaw == Some(Flaw::BeyondTheLease)).then(|| Duration::from_secs(60)),
        ..NearOptions::default()
    };
    let (client, cache) = {
        let _inside = runtime.enter();
        let client = Client::start(options(task)).unwrap();
        (client.clone(), NearCache::follow(client, near).unwrap())
    };
    let over = Arc::new(AtomicBool::new(false));
    // The rig says nothing here; but when it is gone, however it ended, so are we.
    let (mut ear, deaf) = (rig.try_clone().unwrap(), Arc::clone(&over));
    std::thread::spawn(move || {
        while ear.read(&mut [0; 1]).is_ok_and(|bytes| bytes > 0) {}
        deaf.store(true, Ordering::Relaxed);
    });
    let out = Mutex::new(rig);
    let board = Board::open(&task.board);
    while runtime.block_on(cache.live(Duration::from_millis(200))).is_err() {
        if over.load(Ordering::Relaxed) || board.read() == Wanted::STOP {
            return;
        }
    }
    let at = moment();
    serve(&out, &[Record { kind: Kind::Live, token: 0, began: at, ended: at }]);
    std::thread::scope(|threads| {
        for number in 0..THREADS {
            let asker = Asker {
                runtime: &runtime,
                cache: &cache,
                out: &out,
                dice: Dice::new(task.seed, number),
                served: Vec::new(),
                ended: HashSet::new(),
                kept: (task.flaw == Some(Flaw::OwnDecisions)).then(HashMap::new),
                refused: 0,
            };
            let (board, over) = (&board, &over);
            threads.spawn(move || asker.ask(board, over));
        }
    });
    runtime.block_on(client.close());
}

/// Accepts are served: from here on they have happened. A rig that is gone has no use for them.
fn serve(out: &Mutex<UnixStream>, records: &[Record]) {
    let mut bytes = Vec::with_capacity(records.len() * super::record::RECORD_BYTES);
    records.iter().for_each(|record| record.write(&mut bytes));
    // Held for all of it, so that the records of two threads do not mix.
    let _ = out.lock().unwrap().write_all(&bytes);
}

/// A thread that asks.
struct Asker<'c> {
    runtime: &'c Runtime,
    cache: &'c NearCache,
    out: &'c Mutex<UnixStream>,
    dice: Dice,
    served: Vec<Record>,
    /// Tokens that were denied once. Memory is looked at for them as for all; the server is asked now and then.
    ended: HashSet<u32>,
    /// A flaw: until when a token is let in whatever anybody says.
    kept: Option<HashMap<u32, u64>>,
    /// Looks in this round at tokens that had ended.
    refused: u32,
}

impl Asker<'_> {
    fn ask(mut self, board: &Board, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let wanted = board.read();
            if wanted == Wanted::STOP {
                return;
            }
            let mut may_ask = self.round(wanted);
            for _ in 0..LOOKS {
                std::thread::sleep(PAUSE);
                let next = board.read().next;
                if (wanted.from..wanted.to).contains(&next) {
                    may_ask &= self.look(next, may_ask && !self.ended.contains(&next));
                }
            }
            if self.refused > 0 {
                let looks = std::mem::take(&mut self.refused);
                self.serve_later(Kind::Refused, looks, moment());
            }
            serve(self.out, &self.served);
            self.served.clear();
        }
    }

    /// Asks about every token once, beginning anywhere; says whether the server answers.
    fn round(&mut self, Wanted { from, to, .. }: Wanted) -> bool {
        let count = to.saturating_sub(from);
        let first = self.dice.roll(count.into()) as u32;
        let probed = self.dice.roll(count.into()) as u32;
        let mut may_ask = true;
        for number in (0..count).map(|step| (first + step) % count) {
            let number = from + number;
            may_ask &= self.look(number, may_ask && (!self.ended.contains(&number) || number == from + probed));
        }
        may_ask
    }

    /// Asks about one token, the server too if `may_ask`; says whether it answers.
    fn look(&mut self, number: u32, may_ask: bool) -> bool {
        let name = token(number);
        let began = moment();
        if self.kept.as_ref().is_some_and(|kept| kept.get(&number).is_some_and(|until| began < *until)) {
            self.serve_later(Kind::Held, number, began);
            return true;
        }
        if let Some(decision) = self.cache.held(name, SCOPE, PLACE) {
            self.decided(decision, Kind::Held, number, began);
            return true;
        }
        if !may_ask {
            self.refused += u32::from(self.ended.contains(&number));
            return true;
        }
        match self.runtime.block_on(self.cache.check(name, SCOPE, PLACE)) {
            Ok(decision) => self.decided(decision, Kind::Asked, number, began),
            Err(error) if error.is_retryable() => return false,
            Err(error) => panic!("{error:?} about token {number}, {:?} after it was asked", between(began, moment())),
        }
        true
    }

    fn decided(&mut self, decision: Decision, how: Kind, number: u32, began: u64) {
        if decision.is_allowed() {
            if let Some(kept) = &mut self.kept {
                kept.insert(number, began + super::record::nanoseconds(KEPT));
            }
            self.serve_later(how, number, began);
        } else if self.ended.insert(number) {
            self.serve_later(Kind::Denied, number, began);
        } else {
            self.refused += 1;
        }
    }

    fn serve_later(&mut self, kind: Kind, number: u32, began: u64) {
        self.served.push(Record { kind, token: number, began, ended: moment() });
    }
}
