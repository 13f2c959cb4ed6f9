//! What happened, in numbers: bumped without a word between the threads that answer, added up when somebody asks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Stripes. Threads beyond this many share.
const STRIPES: usize = 16;

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

/// The numbers, one set for each of a few threads.
#[derive(Default)]
pub(super) struct Tallies([Stripe; STRIPES]);

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's stripe.
    static STRIPE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
}

impl Tallies {
    #[inline]
    pub(super) fn bump(&self, what: Count) {
        // A thread that is ending counts on the first stripe.
        let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or(0);
        if let Some(number) = self.0.get(stripe).and_then(|stripe| stripe.0.get(what as usize)) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self, what: Count) -> u64 {
        self.0.iter().filter_map(|stripe| stripe.0.get(what as usize)).map(|n| n.load(Ordering::Relaxed)).sum()
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
