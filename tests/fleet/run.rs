//! One run: a server, its clients, tokens issued and revoked one after the other and several at once, and a judgement.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokenscope::client::{Client, Error, NewToken, Options, Revoke, Wait};
use tokenscope::domain::{Expiry, GrantId, TokenTimes};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Flaw, PLACE, SCOPE, Task};
use super::dice::Dice;
use super::fleet::Fleet;
use super::house::{House, PATIENCE, now};
use super::judge::{Judgement, Revocation};
use super::native;
use super::proxy::Proxy;
use super::record::{Board, Wanted, between, moment, nanoseconds, token};
use super::trouble::{Lane, Past};

/// Tokens that are good at a time.
const GOOD: usize = 16;

/// Revoked ones that clients still ask about.
const REVOKED: usize = 48;

/// In so many leases clients go on asking about what was revoked.
const LINGER: u32 = 4;

/// Of so many revocations one does not wait for a fence.
const DURABLE: usize = 7;

/// Clients on a rough network all the time.
const ROUGH: usize = 3;

/// What a run is to be.
pub struct Plan {
    pub seed: u64,
    pub clients: usize,
    /// Fenced revocations at least.
    pub fences: usize,
    pub lease: Duration,
    pub flaw: Option<Flaw>,
    pub troubles: Troubles,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Troubles {
    None,
    /// All clients are cut off once they hold the tokens, and stay so.
    CutForGood,
    All,
}

/// Whoever issues and revokes, over a connection of its own without a proxy.
struct Admin {
    options: Options,
    client: Mutex<Client>,
    /// Stirs when the server was started anew.
    starts: watch::Receiver<()>,
}

impl Admin {
    /// Asks again until there is an answer: whoever has no answer knows nothing. Gives back when the last attempt began,
    /// and how many there were.
    async fn until_done<T, F>(&self, what: &str, call: impl Fn(Client) -> F) -> (T, u64, u32)
    where
        F: Future<Output = Result<T, Error>>,
    {
        let since = Instant::now();
        for attempt in 1.. {
            let client = self.client.lock().unwrap().clone();
            let began = moment();
            let mut starts = self.starts.clone();
            starts.mark_unchanged();
            let answer = tokio::select! {
                biased;
                answer = call(client) => answer,
                // Whoever was asked is no more.
                _ = starts.changed() => Err(Error::Timeout),
            };
            match answer {
                Ok(done) => return (done, began, attempt),
                Err(error) => assert!(error.is_retryable() && since.elapsed() < PATIENCE, "{what}: {error:?}"),
            }
            // Another connection: nobody is left on the old one.
            *self.client.lock().unwrap() = Client::start(self.options.clone()).unwrap();
        }
        unreachable!("patience ends before attempts do")
    }

    /// A change by the JSON API; what it answered.
    async fn change(&self, path: &str, body: Value) -> (Value, u64, u32) {
        let body = body.to_string();
        let call = |client: Client| {
            let body = body.clone();
            async move {
                let answer = client.api("POST", path, body.as_bytes()).await?;
                let told: Value = serde_json::from_slice(&answer.body).unwrap();
                match answer.status {
                    200 => Ok(told),
                    429 | 503 => Err(Error::Unavailable(told.to_string())),
                    _ => panic!("{path} {body}: {told}"),
                }
            }
        };
        self.until_done(path, call).await
    }

    /// A token of a grant of its own, and for some a subject of its own too.
    async fn issue(&self, number: u32) -> GrantId {
        let subject = subject(number);
        if let Some(subject) = &subject {
            self.change("/v1/members", json!({ "subject": subject, "place": PLACE })).await;
        }
        let body = json!({
            "subject": subject.as_deref().unwrap_or("maria"), "client": "time-tracker", "never_expires": true,
            "access": [{ "place": PLACE, "scopes": [SCOPE] }],
        });
        let (told, ..) = self.change("/v1/grants", body).await;
        let grant = told["grant"].as_str().unwrap().strip_prefix('g').unwrap().parse().unwrap();
        let grant = GrantId::new(grant).unwrap();
        let at = now();
        let times = TokenTimes { issued: at, not_before: at, expiry: Expiry::Never };
        let new = NewToken { token: token(number), grant, times, confirmation: None, audience: None };
        let register = |client: Client| {
            let new = new.clone();
            async move { client.register(&new).await }
        };
        self.until_done("a token", register).await;
        grant
    }

    async fn revoke(&self, number: u32, grant: Option<GrantId>, wait: Wait) -> Revocation {
        let began = moment();
        let (called, attempts) = if let Some(subject) = subject(number) {
            let path =
                if wait == Wait::Fenced { "/v1/members/remove?wait=fenced" } else { "/v1/members/remove?wait=durable" };
            let (_, called, attempts) = self.change(path, json!({ "subject": subject, "place": PLACE })).await;
            (called, attempts)
        } else {
            let what = grant.map_or(Revoke::Token(token(number)), Revoke::Grant);
            let revoke = |client: Client| async move { client.revoke_and_wait(what, wait).await };
            let (_, called, attempts) = self.until_done("a revocation", revoke).await;
            (called, attempts)
        };
        let (returned, is_fenced) = (moment(), wait == Wait::Fenced);
        Revocation { token: number, is_watched: false, is_fenced, began, called, returned, attempts }
    }
}

/// Each fourth token has a subject of its own: it ends when the subject is no member any more, and not by a revocation.
fn subject(number: u32) -> Option<String> {
    (number % 4 == 3).then(|| format!("fleet-{number}"))
}

/// Ends the lanes, however the run ends.
struct Ends<'r>(&'r AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

pub fn run(plan: &Plan) -> Judgement {
    let began = Instant::now();
    let limits = format!(
        "\n[limits]\nfollower_lease = \"{}ms\"\nquic_connections_per_caller = 1000\nquic_connections_per_address = 1000\n",
        plan.lease.as_millis()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut house = House::with(&limits);
    house.start();
    let board_path = house.dir.path().join("board");
    let board = Board::new(&board_path);
    let proxies: Vec<Proxy> = (0..plan.clients)
        .map(|client| runtime.block_on(Proxy::start(house.file.quic, Dice::new(plan.seed, 100 + client as u64))))
        .collect();
    let asks = house.file.caller("operator").unwrap();
    let task = |(client, proxy): (usize, &Proxy)| Task {
        seed: plan.seed.wrapping_add(client as u64),
        server: proxy.address,
        server_name: house.file.server_name.clone(),
        ca: house.file.ca_file.clone(),
        certificate: asks.certificate_file.clone(),
        key: asks.key_file.clone(),
        board: board_path.clone(),
        flaw: plan.flaw,
    };
    let tasks = proxies.iter().enumerate().map(task).collect();
    let fleet = Fleet::start(proxies, tasks, house.dir.path());
    if plan.troubles == Troubles::All {
        fleet.proxies.iter().rev().take(ROUGH).for_each(|proxy| proxy.weather.rough.store(true, Relaxed));
    }
    let mut options = native::options(&house, "admin");
    options.change_deadline = plan.lease * 4 + Duration::from_secs(2);
    let client = runtime.block_on(Client::connect(options.clone())).unwrap();

    let past = Past::default();
    let admin = Arc::new(Admin { options, client: Mutex::new(client), starts: past.starts.subscribe() });
    let (over, house) = (AtomicBool::new(false), Mutex::new(house));
    let driver = Driver {
        plan,
        runtime: &runtime,
        admin,
        board: &board,
        fleet: &fleet,
        dice: Dice::new(plan.seed, 0),
        grants: Vec::new(),
        good: BTreeSet::new(),
        revoked: Vec::new(),
        done: Vec::new(),
    };
    let revocations = std::thread::scope(|threads| {
        let _ends = Ends(&over);
        let lanes = if plan.troubles == Troubles::All { 3 } else { 0 };
        let lanes: Vec<_> = (0..lanes)
            .map(|number| {
                let dice = Dice::new(plan.seed, 10 + number);
                let (fleet, house, past, over) = (&fleet, &house, &past, &over);
                let lane = Lane { fleet, house, past, lease: plan.lease, over, began, dice };
                threads.spawn(move || if number == 0 { lane.of_server() } else { lane.of_clients() })
            })
            .collect();
        let revocations = driver.drive(|| lanes.iter().any(|lane| lane.is_finished()), &past);
        over.store(true, Relaxed);
        lanes.into_iter().for_each(|lane| lane.join().expect("a lane of troubles"));
        revocations
    });
    // Whoever still lets something in is to be seen doing it.
    std::thread::sleep(plan.lease * 3);
    fleet.is_whole();
    board.put(Wanted::STOP);
    let weather: Vec<_> = fleet.proxies.iter().map(|proxy| Arc::clone(&proxy.weather)).collect();
    let ledger = fleet.come_home();
    let steady = if plan.troubles == Troubles::All { plan.clients.saturating_sub(ROUGH) } else { plan.clients };
    Judgement::new(plan, &revocations, &ledger, &past, &weather, steady, began.elapsed())
}

struct Driver<'r> {
    plan: &'r Plan,
    runtime: &'r Runtime,
    admin: Arc<Admin>,
    board: &'r Board,
    fleet: &'r Fleet,
    dice: Dice,
    /// The grant of each token.
    grants: Vec<GrantId>,
    good: BTreeSet<u32>,
    /// Tokens that clients still ask about.
    revoked: Vec<(u32, u64)>,
    done: Vec<Revocation>,
}

impl Driver<'_> {
    fn drive(mut self, lanes_ended: impl Fn() -> bool, past: &Past) -> Vec<Revocation> {
        let began = Instant::now();
        let patience = PATIENCE + (self.plan.lease * 2 + Duration::from_secs(1)) * self.plan.fences as u32;
        let all = self.plan.troubles == Troubles::All;
        self.issue();
        if self.plan.troubles == Troubles::CutForGood {
            let newest = self.good.last().copied().unwrap();
            self.announce(newest);
            self.is_hammered(newest, self.fleet.len());
            self.fleet.proxies.iter().for_each(|proxy| proxy.weather.cut.store(true, Relaxed));
        }
        while self.fences() < self.plan.fences || all && !past.is_rich() {
            assert!(!lanes_ended(), "a lane of troubles has failed");
            assert!(began.elapsed() < patience, "{} fences in {patience:?}", self.fences());
            self.fleet.is_whole();
            self.step();
        }
        self.done
    }

    fn fences(&self) -> usize {
        self.done.iter().filter(|done| done.is_fenced).count()
    }

    /// Issues what is missing, and tells the clients.
    fn issue(&mut self) {
        while self.good.len() < GOOD {
            let number = u32::try_from(self.grants.len()).unwrap();
            let grant = self.runtime.block_on(self.admin.issue(number));
            self.grants.push(grant);
            self.good.insert(number);
        }
    }

    /// Revokes one, or several at once, that many of the clients are letting in at this moment.
    fn step(&mut self) {
        let at_once = if self.dice.chance(40) { 2 + self.dice.roll(3) as usize } else { 1 };
        let mut oldest: Vec<u32> = self.good.iter().copied().take(8).collect();
        self.dice.shuffle(&mut oldest);
        let chosen = &oldest[..at_once];
        self.announce(chosen[0]);
        self.is_hammered(chosen[0], self.fleet.len() / 3);
        let mut revoking = JoinSet::new();
        for (place, number) in chosen.iter().copied().enumerate() {
            let by_grant = self.dice.chance(25);
            let wait = if (self.done.len() + place) % DURABLE == 3 { Wait::Durable } else { Wait::Fenced };
            let grant = by_grant.then(|| self.grants[number as usize]);
            let admin = Arc::clone(&self.admin);
            revoking.spawn_on(async move { admin.revoke(number, grant, wait).await }, self.runtime.handle());
        }
        for revocation in self.runtime.block_on(revoking.join_all()) {
            self.good.remove(&revocation.token);
            self.revoked.push((revocation.token, revocation.returned));
            self.done.push(Revocation { is_watched: revocation.token == chosen[0], ..revocation });
        }
        self.issue();
    }

    fn announce(&mut self, next: u32) {
        let since = moment().saturating_sub(nanoseconds(self.plan.lease * LINGER));
        self.revoked.retain(|(_, returned)| *returned >= since);
        let surplus = self.revoked.len().saturating_sub(REVOKED);
        self.revoked.drain(..surplus);
        let asked = self.revoked.iter().map(|(number, _)| *number).chain(self.good.first().copied());
        let from = asked.min().unwrap_or_default();
        self.board.put(Wanted { from, to: u32::try_from(self.grants.len()).unwrap(), next });
    }

    /// Waits until so many clients let this token in, for a lease at most: some may be in trouble.
    fn is_hammered(&self, number: u32, clients: usize) {
        let began = moment();
        let lets_in = || {
            let ledger = self.fleet.ledger.lock().unwrap();
            let rows = ledger.live.keys().filter_map(|process| ledger.rows.get(&(*process, number)));
            rows.filter(|row| row.last.is_some_and(|last| last.began >= began)).count()
        };
        while lets_in() < clients && between(began, moment()) < self.plan.lease {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
