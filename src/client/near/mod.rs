//! The near-cache: answers from the caller's own memory, and still no revoked token passes.
//!
//! ```no_run
//! # async fn example(client: tokenscope::client::Client) -> Result<(), tokenscope::client::Error> {
//! use tokenscope::client::near::{NearCache, NearOptions};
//! let cache = NearCache::follow(client, NearOptions::default())?;
//! // From memory if it can be proven, from the server otherwise: the same answer.
//! if cache.check("tks_…", "tasks:write", "1579/4021").await?.is_allowed() {
//!     // do it
//! }
//! # Ok(()) }
//! ```
//!
//! * **Facts are held, never decisions.** What a token, its grant, memberships and policies are at one place; every
//!   question is decided from them by the very function the server uses, and expiry is judged at every read.
//! * **Only while it is proven.** The server reads every change aloud over a feed; what is held counts while a lease on
//!   that feed runs, and while nothing it depends on was touched. The lease is counted from before it was asked for, on
//!   a clock that goes on in suspend. Otherwise the server is asked; and without a server there is no answer.
//! * **A fenced revocation is final.** When it returns, no question that begins later is answered otherwise here.
//! * **A hit** takes no lock, allocates nothing and makes no system call but a read of the clock.
//! * **Bounded.** A fixed number of entries; what is not active is never held, so unknown tokens take no room.
//!
//! `docs/NEAR-CACHE.md` tells what that means when things break.

// What the follower has proven.
mod belief;
// Time since boot.
mod clock;
// What happened, in numbers.
mod counters;
// One question for many.
mod flights;
// What a feed's messages mean.
mod follow;
// What lies in an entry itself.
mod inline;
// How long things may be believed.
mod lease;
// What is held, and when it counts.
mod memory;
// The follower's task.
mod run;
// Names of scopes.
mod scopes;
// When each tag was touched.
mod stamps;
// For benches: what is held, without a server.
#[cfg(any(test, feature = "testing"))]
mod standalone;
// Where facts lie.
mod table;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::answer::{Decision, Error, ErrorCode, Token};
use super::options::OwnChanges;
use super::{Client, FactsAnswer};
use clock::Moment;
use counters::Count;
use flights::Flights;
use memory::{Memory, Question};
use scopes::Resolved;

pub use counters::Counters;
#[cfg(any(test, feature = "testing"))]
pub use standalone::Standalone;
pub(in crate::client) use table::Facts;

/// The longest time beyond a lease that may be asked for.
const STALE_MAX: Duration = Duration::from_secs(3_600);

/// The settings of a near-cache.
#[derive(Clone, Debug)]
pub struct NearOptions {
    /// Entries it has room for: one is a token at a place, about 400 bytes. Default 65,536, at least 8; rounded up to
    /// eight times a power of two.
    pub capacity: usize,
    /// The lease to ask for; the server gives its own if that is shorter. It is how long a revocation that is *not*
    /// fenced may take in the worst case, and how long answers go on when the server is gone. Default 10 s.
    pub lease: Duration,
    /// Answers from memory for so long after the lease, an hour at most, **when no server answers**. `None`, the default,
    /// unless somebody asks for it by this name, because it takes the guarantee back: in that time a token that was
    /// revoked, even fenced, may pass. What was heard to be touched, and what has expired, is never answered so. Counted
    /// as [`Counters::beyond_lease`].
    pub allow_stale: Option<Duration>,
}

impl Default for NearOptions {
    fn default() -> Self {
        Self { capacity: 65_536, lease: Duration::from_secs(10), allow_stale: None }
    }
}

/// A near-cache. Cheap to clone; all clones are the same one. It ends with the last clone.
#[derive(Clone)]
pub struct NearCache(Arc<Inner>);

struct Inner {
    client: Client,
    shared: Arc<Shared>,
    flights: Flights<Filled>,
    stale: Option<Duration>,
    own_changes: bool,
    follower: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// What the follower's task and those who answer share.
struct Shared {
    memory: Memory,
    /// Rung when an answer came from beyond where the feed is.
    nudge: Notify,
    /// How far beyond.
    beyond: AtomicU64,
    follows: AtomicU64,
    /// Stirs whenever something was heard.
    stir: watch::Sender<()>,
    /// Why the last feed ended.
    ended: Mutex<Option<Error>>,
}

impl Shared {
    fn heard(&self, follows: u64) {
        self.follows.store(follows, Ordering::Relaxed);
        self.stir.send_replace(());
    }

    fn follow_ended(&self, why: &Error) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
    }
}

/// What a question to the server brought.
#[derive(Clone)]
struct Filled {
    /// `None`: not active.
    facts: Option<Arc<Facts>>,
    /// The scope that was resolved with it.
    scope: Arc<str>,
    resolved: Resolved,
}

impl NearCache {
    /// Begins to follow over this client's connections and returns at once; until the first lease every question goes
    /// to the server. [`NearCache::live`] waits for it.
    ///
    /// # Errors
    /// [`Error::Options`]: no room for anything, or no lease wanted.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn follow(client: Client, options: NearOptions) -> Result<Self, Error> {
        if options.capacity == 0 || options.lease.is_zero() {
            return Err(Error::Options("a near-cache needs room and a lease".to_owned()));
        }
        let shared = Arc::new(Shared {
            memory: Memory::new(options.capacity, stamps::SLOTS),
            nudge: Notify::new(),
            beyond: AtomicU64::new(0),
            follows: AtomicU64::new(0),
            stir: watch::channel(()).0,
            ended: Mutex::new(None),
        });
        let task = tokio::spawn(run::keep_following(client.clone(), shared.clone(), options.lease));
        Ok(Self(Arc::new(Inner {
            own_changes: client.0.options.own_changes == OwnChanges::Seen,
            client,
            shared,
            flights: Flights::new(),
            stale: options.allow_stale.map(|beyond| beyond.min(STALE_MAX)),
            follower: task.abort_handle(),
        })))
    }

    /// Waits until a lease runs, for at most `patience`.
    ///
    /// # Errors
    /// None came: why the last feed ended, or that there was none.
    pub async fn live(&self, patience: Duration) -> Result<(), Error> {
        let mut stir = self.0.shared.stir.subscribe();
        let waits = async {
            while !self.is_live() {
                // The sender lives as long as this cache.
                let _ = stir.changed().await;
            }
        };
        match timeout(patience, waits).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let ended = self.0.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(ended.unwrap_or_else(|| Error::Unavailable("no server has given a lease yet".to_owned())))
            }
        }
    }

    /// Whether a lease runs, so that memory may answer.
    pub fn is_live(&self) -> bool {
        !self.0.shared.memory.belief.lease_left(Moment::now()).is_zero()
    }

    /// May this token do `scope` at `place`? On a hit no await point is reached.
    ///
    /// # Errors
    /// No verdict, which lets nobody in; see [`Error`].
    pub async fn check(&self, token: impl Into<Token>, scope: &str, place: &str) -> Result<Decision, Error> {
        let token = token.into();
        match self.look(&token, scope, place) {
            Some(decision) => Ok(decision),
            None => Box::pin(self.ask(token, scope, place)).await,
        }
    }

    /// The answer, if memory has it and may give it now; the server is not asked. `None` says nothing about the token.
    pub fn held(&self, token: impl Into<Token>, scope: &str, place: &str) -> Option<Decision> {
        self.look(&token.into(), scope, place)
    }

    /// The client it follows with: for everything that memory does not keep.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// How it is doing.
    pub fn counters(&self) -> Counters {
        let shared = &*self.0.shared;
        let (memory, belief) = (&shared.memory, &shared.memory.belief);
        let count = |what| memory.tallies.read(what);
        let lease_left = belief.lease_left(Moment::now());
        Counters {
            hits: count(Count::Hit),
            not_held: count(Count::NotHeld),
            touched: count(Count::Touched),
            aged: count(Count::Aged),
            time_over: count(Count::TimeOver),
            without_lease: count(Count::NoLease),
            scope_not_held: count(Count::OtherScope),
            fills: count(Count::Fill),
            shared: count(Count::Shared),
            not_kept: count(Count::NotKept),
            driven_out: count(Count::DrivenOut),
            beyond_lease: count(Count::BeyondLease),
            no_verdict: count(Count::Failed),
            forgotten: belief.generation().saturating_sub(1),
            follows: shared.follows.load(Ordering::Relaxed),
            position: belief.position(),
            lease_left,
            live: !lease_left.is_zero(),
        }
    }

    /// How many entries are held that count, and how many there is room for. Walks the table.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.0.shared.memory.held(), self.0.shared.memory.capacity())
    }

    #[inline]
    fn look(&self, token: &Token, scope: &str, place: &str) -> Option<Decision> {
        self.0.shared.memory.look(&self.question(token, scope, place), Moment::now())
    }

    fn question<'q>(&self, token: &'q Token, scope: &'q str, place: &'q str) -> Question<'q> {
        let floor = if self.0.own_changes { self.0.client.0.common.floor_now() } else { None };
        Question { digest: &token.0, scope, place, floor }
    }

    /// What memory does not have.
    async fn ask(&self, token: Token, scope: &str, place: &str) -> Result<Decision, Error> {
        let asked = self.ask_server(token, scope, place).await;
        let Err(error) = asked else { return asked };
        let beyond = self.0.stale.filter(|_| error.is_retryable());
        let question = self.question(&token, scope, place);
        let stale = beyond.and_then(|beyond| self.0.shared.memory.look_beyond(&question, Moment::now(), beyond));
        stale.ok_or_else(|| {
            self.0.shared.memory.tallies.bump(Count::Failed);
            error
        })
    }

    async fn ask_server(&self, token: Token, scope: &str, place: &str) -> Result<Decision, Error> {
        let memory = &self.0.shared.memory;
        // Twice at most: what is on its way when we come may be older than we are; what leaves after that is not.
        for is_last in [false, true] {
            let flight = self.0.flights.board(&token.0, place, || self.fill(token, scope, place));
            let may_be_older = flight.was_underway && !is_last;
            if flight.was_underway {
                memory.tallies.bump(Count::Shared);
            }
            let filled = match flight.landed().await {
                Ok(filled) => filled,
                // More pairs than a message of facts holds: nothing to keep, but there is an answer.
                Err(Error::Refused { code: ErrorCode::TooLarge, .. }) => break,
                Err(error) => return Err(error),
            };
            let own = (*filled.scope == *scope).then_some(&filled.resolved);
            let held = || memory.look_again(&self.question(&token, scope, place), Moment::now()).ok();
            let decision = match (&filled.facts, own) {
                _ if may_be_older => held(),
                (None, _) => Some(Decision::Inactive),
                (Some(facts), Some(resolved)) => memory.fresh(facts, resolved).or_else(held),
                (Some(_), None) => held(),
            };
            match decision {
                Some(decision) => return Ok(decision),
                None if may_be_older => {}
                None => break,
            }
        }
        // Facts and scope were not told at one place in the list: the server decides.
        self.0.client.check(token, scope, place).await
    }

    /// Asks for facts, and keeps what may be kept.
    fn fill(&self, token: Token, scope: &str, place: &str) -> impl Future<Output = Result<Filled, Error>> + use<> {
        let (client, shared) = (self.0.client.clone(), self.0.shared.clone());
        let (scope, place): (Arc<str>, Box<str>) = (scope.into(), place.into());
        // Before anything is sent: what is forgotten from now on must not be filled by the answer.
        let ticket = shared.memory.ticket();
        async move {
            let memory = &shared.memory;
            memory.tallies.bump(Count::Fill);
            let FactsAnswer { facts, scope: at, position } = client.facts(token, &scope, &place).await?;
            let resolved = Resolved { position, sequence: at.sequence.0 };
            memory.keep_scope(ticket, at.epoch, &scope, resolved);
            let facts = facts.map(|facts| Arc::new(*facts));
            if let Some(facts) = &facts {
                memory.keep(ticket, &token.0, &place, facts, Moment::now());
                if facts.sequence > memory.belief.position() {
                    shared.beyond.store(facts.sequence, Ordering::Relaxed);
                    shared.nudge.notify_one();
                }
            }
            Ok(Filled { facts, scope, resolved })
        }
    }
}
