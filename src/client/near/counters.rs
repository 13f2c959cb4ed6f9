//! What happened, in numbers: bumped without a word between the threads that answer, added up when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Threads that count on a stripe of their own, without a locked instruction. Others share one.
const STRIPES: usize = 64;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(super) enum Count {
    Hit,
    NotHeld,
    Touched,
    Aged,
    TimeOver,
    NoLease,
    OtherScope,
    Fill,
    Shared,
    NotKept,
    DrivenOut,
    BeyondLease,
    Failed,
}

const COUNTS: usize = Count::Failed as usize + 1;

/// A stripe lies on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Stripe([AtomicU64; COUNTS]);

/// The numbers: one set for each of many threads, and one for the rest.
pub(super) struct Tallies {
    own: Box<[Stripe]>,
    shared: Stripe,
}

/// Stripes nobody owns; those from `.1` on were never owned.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

/// A thread's stripe, in every near-cache; given back when the thread ends.
struct Own(Option<usize>);

impl Own {
    fn take() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let (given_back, next) = &mut *free;
        let stripe = given_back.pop().or_else(|| {
            *next += 1;
            Some(*next - 1)
        });
        Self(stripe.filter(|stripe| *stripe < STRIPES))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(stripe) = self.0 {
            // Whoever takes it next sees what was counted on it: the lock stands between.
            FREE.lock().unwrap_or_else(PoisonError::into_inner).0.push(stripe);
        }
    }
}

thread_local! {
    static OWN: Own = Own::take();
}

impl Tallies {
    pub(super) fn new() -> Self {
        Self { own: (0..STRIPES).map(|_| Stripe::default()).collect(), shared: Stripe::default() }
    }

    #[inline]
    pub(super) fn bump(&self, what: Count) {
        // A thread that is ending has none any more.
        let own = OWN.try_with(|own| own.0).ok().flatten();
        let stripe = own.and_then(|own| self.own.get(own));
        let number = stripe.unwrap_or(&self.shared).0.get(what as usize);
        match (stripe, number) {
            // Nobody else writes here.
            (Some(_), Some(number)) => number.store(number.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed),
            (None, Some(number)) => {
                number.fetch_add(1, Ordering::Relaxed);
            }
            (_, None) => {}
        }
    }

    pub(super) fn read(&self, what: Count) -> u64 {
        let stripes = self.own.iter().chain([&self.shared]);
        stripes.filter_map(|stripe| stripe.0.get(what as usize)).map(|number| number.load(Ordering::Relaxed)).sum()
    }
}

/// What a near-cache has done so far, and how it stands. Plain numbers, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Answered from memory.
    pub hits: u64,
    /// Not held, so the server was asked.
    pub not_held: u64,
    /// Held, but something it depends on was touched: a revocation, a policy, a membership, or another tag that shares
    /// a slot with one of its own.
    pub touched: u64,
    /// Held for so long that it was asked for anew, so that the server's last use stays true.
    pub aged: u64,
    /// Held, but its time was over.
    pub time_over: u64,
    /// No lease was running, so memory was not looked at.
    pub without_lease: u64,
    /// Facts were held, but the scope's name was not resolved for the same place in the list.
    pub scope_not_held: u64,
    /// Questions to the server for facts.
    pub fills: u64,
    /// Questions that were spared because another task was asking the same.
    pub shared: u64,
    /// Answers that were used and not kept: they came from another server's start or across a forgetting.
    pub not_kept: u64,
    /// Entries that had to leave for others.
    pub driven_out: u64,
    /// Answers given without a lease, under `NearOptions::allow_stale`. Always 0 if that was not asked for.
    pub beyond_lease: u64,
    /// No verdict: nothing usable in memory and no answer from a server.
    pub no_verdict: u64,
    /// How often everything was forgotten.
    pub forgotten: u64,
    /// Connections to a feed that were made.
    pub follows: u64,
    /// The change up to which everything has been heard.
    pub position: u64,
    /// How much of the lease is left; zero if none runs.
    pub lease_left: Duration,
    /// Whether a feed is being followed and proven live.
    pub live: bool,
}
