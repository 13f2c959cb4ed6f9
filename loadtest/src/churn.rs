//! Tokens that come and go while a run lasts, and what may be said about them meanwhile.
//!
//! ```text
//! registered ──receipt──► live (asked about: active) ──1 s──► resting (not asked about) ──1 s──► revoked
//!                                                              ──receipt──► asked about: inactive, for ever
//! ```
//!
//! The rest in between lets the answers to questions that were asked before come in, so both expectations are strict:
//! once a revocation has its receipt, one `active` is one too many. Changes go through the client library on a thread
//! and connections of their own; a change that fails is counted and reported.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokenscope::client::{Client, Error, NewToken, Options, OwnChanges, Revoke, Token as Known, Verdict};
use tokenscope::domain::{Expiry, GrantId, Timestamp, TokenDigest, TokenTimes};
use tokenscope::samples;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::population::{Population, Token};
use crate::question::{Ask, Expect, Origin, Question, Verdict as Right, mark};
use crate::record::histogram;
use crate::target::Target;

/// How long a token is asked about, and how long it rests before it is revoked.
const SPELL: Duration = Duration::from_secs(1);

/// Tokens of either kind that are kept to be asked about.
const KEPT: usize = 1 << 16;

/// Connections for changes. A stream takes 64 of them at once, and a batch of the journal should find many.
const CONNECTIONS: usize = 16;

/// Changes in flight at most: a little less than the streams take.
const CHANGES_IN_FLIGHT: usize = CONNECTIONS * 60;

/// Changes in flight before a run, when perhaps one connection is up.
const CHANGES_BEFORE: usize = 32;

/// How often a change that finds no room is tried again, and after how long.
const BUSY_TRIES: u32 = 200;

/// The pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Grants that new tokens are registered under.
const GRANTS: usize = 64;

/// Tokens that are registered and revoked before a run, so that there is something revoked to ask about.
const REVOKED_BEFORE: usize = 256;

/// A token that was made here.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// SHA-256 of its string.
    pub digest: [u8; 32],
    /// The number of its string.
    pub origin: Origin,
    /// The token whose grant it has: it can do what that one can.
    twin: Token,
}

impl Made {
    /// A question about it while it is live.
    pub fn question(&self, check: bool) -> Question {
        let Token { scope, place, owner, expiry, .. } = self.twin;
        let (ask, verdict) =
            if check { (Ask::Check { scope, place }, Right::Allowed) } else { (Ask::Introspect, Right::Active) };
        let expect = Expect { verdict, expiry, owner, mark: mark(&self.digest) };
        Question { digest: self.digest, origin: self.origin, ask, expect }
    }
}

#[derive(Default)]
struct Lists {
    live: VecDeque<Made>,
    revoked: Vec<Made>,
    /// Where the next revoked one goes once the list is full.
    next: usize,
}

/// The tokens that can be asked about.
#[derive(Default)]
pub struct Pool(Mutex<Lists>);

impl Pool {
    fn lists(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing was revoked.
    pub fn is_empty(&self) -> bool {
        self.lists().revoked.is_empty()
    }

    /// A revoked token, chosen by `draw`.
    pub fn revoked(&self, draw: u64) -> Option<Made> {
        let lists = self.lists();
        lists.revoked.get(chosen(draw, lists.revoked.len())).copied()
    }

    /// A live token, chosen by `draw`.
    pub fn live(&self, draw: u64) -> Option<Made> {
        let lists = self.lists();
        lists.live.get(chosen(draw, lists.live.len())).copied()
    }

    fn came(&self, made: Made) {
        let mut lists = self.lists();
        if lists.live.len() < KEPT {
            lists.live.push_back(made);
        }
    }

    fn rests(&self, made: &Made) {
        // Receipts come nearly in order, so it stands near the front.
        let mut lists = self.lists();
        if let Some(at) = lists.live.iter().position(|it| it.digest == made.digest) {
            lists.live.remove(at);
        }
    }

    fn went(&self, made: Made) {
        let mut lists = self.lists();
        let next = lists.next;
        if lists.revoked.len() < KEPT {
            lists.revoked.push(made);
        } else if let Some(place) = lists.revoked.get_mut(next) {
            *place = made;
            lists.next = (next + 1) % KEPT;
        }
    }
}

fn chosen(draw: u64, count: usize) -> usize {
    ((u128::from(draw) * count as u128) >> 64) as usize
}

/// What became of the changes.
#[derive(Clone, Debug)]
pub struct Churned {
    /// Tokens registered.
    pub registered: u64,
    /// Tokens revoked.
    pub revoked: u64,
    /// Changes without a receipt.
    pub failed: u64,
    /// The first failure in words.
    pub failure: Option<String>,
    /// Changes that were due.
    pub due: u64,
    /// From asking to the receipt, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How long it went on.
    pub lasted: Duration,
}

/// Makes changes at a rate.
pub struct Churn {
    options: Options,
    grants: Vec<(GrantId, Token)>,
    pool: Arc<Pool>,
    seed: u64,
    /// Strings of different runs on the same server never meet: their owners begin at the moment of the run.
    owner: u64,
    now: Timestamp,
}

impl Churn {
    /// Connects, learns some grants, and revokes a few tokens of its own making so that there are revoked ones.
    ///
    /// # Errors
    /// The server refuses, or knows none of the tokens.
    pub async fn prepare(
        target: &Target,
        population: &Population,
        pool: Arc<Pool>,
        now: Timestamp,
    ) -> Result<Self, String> {
        let asker = Client::connect(target.options(&target.asker)).await.map_err(|error| error.to_string())?;
        let mut options: Options = target.options(&target.changer);
        options.connections = CONNECTIONS;
        options.own_changes = OwnChanges::NotDemanded;
        let step = (population.hits.len() / GRANTS).max(1);
        let twins: Vec<Token> = population.hits.iter().step_by(step).take(GRANTS).copied().collect();
        let known: Vec<Known> = twins.iter().map(|it| TokenDigest::from_bytes(it.digest).into()).collect();
        let verdicts = asker.introspect_many(&known).await.map_err(|error| error.to_string())?;
        let mut grants = Vec::new();
        for (twin, verdict) in twins.into_iter().zip(verdicts) {
            match verdict.map_err(|error| error.to_string())? {
                Verdict::Active(introspection) => grants.push((introspection.grant, twin)),
                Verdict::Inactive => {
                    return Err(format!(
                        "the server does not know token {} of user-{}, which the sample data of seed {} says is \
                         active: its data is other data, or was changed since",
                        twin.number, twin.owner, population.seed
                    ));
                }
            }
        }
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let owner = 1 << 62 | (nanos as u64 & ((1 << 61) - 1));
        let mut churn = Self { options, grants, pool, seed: population.seed, owner, now };
        churn.revoke_some().await?;
        Ok(churn)
    }

    fn make(&mut self) -> Option<(Made, NewToken)> {
        self.owner += 1;
        let number = (self.owner % self.grants.len().max(1) as u64) as usize;
        let &(grant, twin) = self.grants.get(number)?;
        let origin = Origin { owner: self.owner, number: 0 };
        let string = samples::token_string(self.seed, origin.owner, origin.number);
        let token = TokenDigest::of(string.as_bytes());
        // It ends with its twin, which ends no later than their grant does.
        let times = TokenTimes { issued: self.now, not_before: self.now, expiry: Expiry::from_raw(twin.expiry) };
        let made = Made { digest: *token.as_bytes(), origin, twin };
        Some((made, NewToken { token: token.into(), grant, times, confirmation: None, audience: None }))
    }

    async fn revoke_some(&mut self) -> Result<(), String> {
        let options = Options { connections: 1, ..self.options.clone() };
        let client = Client::connect(options).await.map_err(|error| error.to_string())?;
        let room = Arc::new(Semaphore::new(CHANGES_BEFORE));
        let mut tasks = JoinSet::new();
        for (made, new) in (0..REVOKED_BEFORE).filter_map(|_| self.make()).collect::<Vec<_>>() {
            let (client, pool, room) = (client.clone(), self.pool.clone(), room.clone());
            tasks.spawn(async move {
                let _permit = room.acquire().await;
                register(&client, &new).await?;
                revoke(&client, new.token).await?;
                pool.went(made);
                Ok(())
            });
        }
        while let Some(joined) = tasks.join_next().await {
            joined
                .map_err(|error| error.to_string())
                .flatten()
                .map_err(|why: String| format!("the caller {:?} cannot register and revoke: {why}", "issuer"))?;
        }
        Ok(())
    }

    /// Registers `count` tokens, then revokes them one after the other; how long each revocation took to its receipt.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn revoke_one_by_one(&mut self, count: usize) -> Result<Vec<Duration>, String> {
        let client = Client::connect(self.options.clone()).await.map_err(|error| error.to_string())?;
        let new: Vec<(Made, NewToken)> = (0..count).filter_map(|_| self.make()).collect();
        for (_, new) in &new {
            register(&client, new).await?;
        }
        let mut took = Vec::with_capacity(count);
        for (made, new) in new {
            let asked = Instant::now();
            revoke(&client, new.token).await?;
            took.push(asked.elapsed());
            self.pool.went(made);
        }
        Ok(took)
    }

    /// Registers `count` tokens, for whoever revokes them.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn register_some(&mut self, count: usize) -> Result<Vec<Made>, String> {
        let client = Client::connect(self.options.clone()).await.map_err(|error| error.to_string())?;
        let room = Arc::new(Semaphore::new(CHANGES_IN_FLIGHT));
        let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
        let mut all = Vec::with_capacity(count);
        for (made, new) in (0..count).filter_map(|_| self.make()).collect::<Vec<_>>() {
            all.push(made);
            let (client, room) = (client.clone(), room.clone());
            tasks.spawn(async move {
                let _permit = room.acquire().await;
                register(&client, &new).await
            });
        }
        while let Some(joined) = tasks.join_next().await {
            joined.map_err(|error| error.to_string()).flatten()?;
        }
        client.close().await;
        Ok(all)
    }

    /// Makes `rate` changes per second until told to stop.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn run(&mut self, rate: f64, stop: Arc<AtomicBool>) -> Result<Churned, String> {
        let client = Client::connect(self.options.clone()).await.map_err(|error| error.to_string())?;
        let started = Instant::now();
        let mut churned = Churned {
            registered: 0,
            revoked: 0,
            failed: 0,
            failure: None,
            due: 0,
            latency: histogram(3),
            lasted: Duration::ZERO,
        };
        let room = Arc::new(Semaphore::new(CHANGES_IN_FLIGHT));
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let (mut live, mut resting) = (VecDeque::new(), VecDeque::new());
        let mut begun = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while !stop.load(Ordering::Acquire) {
            tokio::select! {
                _ = tick.tick() => {}
                Some(done) = tasks.join_next() => {
                    churned.take(done, &self.pool, &mut live);
                    while let Some(done) = tasks.try_join_next() {
                        churned.take(done, &self.pool, &mut live);
                    }
                }
            }
            let now = Instant::now();
            while live.front().is_some_and(|(since, _): &(Instant, Made)| now - *since >= SPELL) {
                let Some((_, made)) = live.pop_front() else { break };
                self.pool.rests(&made);
                resting.push_back((now, made));
            }
            churned.due = ((now - started).as_secs_f64() * rate) as u64;
            while begun < churned.due {
                let Ok(permit) = room.clone().try_acquire_owned() else { break };
                begun += 1;
                let ready = resting.front().is_some_and(|(since, _): &(Instant, Made)| now - *since >= SPELL);
                // Half of the changes take away what the other half brought.
                let leaving = if ready && begun % 2 == 0 { resting.pop_front() } else { None };
                match leaving {
                    Some((_, made)) => begin_revocation(&client, made, permit, &mut tasks),
                    None => {
                        let Some((made, new)) = self.make() else { break };
                        begin_registration(&client, made, new, permit, &mut tasks);
                    }
                }
            }
        }
        churned.lasted = started.elapsed();
        while let Some(done) = tasks.join_next().await {
            churned.take(done, &self.pool, &mut live);
        }
        Ok(churned)
    }
}

fn begin_registration(
    client: &Client,
    made: Made,
    new: NewToken,
    permit: OwnedSemaphorePermit,
    tasks: &mut JoinSet<Done>,
) {
    let client = client.clone();
    tasks.spawn(async move {
        let asked = Instant::now();
        let outcome = register(&client, &new).await;
        drop(permit);
        Done { made, what: Change::Came, outcome, asked }
    });
}

fn begin_revocation(client: &Client, made: Made, permit: OwnedSemaphorePermit, tasks: &mut JoinSet<Done>) {
    let client = client.clone();
    tasks.spawn(async move {
        let asked = Instant::now();
        let outcome = revoke(&client, TokenDigest::from_bytes(made.digest).into()).await;
        drop(permit);
        Done { made, what: Change::Went, outcome, asked }
    });
}

/// Registers; a server that has no room at the moment is asked again.
async fn register(client: &Client, new: &NewToken) -> Result<(), String> {
    let mut tries = 0;
    loop {
        match client.register(new).await {
            Err(Error::Overloaded) if tries < BUSY_TRIES => tries += 1,
            other => return other.map(drop).map_err(|error| error.to_string()),
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

/// Revokes, in the same way.
async fn revoke(client: &Client, token: Known) -> Result<(), String> {
    let mut tries = 0;
    loop {
        match client.revoke(Revoke::Token(token)).await {
            Err(Error::Overloaded) if tries < BUSY_TRIES => tries += 1,
            other => return other.map(drop).map_err(|error| error.to_string()),
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

enum Change {
    Came,
    Went,
}

struct Done {
    made: Made,
    what: Change,
    outcome: Result<(), String>,
    asked: Instant,
}

impl Churned {
    fn take(&mut self, done: Result<Done, tokio::task::JoinError>, pool: &Pool, live: &mut VecDeque<(Instant, Made)>) {
        let Ok(Done { made, what, outcome, asked }) = done else {
            self.failed += 1;
            return;
        };
        if let Err(why) = outcome {
            self.failed += 1;
            self.failure.get_or_insert(why);
            return;
        }
        self.latency.saturating_record(crate::schedule::ns(asked.elapsed()).max(1));
        match what {
            Change::Came => {
                self.registered += 1;
                pool.came(made);
                live.push_back((Instant::now(), made));
            }
            Change::Went => {
                self.revoked += 1;
                pool.went(made);
            }
        }
    }
}
